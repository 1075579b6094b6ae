//! The shell of one partition: a plain state machine. `handle(input, now)` changes it and leaves outputs behind.
//!
//! State runs ahead of the log in memory; nothing leaves before the block it saw is durable and counts.

mod append;
mod assemble;
mod belief;
mod carry;
mod commands;
mod deciding;
mod effects;
mod fold;
mod front;
mod lead;
mod messages;
mod needs;
mod residents;
mod save;
mod scale;
mod window;

pub use front::holds_copies;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use omium_log::Entry;
use omium_processor::Processors;
use omium_schemas::{
    Block, BlockBuilder, BlockNo, ClosedBlock, Digest, Epoch, Filter, KeyId, Offset, Partition, Schema, Seq,
    Time,
};

use crate::book::Book;
use crate::key::{Lookup, StreamKey, WindowKey};
use crate::port::{Ended, Input, Now, Output, Parcel, Ticket};
use crate::sealing::Vault;
use crate::snapshot::{Position, Snapshot, Used};
use commands::Asked;
pub(crate) use commands::log_id;
pub use deciding::Deciding;
pub(crate) use deciding::Noted;
pub(crate) use needs::IN_PLACE;
use residents::Residents;
use window::Window;

/// What does not change while a shell lives.
#[derive(Clone)]
pub struct Config {
    /// How many partitions there are.
    pub partitions: u16,
    /// The schemas that the log must have been taught.
    pub schemas: &'static [Schema],
    /// The newest version of the rules that this program knows; it knows the one before too.
    pub logic: i32,
    /// Whether hashes are compared while folding. Left out only where the log has one writer behind a lock.
    pub verify: bool,
    /// After how many records state goes to the store.
    pub flush_records: u64,
    /// After how many microseconds state goes to the store.
    pub flush_micros: u64,
    /// How many streams that need not be in memory may stay there.
    pub residents: usize,
    /// How many blocks may wait behind the one in flight, and how many commands for rows of the store.
    pub waiting_blocks: usize,
    /// See `waiting_blocks`.
    pub waiting_commands: usize,
    /// How many messages one partition may have on their way to another one, and how many all in all may wait for a
    /// receiver before callers are asked to come later.
    pub message_window: i64,
    /// See `message_window`.
    pub waiting_messages: usize,
    /// After how many microseconds a caller hears that the outcome is unknown. A shell itself waits for ever.
    pub deadline_micros: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            partitions: 4,
            schemas: omium_schemas::SCHEMAS,
            logic: 1,
            verify: true,
            flush_records: 100_000,
            flush_micros: 5_000_000,
            residents: 50_000,
            waiting_blocks: 4,
            waiting_commands: 10_000,
            message_window: 1_024,
            waiting_messages: 10_000,
            deadline_micros: 30_000_000,
        }
    }
}

/// What a shell is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It folds what others write.
    Following,
    /// It has asked for this epoch; nothing, or its record's offset once that is known.
    Opening(Epoch, Option<Offset>),
    /// It decides.
    Leading(Epoch),
    /// It is of no use any more.
    Ended,
}

/// Counters for metrics. They are no part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commands decided, refusals left out.
    pub decided: u64,
    /// Commands refused.
    pub refused: u64,
    /// Commands answered from the idempotency window.
    pub repeated: u64,
    /// Records folded or written.
    pub records: u64,
    /// Blocks accepted.
    pub blocks: u64,
    /// Effects sent out.
    pub dispatched: u64,
    /// Snapshots taken.
    pub snapshots: u64,
}

/// A record that the log has been given.
struct Flight {
    block: ClosedBlock,
    /// Its offset, where the log has answered but the filter's acceptance is not proven yet.
    unproven: Option<Offset>,
}

/// The state of one partition and the work around it.
pub struct Shell<P: Processors> {
    partition: Partition,
    config: Config,
    vault: Arc<dyn Vault>,
    role: Role,
    figures: Figures,

    // What the log holds for certain: the filter and the next offset. The last block's hash is made when it is needed.
    filter: Filter,
    next: Offset,
    last_block: Option<Block>,
    folding: VecDeque<Entry>,
    front: front::Front,
    carrying: Option<carry::Carry>,

    // What runs ahead of it.
    book: Book,
    /// The highest number of a key that content is sealed under.
    keys: KeyId,
    residents: Residents<P::State>,
    frozen: BTreeSet<StreamKey>,
    recent: Window,
    ahead: Ahead,
    open: BlockBuilder,
    closed: VecDeque<ClosedBlock>,
    flight: Option<Flight>,
    gated: VecDeque<(BlockNo, Output<P::State>)>,
    hands: Lookup<StreamKey, needs::Hand>,

    // What waits for rows of the store, for control, or for its turn.
    parked: Lookup<StreamKey, VecDeque<Asked>>,
    parked_count: usize,
    readings: BTreeMap<StreamKey, Vec<Ticket>>,
    loading: BTreeSet<StreamKey>,
    looking_up: BTreeSet<WindowKey>,
    looked_up: Lookup<WindowKey, Option<Used>>,
    awaiting_control: Vec<Asked>,
    inbox: BTreeMap<Partition, BTreeMap<i64, Parcel>>,
    lanes: BTreeMap<Partition, messages::Lane>,
    timers: BTreeSet<(Time, StreamKey)>,
    reopening: VecDeque<StreamKey>,

    // What is on its way to the store.
    unsaved_records: u64,
    saved_at: u64,
    saving: Option<BlockNo>,
    stored: BlockNo,
    snapshot: Option<Box<Snapshot<P::State>>>,

    deciding: Arc<Deciding>,
    suspects: Vec<StreamKey>,
    seed: ([u8; 16], u64),
    stopping: bool,
    delivery: i64,
    resent_at: u64,
    belief: belief::Belief,
    /// The moment of the last input.
    moment: Now,
    outputs: Vec<Output<P::State>>,
}

/// The end of what was decided.
#[derive(Clone, Copy, Debug, Default)]
struct Ahead {
    no: BlockNo,
    prev: Digest,
    time: Time,
}

impl<P: Processors> Shell<P> {
    /// A shell that follows its partition, from a position of the store or from the log's beginning.
    pub fn new(
        partition: Partition,
        config: Config,
        vault: Arc<dyn Vault>,
        position: Option<Position>,
    ) -> Shell<P> {
        let position = position.filter(|position| position.layout == crate::snapshot::layout::<P>());
        let (filter, next, book, keys) = match position {
            Some(position) => (position.filter(), position.next, position.book, KeyId(position.keys)),
            None => (Filter::new(), Offset(0), Book::default(), KeyId(0)),
        };
        let residents = Residents::new(config.residents);
        let stored = filter.no;
        Shell {
            partition,
            config,
            vault,
            role: Role::Following,
            figures: Figures::default(),
            filter,
            next,
            last_block: None,
            folding: VecDeque::new(),
            front: front::Front::default(),
            carrying: None,
            book,
            keys,
            residents,
            frozen: BTreeSet::new(),
            recent: Window::default(),
            ahead: Ahead::default(),
            open: BlockBuilder::default(),
            closed: VecDeque::new(),
            flight: None,
            gated: VecDeque::new(),
            hands: Lookup::default(),
            parked: Lookup::default(),
            parked_count: 0,
            readings: BTreeMap::new(),
            loading: BTreeSet::new(),
            looking_up: BTreeSet::new(),
            looked_up: Lookup::default(),
            awaiting_control: Vec::new(),
            inbox: BTreeMap::new(),
            lanes: BTreeMap::new(),
            timers: BTreeSet::new(),
            reopening: VecDeque::new(),
            unsaved_records: 0,
            saved_at: 0,
            saving: None,
            stored,
            snapshot: None,
            deciding: Arc::default(),
            suspects: Vec::new(),
            seed: ([0; 16], 0),
            stopping: false,
            delivery: 0,
            resent_at: 0,
            belief: belief::Belief::default(),
            moment: Now::default(),
            outputs: Vec::new(),
        }
    }

    /// The highest number of a key that content of the partition is sealed under.
    pub fn keys(&self) -> KeyId {
        self.keys
    }

    /// Changes the shell. What it wants done is in [`Shell::outputs`].
    pub fn handle(&mut self, input: Input, now: Now) {
        if self.role == Role::Ended {
            return self.refuse_all(input);
        }
        self.moment = now;
        if matches!(self.role, Role::Leading(_)) {
            let before = self.time(now);
            self.outputs.extend(self.belief.look(now).map(Output::Alarm));
            self.keep_times(before, now);
        }
        match input {
            Input::Submit(submission) => self.submit(Asked::new(submission), now),
            Input::Read(ticket, key) => self.read(ticket, key),
            Input::Lead(epoch, seed) => self.lead(epoch, seed),
            Input::Failed(why) => self.end(why),
            Input::Settled(outcome) => self.settled(outcome, now),
            Input::Entries(entries) => self.entries(entries, now),
            Input::Loaded(loaded) => self.loaded(loaded, now),
            Input::Waiting(streams) => self.reopen(streams, now),
            Input::Flushed(no) => self.flushed(no, now),
            Input::AtHand(key, given) => self.at_hand(key, given, now),
            Input::Message(parcel) => self.receive(*parcel, now),
            Input::Acknowledged(partition, through) => self.acknowledged(partition, through, now),
            Input::Control(seq, digest, body) => self.see_control(seq, digest, body, now),
            Input::Lost(key, step, branch, epoch, delivery) => {
                self.lost(key, step, branch, (epoch, delivery), now)
            }
            Input::Carry(ticket, entries, keep) => self.carry(ticket, entries, keep, now),
            Input::Tick => self.tick(now),
            Input::Stop => self.stop(now),
        }
    }

    /// Takes what the shell wants done, in order.
    pub fn outputs(&mut self) -> std::vec::Drain<'_, Output<P::State>> {
        self.outputs.drain(..)
    }

    /// What it is to its partition.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The first offset that it has not folded.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// The last block that is durable and counts, as far as it knows.
    pub fn durable(&self) -> BlockNo {
        self.filter.no
    }

    /// The last block whose state it knows to be in the store.
    pub fn stored(&self) -> BlockNo {
        self.stored
    }

    /// The current epoch, as far as it knows.
    pub fn epoch(&self) -> Epoch {
        self.filter.epoch
    }

    /// The partition's book, as far ahead as it runs.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Says from now on which stream it decides on.
    pub fn say_in(&mut self, deciding: Arc<Deciding>) {
        self.deciding = deciding;
    }

    /// Work on these streams has ended several processes: they are quarantined as soon as it leads, and nothing of
    /// theirs is sent out before.
    pub fn suspect(&mut self, streams: Vec<StreamKey>) {
        self.suspects = streams;
    }

    /// The counters.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// A stream as far ahead as it runs, where it is in memory.
    pub fn resident(&self, key: &StreamKey) -> Option<Arc<crate::StreamState<P::State>>> {
        self.residents.get(key).map(residents::Slot::value)
    }

    fn end(&mut self, why: Ended) {
        if self.role != Role::Ended {
            self.role = Role::Ended;
            self.give_up();
            self.outputs.push(Output::Ended(why));
        }
    }

    /// Ends it after a panic: it looks at nothing else first, for that may panic once more.
    pub fn fail(&mut self, why: Ended) {
        if self.role != Role::Ended {
            self.role = Role::Ended;
            self.outputs.push(Output::Ended(why));
            self.give_up();
        }
    }

    /// What is believed to be the time now. It may be before that of an earlier frame, whose leader had another clock: what
    /// is measured from it must not wait until a wrong time has come true.
    fn time(&self, now: Now) -> Time {
        self.belief.time(now)
    }

    fn seq_of(&self, key: &StreamKey) -> Option<Seq> {
        self.residents.get(key).map(|slot| slot.value.seq)
    }
}
