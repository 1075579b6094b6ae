//! `omium dev`: everything in one process, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use axum::serve::ListenerExt as _;
use clap::Args;
use omium_agents::mock::Script;
use omium_agents::native::Upstream;
use omium_api::port::{Engine as _, Failure, StartRequest};
use omium_log::KafkaOptions;
use omium_schemas::catalogue::KeyRole;
use omium_schemas::{Money, Price};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Running, data_dir, note_path};
use omium_engine::{Engine, Gate, Options, Served, Shown, Topics, publish, seat_native};

/// Where it answers, if that is free.
pub(crate) const PORT: u16 = 7460;

/// What the scripted model costs, so that there is something to see: $0.50, $0.25 and $1.50 for a million tokens.
const SCRIPTED: Price = Price { input: Money(500_000), cached: Money(250_000), output: Money(1_500_000) };

/// Runs everything in one process, reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// The port; else 7460 or the next free one.
    #[arg(long)]
    port: Option<u16>,
    /// The data folder; else $OMIUM_DATA, else the one of the desktop's conventions.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Brings a workflow and some runs of it, to look at.
    #[arg(long)]
    sample: bool,
    /// Who answers for models: an OpenAI-compatible address that ends with /v1; else a scripted server of our own.
    #[arg(long, value_name = "URL", env = "OMIUM_UPSTREAM_URL")]
    upstream: Option<String>,
}

/// Runs one node; its log may be on Kafka. Reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    dev: Dev,
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(dev, None, None))
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
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&node.dev, kafka, Some(node.topics())))
}

async fn serve(dev: &Dev, kafka: Option<KafkaOptions>, topics: Option<Topics>) -> anyhow::Result<ExitCode> {
    let data = dev.data.clone().unwrap_or_else(data_dir);
    let listener = listen(dev.port).await?;
    let address = listener.local_addr()?;
    let partitions = kafka.as_ref().map_or(4, |kafka| kafka.partitions);
    let engine = Engine::open(&Options { data: data.clone(), partitions, kafka: kafka.clone() }).await?;
    if let (Some(kafka), Some(topics)) = (&kafka, &topics) {
        publish(&engine, &data, kafka, topics).await?;
        eprintln!("{}", topics.told());
    }
    // Lives as long as this process; native agents ask it where no other upstream is named.
    let scripted = match &dev.upstream {
        Some(_) => None,
        None => Some(
            omium_agents::serve(Script::demo(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?).await?,
        ),
    };
    let base_url =
        dev.upstream.clone().or_else(|| scripted.as_ref().map(|server| server.url())).unwrap_or_default();
    let gate = omium_llm::router(
        Arc::new(Gate::new(engine.clone())),
        omium_llm::Upstream::new(&base_url, std::env::var("OPENAI_API_KEY").ok()),
    );
    let upstream = Upstream { base_url, key: std::env::var("OPENAI_API_KEY").ok(), headers: Vec::new() };
    seat_native(&engine, upstream);
    let url = format!("http://{address}");
    let key = key(&engine, &data).await?;
    if scripted.is_some() {
        engine
            .suggest_price(&key, "default", SCRIPTED)
            .await
            .map_err(|failure| anyhow::anyhow!(failure.detail))?;
    }
    if dev.sample {
        sample(&engine, &key)
            .await
            .map_err(|failure| anyhow::anyhow!("the sample could not be made: {}", failure.detail))?;
    }
    note(&data, &Running { url: url.clone(), key, pid: std::process::id() })?;
    eprintln!(
        "omium {} answers at {url}; data in {}; the key is in {}",
        env!("CARGO_PKG_VERSION"),
        data.display(),
        note_path(&data).display()
    );

    let router = omium_api::router(Arc::new(Served(engine.clone()))).merge(gate);
    let mut ended = engine.ended();
    let (mut stop, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let over = async move {
        tokio::select! {
            _ = stop.recv() => {}
            _ = hang_up.recv() => {}
            _ = ended.wait_for(Option::is_some) => {}
        }
    };
    let (close, closed) = tokio::sync::watch::channel(false);
    let graceful = async move {
        over.await;
        let _ = close.send(true);
    };
    // Small answers wait for nothing: with Nagle's algorithm each step of a worker costs 40 ms.
    let prompt = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(prompt, router).with_graceful_shutdown(graceful);
    let mut closed = closed;
    tokio::select! {
        served = server => served?,
        // Streams of events stay open as long as somebody listens; they are not waited for.
        () = async { let _ = closed.wait_for(|closed| *closed).await; tokio::time::sleep(std::time::Duration::from_millis(300)).await } => {}
    }
    let why = engine.ended().borrow().clone();
    if let Some(why) = why {
        // On disk a failed write ends the process: what the kernel still shows may never reach the device.
        eprintln!("omium: {why}");
        return Ok(ExitCode::from(74));
    }
    engine.stop().await?;
    let _ = std::fs::remove_file(note_path(&data));
    Ok(ExitCode::SUCCESS)
}

/// The same keys each time, so that a second start brings nothing twice.
async fn sample(engine: &Arc<Engine>, key: &str) -> Result<(), Failure> {
    let served = Served(engine.clone());
    let Some(caller) = served.authenticate(key).await else { return Ok(()) };
    served.publish(&caller, "loan.yaml", crate::demo::LOAN).await?;
    for (number, amount) in [20_000, 35_000, 5_000].into_iter().enumerate() {
        let inputs = serde_json::json!({ "amount": amount, "income": 85_000 });
        let idempotency = Some(format!("sample-{number}"));
        let request = StartRequest { workflow: "loan-decision".into(), inputs, idempotency, budget: None };
        served.start(&caller, request).await?;
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
        && Served(engine.clone()).authenticate(kept).await.is_some()
    {
        return Ok(kept.to_owned());
    }
    let key =
        engine.admit("default", KeyRole::Admin).await.map_err(|failure| anyhow::anyhow!(failure.detail))?;
    private(&data.join("dev.key"), key.as_bytes())?;
    Ok(key)
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
    file.persist(place)?;
    Ok(())
}
