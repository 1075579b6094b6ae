//! What is run and measured: both sides of every comparison.

pub(crate) mod appends;
pub(crate) mod callers;
pub(crate) mod crashes;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod listeners;
pub(crate) mod pace;
pub(crate) mod plain;
pub(crate) mod runs;
pub(crate) mod savings;
pub(crate) mod server;
pub(crate) mod shell;
pub(crate) mod till;
