//! What the log pulls from: the shell that a partition had when it was attached, and no later one.

use std::sync::{Arc, MutexGuard};

use bytes::Bytes;
use omium_log::{LogError, Source};
use omium_processor::Processors;
use omium_schemas::Offset;

use super::cell::{Cell, Inside};
use super::clock;
use super::telemetry::Stage;
use crate::port::Input;

/// One shell's attachment to the log. A call of the log that is under way while the shell is replaced finds nobody.
pub(super) struct Seat<P: Processors> {
    cell: Arc<Cell<P>>,
    life: u64,
}

impl<P: Processors> Seat<P> {
    /// The seat of the shell that the cell has now.
    pub(super) fn of(cell: &Arc<Cell<P>>) -> Seat<P> {
        Seat { cell: cell.clone(), life: cell.lock().life }
    }

    fn inside(&self) -> Option<MutexGuard<'_, Inside<P>>> {
        Some(self.cell.lock()).filter(|inside| inside.life == self.life)
    }
}

impl<P: Processors> Source for Seat<P> {
    fn take(&self) -> Option<Bytes> {
        let mut inside = self.inside()?;
        let now = clock::now();
        inside.taken_at = now.boot;
        let bytes = inside.shell.take(now);
        self.cell.carry_out(&mut inside, now);
        bytes
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let Some(mut inside) = self.inside() else { return };
        let now = clock::now();
        let (partition, since) = (inside.shell.partition(), inside.taken_at);
        inside.shell.handle(Input::Settled(outcome.map_err(|error| error.to_string())), now);
        self.cell.carry_out(&mut inside, now);
        drop(inside);
        self.cell.telemetry.stage(partition, Stage::Append, now.boot - since);
    }

    fn refuse(&self, why: Option<LogError>) {
        if let Some(mut inside) = self.inside() {
            inside.refusing = why.map(|why| why.to_string());
        }
    }
}
