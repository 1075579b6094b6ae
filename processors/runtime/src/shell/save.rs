//! State on its way to the store: taken where a block ends, written when that block is durable.

use omium_processor::Processors;
use omium_schemas::{BlockNo, Epoch, Filter, Offset, Time};

use super::{Role, Shell};
use crate::port::{Answer, Now, Output};
use crate::snapshot::{Changed, Position, Snapshot};
use crate::window::WINDOW_MICROS;

impl<P: Processors> Shell<P> {
    fn is_due(&self, now: Now) -> bool {
        let waited = now.boot.saturating_sub(self.saved_at) >= self.config.flush_micros;
        self.saving.is_none()
            && self.snapshot.is_none()
            && self.unsaved_records > 0
            && !self.front.is_open()
            && (waited || self.unsaved_records >= self.config.flush_records)
    }

    /// At the end of a block that was just closed by this leader.
    pub(super) fn snapshot_if_due(&mut self, now: Now) {
        let Role::Leading(epoch) = self.role else { return };
        if self.is_due(now) {
            let filter = self.filter_ahead(epoch);
            // The next offset is known when the block has been accepted.
            self.snapshot = Some(Box::new(self.snapshot(&filter, Offset(0), now)));
        }
    }

    fn filter_ahead(&self, epoch: Epoch) -> Filter {
        let (no, prev, time) = (self.ahead.no, Some(self.ahead.prev), self.ahead.time);
        Filter { epoch, no, prev, time, ignored: self.filter.ignored }
    }

    /// At the end of a block that was just folded.
    pub(super) fn save_folded(&mut self, now: Now) {
        if self.is_due(now) {
            self.last_hash();
            let snapshot = self.snapshot(&self.filter.clone(), self.next, now);
            self.saving = Some(self.filter.no);
            self.outputs.push(Output::Flush(Box::new(snapshot)));
        }
    }

    fn snapshot(&mut self, filter: &Filter, next: Offset, now: Now) -> Snapshot<P::State> {
        let prev = filter.prev.unwrap_or_default();
        let position = Position::new(P::layout(), next, filter, prev, self.book.clone());
        let streams = self.residents.take_dirty().into_iter().map(|key| {
            let slot = self.residents.get(&key).expect("what changed is in memory");
            let value = slot.value();
            Changed { key, value, open: !P::due(&slot.value.state).is_empty() || !slot.value.held.is_empty() }
        });
        let streams = streams.collect();
        let window = self.recent.take();
        self.unsaved_records = 0;
        self.saved_at = now.boot;
        self.figures.snapshots += 1;
        // By the clock that is believed: a block's time may be far ahead of it.
        let time = position.time.min(self.time(now));
        let forget = Some(Time(time.0.saturating_sub(WINDOW_MICROS)));
        Snapshot { partition: self.partition, position, streams, window, forget }
    }

    pub(super) fn save_if_reached(&mut self, no: BlockNo) {
        let reached =
            |snapshot: &Snapshot<P::State>| snapshot.position.no <= no.0 + u64::from(snapshot_is_late());
        if let Some(mut snapshot) = self.snapshot.take_if(|snapshot| reached(snapshot)) {
            snapshot.position.next = self.next;
            self.saving = Some(no);
            self.outputs.push(Output::Flush(snapshot));
        }
    }

    pub(super) fn flushed(&mut self, no: BlockNo, now: Now) {
        if self.saving.take_if(|saving| *saving <= no).is_some() {
            self.residents.saved();
            self.residents.evict();
            self.recent.saved();
            self.stored = no;
            self.stop_if_quiet(now);
        }
    }

    pub(super) fn stop(&mut self, now: Now) {
        self.stopping = true;
        for waiting in std::mem::take(&mut self.awaiting_control) {
            self.answer_at_once(waiting.submission.ticket, Answer::NotLeading);
        }
        if self.role == Role::Following || matches!(self.role, Role::Opening(..)) {
            return self.outputs.push(Output::Stopped);
        }
        self.stop_if_quiet(now);
    }

    /// Once nothing is on its way any more, what is not saved is saved, and then the shell has stopped.
    pub(super) fn stop_if_quiet(&mut self, now: Now) {
        if !self.stopping || !self.is_quiet() || self.saving.is_some() {
            return;
        }
        if self.unsaved_records == 0 {
            return self.outputs.push(Output::Stopped);
        }
        let snapshot = self.snapshot(&self.filter.clone(), self.next, now);
        self.saving = Some(self.filter.no);
        self.outputs.push(Output::Flush(Box::new(snapshot)));
    }
}

/// With the planted bug a snapshot claims one block more than it was taken at.
fn snapshot_is_late() -> bool {
    omium_schemas::mutant::Mutant::SnapshotOffByOne.on()
}
