//! Tests a worker in any language: starts it with `OMIUM_URL` and `OMIUM_KEY` and tells what it does wrong.
//!
//! `cargo run -p omium-api --example conformance -- COMMAND [ARGUMENT]...`

use std::io::Write as _;
use std::process::ExitCode;

use omium_api::conformance::{Pace, check};
use tokio::process::{Child, Command};

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let Some(program) = words.next() else {
        return Err(std::io::Error::other("usage: conformance COMMAND [ARGUMENT]..."));
    };
    let mut command = Command::new(program);
    command.args(words).kill_on_drop(true);
    let mut started: Option<std::io::Result<Child>> = None;
    let findings = check(Pace::default(), |place| {
        command.env("OMIUM_URL", place.url).env("OMIUM_KEY", place.key);
        started = Some(command.spawn());
    })
    .await?;
    let _worker = started.transpose()?;
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        match &finding.wrong {
            None => writeln!(out, "ok    {}", finding.case)?,
            Some(wrong) => writeln!(out, "WRONG {}: {wrong}", finding.case)?,
        }
    }
    let right = findings.iter().all(|finding| finding.wrong.is_none());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
