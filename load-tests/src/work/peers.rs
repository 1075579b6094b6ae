//! Programs of other projects, installed outside the clone by a script beside them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// What a peer's script has prepared: the places that it prints, one a line.
pub(crate) fn prepared<const N: usize>(peer: &str) -> anyhow::Result<[PathBuf; N]> {
    let script = place(peer, "prepare");
    let output = Command::new(&script).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("{} does not start", script.display()))?;
    ensure!(
        output.status.success(),
        "{peer} could not be prepared ({}); its message stands above",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    let places: Vec<PathBuf> = text.lines().map(PathBuf::from).collect();
    places.try_into().ok().with_context(|| format!("preparing {peer} names something else than {N} places"))
}

/// A file that lies beside the script.
pub(crate) fn place(peer: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer).join(file)
}
