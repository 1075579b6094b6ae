//! A store that there was no room to open for writing: it is read as it lies on the disk, and what is written is kept in
//! memory until there is room.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use rocksdb::DB;

use crate::rocks::{apply, rows};
use crate::{Batch, Change, Row};

/// How often it is tried whether there is room: opening holds up whoever reads.
const TRIED_EVERY: Duration = Duration::from_secs(1);
/// What the tree takes for a row beside its bytes, about.
const ROW: usize = 96;

pub(crate) struct Waiting {
    pub(crate) db: DB,
    /// What was written meanwhile.
    changed: BTreeMap<Vec<u8>, Kept>,
    /// How much memory that takes, and how much it may take.
    bytes: usize,
    limit: usize,
    /// When it was last tried to open the store, and why that failed.
    tried: (Instant, String),
}

/// What became of a key, in sum.
#[derive(Default)]
struct Kept {
    /// How it went meanwhile, where it did. A value that was put since takes its place only when this was written before
    /// it: of a key that is taken back two values must never lie above each other.
    gone: Option<Change>,
    value: Option<Vec<u8>>,
}

impl Kept {
    fn take(&mut self, change: Change) {
        match change {
            Change::Put(value) => self.value = Some(value),
            // A plain removal takes along all that lies below it.
            Change::TakeBack if self.gone == Some(Change::Delete) => self.value = None,
            gone => *self = Kept { gone: Some(gone), value: None },
        }
    }
}

fn size(key: &[u8], value: Option<&[u8]>) -> usize {
    ROW + key.len() + value.map_or(0, <[u8]>::len)
}

fn size_of(batch: &Batch) -> usize {
    let of = |(key, change): &(Vec<u8>, Change)| {
        size(key, if let Change::Put(value) = change { Some(value) } else { None })
    };
    batch.changes.iter().map(of).sum()
}

impl Waiting {
    pub(crate) fn new(db: DB, limit: usize, why: String) -> Waiting {
        Waiting { db, changed: BTreeMap::new(), bytes: 0, limit, tried: (Instant::now(), why) }
    }

    /// Whether it is time to try to open the store again.
    pub(crate) fn is_due(&self) -> bool {
        self.tried.0.elapsed() >= TRIED_EVERY
    }

    /// It was tried in vain.
    pub(crate) fn tried(&mut self, why: String) {
        self.tried = (Instant::now(), why);
    }

    /// Why the store could not be opened.
    pub(crate) fn why(&self) -> &str {
        &self.tried.1
    }

    /// Keeps a batch. False where that would take more memory than there is for it; nothing of it is kept then.
    pub(crate) fn write(&mut self, batch: Batch) -> bool {
        if self.bytes.saturating_add(size_of(&batch)) > self.limit {
            return false;
        }
        for (key, change) in batch.changes {
            let before = self.changed.get(&key).map_or(0, |kept| size(&key, kept.value.as_deref()));
            let length = key.len();
            let kept = self.changed.entry(key).or_default();
            kept.take(change);
            self.bytes = self.bytes + ROW + length + kept.value.as_ref().map_or(0, Vec::len) - before;
        }
        true
    }

    /// Writes to the store that was opened in its place what was written meanwhile, all of it or nothing.
    pub(crate) fn move_to(&self, db: &DB) -> Result<(), rocksdb::Error> {
        let mut all = Batch::default();
        for (key, kept) in &self.changed {
            all.changes.extend(kept.gone.clone().map(|gone| (key.clone(), gone)));
            all.changes.extend(kept.value.clone().map(|value| (key.clone(), Change::Put(value))));
        }
        apply(db, all)
    }

    pub(crate) fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, rocksdb::Error> {
        let of = |key: &Vec<u8>| {
            self.changed.get(key).map_or_else(|| self.db.get(key), |kept| Ok(kept.value.clone()))
        };
        keys.iter().map(of).collect()
    }

    /// As [`crate::Store::scan`] does it: rows of both, those in memory before those on the disk.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, rocksdb::Error> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut below = rows(&self.db, prefix, after).peekable();
        let mut above = self
            .changed
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .peekable();
        let mut found = Vec::new();
        while found.len() < limit {
            let next = match (below.peek(), above.peek()) {
                (Some(Ok((low, _))), Some((high, _))) if low < *high => None,
                (Some(Err(_)), _) | (Some(_), None) => None,
                (None, None) => break,
                (low, Some(_)) => {
                    let hidden =
                        matches!((low, above.peek()), (Some(Ok((low, _))), Some((high, _))) if low == *high);
                    if hidden {
                        below.next();
                    }
                    above.next()
                }
            };
            match next {
                Some((key, kept)) => found.extend(kept.value.clone().map(|value| (key.clone(), value))),
                None => found.extend(below.next().transpose()?),
            }
        }
        Ok(found)
    }
}
