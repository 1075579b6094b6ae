//! The data folder, the port and the log: taken, or said why not.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use omium_engine::{Engine, Host, Opening, Options, Topics, of_other_ages, publish};
use tokio::net::TcpListener;

use super::PORT;
use super::options::Kind;
use super::running::{Signals, note, told};
use crate::cli::{Running, note_path};
use crate::entrance::Entrance;

/// How long the opening may take to end that a signal stops.
const STOPS_OPENING: Duration = Duration::from_secs(1);

/// Opens the engine; nothing where a signal came first.
pub(super) async fn open(
    data: &Path,
    kind: &Kind,
    host: Host,
    entrance: &Entrance,
    signals: &mut Signals,
) -> anyhow::Result<Option<Arc<Engine>>> {
    let (kafka, topics) = match kind {
        Kind::Serve { kafka: Some(kafka), topics } => (Some(kafka.clone()), Some(topics.clone())),
        Kind::Serve { kafka: None, .. } | Kind::Dev { .. } => (None, None),
    };
    let partitions = kafka.as_ref().map_or(4, |kafka| kafka.partitions);
    let options = Options { data: data.to_owned(), partitions, kafka, host };
    let (opening, told_to_stop) = (entrance.opening().clone(), Arc::new(tokio::sync::Notify::new()));
    let stops = told_to_stop.clone();
    // Much of opening waits for the disk in its thread: one that does not answer would keep signals from being heard.
    let runtime = tokio::runtime::Handle::current();
    let mut opened = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                opened = open_with(&options, topics, &opening) => opened.map(Some),
                () = stops.notified() => Ok(None),
            }
        })
    });
    tokio::select! {
        opened = &mut opened => opened?,
        () = told(signals) => {
            told_to_stop.notify_one();
            // What can end in order does; the rest ends with the process.
            let _ = tokio::time::timeout(STOPS_OPENING, opened).await;
            Ok(None)
        }
    }
}

async fn open_with(
    options: &Options,
    topics: Option<Topics>,
    opening: &Arc<Opening>,
) -> anyhow::Result<Arc<Engine>> {
    let engine = Engine::open_telling(options, opening).await?;
    if let (Some(kafka), Some(topics)) = (&options.kafka, &topics) {
        publish(&engine, &options.data, kafka, topics).await?;
        tracing::info!("{}", topics.told());
    }
    Ok(engine)
}

/// Where parts of the data folder are older than others, nobody may write on; an operator has to see why, also one who asks
/// over the network and would only meet a process that starts again and again. Every other failure ends the process.
pub(super) async fn stay_closed(
    error: anyhow::Error,
    data: &Path,
    url: String,
    entrance: &Entrance,
    mut signals: Signals,
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

/// The data folder, which nobody else may read.
pub(super) fn private_folder(data: &Path) -> anyhow::Result<()> {
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

pub(super) async fn listen(port: Option<u16>) -> anyhow::Result<TcpListener> {
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
