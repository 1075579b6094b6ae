//! A store that there was no room to open for writing: it is read as it lies on the disk, and what is written is kept in
//! memory until there is room.

use std::collections::BTreeMap;
use std::ops::Bound;

use rocksdb::DB;

use crate::rocks::{apply, rows};
use crate::{Batch, Change, Row};

pub(crate) struct Waiting {
    pub(crate) db: DB,
    /// What was written meanwhile, as it is to be written again.
    batches: Vec<Batch>,
    /// The same by key; nothing where it was removed.
    changed: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Waiting {
    pub(crate) fn new(db: DB) -> Waiting {
        Waiting { db, batches: Vec::new(), changed: BTreeMap::new() }
    }

    pub(crate) fn write(&mut self, batch: Batch) {
        for (key, change) in &batch.changes {
            let value = if let Change::Put(value) = change { Some(value.clone()) } else { None };
            self.changed.insert(key.clone(), value);
        }
        self.batches.push(batch);
    }

    /// Writes to the store that was opened in its place what was written meanwhile.
    pub(crate) fn move_to(&self, db: &DB) -> Result<(), rocksdb::Error> {
        self.batches.iter().try_for_each(|batch| apply(db, batch.clone()))
    }

    pub(crate) fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, rocksdb::Error> {
        let of =
            |key: &Vec<u8>| self.changed.get(key).map_or_else(|| self.db.get(key), |row| Ok(row.clone()));
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
                Some((key, Some(value))) => found.push((key.clone(), value.clone())),
                Some((_, None)) => {}
                None => found.extend(below.next().transpose()?),
            }
        }
        Ok(found)
    }
}
