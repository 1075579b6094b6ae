//! What is run and measured: both sides of every comparison.

pub(crate) mod appends;
pub(crate) mod callers;
pub(crate) mod crashes;
pub(crate) mod gate;
pub(crate) mod hostile;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod listeners;
pub(crate) mod native;
pub(crate) mod pace;
pub(crate) mod peers;
pub(crate) mod plain;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod restate;
pub(crate) mod resumes;
pub(crate) mod runs;
pub(crate) mod savings;
pub(crate) mod server;
pub(crate) mod shell;
pub(crate) mod silence;
pub(crate) mod steps;
pub(crate) mod till;
pub(crate) mod vendor;
pub(crate) mod worker;
