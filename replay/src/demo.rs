//! `omium demo`: a workflow of three agents, whose server is killed in the middle, before the reader's eyes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{Ask, Connection, Running, Target, tree};

/// The workflow that demo and sample run.
pub(crate) const LOAN: &str = include_str!("loan.yaml");

/// Runs three agents against a scripted model, kills the server in the middle, and goes on where it was.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Keeps the data folder, to look at its log later; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A server of the demo's own. It never outlives the demo.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Lets it end by itself, so that its log is closed well.
    fn end(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("a process has a number")?, rustix::process::Signal::TERM)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the server did not end well ({status})");
        Ok(())
    }
}

/// Where the data goes. A folder that is not kept lives as long as what is returned beside it.
fn place(keep: Option<&Path>) -> anyhow::Result<(Option<tempfile::TempDir>, PathBuf)> {
    let Some(dir) = keep else {
        let scratch = tempfile::tempdir()?;
        let dir = scratch.path().to_owned();
        return Ok((Some(scratch), dir));
    };
    let used = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !used,
        "{} is not empty; give a new folder, so that the demo has a log of its own",
        dir.display()
    );
    Ok((None, dir.to_owned()))
}

pub(crate) fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(told(demo.keep.as_deref()))
}

async fn told(keep: Option<&Path>) -> anyhow::Result<ExitCode> {
    let (_scratch, data) = place(keep)?;
    say("A server on this machine, with a scripted model: no account is needed.\n");
    let (server, connection) = start(&data)?;
    let published = ask(&connection, "/api/v1/workflows?file=loan.yaml", Ask::Text(LOAN)).await?;
    let body = json!({ "workflow": "loan-decision", "inputs": { "amount": 20000, "income": 85000 } });
    let started = ask(&connection, "/api/v1/executions", Ask::Post(body)).await?;
    let id = started["id"].as_str().context("a started execution has an id")?.to_owned();
    say(&format!("Published {}@{} and started it.\n", text(&published["name"]), published["version"]));

    let path = format!("/api/v1/executions/{id}");
    let halfway = until(&connection, &path, |view| asks(&view["steps"][2])).await?;
    say(&tree(&halfway));
    say(
        "\nThe server is killed (kill -9) while the writer's model call is under way. Another one opens the same log.\n",
    );
    drop(server);
    let (server, connection) = start(&data)?;
    let ended = until(&connection, &path, |view| {
        !matches!(text(&view["status"]).as_str(), "running" | "paused" | "suspended")
    })
    .await?;
    say(&tree(&ended));
    say(&format!("\nResult: {}\n", text(&ended["output"])));

    let events = ask(&connection, &format!("{path}/events?limit=1000"), Ask::Get).await?;
    let calls = |kind: &str| {
        events["items"].as_array().into_iter().flatten().filter(|event| event["kind"] == kind).count()
    };
    say(&format!(
        "{} model calls were begun and {} answered: the finished steps were not asked again, the one that was cut off was.\n",
        calls("LlmCallStarted"),
        calls("LlmCallCompleted"),
    ));
    let marks = ask(&connection, &format!("{path}/checkpoints"), Ask::Get).await?;
    say("Checkpoints, each a position in the log:");
    for mark in marks["items"].as_array().into_iter().flatten() {
        let done: Vec<String> = mark["done"].as_array().into_iter().flatten().map(text).collect();
        say(&format!(
            "  seq {:>3}  state {}  done: {}",
            mark["seq"],
            &text(&mark["state_hash"])[..12],
            done.join(", ")
        ));
    }
    let folded = ask(&connection, &format!("{path}?at={}", ended["seq"]), Ask::Get).await?;
    if folded["state_hash"] != ended["state_hash"] {
        bail!("folding the log again gave another state; please report this");
    }
    say(&format!(
        "\nReplayed: folding its {} records again gives the same state, {}.",
        ended["seq"],
        &text(&ended["state_hash"])[..12]
    ));
    say(
        "\nNext: `omium dev` starts a server of your own; `omium run FILE --watch`, `omium show`, `omium logs -f`,\n`omium rollback` and `omium fork` work with it. `omium --help` lists all.",
    );
    if keep.is_some() {
        server.end()?;
        say(&format!("\nThe log is kept: omium log inspect {}", data.join("log").display()));
    }
    Ok(if ended["status"] == "completed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a model call of the step is under way.
fn asks(step: &Value) -> bool {
    step["calls"].as_array().into_iter().flatten().any(|call| call["status"] == "open")
}

fn start(data: &Path) -> anyhow::Result<(Server, Connection)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["dev", "--port", "0"])
        .env("OMIUM_DATA", data)
        .env_remove("OMIUM_UPSTREAM_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(child.stderr.take().context("it was piped")?);
    let server = Server(child);
    let mut line = String::new();
    while !line.contains("answers at") {
        line.clear();
        if said.read_line(&mut line)? == 0 {
            bail!("the server ended before it answered");
        }
        if line.starts_with("omium: ") {
            bail!("the server did not start: {}", line.trim());
        }
    }
    // Somebody has to read on, or the server would one day wait for room in the pipe.
    std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
    let running: Running = serde_json::from_slice(&std::fs::read(data.join("dev.json"))?)?;
    Ok((server, Connection::new(&Target::at(running.url, running.key))))
}

async fn ask(connection: &Connection, path: &str, ask: Ask<'_>) -> anyhow::Result<Value> {
    connection.ask(path, ask, None).await.map_err(|trouble| anyhow::anyhow!("{trouble:?}"))
}

/// Waits for events until the execution is so.
async fn until(connection: &Connection, path: &str, is_so: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let id = path.rsplit('/').next().unwrap_or_default();
    let mut view = ask(connection, path, Ask::Get).await?;
    let from = view["seq"].as_u64().unwrap_or_default() + 1;
    let mut events = connection.events(id, from).await.map_err(|trouble| anyhow::anyhow!("{trouble:?}"))?;
    while !is_so(&view) {
        if !matches!(view["status"].as_str(), Some("running" | "paused" | "suspended")) {
            bail!("the execution has ended: {view}");
        }
        events.chunk().await?.context("the server is gone")?;
        view = ask(connection, path, Ask::Get).await?;
    }
    Ok(view)
}
