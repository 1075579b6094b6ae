//! What the log pulls from: the shell that a partition had when it was attached, and no later one.

use std::sync::Arc;

use bytes::Bytes;
use omium_log::{LogError, Refused, Source};
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

    /// Whether the cell has this seat's shell still.
    fn is_of(&self, inside: &Inside<P>) -> bool {
        inside.life == self.life
    }
}

impl<P: Processors> Source for Seat<P> {
    fn take(&self) -> Option<Bytes> {
        let Some(mut inside) = self.cell.turns.try_take(&self.cell) else {
            // It computes. When it is done the log looks here again, and until then it writes for all others.
            self.cell.turns.run(&self.cell, |cell, _| cell.wake());
            return None;
        };
        if !self.is_of(&inside) {
            return None;
        }
        // A panic must not end the thread that writes for all partitions.
        let taken = inside.try_to(|cell, inside| {
            let now = clock::now();
            inside.taken_at = now.boot;
            let bytes = inside.shell.take(now);
            cell.carry_out(inside, now);
            bytes
        });
        taken.flatten()
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let life = self.life;
        self.cell.turns.run(&self.cell, move |cell, inside| {
            if inside.life != life {
                return;
            }
            let (now, since) = (clock::now(), inside.taken_at);
            inside.shell.handle(Input::Settled(outcome.map_err(|error| error.to_string())), now);
            cell.carry_out(inside, now);
            cell.telemetry.stage(cell.partition(), Stage::Append, now.boot - since);
        });
    }

    fn refuse(&self, refused: Option<Refused>) {
        let life = self.life;
        self.cell.turns.run(&self.cell, move |cell, inside| {
            if inside.life == life {
                cell.say_full(refused.as_ref());
                inside.refusing = refused;
            }
        });
    }
}
