//! How far a partition is published: a small file per topic and partition. Lost, everything is published again.

use std::path::Path;

use anyhow::Context as _;
use omium_schemas::{BlockNo, Digest, Epoch, Filter, Offset};
use serde::{Deserialize, Serialize};

/// The record of the log that is next, and what the filter knows of those before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) next: Offset,
    epoch: Epoch,
    no: BlockNo,
    prev: Option<Digest>,
}

impl Position {
    pub(super) fn new(next: Offset, filter: &Filter) -> Position {
        Position { next, epoch: filter.epoch, no: filter.no, prev: filter.prev }
    }

    pub(super) fn filter(&self) -> Filter {
        Filter { epoch: self.epoch, no: self.no, prev: self.prev, ..Filter::default() }
    }

    /// Nothing where there is none, or none that can be read.
    pub(super) fn load(file: &Path) -> Option<Position> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Readers of the file see the old position or this one, never a half.
    pub(super) fn save(&self, file: &Path) -> anyhow::Result<()> {
        let beside = file.with_extension("new");
        std::fs::write(&beside, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&beside, file))
            .with_context(|| format!("{} cannot be written", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_again_and_what_is_none_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("omium.events-0.json");
        assert_eq!(Position::load(&file), None);
        let filter =
            Filter { epoch: Epoch(3), no: BlockNo(7), prev: Some(Digest([9; 32])), ..Filter::default() };
        let position = Position::new(Offset(12), &filter);
        position.save(&file).expect("it can be written");
        let found = Position::load(&file).expect("it was written");
        assert_eq!((&found, found.filter()), (&position, filter));
        std::fs::write(&file, "{\"next\":").expect("a torn file");
        assert_eq!(Position::load(&file), None);
    }
}
