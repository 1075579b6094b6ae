//! How far this node has seen its log, noted beside it: so that an older copy of the log, or of the blobs, that is put
//! among newer files is noticed and not written on.
//!
//! The note of the blobs lies in their folder and is written first. So it is never behind the other one, unless the
//! folder is an older copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use omium_log::Log;
use omium_log::disk::{DiskError, RealDisk, read_small, replace};
use omium_schemas::{Offset, Partition};
use tokio::sync::watch;

use super::carrier::{Phase, reaches};

/// How often it is noted.
const EVERY: Duration = Duration::from_secs(10);
const NAME: &str = "seen";
/// More is no note of ours.
const LONGEST: usize = 1 << 20;

/// The notes of one data folder.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    root: PathBuf,
    log: String,
}

impl Seen {
    pub(super) fn new(root: &Path, log: [u8; 16]) -> Seen {
        Seen { root: root.to_owned(), log: log.iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// Why the log, which ends so, is older than what lies beside it; nothing where it is not.
    pub(super) fn log_is_older(&self, ends: &[Offset]) -> Option<String> {
        let seen = self.read(&self.root).ok()??;
        let behind = |(_, (end, seen)): &(usize, (&Offset, &Offset))| end < seen;
        let (partition, (end, seen)) = ends.iter().zip(&seen).enumerate().find(behind)?;
        let root = self.root.display();
        Some(format!(
            "the log is older than the rest of {root}: partition {partition} of it ends before offset {end}, and this \
             node has seen it up to offset {seen}. Bring the newest copy of the log back; if there is none, remove \
             {root}/{NAME} and the folders `index` and `published` to go on without the records that are missing"
        ))
    }

    /// Why the blobs are older than the log; nothing where they are not.
    pub(super) fn blobs_are_older(&self) -> Option<String> {
        let seen = self.read(&self.root).ok()??;
        // A note that is missing or of another log counts; what cannot be read for now does not.
        let blobs = self.read(&self.root.join("blobs")).ok()?.unwrap_or_default();
        let behind = |(n, seen): (usize, &Offset)| blobs.get(n).is_none_or(|blobs| blobs < seen);
        let root = self.root.display();
        seen.iter().enumerate().any(behind).then(|| {
            format!(
                "{root}/blobs is older than the log: long content that was stored since cannot be read. Bring the newest \
                 copy of the folder back; if there is none, remove {root}/{NAME} to go on without that content"
            )
        })
    }

    /// Notes that the log is durable up to these ends.
    pub(super) fn note(&self, ends: &[Offset]) -> Result<(), String> {
        let lines: String = ends.iter().map(|end| format!("{end}\n")).collect();
        let text = format!("{}\n{lines}", self.log);
        for place in [self.root.join("blobs"), self.root.clone()] {
            replace(&RealDisk, &place.join(NAME), text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What a note says; one of another log, or that is no note, says nothing.
    fn read(&self, place: &Path) -> Result<Option<Vec<Offset>>, DiskError> {
        let bytes = read_small(&RealDisk, &place.join(NAME), LONGEST)?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let ends = text.as_deref().and_then(|text| text.strip_prefix(&self.log));
        Ok(ends.and_then(|ends| ends.lines().skip(1).map(|line| line.parse().ok().map(Offset)).collect()))
    }
}

/// Notes now and then how far the log is durable, until the node is over.
pub(super) async fn keep(seen: Seen, log: Arc<dyn Log>, mut phase: watch::Receiver<Phase>) {
    loop {
        note(&seen, &*log).await;
        tokio::select! {
            () = reaches(&mut phase, Phase::Finishing) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// A note that cannot be written costs the next start what it would have noticed, and nothing else.
pub(super) async fn note(seen: &Seen, log: &dyn Log) {
    let tail = |n| log.tail(Partition(n)).map(|tail| *tail.borrow());
    let Ok(ends) = (0..log.partitions()).map(tail).collect::<Result<Vec<Offset>, _>>() else { return };
    let seen = seen.clone();
    let noted = tokio::task::spawn_blocking(move || seen.note(&ends)).await;
    if let Ok(Err(error)) = noted {
        tracing::debug!(error, "how far the log was seen could not be noted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_log_and_older_blobs_are_told_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("a directory");
        super::super::places::make_folder(&dir.path().join("blobs")).expect("a folder");
        let (seen, other) = (Seen::new(dir.path(), [7; 16]), Seen::new(dir.path(), [8; 16]));
        let ends = |n| [Offset(4), Offset(n)];
        assert_eq!((seen.log_is_older(&ends(0)), seen.blobs_are_older()), (None, None), "nothing is noted");
        seen.note(&ends(10)).expect("it can be written");
        let blobs = read_small(&RealDisk, &dir.path().join("blobs/seen"), LONGEST).expect("it can be read");
        seen.note(&ends(12)).expect("it can be written");
        for end in [12, 13] {
            assert_eq!((seen.log_is_older(&ends(end)), seen.blobs_are_older()), (None, None));
        }
        assert_eq!(
            (other.log_is_older(&ends(0)), other.blobs_are_older()),
            (None, None),
            "it is of another log"
        );
        let why = seen.log_is_older(&ends(11)).expect("it ends earlier");
        assert!(
            why.contains("partition 1") && why.contains("offset 11") && why.contains("offset 12"),
            "{why}"
        );
        replace(&RealDisk, &dir.path().join("blobs/seen"), &blobs.expect("it is there")).expect("a copy");
        assert!(seen.blobs_are_older().expect("they are older").contains("blobs is older"));
    }
}
