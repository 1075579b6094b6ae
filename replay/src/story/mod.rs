//! A small recorded story: a job whose process is killed in the middle, and goes on where it was.

mod actor;
mod line;
mod narrator;
mod replayed;

use std::path::PathBuf;

pub(crate) use actor::act;
pub(crate) use narrator::tell;

/// Tells a small recorded story: a job is killed in the middle, goes on where it was, and its log is replayed.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Keep the log in this directory, to look at it later; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// One process of the story.
#[derive(clap::Args)]
pub(crate) struct Act {
    /// Which life it is.
    #[arg(value_enum)]
    life: Life,
    /// The node's directory.
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Life {
    First,
    Second,
}
