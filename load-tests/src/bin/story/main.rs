//! A small recorded story: a job whose process is killed in the middle, and goes on where it was. It runs the counters
//! that exercise a shell, not workflows.

mod actor;
mod line;
mod narrator;
mod replayed;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tells a small recorded story: a job is killed in the middle, goes on where it was, and its log is replayed.
#[derive(Parser)]
#[command(name = "story", version, about, args_conflicts_with_subcommands = true)]
struct Options {
    /// Keep the log in this directory, to look at it later; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Act(Act),
}

/// One process of the story.
#[derive(clap::Args)]
struct Act {
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

#[expect(clippy::print_stderr, reason = "a command says there why it failed")]
fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.part {
        None => narrator::tell(options.keep.as_deref()),
        Some(Part::Act(act)) => actor::act(act),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("story: {error:#}");
            ExitCode::FAILURE
        }
    }
}
