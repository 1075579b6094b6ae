//! What is wrong in a definition: where it stands, what it is, and what to write instead.

use std::fmt;

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

/// Collects problems while a definition is read: everything that is wrong is told in one go.
#[derive(Debug, Default)]
pub struct Found(pub(crate) Vec<Problem>);

impl Found {
    /// Notes one problem.
    pub fn add(&mut self, place: Place, text: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem { place, text: text.into(), hint: hint.into() });
    }

    /// What was read, if nothing was wrong with it; otherwise all that was, in the order of the file.
    pub fn end<T>(mut self, file: &str, read: Option<T>) -> Result<T, Problems> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            _ => {
                self.0.sort();
                self.0.dedup();
                Err(Problems { file: file.to_owned(), problems: self.0 })
            }
        }
    }
}
