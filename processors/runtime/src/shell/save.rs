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
        let layout = crate::snapshot::layout::<P>();
        let position = Position::new(layout, next, filter, prev, self.book.clone(), self.keys.0);
        let streams = self.residents.take_dirty().into_iter().map(|key| {
            let slot = self.residents.get(&key).expect("what changed is in memory");
            let value = slot.value();
            let open = !P::due(&slot.value.state).is_empty() || !slot.value.held.is_empty();
            Changed { key, value, open, time: slot.time }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omium_log::Entry;
    use omium_processor::testkit::BankSuite;
    use omium_schemas::catalogue::{OnFailure, Origin, StartExecution};
    use omium_schemas::{Content, ExecutionId, Offset, Partition, Seq, TenantId};

    use super::*;
    use crate::key::StreamKey;
    use crate::port::{Input, Loaded, Submission};
    use crate::shell::Config;
    use crate::vault::MemoryVault;

    /// Answers what the shell asks of its store, which is empty; tells how often it wanted something saved.
    fn serve(shell: &mut Shell<BankSuite>) {
        loop {
            let outputs: Vec<_> = shell.outputs().collect();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                if let Output::Load(streams, window) = output {
                    let streams = streams.into_iter().map(|key| (key, None)).collect();
                    let window = window.into_iter().map(|key| (key, None)).collect();
                    shell.handle(Input::Loaded(Loaded { streams, window }), Now::default());
                }
            }
        }
    }

    #[test]
    fn where_blocks_are_always_full_a_snapshot_is_taken_too() {
        let config = Config { partitions: 1, flush_records: 5, waiting_blocks: 100, ..Config::default() };
        let vault = Arc::new(MemoryVault::new([1; 32]));
        let mut shell: Shell<BankSuite> = Shell::new(Partition(0), config, vault, None);
        shell.handle(Input::Lead(Epoch(1), [1; 16]), Now::default());
        let bytes = shell.take(Now::default()).expect("its epoch");
        shell.handle(Input::Settled(Ok(Offset(0))), Now::default());
        shell.handle(Input::Entries(vec![Entry { offset: Offset(0), bytes }]), Now::default());
        serve(&mut shell);
        let before = shell.figures().snapshots;
        for n in 0..20 {
            let key = StreamKey::new(TenantId([1; 16]), ExecutionId::new([n; 15]).stream());
            let command = StartExecution {
                workflow: "w".into(),
                workflow_version: None,
                inputs: Some(Content::open(vec![n; 60_000])),
                account: None,
                steps: 1,
                plan: Vec::new(),
                on_failure: OnFailure::FinishOthers,
                slice: None,
                timeout_ms: None,
                price_list: None,
                keep_ms: None,
            };
            let origin = Origin { key: None, request: None, entropy: [n; 16], control: Seq(0) };
            let (command, found) = (command.into(), None);
            let submission =
                Submission { ticket: None, key, actor: None, trace: None, origin, found, command };
            shell.handle(Input::Submit(Box::new(submission)), Now::default());
            serve(&mut shell);
        }
        assert!(shell.closed.len() > 1, "the log takes nothing, and blocks are full");
        assert!(shell.figures().snapshots > before);
    }
}
