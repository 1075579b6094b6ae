//! `omium dev` and `omium serve`: everything in one process, on loopback.

mod models;
mod opening;
mod options;
mod running;
mod samples;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use omium_edge::{Limits, Server, Stop, raise_descriptors};
use omium_engine::{Gate, StoreError, seat_native};
use omium_log::KafkaOptions;
use tokio::signal::unix::{SignalKind, signal};

use self::models::Models;
use self::opening::{listen, open, private_folder, stay_closed};
pub(crate) use self::options::{Dev, PORT, Serve, kept, upstream_url};
use self::options::{Kind, NodeOptions, configured};
use self::running::{key, note_soon, run_until_told};
use self::samples::prepare;
use crate::claim::Claim;
use crate::cli::{Running, data_dir, note_path};
use crate::entrance::Entrance;

/// How long calls in flight may take to end where nobody says it.
const GRACE: Duration = Duration::from_secs(30);

/// How long the state may take to be saved at the end.
const SAVES: Duration = Duration::from_secs(15);

const FOLDED_AGAIN: &str = "all of it is in the log, and is folded again at the next start";

pub(crate) fn run(dev: &Dev) -> anyhow::Result<ExitCode> {
    run_on_all_cores(serve(&dev.node, Kind::Dev { sample: dev.sample }))
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

fn run_on_all_cores(node: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    // Whatever is written from here on, this user alone may read.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    crate::logging::start()?;
    // More threads than cores: some may compute over what others sent, and probes are answered beside them.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).saturating_mul(4).max(8);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let outcome = runtime.block_on(node);
    // A disk that does not answer must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
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
    let claim = Claim::take(&data)?;
    let listener = listen(options.port).await?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}");
    claim.answers_at(&url);
    let connections = limits.connections;
    let (entrance, stop) = (Entrance::default(), Stop::default());
    let server = tokio::spawn(Server::new(listener, entrance.router(), limits, stop.clone())?.run());
    tracing::info!(%url, data = %data.display(), "opening the log; {url}/ready says how far it is");
    let engine = match open(&data, &kind, config.host(kind.is_dev())?, &entrance, &mut signals).await {
        Ok(Some(engine)) => engine,
        Ok(None) => {
            tracing::info!("stopped before the log was open");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return stay_closed(error, &data, url, &entrance, signals).await,
    };
    let models = Models::of(options.upstream.as_ref().or(config.upstream.as_ref()), &kind).await?;
    let gate = omium_llm::router(Arc::new(Gate::new(engine.clone())), models.gate().with_calls(connections));
    seat_native(&engine, models.native());
    let keep = options.keep.or(config.keep);
    if let Some(keep) = keep {
        engine.keep(keep);
    }
    let key = match key(&engine, &data).await {
        Ok(key) => key,
        Err(error) => {
            // A partition that has just ended by itself, as over a damaged store, is the cause of all that fails then.
            let Some(why) = engine.stopped().borrow().clone() else { return Err(error) };
            tracing::error!("{why}");
            return Ok(ExitCode::from(74));
        }
    };
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
        keeps = %keep.map_or_else(|| "everything".to_owned(), |keep| humantime::format_duration(keep).to_string()),
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
