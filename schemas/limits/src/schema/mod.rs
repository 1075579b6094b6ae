//! JSON Schema with fuel: what a schema and an instance cost together is counted while they are held against each other,
//! whatever references, choices, lists of values and patterns multiply. No reference leaves the schema, patterns are
//! linear, and no message repeats the value that does not fit.

mod check;
mod compare;
mod format;
mod read;
mod rules;

use std::fmt;

use serde_json::Value;

use crate::{Fuel, Spent, clipped};
use rules::Node;

/// How much of a place is told, in bytes.
const PLACE: usize = 200;

/// A schema that can be used.
#[derive(Debug)]
pub struct Schema {
    /// The first one is the whole.
    nodes: Vec<Node>,
    /// Whether something in it depends on what other parts have looked at.
    remembers: bool,
    /// What reading it cost, in steps.
    cost: usize,
}

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at `{at}`")]
pub struct Unusable {
    /// What is wrong.
    pub what: String,
    /// Where in the schema.
    pub at: String,
    /// The steps to the key that is wrong, from the whole schema on.
    pub path: Vec<String>,
}

/// One thing of a value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong.
    pub what: String,
    /// Where in the value, from the inside out.
    at: Vec<String>,
}

/// Why a value is not said to fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It does not fit.
    #[error("{0}")]
    Wrong(Violation),
    /// The schema cannot be used.
    #[error("the schema cannot be used: {0}")]
    Unusable(#[from] Unusable),
    /// It would cost too much to find out.
    #[error("it cannot be checked: {0}")]
    Uncheckable(#[from] Spent),
}

impl Violation {
    /// Where it is, as a JSON pointer; cut where that is long.
    pub fn place(&self) -> String {
        let mut place = String::new();
        for step in self.at.iter().rev() {
            place.push('/');
            place.push_str(step);
            if place.len() > PLACE {
                break;
            }
        }
        clipped(&place, PLACE)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.is_empty() {
            true => f.write_str(&self.what),
            false => write!(f, "{} at `{}`", self.what, self.place()),
        }
    }
}

impl Schema {
    /// Reads a schema. It may refer to parts of itself, and to nothing else.
    pub fn read(schema: &Value) -> Result<Schema, Unusable> {
        read::read(schema).map_err(|mut wrong| wrong.swap_remove(0))
    }

    /// All that is wrong with a schema, up to some number.
    pub fn wrong(schema: &Value) -> Vec<Unusable> {
        read::read(schema).err().unwrap_or_default()
    }

    /// Whether a value fits; if not, what is wrong first.
    pub fn check(&self, value: &Value, fuel: &mut Fuel) -> Result<(), Misfit> {
        match self.violations(value, 1, fuel)?.pop() {
            Some(wrong) => Err(Misfit::Wrong(wrong)),
            None => Ok(()),
        }
    }

    /// The first things that are wrong with a value; none where it fits.
    pub fn violations(&self, value: &Value, most: usize, fuel: &mut Fuel) -> Result<Vec<Violation>, Spent> {
        check::violations(self, value, most, fuel)
    }
}

/// Whether a value fits a schema.
pub fn fits(schema: &Value, value: &Value, fuel: &mut Fuel) -> Result<(), Misfit> {
    let read = Schema::read(schema)?;
    // Whoever reads many schemas, or one many times, pays for it.
    fuel.take(read.cost)?;
    read.check(value, fuel)
}
