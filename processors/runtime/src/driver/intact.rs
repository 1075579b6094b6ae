//! Whether the log still holds what it held. Records that somebody else has removed are an alarm, never a gap that is
//! folded over.

use omium_log::{Log, LogError};
use omium_schemas::{Block, BlockKind, BlockNo, Digest, Offset, Partition};

use super::carrier::READ;
use crate::port::Ended;
use crate::snapshot::Position;

/// The last block that saved state rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rests {
    next: Offset,
    no: BlockNo,
    hash: Digest,
}

impl Rests {
    /// Nothing where the state rests on no block.
    pub(super) fn of(position: &Position) -> Option<Rests> {
        let (next, no, hash) = (position.next, BlockNo(position.no), position.prev);
        (no.0 > 0 && hash != Digest::NONE).then_some(Rests { next, no, hash })
    }

    /// Looks for the block before the state's position, where it nearly always is. Behind it there may be records that
    /// did not count, so the search widens up to the log's start; a start that has moved may have taken it along.
    pub(super) async fn check(&self, log: &dyn Log, partition: Partition) -> Result<(), Ended> {
        let start = log.start(partition)?;
        let mut width = 1;
        loop {
            let from = Offset(self.next.0.saturating_sub(width)).max(start);
            if self.is_between(log, partition, from).await? || (from == start && start > Offset(0)) {
                return Ok(());
            }
            if from == start {
                return Err(Ended::OtherAge(format!(
                    "partition {partition} of the log does not hold block {}, on which the saved state rests: it is \
                     another log, or one that was made anew. Start with the log that belongs to this state, or move \
                     the state away and it is folded again from this log",
                    self.no
                )));
            }
            width *= 16;
        }
    }

    async fn is_between(&self, log: &dyn Log, partition: Partition, from: Offset) -> Result<bool, Ended> {
        let mut at = from;
        while at < self.next {
            let entries = log.read(partition, at, READ).await?;
            let Some(last) = entries.last() else {
                let gone = LogError::Truncated { partition, wanted: self.next, end: at };
                return Err(Ended::OtherAge(gone.to_string()));
            };
            at = last.offset.next();
            let mut before = entries.iter().filter(|entry| entry.offset < self.next);
            if before.any(|entry| self.is(&entry.bytes)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is(&self, bytes: &bytes::Bytes) -> bool {
        let block = Block::parse(bytes.clone()).ok();
        let block = block.filter(|block| block.head.kind == BlockKind::Frames && block.head.no == self.no);
        block.is_some_and(|block| block.hash().is_ok_and(|hash| hash == self.hash))
    }
}

/// The log starts where the last trim said so, or before. It is written down before anything is dropped.
pub(super) fn check_start(log: &dyn Log, partition: Partition, known: Offset) -> Result<(), Ended> {
    let start = log.start(partition)?;
    if start <= known {
        return Ok(());
    }
    Err(Ended::Unreadable(format!(
        "offsets {known} to {start} of partition {partition} were removed from the log, and not by omium: without them its \
         state can never be folded again. Keep the state directory, find out who removed them (retention, a tool), and \
         restore the log from a backup"
    )))
}
