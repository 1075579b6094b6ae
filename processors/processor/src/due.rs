//! Outstanding work, read from state alone, so that a new leader finds what the old one left unfinished.

use omium_schemas::{Branch, StepId, Time};

/// Something that the world is to do: one attempt of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Effect {
    /// The step.
    pub step: StepId,
    /// The generation it belongs to.
    pub branch: Branch,
    /// Which attempt at it, from 1.
    pub attempt: i32,
    /// It is not to start earlier than this.
    pub not_before: Time,
}

/// All that a stream waits for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Due {
    /// Work that is to be done, in the order in which it was decided.
    pub effects: Vec<Effect>,
    /// The moment at which the stream wants to be told that it has passed.
    pub deadline: Option<Time>,
}

impl Due {
    /// Whether the stream waits for nothing.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty() && self.deadline.is_none()
    }
}
