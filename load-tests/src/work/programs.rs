//! Programs of agents under `omium exec`: their calls are counted outside, and one of them can be held until it is cut off.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::server::{self, Server, free_port};
use super::vendor::{After, Answers, Asked, Vendor, pass_on};

/// The longest that a program may take; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(300);
/// Who makes the last call of the examples.
const LAST: &str = "Reviewer";

/// Where the examples lie.
pub(crate) fn examples() -> PathBuf {
    package().join("examples")
}

/// Where the Python package lies.
pub(crate) fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../connectors/sdk-python")
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) good: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// The last line of its output.
    pub(crate) fn result(&self) -> &str {
        self.out.trim().lines().last().unwrap_or_default()
    }

    /// The end of what it complained about.
    pub(crate) fn complaint(&self) -> String {
        let lines: Vec<&str> = self.err.trim().lines().collect();
        lines[lines.len().saturating_sub(8)..].join(" | ")
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { good: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// A command that knows nothing of any Omium, and of which frameworks tell nobody.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["OMIUM_", "OPENAI_", "PYTHONPATH"].iter().any(|told| text.starts_with(told)) {
            command.env_remove(&name);
        }
    }
    let quiet = [
        ("PYTHONWARNINGS", "ignore"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("CREWAI_DISABLE_TELEMETRY", "true"),
        ("CREWAI_DISABLE_TRACKING", "true"),
        ("CREWAI_TRACING_ENABLED", "false"),
    ];
    command.envs(quiet);
    command
}

/// A program that runs.
pub(crate) struct Running {
    pid: u32,
    output: JoinHandle<std::io::Result<Output>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Running> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn()?;
        let pid = child.id().context("a process that was just started has an id")?;
        Ok(Running { pid, output: tokio::spawn(child.wait_with_output()) })
    }

    pub(crate) async fn end(mut self) -> anyhow::Result<Ended> {
        match tokio::time::timeout(PATIENCE, &mut self.output).await {
            Ok(output) => Ok(output??.into()),
            Err(_) => bail!("a program did not end within {} s", PATIENCE.as_secs()),
        }
    }

    /// kill -9 of what it has started.
    pub(crate) fn kill_program(&self) {
        children(self.pid).into_iter().for_each(kill);
    }

    /// kill -9 of it and of what it has started.
    pub(crate) fn kill_all(&self) {
        let started = children(self.pid);
        kill(self.pid);
        started.into_iter().for_each(kill);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has been waited for is not killed again: its number may be somebody else's by now.
        if !self.output.is_finished() {
            self.kill_all();
        }
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The processes that a process has started, and those that these have.
fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let direct: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    direct.into_iter().flat_map(|child| [vec![child], children(child)].concat()).collect()
}

/// What the vendor was asked, all of it, and the call that it holds.
pub(crate) struct Book {
    /// The port of the model that answers in the end.
    model: u16,
    asked: Mutex<Vec<Value>>,
    holds: watch::Sender<bool>,
    held: watch::Sender<bool>,
}

impl Book {
    fn new(model: u16) -> Book {
        let (holds, held) = (watch::Sender::new(false), watch::Sender::new(false));
        Book { model, asked: Mutex::default(), holds, held }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Value>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was asked so far, in its order.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.asked().clone()
    }

    /// The last call stays unanswered until `let_go`.
    fn hold(&self) {
        self.held.send_replace(false);
        self.holds.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.holds.send_replace(false);
    }
}

/// Whether it is the last call of an example.
pub(crate) fn is_last(body: &Value) -> bool {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().any(|message| message["content"].to_string().contains(&format!("You are {LAST}")))
}

impl Answers for Book {
    async fn answer(&self, asked: Asked, client: &mut TcpStream) -> anyhow::Result<After> {
        let body = asked.body()?;
        let last = is_last(&body);
        self.asked().push(body);
        let mut holds = self.holds.subscribe();
        if last && *holds.borrow() {
            self.held.send_replace(true);
            holds.wait_for(|holds| !holds).await?;
        }
        pass_on(&asked, client, self.model).await
    }
}

/// A server with data of its own, the vendor behind it, and the programs in front of it.
pub(crate) struct Desk {
    data: PathBuf,
    counter: PathBuf,
    python: PathBuf,
    port: u16,
    vendor: Vendor,
    pub(crate) book: Arc<Book>,
    server: Option<Server>,
}

impl Desk {
    /// In a folder of its own, on the model at this port; programs run in this Python.
    pub(crate) async fn open(dir: &Path, model: u16, python: &Path) -> anyhow::Result<Desk> {
        std::fs::create_dir_all(dir)?;
        let counter = dir.join("tool-runs");
        std::fs::write(&counter, "")?;
        let book = Arc::new(Book::new(model));
        let vendor = Vendor::open(book.clone()).await?;
        let (data, python, port) = (dir.join("data"), python.to_owned(), free_port()?);
        let mut desk = Desk { data, counter, python, port, vendor, book, server: None };
        desk.start().await?;
        Ok(desk)
    }

    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        self.server = Some(Server::start_at(&self.data, self.port, Some(&self.vendor.url())).await?);
        Ok(())
    }

    /// kill -9 of the server.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.server.take().map_or(Ok(()), Server::kill)
    }

    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        self.book.let_go();
        self.server.take().map_or(Ok(()), Server::stop)
    }

    /// How often tools have run.
    pub(crate) fn tool_runs(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_to_string(&self.counter)?.lines().count())
    }

    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = command(&server::binary()?);
        command.args(words).env("OMIUM_DATA", &self.data).env("TOOL_COUNTER", &self.counter);
        Ok(command)
    }

    /// What a command says that succeeds.
    pub(crate) async fn omium(&self, words: &[&str]) -> anyhow::Result<String> {
        let ended = Running::start(&mut self.command(words)?)?.end().await?;
        ensure!(ended.good, "omium {}: {}", words.join(" "), ended.complaint());
        Ok(ended.out)
    }

    /// The newest execution.
    pub(crate) async fn execution(&self) -> anyhow::Result<String> {
        let server = self.server.as_ref().context("the server runs")?;
        let page = server.connect().await?.get("/api/v1/executions?limit=1").await?;
        Ok(page["items"][0]["id"].as_str().context("there is an execution")?.to_owned())
    }

    /// Starts an example under `omium exec`.
    pub(crate) fn exec(&self, program: &str) -> anyhow::Result<Running> {
        let python = self.python.display().to_string();
        let program = examples().join(format!("{program}.py")).display().to_string();
        Running::start(&mut self.command(&["exec", "--", &python, &program])?)
    }

    /// Goes on with an execution as it was called before.
    pub(crate) fn resume(&self, execution: &str) -> anyhow::Result<Running> {
        Running::start(&mut self.command(&["exec", "--resume", execution])?)
    }

    /// Starts an example and waits until its last call is held.
    pub(crate) async fn exec_until_held(&self, program: &str) -> anyhow::Result<Running> {
        self.book.hold();
        let mut held = self.book.held.subscribe();
        let mut running = self.exec(program)?;
        tokio::select! {
            is_held = tokio::time::timeout(PATIENCE, async { held.wait_for(|held| *held).await.is_ok() }) => {
                ensure!(matches!(is_held, Ok(true)), "{program} did not come to its last call in time");
            }
            output = &mut running.output => {
                let ended = Ended::from(output??);
                bail!("{program} ended before its last call: {}", ended.complaint());
            }
        }
        Ok(running)
    }
}

/// What an example ends with when no Omium is there.
pub(crate) async fn without_omium(program: &str, model: u16, python: &Path) -> anyhow::Result<String> {
    let mut command = command(python);
    command.arg(examples().join(format!("{program}.py")));
    command.env("OPENAI_BASE_URL", format!("http://127.0.0.1:{model}/v1")).env("OPENAI_API_KEY", "none");
    let ended = Running::start(&mut command)?.end().await?;
    ensure!(ended.good, "{program} does not even run without Omium: {}", ended.complaint());
    Ok(ended.result().to_owned())
}
