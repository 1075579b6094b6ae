//! What must always hold, looked at when a run has come to rest. The numbers are those of the list of invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use omium_processor::testkit::{BankState, Job};
use omium_runtime::{
    Config, Input, Loaded, Output, Position, Role, StreamKey, position_key, stream_key, window_key,
};
use omium_schemas::block::epoch_record;
use omium_schemas::catalogue::{Command, Event};
use omium_schemas::{
    BlockBuilder, BlockHead, BlockKind, BlockNo, Digest, Epoch, FrameBuilder, FrameHead, Money, Offset,
    Partition, Seq, StreamId, StreamKind, TenantId, Time,
};
use omium_store::{MemoryStore, Store};

use crate::counts::{Fault, Tally};
use crate::folder::{Decoded, Folder, State};
use crate::node::NEVER_FAILS;
use crate::strangers::{check_message, check_nothing_strange};
use crate::truth::{Counted, Truth, UNKNOWN, Violation, broken};
use crate::world::{Shell, World};

type Checked = Result<(), Violation>;

/// The streams of a partition as they fold, with their canonical bytes.
type Folded = BTreeMap<StreamKey, (Arc<State>, Vec<u8>)>;

fn with_bytes(state: Arc<State>) -> (Arc<State>, Vec<u8>) {
    let bytes = state.bytes();
    (state, bytes)
}

/// Whether a fold compares hashes on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Nothing,
    TheLog,
}

impl World {
    /// Everything that is to be checked at rest.
    pub(crate) fn check_at_rest(&mut self) -> Checked {
        let mut all = Folded::new();
        let mut books = BTreeMap::new();
        for partition in (0..self.config.partitions).map(Partition) {
            let (shell, folded) = self.fold_anew(partition)?;
            self.check_fold(partition, &shell, &folded)?;
            self.check_front(partition, &shell, &folded)?;
            self.check_leader(partition, &folded)?;
            self.check_snapshots(partition, &folded)?;
            books.insert(partition, shell.book().clone());
            all.extend(folded);
        }
        let truths = std::mem::take(&mut self.truths);
        let mut flows = Flows::default();
        let outcome = truths.iter().try_for_each(|truth| self.check_records(truth, &all, &mut flows));
        self.truths = truths;
        outcome?;
        for (from, book) in &books {
            for (to, sent) in &book.sent {
                let received = books[to].received.get(from).copied().unwrap_or(0);
                if received != *sent {
                    return Err(broken(
                        10,
                        format!("of {sent} messages from {from} to {to}, {received} were taken"),
                    ));
                }
            }
        }
        check_money(&all, &flows)?;
        check_ends(&all)?;
        self.check_nothing_plain()?;
        self.check_unknown()
    }

    fn whole(&self, trust: Trust) -> Config {
        let (flush_records, flush_micros, residents) = (u64::MAX, u64::MAX, usize::MAX);
        let verify = trust == Trust::Nothing;
        Config { verify, flush_records, flush_micros, residents, ..self.config.clone() }
    }

    /// Folds a partition of the log from its beginning, with nothing but the log.
    fn fold_anew(&self, partition: Partition) -> Result<(Shell, Folded), Violation> {
        let mut shell = Shell::new(partition, self.whole(Trust::Nothing), self.vault.clone(), None);
        let entries = self.logs.read(partition, Offset(0), Offset(u64::MAX - 1));
        shell.handle(Input::Entries(entries), self.clock(0));
        let outputs: Vec<_> = shell.outputs().collect();
        if let Some(Output::Ended(why)) =
            outputs.into_iter().find(|output| matches!(output, Output::Ended(_)))
        {
            return Err(broken(4, format!("partition {partition} cannot be folded: {why:?}")));
        }
        let truth = &self.truths[usize::from(partition.0)];
        let folded =
            truth.streams().filter_map(|key| Some((*key, with_bytes(shell.resident(key)?)))).collect();
        Ok((shell, folded))
    }

    /// What the log says from its start on is all that it ever said, to one who knows nothing else.
    fn check_front(&self, partition: Partition, whole: &Shell, folded: &Folded) -> Checked {
        let start = whole.book().start;
        if start == Offset(0) {
            return Ok(());
        }
        let mut shell = Shell::new(partition, self.whole(Trust::Nothing), self.vault.clone(), None);
        let entries = self.logs.read(partition, start, Offset(u64::MAX - 1));
        shell.handle(Input::Entries(entries), self.clock(0));
        if let Some(Output::Ended(why)) = shell.outputs().find(|output| matches!(output, Output::Ended(_))) {
            return Err(broken(4, format!("partition {partition} cannot be folded from {start}: {why:?}")));
        }
        let here = folded.keys().filter_map(|key| Some((*key, with_bytes(shell.resident(key)?)))).collect();
        same(4, &format!("what is left of partition {partition} from {start}"), folded, &here)?;
        if shell.book() != whole.book() {
            return Err(broken(
                4,
                format!("partition {partition} has another book when folded from {start}"),
            ));
        }
        Ok(())
    }

    fn check_fold(&self, partition: Partition, shell: &Shell, folded: &Folded) -> Checked {
        let truth = &self.truths[usize::from(partition.0)];
        let (epoch, no, _) = truth.position();
        if shell.epoch().0 != epoch {
            return Err(broken(6, format!("the fold is in epoch {}, the log in {epoch}", shell.epoch())));
        }
        if shell.durable().0 != no {
            return Err(broken(6, format!("the fold ends at block {}, the log at {no}", shell.durable())));
        }
        for key in truth.streams() {
            let seq = folded.get(key).map_or(Seq(0), |(state, _)| state.seq);
            if seq != truth.end(key) {
                return Err(broken(
                    4,
                    format!("{} folds to seq {seq}, the log has {}", key.stream, truth.end(key)),
                ));
            }
        }
        Ok(())
    }

    /// What the leader has in memory is what the log folds to.
    fn check_leader(&mut self, partition: Partition, folded: &Folded) -> Checked {
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        let Some(shell) = self.shell(life, partition) else {
            return Err(broken(10, format!("nobody leads partition {partition}")));
        };
        if !matches!(shell.role(), Role::Leading(_)) {
            return Err(broken(10, format!("partition {partition} is not led: {:?}", shell.role())));
        }
        for (key, (_, bytes)) in folded {
            if let Some(here) = shell.resident(key)
                && here.bytes() != *bytes
            {
                return Err(broken(4, format!("the leader's {} is not what the log folds to", key.stream)));
            }
        }
        Ok(())
    }

    /// Every node's snapshot, and the rest of the log on top of it, is what the whole log folds to.
    fn check_snapshots(&self, partition: Partition, folded: &Folded) -> Checked {
        for (n, node) in self.nodes.iter().enumerate() {
            let get = |key| node.store.get(&[key]).expect(NEVER_FAILS).pop().flatten();
            // Without a snapshot this would be the fold of the whole log once more.
            if let Some(position) = get(position_key(partition)).as_deref().and_then(Position::read) {
                let here = self.fold_from(partition, &node.store, position)?;
                same(4, &format!("node {n}'s snapshot and what follows"), folded, &here)?;
            }
        }
        Ok(())
    }

    fn fold_from(
        &self,
        partition: Partition,
        store: &MemoryStore,
        position: Position,
    ) -> Result<Folded, Violation> {
        let get = |key: Vec<u8>| store.get(&[key]).expect(NEVER_FAILS).pop().flatten();
        let config = self.whole(Trust::TheLog);
        let mut shell = Shell::new(partition, config, self.vault.clone(), Some(position));
        let entries = self.logs.read(partition, shell.next(), Offset(u64::MAX - 1));
        let mut input = Some(Input::Entries(entries));
        while let Some(next) = input.take() {
            shell.handle(next, self.clock(0));
            let outputs: Vec<_> = shell.outputs().collect();
            for output in outputs {
                match output {
                    Output::Load(streams, window) => {
                        input = Some(Input::Loaded(Loaded {
                            streams: streams
                                .into_iter()
                                .map(|key| (key, get(stream_key(partition, &key))))
                                .collect(),
                            window: window
                                .into_iter()
                                .map(|key| (key.clone(), get(window_key(partition, &key))))
                                .collect(),
                        }));
                    }
                    Output::Ended(why) => {
                        return Err(broken(
                            4,
                            format!("partition {partition} does not fold on from a snapshot: {why:?}"),
                        ));
                    }
                    _ => {}
                }
            }
        }
        let truth = &self.truths[usize::from(partition.0)];
        let state = |key: &StreamKey| {
            let stored = || State::read(&get(stream_key(partition, key))?).map(Arc::new);
            shell.resident(key).or_else(stored)
        };
        Ok(truth.streams().filter_map(|key| Some((*key, with_bytes(state(key)?)))).collect())
    }

    /// Walks all records of a partition: what is there once, what a rollback brings back, and what it all folds to, by a
    /// second folder that is no shell.
    fn check_records(&mut self, truth: &Truth, all: &Folded, flows: &mut Flows) -> Checked {
        let mut keys = Vec::new();
        let (mut commands, mut happened) = (Tally::default(), Tally::default());
        let mut completed = BTreeSet::new();
        let mut jobs: BTreeMap<StreamKey, Progress> = BTreeMap::new();
        let mut folder = Folder::default();
        check_nothing_strange(truth)?;
        for counted in &truth.frames {
            let decoded = Decoded::of(counted)?;
            folder.fold(counted, &decoded)?;
            self.check_erased(counted, &decoded)?;
            let Decoded { origin, command, events } = decoded;
            commands.add(command.name());
            if let Command::TopUpAccount(top_up) = &command {
                *flows.came_in.entry(counted.key.tenant).or_default() += top_up.amount.0;
            }
            keys.extend(origin.key.map(|key| (counted.key, key, counted.first)));
            let job = jobs.entry(counted.key).or_default();
            for (seq, event) in events {
                happened.add(event.name());
                match &event {
                    Event::StepCompleted(done) => {
                        self.check_completed(counted, (done.step, done.branch), &mut completed)?;
                    }
                    Event::MessageSent(sent) => check_message(&counted.key, sent.message.to_tenant)?,
                    Event::SliceReturned(back) => {
                        let from = (counted.key.tenant, back.from);
                        flows.returned.entry(from).or_default().push(back.amount);
                    }
                    _ => {}
                }
                job.walk(&event, seq)?;
            }
        }
        commands.into_counts(&mut self.counts.commands);
        happened.into_counts(&mut self.counts.events);
        keys.sort_unstable();
        if let Some([(stream, key, one), (.., other)]) =
            keys.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1)
        {
            let stream = stream.stream;
            return Err(broken(3, format!("key {key:?} of {stream} is in the log at {one} and at {other}")));
        }
        for (key, state) in folder.end(truth) {
            if all.get(&key).is_none_or(|(_, bytes)| state.bytes() != *bytes) {
                return Err(broken(5, format!("folding twice: {} differs", key.stream)));
            }
        }
        Ok(())
    }

    fn check_completed(
        &self,
        counted: &Counted,
        (step, branch): (omium_schemas::StepId, omium_schemas::Branch),
        completed: &mut BTreeSet<(StreamKey, omium_schemas::StepId, omium_schemas::Branch)>,
    ) -> Checked {
        let thing = (counted.key, step, branch);
        if !completed.insert(thing) {
            return Err(broken(
                3,
                format!("{step} of {} is completed twice on branch {branch}", counted.key.stream),
            ));
        }
        if !self.performed.things.contains_key(&thing) {
            return Err(broken(
                3,
                format!("{step} of {} is completed and was never done", counted.key.stream),
            ));
        }
        Ok(())
    }

    /// A log with an event of tomorrow: a reader of today stops and says so.
    fn check_unknown(&mut self) -> Checked {
        if !self.chance.per_mille(40) {
            return Ok(());
        }
        self.fault(Fault::UnknownEvent);
        let partition = Partition(0);
        let (epoch, no, prev) = self.truths[0].position();
        let mut shell = Shell::new(partition, self.whole(Trust::TheLog), self.vault.clone(), None);
        let mut entries = self.logs.read(partition, Offset(0), Offset(u64::MAX - 1));
        for bytes in tomorrow(partition, epoch + 1, no, prev) {
            let offset = Offset(entries.len() as u64);
            entries.push(omium_log::Entry { offset, bytes });
        }
        shell.handle(Input::Entries(entries), self.clock(0));
        if shell.role() == Role::Ended {
            Ok(())
        } else {
            Err(broken(4, "an event that nobody knows was passed over"))
        }
    }
}

fn same(invariant: u8, what: &str, one: &Folded, other: &Folded) -> Checked {
    for (key, (_, bytes)) in one {
        let Some((_, there)) = other.get(key) else {
            return Err(broken(invariant, format!("{what}: {} is missing", key.stream)));
        };
        if bytes != there {
            return Err(broken(invariant, format!("{what}: {} differs", key.stream)));
        }
    }
    Ok(())
}

/// The money that the records speak of.
#[derive(Default)]
struct Flows {
    came_in: BTreeMap<TenantId, i128>,
    returned: BTreeMap<(TenantId, StreamId), Vec<Money>>,
}

/// What a careful reader knows of one job.
#[derive(Default)]
struct Progress {
    done: u32,
    marks: BTreeMap<Seq, u32>,
    back: bool,
}

impl Progress {
    fn walk(&mut self, event: &Event, seq: Seq) -> Checked {
        match event {
            Event::StepCompleted(_) => self.done += 1,
            Event::CheckpointTaken(_) => drop(self.marks.insert(seq, self.done)),
            Event::BranchRaised(raised) => {
                let Some(done) = self.marks.get(&raised.to) else {
                    return Err(broken(
                        11,
                        format!("a rollback to seq {}, which is no checkpoint", raised.to),
                    ));
                };
                self.done = *done;
                self.marks.retain(|at, _| *at <= raised.to);
                self.back = true;
            }
            Event::StepScheduled(scheduled)
                if std::mem::take(&mut self.back) && scheduled.step.0 != self.done + 1 =>
            {
                let text = format!("after a rollback {} is next, {} were done", scheduled.step, self.done);
                return Err(broken(11, text));
            }
            _ => {}
        }
        Ok(())
    }
}

fn jobs(all: &Folded) -> impl Iterator<Item = (&StreamKey, &State, &Job)> {
    all.iter().filter_map(|(key, (state, _))| match &state.state.0 {
        BankState::Job(job) => Some((key, &**state, &**job)),
        _ => None,
    })
}

/// No money is made or lost on the way, nothing is spent that was not granted, and the sums agree.
fn check_money(all: &Folded, flows: &Flows) -> Checked {
    let mut there: BTreeMap<TenantId, i128> = BTreeMap::new();
    let mut spent: BTreeMap<TenantId, i128> = BTreeMap::new();
    for (key, (state, _)) in all {
        let BankState::Account(account) = &state.state.0 else { continue };
        if account.balance < Money::ZERO || account.slices.values().any(|slice| *slice < Money::ZERO) {
            return Err(broken(
                9,
                format!("{} has {} and {:?}", key.stream, account.balance, account.slices),
            ));
        }
        let held: i128 = account.slices.values().map(|slice| slice.0).sum();
        *there.entry(key.tenant).or_default() += account.balance.0 + held + account.spent.0;
        *spent.entry(key.tenant).or_default() += account.spent.0;
    }
    for (key, state, job) in jobs(all) {
        if job.slice.is_some_and(|slice| job.spent > slice) {
            return Err(broken(9, format!("{} has spent {} of {:?}", key.stream, job.spent, job.slice)));
        }
        if state.state.1.spent != job.spent {
            return Err(broken(
                8,
                format!("{} has cost {}, the sum is {}", key.stream, job.spent, state.state.1.spent),
            ));
        }
        if job.ended && job.slice.is_some() {
            *spent.entry(key.tenant).or_default() -= job.spent.0;
        }
    }
    check_returns(all, flows)?;
    for (tenant, amount) in &flows.came_in {
        let held = there.get(tenant).copied().unwrap_or(0);
        if held != *amount {
            return Err(broken(8, format!("{} came in, {} is there", Money(*amount), Money(held))));
        }
    }
    match spent.values().find(|sum| **sum != 0) {
        Some(sum) => {
            Err(broken(8, format!("what accounts paid and what jobs cost differ by {}", Money(*sum))))
        }
        None => Ok(()),
    }
}

/// What an ended job gave back is what it did not spend.
fn check_returns(all: &Folded, flows: &Flows) -> Checked {
    for (key, state, job) in jobs(all).filter(|(_, state, job)| job.ended && state.held.is_empty()) {
        let left: Vec<Money> = job.slice.map(|slice| Money(slice.0 - job.spent.0)).into_iter().collect();
        let back = flows.returned.get(&(key.tenant, key.stream)).cloned().unwrap_or_default();
        if left != back {
            let text = format!(
                "{} had {left:?} left at seq {} and gave {back:?} back: {job:?}",
                key.stream, state.seq
            );
            return Err(broken(8, text));
        }
    }
    Ok(())
}

/// Everything that was begun has ended, or waits for a human.
fn check_ends(all: &Folded) -> Checked {
    let open = jobs(all)
        .find(|(_, state, job)| job.planned > 0 && !job.ended && !job.paused && state.quarantine.is_none());
    match open {
        Some((key, _, job)) => Err(broken(10, format!("{} neither ends nor waits: {job:?}", key.stream))),
        None => Ok(()),
    }
}

/// An epoch record and a block with an event that no program of today knows.
fn tomorrow(partition: Partition, epoch: u64, no: u64, prev: Digest) -> [Bytes; 2] {
    let (time, epoch) = (Time(u64::MAX / 4), Epoch(epoch));
    let opening = epoch_record(partition, epoch, BlockNo(no), prev, time);
    let mut builder = BlockBuilder::default();
    let stream = StreamId::new(StreamKind::Account, [0xee; 15]);
    let (tenant, first, prev_frame) = (TenantId([1; 16]), Seq(1), Digest::NONE);
    let head = FrameHead { tenant, stream, first, time, prev: prev_frame, actor: None, trace: None };
    let origin = omium_schemas::Origin { key: None, request: None, entropy: [0; 16], control: Seq(0) };
    let command = Command::from(omium_schemas::catalogue::ReleaseStream {});
    let mut frame = FrameBuilder::new(&head, builder.buffer());
    frame.record(command.type_id(), 0, |out| command.encode(&origin, out)).expect("a small command");
    frame.record(UNKNOWN, 0, |_| Ok(())).expect("an empty record");
    let (length, hash) = frame.finish();
    builder.push(length, hash);
    let no = BlockNo(no + 1);
    let block =
        builder.close(BlockHead { kind: BlockKind::Frames, partition, frames: 0, epoch, no, prev, time });
    [opening.bytes, block.bytes]
}
