//! A worker that has a step and does nothing for it, and what becomes of the step.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::server::{Server, fresh};
use super::worker::Worker;

/// One step, which any worker can do.
const WORKFLOW: &str = "
name: one
inputs: {type: object, required: [run]}
agents:
  - {id: only, framework: program}
";
/// Whatever takes longer than this does not happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// In which way the worker does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It is connected and says nothing any more.
    Mute,
    /// It says that it lives; its step may make no progress for so long.
    Hangs { idle: Duration },
}

/// What became of one step.
#[derive(Debug)]
pub(crate) struct Found {
    /// Seconds from the last sign of life to the event that says that the step was lost.
    pub(crate) noticed: f64,
    /// Seconds from when the silent worker got the step until another one did.
    pub(crate) moved: f64,
    /// Whether the event says why.
    pub(crate) told: bool,
    /// Whether what the silent worker said in the end was refused.
    pub(crate) refused: bool,
    /// Whether the outcome is the other worker's, and the only one.
    pub(crate) kept: bool,
}

/// One silent worker, one other, on a server of their own.
pub(crate) async fn watch(dir: &Path, silence: Silence) -> anyhow::Result<Found> {
    let server = Server::start(&fresh(dir, "silence")?).await?;
    let mut connection = server.connect().await?;
    connection.publish(WORKFLOW).await?;
    // Its step hangs in the read of a connection to here.
    let door = TcpListener::bind(("127.0.0.1", 0))?;
    let port = door.local_addr()?.port().to_string();
    let mut silent = Worker::start_with(&server.address, &words(silence, &port)).await?;
    let registered = SystemTime::now() - silent.registered.elapsed();
    let id = connection.start("one", 1).await?;
    let (got, _) = silent.until("performs", PATIENCE).await?;
    let performs = SystemTime::now() - got.elapsed();
    let (mut stuck, _) = door.accept()?;

    let mut other = Worker::start_with(&server.address, &["prompt", "--tells", "--name", "other"]).await?;
    let (taken, _) = other.until("performs", PATIENCE).await?;
    let view = connection.get(&format!("/api/v1/executions/{id}?wait_ms=60000")).await?;
    stuck.write_all(b"!")?;
    let refused = silent.until("refused", PATIENCE).await?.1;

    let events = connection.get(&format!("/api/v1/executions/{id}/events")).await?;
    let lost = of_kind(&events, "StepLost");
    ensure!(lost.len() == 1, "the step was lost {} times: {events}", lost.len());
    let after = connection.get(&format!("/api/v1/executions/{id}")).await?;
    let last_sign = match silence {
        Silence::Mute => registered,
        Silence::Hangs { .. } => performs,
    };
    let found = Found {
        noticed: time(lost[0])?.duration_since(last_sign).unwrap_or_default().as_secs_f64(),
        moved: taken.duration_since(got).as_secs_f64(),
        told: lost[0]["body"]["reason"]
            .as_str()
            .is_some_and(|said| said.eq_ignore_ascii_case(reason(silence))),
        refused: refused == "not-yours",
        kept: view["output"] == json!("other")
            && after["state_hash"] == view["state_hash"]
            && of_kind(&events, "StepCompleted").len() == 1,
    };
    silent.stop()?;
    other.stop()?;
    server.stop()?;
    Ok(found)
}

fn words(silence: Silence, door: &str) -> Vec<String> {
    let (manner, idle) = match silence {
        Silence::Mute => ("mute", 0),
        Silence::Hangs { idle } => ("hangs", idle.as_millis()),
    };
    let mut words = vec![manner.to_owned(), "--tells".to_owned(), "--capacity".to_owned(), "1".to_owned()];
    words.extend(["--door".to_owned(), door.to_owned(), "--idle-ms".to_owned(), idle.to_string()]);
    words
}

fn reason(silence: Silence) -> &'static str {
    match silence {
        Silence::Mute => "silent",
        Silence::Hangs { .. } => "idle",
    }
}

fn of_kind<'a>(events: &'a Value, kind: &str) -> Vec<&'a Value> {
    events["items"].as_array().into_iter().flatten().filter(|event| event["kind"] == kind).collect()
}

fn time(event: &Value) -> anyhow::Result<SystemTime> {
    let text = event["time"].as_str().context("an event has a time")?;
    Ok(humantime::parse_rfc3339(text)?)
}
