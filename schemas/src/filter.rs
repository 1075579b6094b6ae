//! Which records of a partition count. One function, used by every reader: leaders, standbys, auditors, tools.

use crate::block::{BlockHead, BlockKind};
use crate::digest::Digest;
use crate::mutant::Mutant;
use crate::position::{BlockNo, Epoch, Time};

/// What a reader knows of a partition after the records it has read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    /// The current epoch.
    pub epoch: Epoch,
    /// The number of the last block that counted.
    pub no: BlockNo,
    /// Its hash, or nothing where this reader trusts its log and has not hashed it.
    pub prev: Option<Digest>,
    /// Its time.
    pub time: Time,
    /// How many records did not count.
    pub ignored: u64,
}

/// What a record is to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It opens a new epoch.
    Opens,
    /// It is the next block.
    Counts,
    /// It changes nothing.
    Ignored(Ignored),
}

/// Why a record does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// An epoch record that is not above the current epoch.
    OldEpochRecord,
    /// A block of another epoch than the current one.
    OtherEpoch,
    /// A block whose number is not the next one.
    Number,
    /// A block that does not follow the last one that counted.
    Chain,
}

impl Filter {
    /// The state before the first record.
    pub fn new() -> Filter {
        Filter { prev: Some(Digest::NONE), ..Filter::default() }
    }

    /// The state before a record that is known to count: the first one of a log whose front was dropped.
    pub fn starting_at(head: &BlockHead) -> Filter {
        let (epoch, no) = match head.kind {
            BlockKind::Epoch => (head.epoch.0.saturating_sub(1), head.no.0),
            BlockKind::Frames => (head.epoch.0, head.no.0.saturating_sub(1)),
        };
        Filter { epoch: Epoch(epoch), no: BlockNo(no), prev: Some(head.prev), ..Filter::default() }
    }

    /// Judges one record and, where it counts, moves on. `hash` is the block's own hash, or nothing where this reader
    /// trusts its log and does not hash (an embedded log has one writer behind a lock).
    pub fn admit(&mut self, head: &BlockHead, hash: Option<Digest>) -> Verdict {
        let verdict = self.judge(head);
        match verdict {
            Verdict::Opens => self.epoch = head.epoch,
            Verdict::Counts => {
                self.no = head.no;
                self.prev = hash;
                self.time = head.time;
            }
            Verdict::Ignored(_) => self.ignored += 1,
        }
        verdict
    }

    /// Judges one record and changes nothing.
    pub fn judge(&self, head: &BlockHead) -> Verdict {
        match head.kind {
            BlockKind::Epoch if head.epoch > self.epoch => Verdict::Opens,
            BlockKind::Epoch => Verdict::Ignored(Ignored::OldEpochRecord),
            BlockKind::Frames if head.epoch != self.epoch && !Mutant::NoFence.on() => {
                Verdict::Ignored(Ignored::OtherEpoch)
            }
            BlockKind::Frames if Mutant::FilterWithoutNumber.on() => Verdict::Counts,
            BlockKind::Frames => self.follows(head),
        }
    }

    fn follows(&self, head: &BlockHead) -> Verdict {
        if head.no != self.no.next() {
            Verdict::Ignored(Ignored::Number)
        } else if self.prev.is_some_and(|prev| prev != head.prev) {
            Verdict::Ignored(Ignored::Chain)
        } else {
            Verdict::Counts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Partition;

    fn head(kind: BlockKind, epoch: u64, no: u64, prev: u8) -> BlockHead {
        BlockHead {
            kind,
            partition: Partition(0),
            frames: 1,
            epoch: Epoch(epoch),
            no: BlockNo(no),
            prev: Digest([prev; 32]),
            time: Time(no),
        }
    }

    #[track_caller]
    fn check(given: &[BlockHead], when: BlockHead, then: Verdict) {
        let mut filter = Filter::new();
        for head in given {
            filter.admit(head, Some(Digest([head.no.0 as u8; 32])));
        }
        assert_eq!(filter.admit(&when, None), then);
    }

    use BlockKind::{Epoch as Opening, Frames};

    #[test]
    fn a_block_counts_only_in_the_current_epoch() {
        let opened = [head(Opening, 2, 0, 0)];
        check(&opened, head(Frames, 2, 1, 0), Verdict::Counts);
        check(&opened, head(Frames, 1, 1, 0), Verdict::Ignored(Ignored::OtherEpoch));
        check(&opened, head(Frames, 3, 1, 0), Verdict::Ignored(Ignored::OtherEpoch));
    }

    #[test]
    fn an_epoch_never_falls_or_repeats() {
        let opened = [head(Opening, 2, 0, 0)];
        check(&opened, head(Opening, 2, 0, 0), Verdict::Ignored(Ignored::OldEpochRecord));
        check(&opened, head(Opening, 1, 0, 0), Verdict::Ignored(Ignored::OldEpochRecord));
        check(&opened, head(Opening, 5, 0, 0), Verdict::Opens);
    }

    #[test]
    fn a_doubled_or_reordered_block_does_not_count() {
        let one = [head(Opening, 1, 0, 0), head(Frames, 1, 1, 0)];
        check(&one, head(Frames, 1, 1, 0), Verdict::Ignored(Ignored::Number));
        check(&one, head(Frames, 1, 3, 1), Verdict::Ignored(Ignored::Number));
        check(&one, head(Frames, 1, 2, 1), Verdict::Counts);
    }

    #[test]
    fn a_block_of_another_history_does_not_count() {
        let one = [head(Opening, 1, 0, 0), head(Frames, 1, 1, 0)];
        check(&one, head(Frames, 1, 2, 9), Verdict::Ignored(Ignored::Chain));
    }
}
