//! What is run and measured: both sides of every comparison.

pub(crate) mod appends;
pub(crate) mod callers;
pub(crate) mod kafka;
pub(crate) mod plain;
pub(crate) mod savings;
pub(crate) mod shell;
pub(crate) mod till;
