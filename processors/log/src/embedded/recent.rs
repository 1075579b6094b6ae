//! The newest records of a partition, kept in memory: whoever follows the tail asks for just these, again and again,
//! and need not wait for a thread that may block, nor for the disk.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use omium_schemas::Offset;

use crate::contract::Entry;

/// How many records are kept, and how many bytes of them.
const RECORDS: usize = 64;
const BYTES: usize = 256 * 1024;

/// The newest records of one partition, without a gap. They are durable.
pub(crate) struct Recent(Mutex<Kept>);

struct Kept {
    records: VecDeque<Entry>,
    bytes: usize,
}

impl Default for Recent {
    fn default() -> Recent {
        // Room is made once: the journal's thread allocates nothing.
        Recent(Mutex::new(Kept { records: VecDeque::with_capacity(RECORDS + 1), bytes: 0 }))
    }
}

impl Recent {
    /// The record behind all others.
    pub(crate) fn push(&self, offset: Offset, bytes: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes.len();
        kept.records.push_back(Entry { offset, bytes });
        while kept.records.len() > RECORDS || kept.bytes > BYTES {
            let Some(gone) = kept.records.pop_front() else { break };
            kept.bytes -= gone.bytes.len();
        }
    }

    /// The records from `from` on, about so many bytes and at least one; nothing where the first of them is not here.
    pub(crate) fn read(&self, from: Offset, bytes: usize) -> Option<Vec<Entry>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.records.front()?.offset;
        let skipped = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        let mut taken = 0;
        let fits = |entry: &&Entry| {
            let room = taken == 0 || taken < bytes;
            taken += entry.bytes.len();
            room
        };
        let entries: Vec<Entry> = kept.records.iter().skip(skipped).take_while(fits).cloned().collect();
        (!entries.is_empty()).then_some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(records: u64, length: usize) -> Recent {
        let recent = Recent::default();
        (0..records).for_each(|offset| recent.push(Offset(offset), vec![offset as u8; length].into()));
        recent
    }

    fn offsets(recent: &Recent, from: u64, bytes: usize) -> Option<Vec<u64>> {
        let entries = recent.read(Offset(from), bytes)?;
        assert!(
            entries.iter().all(|entry| entry.bytes.iter().all(|byte| u64::from(*byte) == entry.offset.0))
        );
        Some(entries.iter().map(|entry| entry.offset.0).collect())
    }

    #[test]
    fn the_newest_are_here_from_any_of_them_on_and_older_ones_are_not() {
        let recent = filled(100, 10);
        let kept = 100 - RECORDS as u64;
        assert_eq!(offsets(&recent, kept - 1, 1_000), None);
        assert_eq!(offsets(&recent, kept, 25), Some(vec![kept, kept + 1, kept + 2]));
        assert_eq!(offsets(&recent, 98, 1_000), Some(vec![98, 99]));
        assert_eq!(offsets(&recent, 99, 0), Some(vec![99]), "at least one");
        assert_eq!((offsets(&recent, 100, 10), offsets(&Recent::default(), 0, 10)), (None, None));
    }

    #[test]
    fn what_is_long_does_not_stay() {
        assert_eq!(offsets(&filled(5, BYTES / 2), 3, BYTES), Some(vec![3, 4]));
        assert_eq!(offsets(&filled(5, BYTES / 2), 2, BYTES), None);
        let recent = filled(3, BYTES + 1);
        assert_eq!(offsets(&recent, 2, 1), None);
        recent.push(Offset(3), vec![3].into());
        assert_eq!(offsets(&recent, 3, 1), Some(vec![3]));
    }
}
