//! A server that runs: its key, the note by which commands find it, and its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use omium_api::port::Keys as _;
use omium_edge::Stop;
use omium_engine::Engine;
use omium_schemas::catalogue::KeyRole;
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use crate::cli::{Running, note_path};
use crate::config;

/// How often the note of a running server is tried again where there is no room for it.
const NOTE_AGAIN: Duration = Duration::from_secs(2);

/// What may tell a server to end: SIGTERM and SIGINT.
pub(super) type Signals = (Signal, Signal);

/// Waits until somebody wants it to end.
pub(super) async fn told((terminate, interrupt): &mut Signals) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Serves until a signal, or until a partition has ended. Then what is in flight has its grace.
pub(super) async fn run_until_told(
    engine: &Arc<Engine>,
    mut server: JoinHandle<usize>,
    stop: Stop,
    grace: Duration,
    (mut terminate, mut interrupt): Signals,
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

/// The key of the last start, as long as it is still one.
pub(super) async fn key(engine: &Arc<Engine>, data: &Path) -> anyhow::Result<String> {
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
pub(super) fn note_soon(data: &Path, running: Running) -> anyhow::Result<()> {
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

pub(super) fn note(data: &Path, running: &Running) -> anyhow::Result<()> {
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
