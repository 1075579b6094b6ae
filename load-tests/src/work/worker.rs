//! An external worker: a process that performs steps over the stream of workers, well or badly.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use omium_api::proto::engine_item::Kind;
use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::workers_client::WorkersClient;
use omium_api::proto::{Complete, Heartbeat, Perform, Register, Sending, WorkerItem, WorkerMessage};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Channel;

use super::http::Address;
use super::process::{Lines, Process};

/// Whoever has not registered by then will not.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one that was cut off stays away.
const AWAY: Duration = Duration::from_millis(200);

/// How a worker performs its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Manner {
    /// At once.
    #[default]
    Prompt,
    /// Not: they hang in the read of a socket. Its heartbeats go on.
    Hangs,
    /// The same, and it says nothing more after it has registered.
    Mute,
}

/// The process itself. `OMIUM_URL` and `OMIUM_KEY` say for whom it works.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Work {
    #[arg(value_enum)]
    manner: Manner,
    #[arg(long, default_value = "worker")]
    name: String,
    #[arg(long, default_value_t = 1_000)]
    capacity: u32,
    /// The port at which a step hangs until somebody writes a byte there.
    #[arg(long, default_value_t = 0)]
    door: u16,
    /// How long a step may make no progress; 0 for the engine's own limit.
    #[arg(long, default_value_t = 0)]
    idle_ms: u64,
    /// Says what it is told, a line for each step.
    #[arg(long)]
    tells: bool,
}

/// A worker that was started.
pub(crate) struct Worker {
    process: Process,
    pub(crate) lines: Lines,
    /// When it was known.
    pub(crate) registered: Instant,
}

impl Worker {
    /// One that performs everything at once.
    pub(crate) async fn start(address: &Address) -> anyhow::Result<Worker> {
        Worker::start_with(address, &["prompt"]).await
    }

    /// One with other words on its command line, as [`Work`] takes them. Returns when it has registered.
    pub(crate) async fn start_with(
        address: &Address,
        words: &[impl AsRef<std::ffi::OsStr>],
    ) -> anyhow::Result<Worker> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("work").args(words);
        command.env("OMIUM_URL", format!("http://127.0.0.1:{}", address.port)).env("OMIUM_KEY", &address.key);
        let (process, lines) = Process::start_talking(&mut command)?;
        let mut worker = Worker { process, lines, registered: Instant::now() };
        worker.registered = worker.until("registered", PATIENCE).await?.0;
        Ok(worker)
    }

    /// Waits for a line that begins so; its moment, and the rest of it.
    pub(crate) async fn until(&mut self, what: &str, limit: Duration) -> anyhow::Result<(Instant, String)> {
        let wanted = async {
            loop {
                let (at, line) = self.lines.recv().await.context("the worker has ended")?;
                if let Some(rest) = line.strip_prefix(what) {
                    return anyhow::Ok((at, rest.trim().to_owned()));
                }
            }
        };
        let said = tokio::time::timeout(limit, wanted).await;
        said.with_context(|| format!("no worker said `{what}` within {limit:?}"))?
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

/// What the process holds.
struct Bench {
    work: Work,
    url: String,
    key: String,
    /// Outcomes that were not accepted yet, by the number they were sent under.
    open: BTreeMap<u64, Complete>,
    last: u64,
    /// Steps that hang say here that they do no more.
    freed: (mpsc::UnboundedSender<Sending>, mpsc::UnboundedReceiver<Sending>),
}

impl Work {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let var = |name| std::env::var(name).with_context(|| format!("{name} says for whom to work"));
        let (url, key) = (var("OMIUM_URL")?, var("OMIUM_KEY")?);
        let (open, freed) = (BTreeMap::new(), mpsc::unbounded_channel());
        let mut bench = Bench { work: self.clone(), url, key, open, last: 0, freed };
        // One thread: a worker has little to do, and the cores are the server's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            loop {
                match bench.connected().await {
                    Ok(()) => return Ok(()),
                    // A measurement stops its server before its workers now and then.
                    Err(error) if bench.work.tells => {
                        eprintln!("omium-load: a worker was cut off: {error:#}")
                    }
                    Err(_) => {}
                }
                if bench.work.manner == Manner::Mute {
                    // It was cut off for its silence. It does not even notice that before its step lets it.
                    let freed = bench.freed.1.recv().await;
                    freed.into_iter().for_each(|sending| drop(bench.complete(Some(sending))));
                }
                tokio::time::sleep(AWAY).await;
            }
        })
    }
}

impl Bench {
    /// Performs steps until the engine says that there are no more, or the connection breaks.
    async fn connected(&mut self) -> anyhow::Result<()> {
        let channel = Channel::from_shared(self.url.clone())?.connect().await?;
        let (say, said) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(said));
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.key).parse()?);
        let mut first = vec![WorkerItem { no: 0, kind: Some(self.register()) }];
        first.extend(self.open.iter().map(|(no, done)| item(*no, done.clone())));
        say.send(WorkerMessage { items: first }).await?;
        let mut told = WorkersClient::new(channel).work(request).await?.into_inner();
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        // One that was mute and comes back is an ordinary one: what it says late is what is of interest.
        let mute = self.work.manner == Manner::Mute && self.open.is_empty();
        loop {
            let items = tokio::select! {
                message = told.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    message.items.into_iter().filter_map(|item| self.hear(item.kind?)).collect()
                }
                Some(sending) = self.freed.1.recv(), if !mute => vec![self.complete(Some(sending))],
                _ = beat.tick(), if !mute => {
                    vec![WorkerItem { no: 0, kind: Some(Say::Heartbeat(Heartbeat { nonce: 1 })) }]
                }
            };
            if !items.is_empty() {
                say.send(WorkerMessage { items }).await?;
            }
        }
    }

    fn register(&self) -> Say {
        let Work { name, capacity, idle_ms, .. } = self.work.clone();
        Say::Register(Register {
            name,
            session: std::process::id().to_string(),
            frameworks: vec!["program".to_owned()],
            capacity,
            idle_limit_ms: idle_ms,
            holding: self.open.values().filter_map(|complete| complete.sending.clone()).collect(),
            ..Register::default()
        })
    }

    fn hear(&mut self, kind: Kind) -> Option<WorkerItem> {
        match kind {
            Kind::Registered(_) => say("registered"),
            Kind::Perform(perform) => return self.perform(perform),
            Kind::Accepted(accepted) => drop(self.open.remove(&accepted.no)),
            Kind::Refused(refused) => {
                let refusal = refused.refusal.unwrap_or_default();
                self.tell(&format!("refused {}", refusal.code));
                if refusal.again {
                    return Some(item(refused.no, self.open.get(&refused.no)?.clone()));
                }
                self.open.remove(&refused.no);
            }
            Kind::Cancel(_) => self.tell("cancelled"),
            Kind::Heartbeat(_) | Kind::Drained(_) => {}
        }
        None
    }

    fn perform(&mut self, perform: Perform) -> Option<WorkerItem> {
        if self.work.tells {
            say(&format!("performs {}", perform.agent));
        }
        if self.work.manner == Manner::Prompt {
            return Some(self.complete(perform.sending));
        }
        let (door, freed, sending) = (self.work.door, self.freed.0.clone(), perform.sending?);
        std::thread::spawn(move || {
            let mut byte = [0];
            let read =
                TcpStream::connect(("127.0.0.1", door)).and_then(|mut hangs| hangs.read_exact(&mut byte));
            if let Err(error) = read {
                eprintln!("omium-load: a step that was to hang does not: {error}");
            }
            // A process that ends takes nothing in any more.
            let _ = freed.send(sending);
        });
        None
    }

    fn complete(&mut self, sending: Option<Sending>) -> WorkerItem {
        self.last += 1;
        let output_json = if self.work.tells { format!("\"{}\"", self.work.name) } else { "null".to_owned() };
        let complete = Complete { sending, output_json, cost_usd: String::new() };
        self.open.insert(self.last, complete.clone());
        item(self.last, complete)
    }

    fn tell(&self, line: &str) {
        if self.work.tells {
            say(line);
        }
    }
}

fn item(no: u64, complete: Complete) -> WorkerItem {
    WorkerItem { no, kind: Some(Say::Complete(complete)) }
}

/// One write per line, so that what is said is never half of it.
fn say(line: &str) {
    // Whoever has stopped listening does not want to know.
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}
