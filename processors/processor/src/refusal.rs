//! Why a command was refused. A refusal changes nothing and is not recorded.

/// The class of a refusal, for those who have to map it to a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// What it speaks of does not exist.
    NotFound,
    /// It does not fit the present state.
    Conflict,
    /// It makes no sense in any state.
    Invalid,
    /// There is not enough money, room or patience left.
    Exhausted,
}

/// A refusal, in words that help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Its class.
    pub why: Why,
    /// What failed, what is true now, what to do next.
    pub text: String,
}

impl Refusal {
    /// A refusal of this class.
    pub fn new(why: Why, text: impl Into<String>) -> Refusal {
        Refusal { why, text: text.into() }
    }
}
