//! `omium log`: looking at a log directory that no process has open.

mod json;
mod records;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Repair, inspect, repair, verify};

const EXITS: &str = "Exit codes: 0 all is well; 1 something is wrong with the log, and it is printed; 2 the log could not \
be looked at. Data goes to standard output, all else to standard error.";

/// Checks, shows and repairs a log that no process has open.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand)]
enum Tool {
    /// Checks every checksum, index and hash chain. Changes nothing.
    #[command(after_help = EXITS)]
    Verify {
        /// The log's directory.
        dir: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Shows what a log consists of, or all of its records. Changes nothing.
    #[command(after_help = EXITS)]
    Inspect {
        /// The log's directory.
        dir: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Print every record, one JSON object per line, decoded by the schemas that stand in the log itself.
        #[arg(long)]
        records: bool,
        /// Only records of this partition.
        #[arg(long, value_name = "N", requires = "records")]
        partition: Option<u16>,
    },
    /// Cancels an execution while no process has the data folder open, where the server ends before anybody can.
    #[command(after_help = EXITS)]
    Cancel {
        /// The data folder, which holds `log`.
        data: PathBuf,
        /// The execution, as `ex_…`.
        execution: String,
    },
    /// Does offline what the next opening would do, and nothing else: cuts off a torn end.
    #[command(after_help = EXITS)]
    Repair {
        /// The log's directory.
        dir: PathBuf,
        /// Only say what would be done.
        #[arg(long, required_unless_present = "apply", conflicts_with = "apply")]
        dry_run: bool,
        /// Do it.
        #[arg(long)]
        apply: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of the tools.
pub(crate) fn run(options: &Options) -> ExitCode {
    let outcome = match &options.tool {
        Tool::Verify { dir, json } => verify(&RealDisk, dir).map(|found| {
            say(&if *json { json::verified(&found).to_string() } else { found.to_string() });
            found.is_sound()
        }),
        Tool::Inspect { dir, records: true, partition, .. } => return print_records(dir, *partition),
        Tool::Inspect { dir, json, .. } => inspect(&RealDisk, dir).map(|found| {
            say(if *json { json::inspected(&found).to_string() } else { found.to_string() }.trim_end());
            true
        }),
        Tool::Cancel { data, execution } => return cancel(data, execution),
        Tool::Repair { dir, apply, json, .. } => {
            let how = if *apply { Repair::Apply } else { Repair::DryRun };
            repair(&RealDisk, dir, Vec::new(), how).map(|done| {
                say(&if *json { json::repaired(&done).to_string() } else { done.to_string() });
                true
            })
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => failed(&error),
    }
}

fn cancel(data: &std::path::Path, execution: &str) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("omium: no threads could be started: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(omium_engine::cancel_offline(data, execution)) {
        Ok(()) => {
            say(&format!("{execution} is cancelled"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("omium: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn print_records(dir: &std::path::Path, partition: Option<u16>) -> ExitCode {
    match records::print(dir, partition) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(problems) => {
            let s = if problems == 1 { "" } else { "s" };
            eprintln!(
                "omium: {problems} problem{s}; `omium log verify {}` lists what is damaged",
                dir.display()
            );
            ExitCode::from(1)
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &LogError) -> ExitCode {
    eprintln!("omium: {error}");
    // Damage is a finding about the log; everything else kept the tool from looking.
    ExitCode::from(if matches!(error, LogError::Damaged { .. }) { 1 } else { 2 })
}

#[expect(clippy::print_stdout, reason = "data goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}
