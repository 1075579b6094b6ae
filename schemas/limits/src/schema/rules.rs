//! A schema once it is read.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::Pattern;

/// A place in the list of all schemas.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) enum Node {
    /// Fits always, or never.
    Bool(bool),
    Rules(Box<Rules>),
}

/// All that one schema asks for.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) reference: Option<Id>,
    /// One bit for each type.
    pub(super) types: Option<u8>,
    pub(super) any_of_values: Option<Vec<Value>>,
    pub(super) numbers: Numbers,
    pub(super) texts: Texts,
    pub(super) lists: Lists,
    pub(super) objects: Objects,
    pub(super) choices: Choices,
    pub(super) other_items: Option<Id>,
    pub(super) other_properties: Option<Id>,
}

#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) least: Option<Number>,
    pub(super) most: Option<Number>,
    pub(super) above: Option<Number>,
    pub(super) below: Option<Number>,
    pub(super) multiple_of: Option<Number>,
}

#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) shortest: Option<usize>,
    pub(super) longest: Option<usize>,
    pub(super) pattern: Option<Pattern>,
    pub(super) format: Option<super::format::Check>,
}

#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) fewest: Option<usize>,
    pub(super) most: Option<usize>,
    pub(super) unique: bool,
    pub(super) first: Vec<Id>,
    pub(super) rest: Option<Id>,
    pub(super) contains: Option<Contains>,
}

#[derive(Debug)]
pub(super) struct Contains {
    pub(super) item: Id,
    pub(super) fewest: usize,
    pub(super) most: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) fewest: Option<usize>,
    pub(super) most: Option<usize>,
    pub(super) required: Vec<String>,
    pub(super) properties: BTreeMap<String, Id>,
    pub(super) patterns: Vec<(Pattern, Id)>,
    pub(super) additional: Option<Id>,
    pub(super) names: Option<Id>,
    pub(super) needs: BTreeMap<String, Vec<String>>,
    pub(super) then: BTreeMap<String, Id>,
}

#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) all: Vec<Id>,
    pub(super) any: Vec<Id>,
    pub(super) one: Vec<Id>,
    pub(super) not: Option<Id>,
    pub(super) when: Option<Id>,
    pub(super) then: Option<Id>,
    pub(super) otherwise: Option<Id>,
}

pub(super) const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// The bit of a type by its name.
pub(super) fn bit(name: &str) -> Option<u8> {
    TYPES.iter().position(|known| *known == name).map(|at| 1 << at)
}

/// The bits of the types that a value has.
pub(super) fn types_of(value: &Value) -> u8 {
    let names: &[&str] = match value {
        Value::Null => &["null"],
        Value::Bool(_) => &["boolean"],
        Value::Number(number) if is_whole(number) => &["number", "integer"],
        Value::Number(_) => &["number"],
        Value::String(_) => &["string"],
        Value::Array(_) => &["array"],
        Value::Object(_) => &["object"],
    };
    names.iter().filter_map(|name| bit(name)).sum()
}

fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}
