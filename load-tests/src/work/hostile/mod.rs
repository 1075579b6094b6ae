//! What an enemy sends, a case after the other, and what becomes of the node beside it.

pub(crate) mod blow;
pub(crate) mod cases;
pub(crate) mod ordinary;
pub(crate) mod rogue;
mod texts;
