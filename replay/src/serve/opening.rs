//! The data folder, the port and the log: taken, or said why not.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use omium_engine::{Engine, Host, Opening, Options, of_other_ages, publish};
use tokio::net::TcpListener;

use super::PORT;
use super::options::Kind;
use super::running::{Signals, note, told};
use crate::cli::{Running, note_path};
use crate::entrance::Entrance;

pub(super) async fn open(
    data: &Path,
    kind: &Kind,
    host: Host,
    opening: &Arc<Opening>,
) -> anyhow::Result<Arc<Engine>> {
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
