//! The store in memory, with the one weakness of the real one: a crash forgets what was not flushed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Batch, Change, Row, Store, StoreError};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    unflushed: Vec<Batch>,
}

impl MemoryStore {
    /// Forgets what a power cut would forget: of the batches not flushed yet only the first `survivors` remain.
    pub fn crash(&self, survivors: usize) {
        let mut inner = self.inner();
        let unflushed = std::mem::take(&mut inner.unflushed);
        for batch in unflushed.into_iter().take(survivors) {
            apply(&mut inner.durable, batch);
        }
        inner.live = inner.durable.clone();
    }

    /// How many batches a crash could forget.
    pub fn unflushed(&self) -> usize {
        self.inner().unflushed.len()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: Batch) {
    for (key, change) in batch.changes {
        match change {
            Change::Put(value) => rows.insert(key, value),
            Change::Delete | Change::TakeBack => rows.remove(&key),
        };
    }
}

impl Store for MemoryStore {
    fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let inner = self.inner();
        Ok(keys.iter().map(|key| inner.live.get(key).cloned()).collect())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let from = match after {
            Some(after) => Bound::Excluded(after.to_vec()),
            None => Bound::Included(prefix.to_vec()),
        };
        let inner = self.inner();
        let rows = inner.live.range((from, Bound::Unbounded));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.inner();
        inner.unflushed.push(batch.clone());
        apply(&mut inner.live, batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut inner = self.inner();
        for batch in std::mem::take(&mut inner.unflushed) {
            apply(&mut inner.durable, batch);
        }
        Ok(())
    }
}
