//! `omium dev`: everything in one process, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use omium_agents::mock::Script;
use omium_agents::native::Upstream;
use omium_api::port::{Executions as _, Failure, FailureKind, Keys as _, StartRequest, Workflows as _};
use omium_edge::{Limits, Server, Stop, raise_descriptors};
use omium_log::KafkaOptions;
use omium_schemas::catalogue::KeyRole;
use omium_schemas::{Money, Price};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::cli::{Running, data_dir, note_path};
use crate::config::{self, Config};
use crate::entrance::Entrance;
use omium_engine::{
    Engine, Gate, Host, Opening, Options, Shown, StoreError, Topics, of_other_ages, publish, seat_native,
};

/// Where it answers, if that is free.
pub(crate) const PORT: u16 = 7460;

/// How long calls in flight may take to end where nobody says it.
const GRACE: Duration = Duration::from_secs(30);

/// How long the state may take to be saved at the end.
const SAVES: Duration = Duration::from_secs(15);
const FOLDED_AGAIN: &str = "all of it is in the log, and is folded again at the next start";

/// How often the note of a running server is tried again where there is no room for it.
const NOTE_AGAIN: Duration = Duration::from_secs(2);

/// What the scripted model costs, so that there is something to see: $0.50, $0.25 and $1.50 for a million tokens.
const SCRIPTED: Price = Price { input: Money(500_000), cached: Money(250_000), output: Money(1_500_000) };

/// Runs everything in one process, reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// Brings a workflow and some runs of it, to look at.
    #[arg(long)]
    sample: bool,
    #[command(flatten)]
    node: NodeOptions,
}

/// What `dev` and `serve` have in common.
#[derive(Args, Debug)]
struct NodeOptions {
    /// The port; else 7460 or the next free one.
    #[arg(long)]
    port: Option<u16>,
    /// The data folder; else $OMIUM_DATA, else the one of the desktop's conventions.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Who answers for models: an OpenAI-compatible address that ends with /v1. Without it `omium dev` brings a scripted
    /// model, and `omium serve` refuses calls of models.
    #[arg(long, value_name = "URL", env = "OMIUM_UPSTREAM_URL", value_parser = upstream_url)]
    upstream: Option<String>,
    /// A name, beside those of loopback, under which it may be asked; may be given more than once.
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// How long calls in flight may take to end once the process is told to (30s); a second signal ends it at once.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    grace: Option<Duration>,
    /// How long executions are kept after they have ended (90d), a day at least; a workflow may say otherwise. Without it
    /// everything is kept.
    #[arg(long, value_name = "TIME", value_parser = kept)]
    keep: Option<Duration>,
    /// What is granted to tools of workflows, and settings; else omium.toml in the data folder, if it is there.
    #[arg(long, value_name = "FILE", env = "OMIUM_CONFIG")]
    config: Option<PathBuf>,
}

pub(crate) fn kept(text: &str) -> Result<Duration, String> {
    let keep = humantime::parse_duration(text).map_err(|why| format!("{why}; write 90d"))?;
    if keep < omium_engine::SHORTEST_KEEP {
        return Err("what has ended is kept for a day at least; write 1d or more".to_owned());
    }
    Ok(keep)
}

pub(crate) fn upstream_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|why| format!("{why}; write http://HOST:PORT/v1"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(text.to_owned()),
        _ => Err("write http://HOST:PORT/v1 or https://HOST/v1".to_owned()),
    }
}

/// Runs one node; its log may be on Kafka. Reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    node: NodeOptions,
    /// Where the log is: `kafka://HOST:PORT[,HOST:PORT…]`; else in the data folder.
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// The topic of the log.
    #[arg(long, default_value = "omium.log")]
    topic: String,
    /// How many partitions the topic has; fixed when it is made.
    #[arg(long, default_value_t = 48)]
    partitions: u16,
    /// On how many brokers each partition is.
    #[arg(long, default_value_t = 3)]
    replication: u16,
    /// The schema registry's Confluent API; with it the log's events are published as Avro.
    #[arg(long, value_name = "URL", requires = "log")]
    registry: Option<String>,
    /// The topic of published events.
    #[arg(long, default_value = "omium.events", value_name = "TOPIC", requires = "log")]
    events_topic: String,
    /// The topic of results.
    #[arg(long, default_value = "omium.results", value_name = "TOPIC", requires = "log")]
    results_topic: String,
    /// How much of a result is published; outputs are readable for all who may read the topic.
    #[arg(long, value_enum, default_value = "whole", requires = "log")]
    results: Shown,
}

impl Serve {
    fn topics(&self) -> Topics {
        let Serve { registry, events_topic, results_topic, results, .. } = self;
        Topics {
            registry: registry.clone(),
            events: events_topic.clone(),
            results: results_topic.clone(),
            shown: *results,
        }
    }
}

pub(crate) fn run(dev: &Dev) -> anyhow::Result<ExitCode> {
    run_on_all_cores(serve(&dev.node, Kind::Dev { sample: dev.sample }))
}

/// What a node is for.
enum Kind {
    /// To try things out: what is missing is brought along.
    Dev { sample: bool },
    /// To work: what is missing is refused.
    Serve { kafka: Option<KafkaOptions>, topics: Topics },
}

fn run_on_all_cores(node: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    // Whatever is written from here on, this user alone may read.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    crate::logging::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(node);
    // A disk that does not answer must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

pub(crate) fn run_node(node: &Serve) -> anyhow::Result<ExitCode> {
    let kafka = match node.log.as_deref() {
        None => None,
        Some(url) => {
            let Some(bootstrap) = url.strip_prefix("kafka://").filter(|hosts| !hosts.is_empty()) else {
                bail!(
                    "`{url}` names no log; write kafka://HOST:PORT, or leave --log out for one in the data folder"
                );
            };
            let Serve { partitions, replication, .. } = *node;
            Some(KafkaOptions { partitions, replication, ..KafkaOptions::new(bootstrap, node.topic.clone()) })
        }
    };
    run_on_all_cores(serve(&node.node, Kind::Serve { kafka, topics: node.topics() }))
}

async fn serve(options: &NodeOptions, kind: Kind) -> anyhow::Result<ExitCode> {
    let exporting = omium_telemetry::start(omium_telemetry::Settings::from_env()?)?;
    let outcome = serve_followed(options, kind, exporting.told()).await;
    // What the end of the node had to say is sent too.
    exporting.stop().await;
    outcome
}

async fn serve_followed(options: &NodeOptions, kind: Kind, telemetry: &str) -> anyhow::Result<ExitCode> {
    let descriptors = raise_descriptors();
    let data = options.data.clone().unwrap_or_else(data_dir);
    let config = configured(options, &kind, &data)?;
    let granted = config.told(kind.is_dev());
    let grace = options.grace.or(config.grace).unwrap_or(GRACE);
    let limits = Limits {
        hosts: options.host_name.iter().chain(&config.host_names).cloned().collect(),
        grace,
        ..Limits::with_descriptors(descriptors)
    };
    // From here on a signal is an end like any other, also one that comes while the log is opened.
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    private_folder(&data)?;
    let listener = listen(options.port).await?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}");
    let connections = limits.connections;
    let (entrance, stop) = (Entrance::default(), Stop::default());
    let server = tokio::spawn(Server::new(listener, entrance.router(), limits, stop.clone())?.run());
    tracing::info!(%url, data = %data.display(), "opening the log; {url}/ready says how far it is");
    let opening = open(&data, &kind, config.host(kind.is_dev())?, entrance.opening());
    let opened = tokio::select! {
        opened = opening => opened,
        _ = told(&mut signals) => {
            tracing::info!("stopped before the log was open");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let engine = match opened {
        Ok(engine) => engine,
        Err(error) => return stay_closed(error, &data, url, &entrance, signals).await,
    };
    let models = Models::of(options.upstream.as_ref().or(config.upstream.as_ref()), &kind).await?;
    let gate = omium_llm::router(Arc::new(Gate::new(engine.clone())), models.gate().with_calls(connections));
    seat_native(&engine, models.native());
    if let Some(keep) = options.keep.or(config.keep) {
        engine.keep(keep);
    }
    let key = key(&engine, &data).await?;
    prepare(&engine, &kind, &models, &key).await?;
    note_soon(&data, Running { url: url.clone(), key, pid: std::process::id() })?;
    entrance.open(omium_api::router(engine.clone()).merge(gate));
    tracing::info!(
        %url,
        data = %data.display(),
        log = %kind.log(),
        models = %models.shown(),
        tools = %granted,
        %telemetry,
        connections,
        descriptors,
        grace_s = grace.as_secs(),
        "omium {} answers at {url}; data in {}; the key is in {}; tools may use: {granted}",
        env!("CARGO_PKG_VERSION"),
        data.display(),
        note_path(&data).display()
    );
    run_until_told(&engine, server, stop, grace, signals).await?;
    let why = engine.stopped().borrow().clone();
    if let Some(why) = why {
        // On disk a failed write ends the process: what the kernel still shows may never reach the device.
        tracing::error!("{why}");
        return Ok(ExitCode::from(74));
    }
    let stopped = tokio::time::timeout(SAVES, engine.stop()).await;
    let _ = std::fs::remove_file(note_path(&data));
    match stopped {
        Ok(Err(error @ StoreError::Full { .. })) => tracing::warn!("{error}; {FOLDED_AGAIN}"),
        Ok(stopped) => stopped?,
        Err(_) => {
            tracing::error!("the state could not be saved within {} s; {FOLDED_AGAIN}", SAVES.as_secs());
            return Ok(ExitCode::FAILURE);
        }
    }
    tracing::info!("stopped; what was acknowledged is in the log");
    Ok(ExitCode::SUCCESS)
}

/// Where parts of the data folder are older than others, nobody may write on; an operator has to see why, also one who asks
/// over the network and would only meet a process that starts again and again. Every other failure ends the process.
async fn stay_closed(
    error: anyhow::Error,
    data: &Path,
    url: String,
    entrance: &Entrance,
    mut signals: (Signal, Signal),
) -> anyhow::Result<ExitCode> {
    let Some(reasons) = of_other_ages(&error) else { return Err(error) };
    reasons.iter().for_each(|reason| tracing::error!("{reason}"));
    tracing::error!(
        "nothing is served, and nothing was changed; stop this node, put the folder right and start it again"
    );
    let key = std::fs::read_to_string(data.join("dev.key")).unwrap_or_default().trim().to_owned();
    entrance.close(reasons.join("; "), &key);
    // It is found without the note too, and has to stay where there is no room for it.
    let _ = note(data, &Running { url, key, pid: std::process::id() });
    told(&mut signals).await;
    let _ = std::fs::remove_file(note_path(data));
    Ok(ExitCode::FAILURE)
}

/// Waits until somebody wants it to end.
async fn told((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Serves until a signal, or until a partition has ended. Then what is in flight has its grace.
async fn run_until_told(
    engine: &Arc<Engine>,
    mut server: JoinHandle<usize>,
    stop: Stop,
    grace: Duration,
    (mut terminate, mut interrupt): (Signal, Signal),
) -> anyhow::Result<()> {
    let mut ended = engine.stopped();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = ended.wait_for(Option::is_some) => stop.now(),
        served = &mut server => drop(served.context("the listener ended")?),
    }
    tracing::info!(grace_s = grace.as_secs(), "stopping: calls in flight may end; a second signal ends them");
    stop.begin();
    let quiet = async { tokio::join!(&mut server, tokio::time::timeout(grace, engine.drain())) };
    let unfinished = tokio::select! {
        (unfinished, _) = quiet => unfinished.unwrap_or_default(),
        _ = terminate.recv() => 1,
        _ = interrupt.recv() => 1,
        _ = ended.wait_for(Option::is_some) => 0,
    };
    stop.now();
    if unfinished > 0 {
        tracing::warn!(
            "ended before all calls in flight had; they are asked again when their programs go on"
        );
    }
    Ok(())
}

/// What the operator's file says. On a machine with one developer more is granted where it says nothing.
fn configured(options: &NodeOptions, kind: &Kind, data: &Path) -> anyhow::Result<Config> {
    let config = Config::load(config::place(options.config.as_deref(), data).as_deref())?;
    Ok(if kind.is_dev() { config.for_one_developer() } else { config })
}

impl Kind {
    fn is_dev(&self) -> bool {
        matches!(self, Kind::Dev { .. })
    }

    fn log(&self) -> String {
        match self {
            Kind::Serve { kafka: Some(kafka), .. } => format!("kafka topic {}", kafka.topic),
            Kind::Serve { kafka: None, .. } | Kind::Dev { .. } => "in the data folder".to_owned(),
        }
    }
}

async fn open(data: &Path, kind: &Kind, host: Host, opening: &Arc<Opening>) -> anyhow::Result<Arc<Engine>> {
    let (kafka, topics) = match kind {
        Kind::Serve { kafka: Some(kafka), topics } => (Some(kafka), Some(topics)),
        Kind::Serve { kafka: None, .. } | Kind::Dev { .. } => (None, None),
    };
    let partitions = kafka.map_or(4, |kafka| kafka.partitions);
    let options = Options { data: data.to_owned(), partitions, kafka: kafka.cloned(), host };
    let engine = Engine::open_telling(&options, opening).await?;
    if let (Some(kafka), Some(topics)) = (kafka, topics) {
        publish(&engine, data, kafka, topics).await?;
        tracing::info!("{}", topics.told());
    }
    Ok(engine)
}

/// Who answers for models.
enum Models {
    At {
        url: String,
        key: Option<String>,
    },
    /// A server of our own, which lives as long as this.
    Scripted(omium_agents::mock::Server),
    Nobody,
}

impl Models {
    async fn of(upstream: Option<&String>, kind: &Kind) -> anyhow::Result<Models> {
        let key = std::env::var(config::UPSTREAM_KEY).ok().filter(|key| !key.is_empty());
        match (upstream, kind) {
            (Some(url), _) => Ok(Models::At { url: url.clone(), key }),
            (None, Kind::Dev { .. }) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                Ok(Models::Scripted(omium_agents::serve_and_forget(Script::demo(), listener).await?))
            }
            (None, Kind::Serve { .. }) => Ok(Models::Nobody),
        }
    }

    fn gate(&self) -> omium_llm::Upstream {
        match self {
            Models::At { url, key } => omium_llm::Upstream::new(url, key.clone()),
            Models::Scripted(server) => omium_llm::Upstream::new(&server.url(), None),
            Models::Nobody => omium_llm::Upstream::none(),
        }
    }

    fn native(&self) -> Option<Upstream> {
        let at = |base_url: String, key: Option<String>| Upstream { base_url, key, headers: Vec::new() };
        match self {
            Models::At { url, key } => Some(at(url.clone(), key.clone())),
            Models::Scripted(server) => Some(at(server.url(), None)),
            Models::Nobody => None,
        }
    }

    /// For the log: the server's name without what else may stand in its address.
    fn shown(&self) -> String {
        match self {
            Models::At { url, key } => {
                let origin = reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization());
                let with = if key.is_some() { "with OPENAI_API_KEY" } else { "without a key" };
                format!("{} {with}", origin.unwrap_or_default())
            }
            Models::Scripted(_) => "scripted model; name a real one with --upstream".to_owned(),
            Models::Nobody => "none: calls of models are refused; name one with --upstream".to_owned(),
        }
    }
}

/// What `omium dev` brings along.
async fn prepare(engine: &Arc<Engine>, kind: &Kind, models: &Models, key: &str) -> anyhow::Result<()> {
    if matches!(models, Models::Scripted(_)) {
        let set = engine.suggest_price(key, "default", SCRIPTED).await;
        needs_room(set)?;
    }
    if matches!(kind, Kind::Dev { sample: true }) {
        needs_room(sample(engine, key).await)?;
    }
    Ok(())
}

/// What is only brought along is left out where there is no room for it.
fn needs_room(made: Result<(), Failure>) -> anyhow::Result<()> {
    match made {
        Err(failure) if failure.kind == FailureKind::Full => {
            tracing::warn!("what `omium dev` brings along is left out: {}", failure.detail);
            Ok(())
        }
        made => made.map_err(|failure| anyhow::anyhow!("what `omium dev` brings along: {}", failure.detail)),
    }
}

/// The data folder, which nobody else may read.
fn private_folder(data: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(data)
        .and_then(|()| std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
                omium_engine::unwritable(data, &error.to_string())
            }
            _ => anyhow::Error::from(error).context(format!(
                "{} cannot be the data folder; name another one with --data",
                data.display()
            )),
        })?;
    // After a power cut on the first day the folder itself has to be there too. Not every folder above can be opened.
    let above = std::path::absolute(data).ok().and_then(|data| Some(data.parent()?.to_owned()));
    let _ = above.and_then(|above| std::fs::File::open(above).ok()).map(|above| above.sync_all());
    Ok(())
}

/// The same keys each time, so that a second start brings nothing twice.
async fn sample(engine: &Arc<Engine>, key: &str) -> Result<(), Failure> {
    let Some(caller) = engine.authenticate(key).await? else { return Ok(()) };
    engine.publish(&caller, "loan.yaml", crate::demo::LOAN).await?;
    for (number, amount) in [20_000, 35_000, 5_000].into_iter().enumerate() {
        let inputs = serde_json::json!({ "amount": amount, "income": 85_000 });
        let idempotency = Some(format!("sample-{number}"));
        let request = StartRequest { workflow: "loan-decision".into(), inputs, idempotency, budget: None };
        engine.start(&caller, request).await?;
    }
    Ok(())
}

async fn listen(port: Option<u16>) -> anyhow::Result<TcpListener> {
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Some(port) = port {
        return TcpListener::bind(at(port))
            .await
            .with_context(|| format!("port {port} cannot be taken; leave --port out for the next free one"));
    }
    for port in PORT..PORT + 100 {
        if let Ok(listener) = TcpListener::bind(at(port)).await {
            return Ok(listener);
        }
    }
    bail!("none of the ports {PORT} to {} is free; name one with --port", PORT + 99)
}

/// The key of the last start, as long as it is still one.
async fn key(engine: &Arc<Engine>, data: &Path) -> anyhow::Result<String> {
    let kept = std::fs::read_to_string(data.join("dev.key")).ok();
    if let Some(kept) = kept.as_deref().map(str::trim)
        && is_known(engine, kept).await?
    {
        return Ok(kept.to_owned());
    }
    let key = engine
        .admit(config::TENANT, KeyRole::Admin)
        .await
        .map_err(|failure| anyhow::anyhow!(failure.detail))?;
    private(&data.join("dev.key"), key.as_bytes())?;
    Ok(key)
}

async fn is_known(engine: &Arc<Engine>, key: &str) -> anyhow::Result<bool> {
    let caller = engine.authenticate(key).await;
    Ok(caller.map_err(|failure| anyhow::anyhow!(failure.detail))?.is_some())
}

/// Where there is no room for the note it is written as soon as there is: what is there can be read meanwhile.
fn note_soon(data: &Path, running: Running) -> anyhow::Result<()> {
    match note(data, &running) {
        Err(error) if is_full(&error) => {
            tracing::error!(
                "there is no room for {}: `omium` finds this server by OMIUM_URL and OMIUM_KEY until there is",
                note_path(data).display()
            );
            let data = data.to_owned();
            tokio::spawn(async move {
                while note(&data, &running).is_err() {
                    tokio::time::sleep(NOTE_AGAIN).await;
                }
            });
            Ok(())
        }
        noted => noted,
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(StorageFull | QuotaExceeded | FileTooLarge))
}

fn note(data: &Path, running: &Running) -> anyhow::Result<()> {
    private(&note_path(data), &serde_json::to_vec_pretty(running)?)
}

/// Writes a file that nobody else may read. Readers see the old one or the new one, never a half.
fn private(place: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let dir = place.parent().context("a file lies in a folder")?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(place)?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(())
}
