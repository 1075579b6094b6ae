//! How far a partition is published: a small file per topic and partition. Lost, everything is published again.

use std::io::Write as _;
use std::path::Path;

use crate::readable::hex;
use anyhow::Context as _;
use omium_schemas::{BlockNo, Digest, Epoch, Filter, Offset};
use serde::{Deserialize, Serialize};

/// The record of the log that is next, and what the filter knows of those before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The log that it is of, in hexadecimal.
    log: String,
    pub(super) next: Offset,
    epoch: Epoch,
    no: BlockNo,
    prev: Option<Digest>,
    /// Copies before this offset are published: what stands there may stand nowhere else any more.
    #[serde(default)]
    pub(super) copies_until: Offset,
}

impl Position {
    pub(super) fn new(log: [u8; 16], next: Offset, filter: &Filter) -> Position {
        let copies_until = Offset(0);
        Position { log: hex(&log), next, epoch: filter.epoch, no: filter.no, prev: filter.prev, copies_until }
    }

    pub(super) fn filter(&self) -> Filter {
        Filter { epoch: self.epoch, no: self.no, prev: self.prev, ..Filter::default() }
    }

    pub(super) fn with_copies_until(self, copies_until: Offset) -> Position {
        Position { copies_until, ..self }
    }

    /// Nothing where there is none, none that can be read, or one of another log.
    pub(super) fn load(file: &Path, log: [u8; 16]) -> Option<Position> {
        let found: Position = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        let ours = found.log == hex(&log);
        if !ours {
            let file = file.display();
            tracing::error!(%file, "how far was published is of another log; everything of this one is published");
        }
        ours.then_some(found)
    }

    /// Readers of the file see the old position or this one, never a half.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        let beside = file.with_extension("new");
        write_synced(&beside, &serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&beside, file))
            .with_context(|| format!("{} cannot be written", file.display()))
    }
}

/// A file that a power cut leaves whole under its new name.
fn write_synced(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut made = std::fs::File::create(file)?;
    made.write_all(bytes)?;
    made.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [u8; 16] = [7; 16];

    #[test]
    fn a_position_is_found_again_and_what_is_none_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("omium.events-0.json");
        assert_eq!(Position::load(&file, LOG), None);
        let filter =
            Filter { epoch: Epoch(3), no: BlockNo(7), prev: Some(Digest([9; 32])), ..Filter::default() };
        let position = Position::new(LOG, Offset(12), &filter).with_copies_until(Offset(9));
        position.save(&file).expect("it can be written");
        let found = Position::load(&file, LOG).expect("it was written");
        assert_eq!(Position::load(&file, [8; 16]), None, "it is of another log");
        assert_eq!((&found, found.filter()), (&position, filter));
        std::fs::write(&file, "{\"next\":").expect("a torn file");
        assert_eq!(Position::load(&file, LOG), None);
    }
}
