//! What is wrong in a definition: where it stands, what it is, and what to write instead.

use std::fmt;

use omium_limits::{clipped, told};
use serde::Serialize;

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// All that is wrong in one definition, in the order in which it stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problems {
    /// The file, or what else the text came from.
    pub file: String,
    /// What is wrong, never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { place, text, hint }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}:{}: {text}\n  hint: {hint}", self.file, place.line, place.column)?;
        }
        Ok(())
    }
}

/// How many problems are told at once, and how much of each, in bytes.
const MOST: usize = 100;
const TOLD: usize = 1_000;

/// Collects problems while a definition is read: everything that is wrong is told in one go, up to a hundred.
#[derive(Debug, Default)]
pub struct Found {
    problems: Vec<Problem>,
    /// Whether there were more.
    more: bool,
}

impl Found {
    /// Notes one problem.
    pub fn add(&mut self, place: Place, text: impl Into<String>, hint: impl Into<String>) {
        self.note(Problem { place, text: text.into(), hint: hint.into() });
    }

    /// Whether no further problem is told: what would only make one up need not be done.
    pub fn is_full(&self) -> bool {
        self.problems.len() >= MOST
    }

    /// Whether something was said about a place.
    pub(crate) fn has(&self, place: Place) -> bool {
        self.problems.iter().any(|problem| problem.place == place)
    }

    /// Notes that there is more that is wrong.
    pub(crate) fn more(&mut self) {
        self.more = true;
    }

    pub(crate) fn note(&mut self, problem: Problem) {
        if self.is_full() {
            return self.more();
        }
        let Problem { place, text, hint } = problem;
        self.problems.push(Problem { place, text: clipped(&text, TOLD), hint: clipped(&hint, TOLD) });
    }

    /// What was read, if nothing was wrong with it; otherwise all that was, in the order of the file.
    pub fn end<T>(mut self, file: &str, read: Option<T>) -> Result<T, Problems> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => {
                self.problems.sort();
                self.problems.dedup();
                if self.more {
                    let place = self.problems.last().map_or_else(Place::default, |last| last.place);
                    let text = format!("there is more that is wrong; these are the first {MOST}");
                    self.problems.push(Problem { place, text, hint: "correct these first".to_owned() });
                }
                Err(Problems { file: told(file), problems: self.problems })
            }
        }
    }
}
