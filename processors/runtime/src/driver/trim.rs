//! Dropping the front of a partition's log, after all that is still needed of it was carried forward.

use std::time::Duration;

use omium_log::{Log, LogError};
use omium_processor::Processors;
use omium_schemas::{Offset, Partition};

use super::cell::{Cell, Work};
use crate::port::{Answer, Input};

/// How much of the log is carried forward at once.
const BATCH: usize = 1 << 20;

/// Why the log keeps its front.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// The log cannot be read, or does not let go.
    #[error(transparent)]
    Log(#[from] LogError),
    /// What is still needed was not carried forward, so nothing was dropped.
    #[error("nothing was dropped from partition {0}: {1:?}; try again")]
    NotCarried(Partition, Answer),
}

/// Reads the front to the leader, and lets go of it once the leader has written what is needed. Gives the new start.
pub(super) async fn trim<P: Processors>(
    log: &dyn Log,
    partition: Partition,
    cell: &Cell<P>,
    before: Offset,
    keep: Duration,
) -> Result<Offset, TrimError> {
    // What is written on the way is not to be carried forward in turn: that would never end.
    let before = before.min(*log.tail(partition)?.borrow());
    let keep = u64::try_from(keep.as_micros()).unwrap_or(u64::MAX);
    let mut from = log.start(partition)?;
    while from < before {
        let mut entries = log.read(partition, from, BATCH).await?;
        entries.retain(|entry| entry.offset < before);
        let Some(last) = entries.last() else { break };
        from = last.offset.next();
        ask(partition, cell, move |ticket| Input::Carry(ticket, entries, keep)).await?;
    }
    loop {
        ask(partition, cell, move |ticket| Input::Carry(ticket, Vec::new(), keep)).await?;
        let (carrying, start) = cell.carried();
        if !carrying {
            log.trim(partition, start).await?;
            return Ok(start);
        }
    }
}

async fn ask<P: Processors>(
    partition: Partition,
    cell: &Cell<P>,
    make: impl FnOnce(crate::Ticket) -> Input + Send + 'static,
) -> Result<(), TrimError> {
    match cell.ask(Work::Ends, make).await.unwrap_or(Answer::Unknown) {
        Answer::Done(_) => Ok(()),
        other => Err(TrimError::NotCarried(partition, other)),
    }
}
