//! What goes into a shell and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;
use omium_log::{Entry, LogError};
use omium_processor::{Effect, Refusal};
use omium_schemas::catalogue::{Command, Event, Message, Origin};
use omium_schemas::{
    BlobRef, BlockNo, Branch, Digest, Epoch, Offset, Partition, Seq, StepId, Time, TraceContext,
};

use crate::key::{StreamKey, WindowKey};
use crate::sealing::Unreadable;
use crate::snapshot::{Snapshot, Used};
use crate::stream::StreamState;

/// The moment of an input, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// What the wall clock says. It may jump.
    pub wall: Time,
    /// Microseconds since boot. It never jumps.
    pub boot: u64,
}

/// Names a caller's question, so that its answer finds the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A command on its way to be decided.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who waits for the answer; nothing where nobody does.
    pub ticket: Option<Ticket>,
    /// The stream it is for.
    pub key: StreamKey,
    /// Who issued it.
    pub actor: Option<String>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
    /// Its idempotency key, entropy and control seq.
    pub origin: Origin,
    /// What the store was found to hold of its idempotency key. Without it, or where more has been stored since then,
    /// the shell asks.
    pub found: Option<Found>,
    /// The command.
    pub command: Command,
}

/// What the store was found to hold of an idempotency key.
#[derive(Clone, Debug)]
pub struct Found {
    /// [`crate::Shell::stored`] before the store was asked.
    pub stored: BlockNo,
    /// Its use; nothing where it was not used.
    pub used: Option<Used>,
}

/// A message between streams, opened for its receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// The sending partition.
    pub from_partition: Partition,
    /// The receiving partition.
    pub to_partition: Partition,
    /// Its number between the two.
    pub number: i64,
    /// The sending stream.
    pub from: StreamKey,
    /// What it says.
    pub message: Message,
}

/// One attempt of a step, sent to whoever performs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The stream that wants it done.
    pub key: StreamKey,
    /// What is to be done.
    pub effect: Effect,
    /// The leader's epoch: with `delivery` it names this sending.
    pub epoch: Epoch,
    /// Which sending of the attempt.
    pub delivery: i64,
}

impl Dispatch {
    /// The key under which the world is asked to do it at most once. It is the same for every sending, by any leader.
    pub fn effect_key(&self) -> String {
        let Effect { step, branch, .. } = self.effect;
        if omium_schemas::mutant::Mutant::DeliveryInKey.on() {
            return format!("{}/{step}/{branch}/{}", self.key.stream, self.delivery);
        }
        format!("{}/{step}/{branch}", self.key.stream)
    }
}

/// What a shell is told.
#[derive(Debug)]
pub enum Input {
    /// Decide this.
    Submit(Box<Submission>),
    /// Show a stream as it is now.
    Read(Ticket, StreamKey),
    /// Become the leader under this epoch. The seed is random and feeds the entropy of the shell's own commands.
    Lead(Epoch, [u8; 16]),
    /// Something that the partition cannot do without has failed.
    Failed(Ended),
    /// The record taken last is durable here, or its fate is unknown.
    Settled(Result<Offset, String>),
    /// Records of the log, in order.
    Entries(Vec<Entry>),
    /// Rows of the store that were asked for.
    Loaded(Loaded),
    /// Streams that the store says wait for something; the last part says so.
    Waiting(Vec<StreamKey>),
    /// A snapshot is in the store.
    Flushed(BlockNo),
    /// What was asked for with [`Output::Need`].
    AtHand(StreamKey, AtHand),
    /// A message from another partition.
    Message(Box<Parcel>),
    /// Another partition has taken the messages up to this number for good.
    Acknowledged(Partition, i64),
    /// A record of the control stream.
    Control(Seq, Digest, Bytes),
    /// Whoever was to perform this sending is gone.
    Lost(StreamKey, StepId, Branch, Epoch, i64),
    /// Records of the log's front, in order, from its first one on, which are to be dropped once what is still needed
    /// of them is carried forward. No records: there are no more. Asked again with none until nothing is left to carry.
    /// Streams that ended no longer ago than so many microseconds are kept, where they do not say themselves how long.
    Carry(Ticket, Vec<Entry>, u64),
    /// Time has passed.
    Tick,
    /// Finish what is on its way, save, and take nothing new.
    Stop,
}

/// Rows of the store. What was asked for and is not there is `None`.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// States of streams.
    pub streams: Vec<(StreamKey, Option<Vec<u8>>)>,
    /// Entries of the idempotency window.
    pub window: Vec<(WindowKey, Option<Vec<u8>>)>,
}

/// What a command needs of the blob store before it can be decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What is to be fetched and opened.
    pub fetch: Vec<BlobRef>,
    /// Plain bytes that are to be sealed and stored.
    pub store: Vec<Bytes>,
    /// Nobody waits who could be told that it does not work now: it is tried until it does.
    pub patient: bool,
}

/// What came of [`Needs`].
#[derive(Clone, Debug, Default)]
pub struct AtHand {
    /// What was fetched.
    pub fetched: Vec<(BlobRef, Result<Bytes, Unreadable>)>,
    /// The SHA-256 of what was to be stored, and where it lies now.
    pub stored: Vec<(Digest, BlobRef)>,
    /// Why it was not stored, where it was not.
    pub full: Option<String>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is in the log.
    Done(Done),
    /// It was refused and changed nothing.
    Refused(Refusal),
    /// The same idempotency key came with another request before.
    OtherRequest,
    /// The partition has more than it can take; try again later.
    Busy,
    /// The log takes no more for now, for this reason: there is no space. Reads go on.
    Full(String),
    /// This node does not lead the partition, or not yet.
    NotLeading,
    /// The stream is quarantined: a processor failed on it.
    Quarantined(String),
    /// The stream is frozen on this node: folding it failed. Others are not affected.
    Frozen,
    /// Whether it is in the log is not known; send it again with the same key.
    Unknown,
}

/// Where a command and its events stand, and what was decided.
#[derive(Clone, Debug)]
pub struct Done {
    /// The seq of the command.
    pub first: Seq,
    /// The seq of its last event.
    pub last: Seq,
    /// Whether this is the answer to an earlier command with the same key.
    pub repeated: bool,
    /// What the command has caused, in order, from the seq after its own. Empty where the answer is repeated: the frame
    /// stands in the log, and is not read for those who only want to know where.
    pub events: Arc<[Event]>,
}

impl Done {
    /// The events with their seqs.
    pub fn decided(&self) -> impl Iterator<Item = (Seq, &Event)> {
        self.events.iter().enumerate().map(|(at, event)| (Seq(self.first.0 + 1 + at as u64), event))
    }
}

/// A frame is known by its seqs: what it holds follows from them.
impl PartialEq for Done {
    fn eq(&self, other: &Done) -> bool {
        (self.first, self.last, self.repeated) == (other.first, other.last, other.repeated)
    }
}

impl Eq for Done {}

/// What a shell wants done. Nothing in here was released before the log held what it rests on.
#[derive(Debug)]
pub enum Output<S> {
    /// There is a record to take.
    Ready,
    /// Rows of the store are needed.
    Load(Vec<StreamKey>, Vec<WindowKey>),
    /// The streams that the store says wait for something are needed.
    LoadWaiting,
    /// Records of the log are needed, up to and with the last one named, from the first one named on.
    Fetch(Offset, Offset),
    /// An answer to a command.
    Answer(Ticket, Answer),
    /// A stream as it was asked for; nothing where it does not exist.
    View(Ticket, Option<Arc<StreamState<S>>>),
    /// Work for the world.
    Dispatch(Box<Dispatch>),
    /// A message for another partition (or this one).
    Deliver(Box<Parcel>),
    /// Messages of that partition up to this number are taken for good.
    Acknowledge(Partition, i64),
    /// A block that is durable and counts: for publishers and for those who follow streams.
    Publish(Bytes),
    /// What has to be fetched from the blob store, or put there, before the next command of this stream can be decided.
    Need(StreamKey, Needs),
    /// State for the store.
    Flush(Box<Snapshot<S>>),
    /// This node leads now.
    Led(Epoch),
    /// This shell has ended; another one must take over from the log.
    Ended(Ended),
    /// Everything is durable and saved; this shell takes nothing any more.
    Stopped,
    /// A human should look.
    Alarm(String),
}

/// Why a shell has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Its node was stopped.
    #[error("the node was stopped")]
    Halted,
    /// Another leader has a higher epoch.
    #[error("another leader has taken over with epoch {0}")]
    Superseded(Epoch),
    /// An append failed, so what is in the log is not known.
    #[error("an append failed, so only reading the log tells what it holds: {0}")]
    AppendFailed(String),
    /// The log or the store cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The log or the store holds what this program cannot read or must not fold.
    #[error("{0}")]
    Unreadable(String),
    /// The log is an older copy than the saved state, or another one.
    #[error("{0}")]
    OtherAge(String),
}

impl From<LogError> for Ended {
    fn from(error: LogError) -> Ended {
        match error {
            LogError::Broker { .. } | LogError::Io { .. } | LogError::Full { .. } => {
                Ended::Unreachable(error.to_string())
            }
            error => Ended::Unreadable(error.to_string()),
        }
    }
}
