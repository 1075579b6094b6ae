//! How often something has happened in the log, as far as the index has followed it. It is kept with the index's position,
//! so that a node that starts again goes on counting where the log is.

use std::collections::BTreeMap;

use omium_schemas::{Partition, TenantId};
use omium_store::{Batch, Store, StoreError};

use super::index::{Moved, key};

/// How many rows are read at once.
const ROWS: usize = 10_000;

/// What was counted in one partition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    /// Events, by the ids of their types.
    pub(crate) events: BTreeMap<u16, u64>,
    /// Executions that were started, by tenant and framework.
    pub(crate) started: BTreeMap<(TenantId, String), u64>,
}

fn events_key(partition: Partition) -> Vec<u8> {
    key(TenantId::SYSTEM, b'e', &[&partition.0.to_be_bytes()])
}

/// A row for each tenant and framework: only what has changed is written.
fn started_key(partition: Partition, of: Option<&(TenantId, String)>) -> Vec<u8> {
    let partition = partition.0.to_be_bytes();
    match of {
        None => key(TenantId::SYSTEM, b'n', &[&partition]),
        Some((tenant, framework)) => {
            key(TenantId::SYSTEM, b'n', &[&partition, &tenant.0, framework.as_bytes()])
        }
    }
}

impl Counted {
    /// What some news add.
    pub(crate) fn of(news: &[Moved]) -> Counted {
        let mut counted = Counted::default();
        for moved in news {
            for event in &moved.counted {
                *counted.events.entry(event.0).or_default() += 1;
            }
            if let Some((None, line)) = &moved.change {
                *counted.started.entry((moved.key.tenant, line.framework.clone())).or_default() += 1;
            }
        }
        counted
    }

    pub(crate) fn add(&mut self, more: &Counted) {
        more.events.iter().for_each(|(event, count)| *self.events.entry(*event).or_default() += count);
        more.started.iter().for_each(|(of, count)| *self.started.entry(of.clone()).or_default() += count);
    }

    /// Writes what this is once `more` is added.
    pub(crate) fn write(
        &self,
        more: &Counted,
        partition: Partition,
        batch: &mut Batch,
    ) -> anyhow::Result<()> {
        if !more.events.is_empty() {
            let mut events = self.events.clone();
            more.events.iter().for_each(|(event, count)| *events.entry(*event).or_default() += count);
            batch.put(events_key(partition), serde_json::to_vec(&events)?);
        }
        for (of, count) in &more.started {
            let sum = self.started.get(of).copied().unwrap_or_default() + count;
            batch.put(started_key(partition, Some(of)), sum.to_be_bytes().to_vec());
        }
        Ok(())
    }

    pub(crate) fn read(store: &dyn Store, partition: Partition) -> Result<Counted, StoreError> {
        let events = store.get(&[events_key(partition)])?.pop().flatten();
        let events = events.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        let mut counted = Counted { events, started: BTreeMap::new() };
        let prefix = started_key(partition, None);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = store.scan(&prefix, after.as_deref(), ROWS)?;
            let Some((last, _)) = rows.last() else { return Ok(counted) };
            after = Some(last.clone());
            for (row, count) in rows {
                let of = row[prefix.len()..].split_first_chunk();
                let count = count.try_into().ok().map(u64::from_be_bytes);
                if let (Some((tenant, framework)), Some(count)) = (of, count) {
                    let framework = String::from_utf8_lossy(framework).into_owned();
                    counted.started.insert((TenantId(*tenant), framework), count);
                }
            }
        }
    }

    /// Forgets all of a partition that is followed from its start again.
    pub(crate) fn forget(store: &dyn Store, partition: Partition) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.delete(events_key(partition));
        for of in Counted::read(store, partition)?.started.keys() {
            batch.delete(started_key(partition, Some(of)));
        }
        store.write(batch)
    }
}
