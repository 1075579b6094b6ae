//! `omium dev`: everything in one process, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use omium_agents::mock::Script;
use omium_agents::native::Upstream;
use omium_api::port::Engine as _;
use omium_schemas::catalogue::KeyRole;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Running, data_dir, note_path};
use crate::engine::{Engine, Options, Served, seat_native};

/// Where it answers, if that is free.
pub(crate) const PORT: u16 = 7460;

/// Runs everything in one process, reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// The port; else 7460 or the next free one.
    #[arg(long)]
    port: Option<u16>,
    /// The data folder; else $OMIUM_DATA, else the one of the desktop's conventions.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Who answers for models: an OpenAI-compatible address that ends with /v1; else a scripted server of our own.
    #[arg(long, value_name = "URL", env = "OMIUM_UPSTREAM_URL")]
    upstream: Option<String>,
}

pub(crate) fn run(dev: &Dev) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(dev))
}

async fn serve(dev: &Dev) -> anyhow::Result<ExitCode> {
    let data = dev.data.clone().unwrap_or_else(data_dir);
    let listener = listen(dev.port).await?;
    let address = listener.local_addr()?;
    let engine = Engine::open(&Options { data: data.clone(), partitions: 4 }).await?;
    // Lives as long as this process; native agents ask it where no other upstream is named.
    let scripted = match &dev.upstream {
        Some(_) => None,
        None => Some(
            omium_agents::serve(Script::demo(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?).await?,
        ),
    };
    let upstream = Upstream {
        base_url: dev
            .upstream
            .clone()
            .or_else(|| scripted.as_ref().map(|server| server.url()))
            .unwrap_or_default(),
        key: std::env::var("OPENAI_API_KEY").ok(),
        headers: Vec::new(),
    };
    seat_native(&engine, upstream);
    let url = format!("http://{address}");
    let key = key(&engine, &data).await?;
    note(&data, &Running { url: url.clone(), key, pid: std::process::id() })?;
    eprintln!(
        "omium {} answers at {url}; data in {}; the key is in {}",
        env!("CARGO_PKG_VERSION"),
        data.display(),
        note_path(&data).display()
    );

    let router = omium_api::router(Arc::new(Served(engine.clone())));
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
    let server = axum::serve(listener, router).with_graceful_shutdown(graceful);
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
