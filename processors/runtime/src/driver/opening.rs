//! From the store and the log to a shell that knows all that the log holds.

use omium_log::Log;
use omium_processor::Processors;
use omium_schemas::Partition;
use omium_store::{Store, StoreError};

use super::carrier::READ;
use super::cell::Cell;
use super::intact::{Rests, check_start};
use super::node::{NodeParts, OpenError};
use crate::key::{partition_prefix, position_key};
use crate::port::{Ended, Input};
use crate::shell::Shell;
use crate::snapshot::Position;

/// A shell that knows what the store knows, and what that rests on.
pub(super) fn open_shell<P: Processors>(
    parts: &NodeParts,
    partition: Partition,
) -> Result<(Shell<P>, Option<Rests>), OpenError> {
    let row = parts.store.get(&[position_key(partition)])?.pop().flatten();
    // A position before the log's start has missed what was dropped; the log says everything again from there.
    let start = parts.log.start(partition)?;
    let usable =
        |position: &Position| position.layout == crate::snapshot::layout::<P>() && position.next >= start;
    let position = row.as_deref().and_then(Position::read).filter(usable);
    if position.is_none() {
        wipe(&*parts.store, partition)?;
    }
    let rests = position.as_ref().and_then(Rests::of);
    Ok((Shell::new(partition, parts.config.clone(), parts.vault.clone(), position), rests))
}

/// State of another layout, or none that can be read: it is folded again from the log.
fn wipe(store: &dyn Store, partition: Partition) -> Result<(), StoreError> {
    loop {
        let rows = store.scan(&partition_prefix(partition), None, 10_000)?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut batch = omium_store::Batch::default();
        rows.into_iter().for_each(|(key, _)| batch.delete(key));
        store.write(batch)?;
    }
}

/// Folds what the log holds behind it, where that is the log that it belongs to, and whole.
pub(super) async fn catch_up<P: Processors>(
    log: &dyn Log,
    partition: Partition,
    cell: &Cell<P>,
    rests: Option<Rests>,
) -> Result<(), Ended> {
    if let Some(rests) = rests {
        rests.check(log, partition).await?;
    }
    loop {
        let from = cell.lock().shell.next().max(log.start(partition)?);
        cell.world.folds(partition, from, *log.tail(partition)?.borrow());
        let entries = log.read(partition, from, READ).await?;
        if entries.is_empty() {
            let known = cell.lock().shell.book().start;
            return check_start(log, partition, known);
        }
        cell.feed(Input::Entries(entries));
        if cell.lock().shell.role() == crate::Role::Ended {
            // Its partition's task says why.
            return Ok(());
        }
    }
}
