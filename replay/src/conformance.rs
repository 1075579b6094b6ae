//! `omium conformance`: tests a worker in any language.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use omium_api::conformance::{Finding, Pace, Place, check};
use serde_json::json;
use tokio::process::Command;

/// Tests a worker in any language: starts it with OMIUM_URL and OMIUM_KEY, gives it steps, breaks its connection, and says
/// what it does wrong.
///
/// The worker registers for the framework `conformance` and does what the input of a step says: `{"give": X}` completes with
/// X; `{"fail": "why"}` fails with that reason; `{"wait_ms": N}` takes so long, says `progress` meanwhile, and completes
/// with `{"waited_ms": N}`. Ends with code 1 where something is wrong.
#[derive(Args, Debug)]
pub(crate) struct Conformance {
    /// How often the worker says that it lives and that a step goes on.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pace: Duration,
    /// What starts the worker: `-- python my_worker.py`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(conformance: &Conformance, as_json: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let findings = runtime.block_on(tested(conformance))?;
    for line in told(&findings, as_json) {
        say(&line);
    }
    let right = findings.iter().all(|finding| finding.wrong.is_none());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn tested(conformance: &Conformance) -> anyhow::Result<Vec<Finding>> {
    let mut started = None;
    let findings =
        check(Pace(conformance.pace), |place| started = Some(start(&conformance.command, &place))).await?;
    // A worker that could not be started has done nothing wrong.
    let worker = started.transpose()?;
    if let Some(mut worker) = worker {
        worker.kill().await.context("the worker could not be ended")?;
    }
    Ok(findings)
}

fn start(words: &[String], place: &Place) -> anyhow::Result<tokio::process::Child> {
    let (program, arguments) = words.split_first().context("a command has a program")?;
    let mut command = Command::new(program);
    command.args(arguments).env("OMIUM_URL", &place.url).env("OMIUM_KEY", &place.key);
    command.kill_on_drop(true).spawn().with_context(|| format!("`{program}` cannot be started"))
}

fn told(findings: &[Finding], as_json: bool) -> Vec<String> {
    if as_json {
        let items = findings.iter().map(|finding| json!({ "case": finding.case, "wrong": finding.wrong }));
        return vec![format!("{:#}", json!({ "items": items.collect::<Vec<_>>() }))];
    }
    let line = |finding: &Finding| match &finding.wrong {
        None => format!("ok    {}", finding.case),
        Some(wrong) => format!("WRONG {}: {wrong}", finding.case),
    };
    findings.iter().map(line).collect()
}

fn say(line: &str) {
    use std::io::Write as _;
    // Whoever reads may stop reading; that is no failure.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
