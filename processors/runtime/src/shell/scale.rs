//! Times of executions. Deadlines and pauses stand in the log as moments, made of durations and of what a leader believed
//! to be the time. Where that turns out to have been ahead, an execution keeps its own time, which goes on where it was:
//! so everything takes as long as it was to take.

use omium_processor::Processors;
use omium_schemas::{Seq, StreamKind, Time};

use super::Shell;
use super::belief::PARTING;
use crate::key::StreamKey;
use crate::port::Now;

impl<P: Processors> Shell<P> {
    /// The time of what is decided on a stream now.
    pub(super) fn time_of(&self, key: &StreamKey, now: Now) -> Time {
        let ahead = self.residents.get(key).map_or(0, |slot| slot.ahead);
        Time(self.time(now).0.saturating_add(ahead))
    }

    /// A stream that another leader has written to, or this one before the stream was let go: where its last frame is far
    /// ahead of the time, all that is measured in it was measured by another clock. How long ago that was nobody knows,
    /// so what was left then is left now. Streams that measure nothing follow the time as it is.
    pub(super) fn set_ahead(&mut self, key: &StreamKey, now: Now) {
        let time = self.time(now);
        if let Some(slot) = self.residents.get_mut(key).filter(|_| measures(key)) {
            let ahead = slot.time.0.saturating_sub(time.0);
            slot.ahead = if ahead > PARTING { ahead } else { 0 };
        }
    }

    /// What is believed was another time `before`: executions that have begun by it go on by their own. Where the clock
    /// was behind, they are late for what has passed, as everybody is; those that wrote nothing by a clock that was ahead
    /// have nothing to keep.
    pub(super) fn keep_times(&mut self, before: Time, now: Now) {
        let time = self.time(now);
        if before.0.abs_diff(time.0) <= PARTING {
            return;
        }
        for key in self.residents.keys().into_iter().filter(measures) {
            let Some(slot) = self.residents.get_mut(&key) else { continue };
            let began_by_it = before < time || slot.time.0.saturating_sub(time.0) > PARTING;
            if slot.value.seq > Seq(0) && began_by_it {
                slot.ahead = slot.ahead.saturating_add(before.0).saturating_sub(time.0);
            }
            self.settle_due(&key, now);
        }
    }
}

fn measures(key: &StreamKey) -> bool {
    key.stream.kind() == StreamKind::Execution
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omium_log::Entry;
    use omium_processor::testkit::BankSuite;
    use omium_schemas::catalogue::{OnFailure, Origin, StartExecution};
    use omium_schemas::{Epoch, ExecutionId, Offset, Partition, TenantId};

    use super::*;
    use crate::port::{Input, Loaded, Output, Submission};
    use crate::shell::Config;
    use crate::vault::MemoryVault;

    const BEGIN: u64 = 1_700_000_000_000_000;
    const SECOND: u64 = 1_000_000;
    const HOUR: u64 = 3_600 * SECOND;

    /// A shell with its log, and its clocks: the wall clock is ahead until a moment of the boot clock.
    struct World {
        shell: Shell<BankSuite>,
        log: Vec<Entry>,
        ahead_until: u64,
    }

    impl World {
        fn leading(log: Vec<Entry>, boot: u64, ahead_until: u64, epoch: u64) -> World {
            let config = Config { partitions: 1, ..Config::default() };
            let vault = Arc::new(MemoryVault::new([1; 32]));
            let mut world =
                World { shell: Shell::new(Partition(0), config, vault, None), log: Vec::new(), ahead_until };
            world.handle(Input::Entries(log.clone()), boot);
            world.log = log;
            world.handle(Input::Lead(Epoch(epoch), [1; 16]), boot);
            world
        }

        fn now(&self, boot: u64) -> Now {
            let ahead = if boot < self.ahead_until { HOUR } else { 0 };
            Now { wall: Time(BEGIN + boot + ahead), boot }
        }

        /// Handles an input, and what the shell asks of its store, which is empty, and of its log.
        fn handle(&mut self, input: Input, boot: u64) {
            let now = self.now(boot);
            self.shell.handle(input, now);
            loop {
                let outputs: Vec<_> = self.shell.outputs().collect();
                for output in &outputs {
                    if let Output::Load(streams, window) = output {
                        let streams = streams.iter().map(|key| (*key, None)).collect();
                        let window = window.iter().map(|key| (key.clone(), None)).collect();
                        self.shell.handle(Input::Loaded(Loaded { streams, window }), now);
                    }
                }
                let Some(bytes) = self.shell.take(now) else {
                    if outputs.is_empty() {
                        return;
                    }
                    continue;
                };
                let offset = Offset(self.log.len() as u64);
                self.log.push(Entry { offset, bytes: bytes.clone() });
                self.shell.handle(Input::Settled(Ok(offset)), now);
                self.shell.handle(Input::Entries(vec![Entry { offset, bytes }]), now);
            }
        }

        fn start(&mut self, boot: u64) {
            let command = StartExecution {
                workflow: "w".into(),
                workflow_version: None,
                inputs: None,
                account: None,
                steps: 1,
                plan: Vec::new(),
                on_failure: OnFailure::FinishOthers,
                slice: None,
                timeout_ms: None,
                price_list: None,
                keep_ms: None,
            };
            let origin = Origin { key: None, request: None, entropy: [2; 16], control: Seq(0) };
            let (ticket, key, command, found) = (None, job(), command.into(), None);
            let submission = Submission { ticket, key, actor: None, trace: None, origin, found, command };
            self.handle(Input::Submit(Box::new(submission)), boot);
        }

        /// The tenth of a second in which the attempt that is out is given up as late.
        fn given_up_at(&mut self, from: u64, until: u64) -> Option<u64> {
            (from * 10..until * 10).map(|tenth| tenth * SECOND / 10).find(|boot| {
                self.handle(Input::Tick, *boot);
                let waiting = self.shell.resident(&job()).and_then(|stream| stream.state.0.job().waiting);
                waiting.is_none_or(|step| step.attempt > 1)
            })
        }
    }

    fn job() -> StreamKey {
        StreamKey::new(TenantId([1; 16]), ExecutionId::new([7; 15]).stream())
    }

    #[test]
    fn what_was_begun_under_a_clock_that_was_ahead_takes_as_long_as_it_was_to_take() {
        let mut world = World::leading(Vec::new(), 0, 2 * SECOND, 1);
        (0..250).for_each(|tenth| world.handle(Input::Tick, tenth * SECOND / 10));
        world.start(25 * SECOND);
        let at = world.given_up_at(25, 60).expect("not an hour later");
        assert_eq!(at / SECOND, 45, "an attempt may take 20 s; the clock was believed after 32 s");
        assert!(world.shell.time(world.now(at)).0 < BEGIN + HOUR, "what is believed is right by then");
    }

    #[test]
    fn what_was_begun_before_a_clock_was_ahead_keeps_its_own_time_and_no_other() {
        let mut world = World::leading(Vec::new(), 0, 0, 1);
        world.start(SECOND);
        let now = world.now(2 * SECOND);
        let right = world.shell.time(now);
        world.shell.keep_times(Time(right.0 - HOUR), now);
        world.shell.keep_times(Time(right.0 + HOUR), now);
        assert_eq!(world.shell.time_of(&job(), now), right);
    }

    #[test]
    fn what_another_leader_began_under_such_a_clock_takes_no_longer_from_then_on() {
        let mut world = World::leading(Vec::new(), 0, HOUR, 1);
        world.start(SECOND);
        let mut next = World::leading(world.log, 10 * SECOND, 0, 2);
        let at = next.given_up_at(10, 60).expect("not an hour later");
        assert_eq!(at / SECOND, 30, "20 s after it was taken over");
    }

    #[test]
    fn other_streams_follow_the_time_as_it_is() {
        let mut world = World::leading(Vec::new(), 0, 2 * SECOND, 1);
        let book = StreamKey::book(Partition(0));
        (0..400).for_each(|tenth| world.handle(Input::Tick, tenth * SECOND / 10));
        let now = world.now(40 * SECOND);
        assert_eq!(world.shell.time_of(&book, now), now.wall);
    }
}
