//! Nodes: shells with a store and clocks of their own, that die between any two steps and come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use omium_log::Entry;
use omium_runtime::{
    Ended, Found, Input, Loaded, Now, Position, Role, StreamKey, Used, WindowKey, open_prefix,
    partition_prefix, position_key, stream_key, stream_of, window_key,
};
use omium_schemas::{BlockNo, Offset, Partition, Time};
use omium_store::{Batch, MemoryStore, Store};

use crate::counts::Fault;
use crate::logs::Logs;
use crate::truth::broken;
use crate::world::{Action, Append, BEGIN, Life, Output, Shell, World};

/// A node.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) alive: bool,
    pub(crate) life: u32,
    pub(crate) shells: Vec<Shell>,
    /// How many shells each partition has had in this life. What was meant for an older one must not reach a newer.
    pub(crate) turns: Vec<u32>,
    pub(crate) store: Arc<MemoryStore>,
    /// For which of its partitions the log is about to pull.
    pub(crate) pulling: BTreeMap<Partition, Life>,
    /// By how much its wall clock is off, in microseconds.
    pub(crate) skew: i64,
}

/// By how much a clock may be off at most where it is believed at once, in microseconds. By one that is further ahead than
/// idempotency keys are kept, all of them are old.
pub(crate) const OFF: i64 = 11 * 3_600_000_000;

pub(crate) const NEVER_FAILS: &str = "the store in memory never fails";

impl World {
    pub(crate) fn clock(&self, node: usize) -> Now {
        Now { wall: Time((BEGIN + self.now).saturating_add_signed(self.nodes[node].skew)), boot: self.now }
    }

    pub(crate) fn life(&self, node: usize, partition: Partition) -> Life {
        let turn = self.nodes[node].turns.get(usize::from(partition.0)).copied().unwrap_or(0);
        Life { node, life: self.nodes[node].life, turn }
    }

    fn lives(&self, life: Life) -> bool {
        self.nodes[life.node].alive && self.nodes[life.node].life == life.life
    }

    pub(crate) fn shell(&mut self, life: Life, partition: Partition) -> Option<&mut Shell> {
        if !self.lives(life) || self.life(life.node, partition) != life {
            return None;
        }
        self.nodes[life.node].shells.get_mut(usize::from(partition.0))
    }

    pub(crate) fn feed(&mut self, life: Life, partition: Partition, input: Input) {
        let now = self.clock(life.node);
        let Some(shell) = self.shell(life, partition) else { return };
        let asked = match &input {
            Input::Submit(submission) => submission.ticket.map(|ticket| (ticket, submission.key)),
            _ => None,
        };
        let seen = asked
            .map(|(ticket, key)| (ticket, shell.resident(&key).map_or(omium_schemas::Seq(0), |s| s.seq)));
        shell.handle(input, now);
        if let Some((ticket, seen)) = seen
            && let Some(asked) = self.asked.get_mut(&ticket)
        {
            asked.seen = seen;
        }
        self.carry_out(life, partition);
    }

    pub(crate) fn carry_out(&mut self, life: Life, partition: Partition) {
        while let Some(shell) = self.shell(life, partition) {
            let outputs: Vec<Output> = shell.outputs().collect();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.output(life, partition, output);
            }
        }
    }

    fn output(&mut self, life: Life, partition: Partition, output: Output) {
        match output {
            Output::Ready => self.plan_take(life, partition),
            Output::Load(streams, window) => self.load(life, partition, streams, window),
            Output::LoadWaiting => {
                let rows = self.nodes[life.node].store.scan(&open_prefix(partition), None, usize::MAX);
                let rows = rows.expect(NEVER_FAILS);
                let waiting = rows.iter().filter_map(|(key, _)| stream_of(key)).collect();
                self.after(1, Action::Feed(life, partition, Input::Waiting(waiting)));
            }
            Output::Fetch(from, through) => self.soon(500, Action::Read(life, partition, from, through)),
            Output::Answer(ticket, answer) => self.answered(partition, ticket, answer),
            Output::View(ticket, view) => self.viewed(ticket, view.is_some()),
            Output::Stopped | Output::Alarm(_) => {}
            Output::Dispatch(dispatch) => self.hire(life, *dispatch),
            Output::Deliver(parcel) => self.post(*parcel),
            Output::Acknowledge(to, through) => self.soon(2_000, Action::Acknowledge(partition, to, through)),
            Output::Publish(bytes) => {
                self.publish(partition, &bytes);
            }
            Output::Need(key, needs) => self.soon(3_000, Action::Provide(life, partition, key, needs)),
            Output::Flush(snapshot) => {
                let (no, batches) = (BlockNo(snapshot.position.no), snapshot.batches());
                self.soon(20_000, Action::Save(life, partition, batches, no));
            }
            Output::Led(_) => self.counts.leaders += 1,
            Output::Ended(why) => self.ended(life, partition, &why),
        }
    }

    /// What is published has to be in the log at that moment, or the world knows what never happened.
    fn publish(&mut self, partition: Partition, bytes: &Bytes) {
        if !self.truths[usize::from(partition.0)].has_block(bytes) {
            let text = format!("partition {partition} published a block that is not in the log");
            self.check(Err(broken(1, text)));
        }
    }

    /// What the store of a leader holds of an idempotency key now.
    pub(crate) fn find(
        &mut self,
        life: Life,
        partition: Partition,
        stream: &StreamKey,
        used: &[u8],
    ) -> Option<Found> {
        let stored = self.shell(life, partition)?.stored();
        let row = window_key(partition, &WindowKey { stream: *stream, key: used.to_vec() });
        let row = self.nodes[life.node].store.get(&[row]).expect(NEVER_FAILS).pop().flatten();
        Some(Found { stored, used: row.and_then(|row| Used::read(&row)) })
    }

    fn load(&mut self, life: Life, partition: Partition, streams: Vec<StreamKey>, window: Vec<WindowKey>) {
        let store = &self.nodes[life.node].store;
        let get = |key: Vec<u8>| store.get(&[key]).expect(NEVER_FAILS).pop().flatten();
        let loaded = Loaded {
            streams: streams.into_iter().map(|key| (key, get(stream_key(partition, &key)))).collect(),
            window: window.into_iter().map(|key| (key.clone(), get(window_key(partition, &key)))).collect(),
        };
        let delay = if self.chance.per_mille(100) { 2_000 } else { 1 };
        self.soon(delay, Action::Feed(life, partition, Input::Loaded(loaded)));
    }

    /// The parts of a snapshot are written one after another; a crash may come between them.
    pub(crate) fn save(&mut self, life: Life, partition: Partition, mut batches: Vec<Batch>, no: BlockNo) {
        if self.shell(life, partition).is_none() {
            return;
        }
        let store = self.nodes[life.node].store.clone();
        store.write(batches.remove(0)).expect(NEVER_FAILS);
        if !batches.is_empty() {
            return self.soon(20_000, Action::Save(life, partition, batches, no));
        }
        if self.chance.per_mille(700) {
            store.flush().expect(NEVER_FAILS);
        }
        self.feed(life, partition, Input::Flushed(no));
    }

    /// The log pulls once, however often it is told that there is something.
    fn plan_take(&mut self, life: Life, partition: Partition) {
        let pulling = &mut self.nodes[life.node].pulling;
        if pulling.get(&partition) == Some(&life) {
            return;
        }
        pulling.insert(partition, life);
        self.soon(300, Action::Take(life, partition));
    }

    pub(crate) fn take(&mut self, life: Life, partition: Partition) {
        self.nodes[life.node].pulling.remove(&partition);
        if !self.lives(life) {
            return;
        }
        let now = self.clock(life.node);
        match &self.logs {
            Logs::Brokers(_) => {
                let Some(bytes) = self.shell(life, partition).and_then(|shell| shell.take(now)) else {
                    return;
                };
                self.carry_out(life, partition);
                self.append(Append { from: life, partition, bytes, answered: true, sent: self.now });
            }
            // The end of the sync pulls from everyone.
            Logs::Disk(disk) if disk.writing => {}
            Logs::Disk(_) => self.write_round(life),
        }
    }

    /// The journal takes every partition's open block for one write.
    fn write_round(&mut self, life: Life) {
        let now = self.clock(life.node);
        let mut blocks = Vec::new();
        for partition in (0..self.config.partitions).map(Partition) {
            let life = self.life(life.node, partition);
            if let Some(bytes) = self.shell(life, partition).and_then(|shell| shell.take(now)) {
                blocks.push(bytes);
            }
            self.carry_out(life, partition);
        }
        let Logs::Disk(disk) = &mut self.logs else { return };
        if blocks.is_empty() {
            return;
        }
        match disk.write(&blocks) {
            Ok(()) => {
                // So is the moment between a write and its sync.
                if self.faulty && self.chance.per_mille(8) {
                    self.after(1, Action::Crash(life.node));
                }
                self.soon(800, Action::Sync(life, blocks));
            }
            Err(why) => self.check(Err(broken(10, format!("the journal does not write: {why}")))),
        }
    }

    pub(crate) fn sync(&mut self, life: Life, blocks: &[Bytes]) {
        if !self.lives(life) {
            return;
        }
        let Logs::Disk(disk) = &mut self.logs else { return };
        let settled = match disk.sync(blocks) {
            Ok(settled) => settled,
            Err(why) => return self.check(Err(broken(10, format!("the journal does not sync: {why}")))),
        };
        for (partition, offset) in settled {
            self.committed(partition);
            self.feed(self.life(life.node, partition), partition, Input::Settled(Ok(offset)));
        }
        // One is enough to make the journal pull from everyone.
        self.after(1, Action::Take(self.life(life.node, Partition(0)), Partition(0)));
    }

    /// The careful reader reads what has become readable.
    pub(crate) fn committed(&mut self, partition: Partition) {
        let truth = &mut self.truths[usize::from(partition.0)];
        let records = self.logs.records(partition);
        let new = records.get(truth.read..).unwrap_or_default();
        let outcome = new.iter().try_for_each(|bytes| truth.read(bytes));
        self.check(outcome);
    }

    pub(crate) fn read(&mut self, life: Life, partition: Partition, from: Offset, through: Offset) {
        let start = self.starts[usize::from(partition.0)];
        if from < start && from > Offset(0) {
            return self.fall_behind(life, partition);
        }
        let entries: Vec<Entry> = self.logs.read(partition, from.max(start), through);
        self.feed(life, partition, Input::Entries(entries));
    }

    /// What a shell would go on with is gone: another one begins where the log does now.
    fn fall_behind(&mut self, life: Life, partition: Partition) {
        if self.shell(life, partition).is_none() {
            return;
        }
        self.replace_shell(life.node, partition);
        if self.leaders[usize::from(partition.0)].0 == life.node {
            self.soon(300_000, Action::Elect(partition));
        }
    }

    pub(crate) fn follow(&mut self, life: Life, partition: Partition) {
        let start = self.starts[usize::from(partition.0)];
        let Some(shell) = self.shell(life, partition) else { return };
        if shell.role() == Role::Following {
            let from = shell.next();
            self.read(life, partition, from, Offset(from.max(start).0 + 64));
        }
    }

    pub(crate) fn tick(&mut self, life: Life) {
        if !self.lives(life) {
            return;
        }
        for partition in (0..self.config.partitions).map(Partition) {
            self.feed(self.life(life.node, partition), partition, Input::Tick);
            if self.standbys() {
                self.follow(self.life(life.node, partition), partition);
            }
        }
        let pause = if self.faulty { 200_000 } else { 2_000_000 };
        self.after(pause, Action::Tick(life));
    }

    fn standbys(&self) -> bool {
        self.config.flush_records.is_multiple_of(5)
    }

    fn ended(&mut self, life: Life, partition: Partition, why: &Ended) {
        let unknown = self.truths[usize::from(partition.0)].has_unknown();
        if let Ended::Unreadable(text) = why
            && !unknown
        {
            return self.check(Err(broken(4, format!("partition {partition} cannot be folded: {text}"))));
        }
        if unknown {
            return;
        }
        if matches!(self.logs, Logs::Disk(_)) {
            return self.crash(life.node);
        }
        self.replace_shell(life.node, partition);
        if self.leaders[usize::from(partition.0)].0 == life.node {
            self.soon(300_000, Action::Elect(partition));
        }
    }

    fn replace_shell(&mut self, node: usize, partition: Partition) {
        let at = usize::from(partition.0);
        self.nodes[node].shells[at] = self.fresh_shell(node, partition);
        self.nodes[node].turns[at] += 1;
    }

    /// A position before the log's start has missed what was let go: the log says everything again from there.
    pub(crate) fn fresh_shell(&mut self, node: usize, partition: Partition) -> Shell {
        let start = self.starts[usize::from(partition.0)];
        let position = self.position(node, partition).filter(|position| position.next >= start);
        if position.is_none() && start > Offset(0) {
            self.fault(Fault::FrontGone);
            self.wipe(node, partition);
        }
        Shell::new(partition, self.config.clone(), self.vault.clone(), position)
    }

    fn wipe(&self, node: usize, partition: Partition) {
        let store = &self.nodes[node].store;
        let rows = store.scan(&partition_prefix(partition), None, usize::MAX).expect(NEVER_FAILS);
        let mut batch = Batch::default();
        rows.into_iter().for_each(|(key, _)| batch.delete(key));
        store.write(batch).expect(NEVER_FAILS);
    }

    fn position(&self, node: usize, partition: Partition) -> Option<Position> {
        let row = self.nodes[node].store.get(&[position_key(partition)]).expect(NEVER_FAILS).pop().flatten();
        row.as_deref().and_then(Position::read)
    }

    pub(crate) fn crash(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        self.fault(Fault::Crash);
        let unflushed = self.nodes[node].store.unflushed();
        let survivors = self.chance.below(unflushed as u64 + 1) as usize;
        if survivors < unflushed {
            self.fault(Fault::LostState);
        }
        let crashed = &mut self.nodes[node];
        crashed.alive = false;
        crashed.life += 1;
        crashed.shells.clear();
        crashed.store.crash(survivors);
        let power = self.chance.per_mille(500);
        if let Logs::Disk(disk) = &mut self.logs {
            disk.crash(power, &mut self.chance, &mut self.counts);
        }
        self.soon(250_000, Action::Restart(node));
        for partition in (0..self.config.partitions).map(Partition) {
            if self.leaders[usize::from(partition.0)].0 == node {
                self.soon(300_000, Action::Elect(partition));
            }
        }
    }

    pub(crate) fn restart(&mut self, node: usize) {
        if self.nodes[node].alive {
            return;
        }
        // Saved state is a copy of what the log says; where the log has no front, it is good to do without once.
        if self.faulty && self.starts.iter().any(|start| *start > Offset(0)) && self.chance.per_mille(300) {
            self.fault(Fault::LostState);
            self.nodes[node].store = Arc::default();
        }
        let partitions: Vec<Partition> = (0..self.config.partitions).map(Partition).collect();
        let positions: Vec<Option<Position>> = partitions.iter().map(|p| self.position(node, *p)).collect();
        if let Logs::Disk(disk) = &mut self.logs {
            let claim = |position: &Option<Position>| {
                position.as_ref().map_or((Offset(0), BlockNo(0)), |p| (p.next, BlockNo(p.no)))
            };
            let opened = disk.open(positions.iter().map(claim).collect(), self.chance.bytes());
            if opened.is_err() {
                return self.check(opened);
            }
            self.check_reopened(&partitions);
        }
        self.nodes[node].alive = true;
        self.nodes[node].shells = partitions.iter().map(|p| self.fresh_shell(node, *p)).collect();
        self.nodes[node].turns = vec![0; partitions.len()];
        let life = self.life(node, Partition(0));
        self.soon(200_000, Action::Tick(life));
        if matches!(self.logs, Logs::Disk(_)) {
            for partition in partitions {
                self.follow_all(life, partition);
                self.elect(partition);
            }
            // The moment after an unclean start is a good one for the next misfortune.
            if self.faulty && self.chance.per_mille(200) {
                self.soon(1_500, Action::Crash(node));
            }
        }
    }

    /// All that was acknowledged has to be there again; what was on its way may be.
    fn check_reopened(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            let truth = &self.truths[usize::from(partition.0)];
            let there = self.logs.records(*partition).len();
            if there < truth.read {
                let text =
                    format!("partition {partition}: {} records were durable, {there} are left", truth.read);
                return self.check(Err(broken(1, text)));
            }
            self.committed(*partition);
        }
    }

    fn follow_all(&mut self, life: Life, partition: Partition) {
        let Some(shell) = self.shell(life, partition) else { return };
        let from = shell.next();
        self.read(life, partition, from, Offset(u64::MAX - 1));
    }

    pub(crate) fn elect(&mut self, partition: Partition) {
        let alive: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].alive).collect();
        if alive.is_empty() {
            return self.soon(300_000, Action::Elect(partition));
        }
        let node = *self.chance.pick(&alive);
        let at = usize::from(partition.0);
        let (old, epoch) = self.leaders[at];
        let old_leads =
            self.nodes[old].alive && matches!(self.nodes[old].shells[at].role(), Role::Leading(_));
        if old_leads && old != node {
            self.fault(Fault::StaleLeader);
        }
        if self.nodes[node].shells[at].role() != Role::Following {
            self.replace_shell(node, partition);
        }
        let seen = self.nodes[node].shells[at].epoch();
        let epoch = epoch.max(seen).next();
        self.leaders[at] = (node, epoch);
        // Who begins to lead believes its clock. What it writes by one that is hours ahead must not be hours late.
        self.nodes[node].skew = self.nodes[node].skew.clamp(-OFF, OFF);
        let (life, seed) = (self.life(node, partition), self.chance.bytes());
        self.feed(life, partition, Input::Lead(epoch, seed));
    }
}
