//! Every bar of the project as a command: what is measured, beside what, and whether it is enough.

mod bars;
mod finding;
mod latency;
mod machine;
mod once;
mod series;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use bars::{BARS, Bar};

/// Measures Omium against its bars. The last line that `run` prints is the result as one JSON object.
#[derive(Parser)]
#[command(name = "omium-load", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists what can be measured.
    List,
    /// Installs what a measurement needs.
    Prepare { name: String },
    /// Measures. Exit code 0: the bar is met; 1: it is not; 2: it could not be measured.
    Run(Run),
    /// One run of one side of a measurement, in a process of its own.
    #[command(hide = true)]
    Once(once::Once),
    /// The process that the soak kills.
    #[command(hide = true)]
    Save(work::savings::Save),
    /// A process that performs steps.
    #[command(hide = true)]
    Work(work::worker::Work),
}

/// How to measure.
#[derive(clap::Args)]
struct Run {
    /// What to measure; see `list`.
    name: String,
    /// Fewer and shorter runs: at most 60 s. Such a result is marked and not kept.
    #[arg(long)]
    quick: bool,
    /// How long what can go on for a time goes on, where its usual time is not enough. The result is kept beside the
    /// usual one.
    #[arg(long, conflicts_with = "quick", value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: Option<u64>,
    /// Print nothing but the result.
    #[arg(long)]
    json: bool,
    /// Where to write; it must be on a real disk.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    omium_memory::give_back_soon();
    let outcome = match Cli::parse().command {
        Command::List => list(),
        Command::Prepare { name } => bar(&name).and_then(|bar| (bar.prepare)()).map(|()| ExitCode::SUCCESS),
        Command::Run(run) => measure(&run),
        Command::Once(once) => once.run().map(|()| ExitCode::SUCCESS),
        Command::Save(save) => save.run().map(|()| ExitCode::SUCCESS),
        Command::Work(work) => work.run().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("omium-load: {error:#}");
        ExitCode::from(2)
    })
}

fn bar(name: &str) -> anyhow::Result<&'static Bar> {
    let known: Vec<&str> = BARS.iter().map(|bar| bar.name).collect();
    let found = BARS.iter().find(|bar| bar.name == name);
    found.with_context(|| format!("there is no measurement `{name}`; there are: {}", known.join(", ")))
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn list() -> anyhow::Result<ExitCode> {
    for bar in BARS {
        println!("{:<14} {}", bar.name, bar.what);
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn measure(run: &Run) -> anyhow::Result<ExitCode> {
    let bar = bar(&run.name)?;
    anyhow::ensure!(
        run.minutes.is_none() || bars::LASTING.contains(&bar.name),
        "`{}` takes as long as it takes; --minutes is for {}",
        bar.name,
        bars::LASTING.join(" and ")
    );
    (bar.prepare)()?;
    let class = machine::class(&run.dir)?;
    let scratch = tempfile::Builder::new().prefix("omium-load-").tempdir_in(&run.dir).with_context(|| {
        format!("{} cannot be written to; give another one with --dir", run.dir.display())
    })?;
    let (quick, quiet, minutes) = (run.quick, run.json, run.minutes);
    let setting = bars::Setting { quick, quiet, minutes, dir: scratch.path().to_owned() };
    let finding = (bar.run)(&setting)?;
    let result = finding.json(bar.name, run.quick, &class);
    if !run.json {
        print!("{finding}");
    }
    if !run.quick {
        let minutes = run.minutes.map(|minutes| format!("-{minutes}-minutes"));
        finding::keep(&format!("{}{}", bar.name, minutes.unwrap_or_default()), &result)?;
    }
    println!("{result}");
    Ok(if finding.pass() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
