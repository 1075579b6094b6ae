//! Everything there is, and what happens next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use bytes::Bytes;
use omium_processor::testkit::BankSuite;
use omium_runtime::{Config, Dispatch, Input, MemoryVault, Needs, Parcel, StreamKey, Ticket};
use omium_schemas::{BlockNo, Epoch, Offset, Partition, Seq};
use omium_store::Batch;

use crate::blobs::Blobs;
use crate::broker::Broker;
use crate::chance::Chance;
use crate::clients::{Client, Control, MIXES, Mix};
use crate::counts::{Counts, Fault};
use crate::logs::{Logs, OnDisk};
use crate::node::Node;
use crate::truth::{Truth, Violation};
use crate::workers::Performed;

pub(crate) type Shell = omium_runtime::Shell<BankSuite>;
pub(crate) type Output = omium_runtime::Output<<BankSuite as omium_processor::Processors>::State>;

/// The wall clock's reading when a run begins, in microseconds.
pub(crate) const BEGIN: u64 = 1_700_000_000_000_000;

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life {
    pub(crate) node: usize,
    pub(crate) life: u32,
    /// Which of the shells that one partition has had in that life.
    pub(crate) turn: u32,
}

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Action {
    /// A shell gets an input.
    Feed(Life, Partition, Input),
    /// The log asks a shell for its next record.
    Take(Life, Partition),
    /// An append reaches the broker.
    Arrive(Append),
    /// The disk has synced what was written.
    Sync(Life, Vec<Bytes>),
    /// A shell reads the log.
    Read(Life, Partition, Offset, Offset),
    /// A part of a snapshot is written; the last part is followed by a flush.
    Save(Life, Partition, Vec<Batch>, BlockNo),
    /// The blob store gives and takes what a shell needs.
    Provide(Life, Partition, StreamKey, Needs),
    /// A message between partitions arrives.
    Deliver(Parcel),
    /// So does its acknowledgement.
    Acknowledge(Partition, Partition, i64),
    /// A client does its next thing, unless it has been planned anew since.
    Client(usize, u64),
    /// A client has waited long enough.
    GiveUp(usize, u64),
    /// A worker is done with what it was given.
    Perform(Life, Dispatch, u8),
    /// A worker tells about it, for the n-th time.
    Tell(Dispatch, crate::workers::Outcome, u8),
    /// Time passes for a node.
    Tick(Life),
    /// A node dies.
    Crash(usize),
    /// It comes back.
    Restart(usize),
    /// Somebody is to lead a partition.
    Elect(Partition),
    /// A leader carries forward what the front of its log still holds.
    Trim(Partition),
    /// The control stream goes on.
    Control,
    /// Leaders hear of the control stream.
    HearControl,
    /// A wall clock jumps, or comes back.
    Jump(usize, i64),
    /// A subject is erased.
    Erase,
}

/// An append on its way.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) from: Life,
    pub(crate) partition: Partition,
    pub(crate) bytes: Bytes,
    /// Whether its sender is still told what became of it.
    pub(crate) answered: bool,
    /// When it was sent.
    pub(crate) sent: u64,
}

/// Who asked, and what the stream was when it was asked.
#[derive(Clone, Debug)]
pub(crate) enum Asker {
    Client(usize, u64),
    Worker(Dispatch, crate::workers::Outcome, u8),
    /// Whoever wants to look at what is another one's.
    Stranger,
    /// Whoever lets the front of a log go, up to here once that is known.
    Trimmer(Option<Offset>),
}

/// A question that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) asker: Asker,
    pub(crate) key: StreamKey,
    /// The end of the stream, as the shell had it when it was asked.
    pub(crate) seen: Seq,
}

/// A run.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) now: u64,
    /// When, in which order, and where in `actions`: what is moved about while sorting stays small.
    queue: BinaryHeap<Reverse<(u64, u64, u32)>>,
    actions: Vec<Option<Action>>,
    unused: Vec<u32>,
    queued: u64,
    /// How many things are planned that are more than the passing of time.
    work: u64,
    pub(crate) config: Config,
    pub(crate) vault: Arc<MemoryVault>,
    /// Whose keys are destroyed.
    pub(crate) erased: BTreeSet<StreamKey>,
    /// Chance of its own: a run without erasures is the same as if there were none.
    pub(crate) erasing: Chance,
    pub(crate) nodes: Vec<Node>,
    pub(crate) logs: Logs,
    pub(crate) blobs: Blobs,
    pub(crate) truths: Vec<Truth>,
    pub(crate) leaders: Vec<(usize, Epoch)>,
    /// The first record of each partition that can still be read.
    pub(crate) starts: Vec<Offset>,
    pub(crate) clients: Vec<Client>,
    /// What clients like to ask for in this run.
    pub(crate) mix: Mix,
    /// After how many acknowledged commands the next misfortune comes.
    pub(crate) next_misfortune: u64,
    pub(crate) control: Control,
    pub(crate) asked: BTreeMap<Ticket, Asked>,
    pub(crate) tickets: u64,
    pub(crate) performed: Performed,
    pub(crate) counts: Counts,
    pub(crate) violation: Option<Violation>,
    /// Whether faults still happen.
    pub(crate) faulty: bool,
    /// Whether clients still ask for new things.
    pub(crate) busy: bool,
    /// Of everything that happened, for comparing two runs of a seed.
    pub(crate) trace: u64,
}

impl Action {
    /// Whether it is the mere passing of time, or comes again by itself.
    fn is_routine(&self) -> bool {
        matches!(
            self,
            Action::Tick(_)
                | Action::Control
                | Action::HearControl
                | Action::GiveUp(..)
                | Action::Jump(..)
                | Action::Erase
        )
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let partitions = if chance.per_mille(820) { 1 } else { 8 };
        let on_disk = chance.per_mille(300);
        let nodes = if on_disk { 1 } else { 2 + usize::from(chance.per_mille(150)) };
        let config = Config {
            partitions,
            schemas: &omium_schemas::SCHEMAS[..2],
            logic: 1,
            verify: !on_disk || chance.per_mille(500),
            flush_records: chance.between(50, 300),
            flush_micros: chance.between(100_000, 5_000_000),
            residents: chance.between(4, 40) as usize,
            waiting_blocks: chance.between(1, 4) as usize,
            waiting_commands: chance.between(8, 64) as usize,
            message_window: chance.between(1, 8) as i64,
            waiting_messages: chance.between(4, 64) as usize,
            ..Config::default()
        };
        let logs = if on_disk {
            Logs::Disk(Box::new(OnDisk::new(partitions)))
        } else {
            Logs::Brokers((0..partitions).map(|_| Broker::default()).collect())
        };
        let mut world = World {
            now: 0,
            queue: BinaryHeap::new(),
            actions: Vec::new(),
            unused: Vec::new(),
            queued: 0,
            work: 0,
            config,
            vault: Arc::new(MemoryVault::new([7; 32])),
            erased: BTreeSet::new(),
            erasing: Chance::new(!seed),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            logs,
            blobs: Blobs::default(),
            truths: vec![Truth::default(); usize::from(partitions)],
            leaders: vec![(0, Epoch(0)); usize::from(partitions)],
            starts: vec![Offset(0); usize::from(partitions)],
            clients: Vec::new(),
            mix: *chance.pick(&MIXES),
            next_misfortune: chance.between(5, 45),
            control: Control::default(),
            asked: BTreeMap::new(),
            tickets: 0,
            performed: Performed::default(),
            counts: Counts::default(),
            violation: None,
            faulty: true,
            busy: true,
            trace: 0,
            chance,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.restart(node);
        }
        for n in 0..self.config.partitions {
            self.after(1_000, Action::Elect(Partition(n)));
        }
        self.hire_clients();
        self.after(50_000, Action::Control);
        self.after(100_000, Action::HearControl);
        // Carrying forward is much work beside a run's few commands, so some runs do it often and most never.
        if self.chance.per_mille(50) {
            self.plan_trim();
        }
        self.plan_faults();
        self.plan_erasure();
    }

    /// Lets something happen so many microseconds from now.
    pub(crate) fn after(&mut self, micros: u64, action: Action) {
        self.queued += 1;
        self.work += u64::from(!action.is_routine());
        let place = self.unused.pop().unwrap_or_else(|| {
            self.actions.push(None);
            self.actions.len() as u32 - 1
        });
        self.actions[place as usize] = Some(action);
        self.queue.push(Reverse((self.now + micros, self.queued, place)));
    }

    /// Lets something happen soon, within so many microseconds.
    pub(crate) fn soon(&mut self, within: u64, action: Action) {
        let delay = self.chance.below(within) + 1;
        self.after(delay, action);
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.counts.faults.entry(fault).or_default() += 1;
    }

    /// The first violation is the one that counts.
    pub(crate) fn check(&mut self, outcome: Result<(), Violation>) {
        if let Err(violation) = outcome {
            self.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn mark(&mut self, what: u64) {
        self.trace = (self.trace.rotate_left(7) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// What those are to their partitions that should lead them: for looking into a world that does not go on.
    pub(crate) fn roles(&self) -> Vec<String> {
        let role = |(at, (node, epoch)): (usize, &(usize, Epoch))| {
            let role = self.nodes[*node].shells.get(at).map(Shell::role);
            format!("partition {at}: node {node} is to lead epoch {epoch} and is {role:?}")
        };
        self.leaders.iter().enumerate().map(role).collect()
    }

    /// What is about to happen, by kind: for looking into a world that does not come to rest.
    pub(crate) fn pending(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for action in self.actions.iter().flatten() {
            let text = format!("{action:?}");
            let kind = text.split('(').next().unwrap_or_default();
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
        kinds
    }

    /// Whether nothing is planned but the passing of time.
    pub(crate) fn is_quiet(&self) -> bool {
        self.work == 0
    }

    /// How many things have happened or are about to.
    pub(crate) fn steps(&self) -> u64 {
        self.queued
    }

    /// Does what is next. False when nothing is.
    pub(crate) fn step(&mut self) -> bool {
        let Some(Reverse((at, number, place))) = self.queue.pop() else { return false };
        self.unused.push(place);
        let Some(action) = self.actions[place as usize].take() else { return true };
        self.now = at;
        self.work -= u64::from(!action.is_routine());
        self.mark(at ^ number << 40);
        match action {
            Action::Feed(life, partition, input) => self.feed(life, partition, input),
            Action::Take(life, partition) => self.take(life, partition),
            Action::Arrive(append) => self.arrive(append),
            Action::Sync(life, blocks) => self.sync(life, &blocks),
            Action::Read(life, partition, from, through) => self.read(life, partition, from, through),
            Action::Save(life, partition, batches, no) => self.save(life, partition, batches, no),
            Action::Provide(life, partition, key, needs) => self.provide(life, partition, key, needs),
            Action::Deliver(parcel) => self.deliver(parcel),
            Action::Acknowledge(by, to, through) => self.acknowledge(by, to, through),
            Action::Client(client, turn) => self.client(client, turn),
            Action::GiveUp(client, question) => self.give_up(client, question),
            Action::Perform(life, dispatch, fate) => self.perform(life, dispatch, fate),
            Action::Tell(dispatch, outcome, times) => self.tell(dispatch, outcome, times),
            Action::Tick(life) => self.tick(life),
            Action::Crash(node) => self.crash(node),
            Action::Restart(node) => self.restart(node),
            Action::Elect(partition) => self.elect(partition),
            Action::Trim(partition) => self.trim(partition),
            Action::Control => self.go_on_with_control(),
            Action::HearControl => self.hear_control(),
            Action::Jump(node, by) => self.jump(node, by),
            Action::Erase => self.erase(),
        }
        true
    }
}
