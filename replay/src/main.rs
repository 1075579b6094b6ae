//! The omium binary: the one crate that sees all parts and wires them.

mod engine;
mod log_tools;
mod readable;
mod story;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A frame is a handful of small pieces that one thread makes and another lets go of: what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The runtime under multi-agent LLM workflows: everything that happens is an event in an ordered log.
#[derive(Parser)]
#[command(name = "omium", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Story(story::Options),
    Log(log_tools::Options),
    #[command(hide = true)]
    Act(story::Act),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Log(options) => Ok(log_tools::run(&options)),
        Command::Story(options) => story::tell(&options),
        Command::Act(act) => story::act(&act),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("omium: {error:#}");
        ExitCode::FAILURE
    })
}
