//! State on its way to the store: all that changed since the last one, and the position it belongs to, together.

use std::sync::Arc;

use omium_processor::Processors;
use omium_schemas::mutant::Mutant;
use omium_schemas::{Digest, Filter, Offset, Partition, Seq, Time};
use omium_store::Batch;
use serde::{Deserialize, Serialize};

use crate::book::Book;
use crate::key::{Lookup, StreamKey, WindowKey, open_key, position_key, stream_key, window_key};
use crate::stream::StreamState;

/// The version of the layout of what the runtime itself stores: positions, books, used keys, the frame around a state.
pub const LAYOUT: u16 = 2;

/// The layout of all that lies in the store for these processors. A store with another one is made anew from the log.
pub(crate) fn layout<P: Processors>() -> u64 {
    u64::from(LAYOUT) << 48 ^ P::layout()
}

/// Where a partition stands, and its book. One row of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// The layout of everything; another one means that the state is to be rebuilt.
    pub layout: u64,
    /// The first offset that is not folded yet.
    pub next: Offset,
    /// The filter's epoch, block number, time and ignored records.
    pub epoch: u64,
    /// The last block folded.
    pub no: u64,
    /// Its hash.
    pub prev: Digest,
    /// Its time.
    pub time: Time,
    /// Records that did not count.
    pub ignored: u64,
    /// The book.
    pub book: Book,
    /// The highest number of a key that content of the partition is sealed under.
    pub keys: u64,
}

impl Position {
    /// Takes a filter's state; `prev` is the last block's hash.
    pub fn new(layout: u64, next: Offset, filter: &Filter, prev: Digest, book: Book, keys: u64) -> Position {
        let Filter { epoch, no, time, ignored, .. } = *filter;
        let no = if Mutant::SnapshotOffByOne.on() { no.0 + 1 } else { no.0 };
        Position { layout, next, epoch: epoch.0, no, prev, time, ignored, book, keys }
    }

    /// The filter as it was.
    pub fn filter(&self) -> Filter {
        Filter {
            epoch: omium_schemas::Epoch(self.epoch),
            no: omium_schemas::BlockNo(self.no),
            prev: Some(self.prev),
            time: self.time,
            ignored: self.ignored,
        }
    }

    /// Reads a row of the store.
    pub fn read(bytes: &[u8]) -> Option<Position> {
        postcard::from_bytes(bytes).ok()
    }

    fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a position holds nothing that cannot be serialised")
    }
}

/// An idempotency key that was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// The seq of its command.
    pub first: Seq,
    /// The seq of the last event.
    pub last: Seq,
    /// When.
    pub at: Time,
    /// The digest of the request, where the caller gave one.
    pub request: Option<Digest>,
}

impl Used {
    /// Reads a row of the store.
    pub fn read(bytes: &[u8]) -> Option<Used> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A stream that changed.
#[derive(Debug)]
pub struct Changed<S> {
    /// Which.
    pub key: StreamKey,
    /// What it is now.
    pub value: Arc<StreamState<S>>,
    /// Whether it waits for something.
    pub open: bool,
    /// The time of its last frame.
    pub time: Time,
}

/// All that changed up to one block.
#[derive(Debug)]
pub struct Snapshot<S> {
    /// The partition.
    pub partition: Partition,
    /// Where it stands.
    pub position: Position,
    /// Streams that changed.
    pub streams: Vec<Changed<S>>,
    /// Idempotency keys that were used.
    pub window: Arc<Lookup<WindowKey, Used>>,
    /// Older keys of streams whose work is over may be forgotten. Nothing while it is not known what the time is.
    pub forget: Option<Time>,
}

/// A row of the store: the state, and behind it the time of the stream's last frame, which is no part of the state.
fn row<S: Serialize + for<'a> Deserialize<'a>>(value: &StreamState<S>, time: Time) -> Vec<u8> {
    let mut row = value.bytes();
    row.extend_from_slice(&time.0.to_le_bytes());
    row
}

/// The time of the last frame of a stream, from its row.
pub(crate) fn time_in(row: &[u8]) -> Time {
    row.last_chunk().map_or(Time(0), |time| Time(u64::from_le_bytes(*time)))
}

impl<S: Serialize + for<'a> Deserialize<'a>> Snapshot<S> {
    /// What to write: one batch, because a position without its state would be a hole nobody ever fills.
    pub fn batches(&self) -> Vec<Batch> {
        let mut batch = Batch::default();
        for Changed { key, value, open, time } in &self.streams {
            batch.put(stream_key(self.partition, key), row(value, *time));
            let mark = open_key(self.partition, key);
            if *open { batch.put(mark, Vec::new()) } else { batch.delete(mark) }
        }
        // Sorted here, where nobody waits: equal snapshots give equal batches.
        let mut window: Vec<_> = self.window.iter().collect();
        window.sort_unstable_by_key(|(key, _)| *key);
        for (key, used) in window {
            let used = postcard::to_stdvec(used).expect("an entry holds nothing that cannot be serialised");
            batch.put(window_key(self.partition, key), used);
        }
        let mut batches = vec![batch];
        if Mutant::PositionApart.on() {
            batches.insert(0, Batch::default());
        }
        batches[0].put(position_key(self.partition), self.position.bytes());
        batches
    }
}
