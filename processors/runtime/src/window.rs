//! Idempotency keys leave the store when they are old and their stream's work is over.
//!
//! A sweep walks along the rows in the order of their keys, a part of them with each flush, and begins again at the
//! end. It costs writers nothing, where an index by time would cost a second row per key. What is old is told by
//! recorded time only. A row that is still there past its time does no harm: its answer is the right one.

use std::collections::BTreeMap;

use omium_processor::{Keep, Processors};
use omium_schemas::{Partition, Time};
use omium_store::{Batch, Store, StoreError};

use crate::key::{StreamKey, stream_key, stream_of, window_prefix};
use crate::snapshot::{Snapshot, Used};
use crate::stream::StreamState;

/// For how long a key is kept when its stream's work is over.
pub(crate) const WINDOW_MICROS: u64 = 24 * 3600 * 1_000_000;
/// How many rows one flush looks at, and for each key that it has written itself.
const ROWS: usize = 1_000;
/// Two for each new one: the walk around all rows then takes no longer than the window.
const ROWS_PER_NEW: usize = 2;
/// How many rows are read at once.
const PORTION: usize = 5_000;

/// How far the sweep of one partition has come.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    after: Option<Vec<u8>>,
    /// The oldest use that this walk has come across, or that may be written behind it.
    oldest: Option<Time>,
    /// The same of the last whole walk. Until that one is old, there is nothing to look for.
    rests: Option<Time>,
}

impl Sweep {
    /// Looks at the next rows, after a snapshot was written. Says how many keys it has forgotten.
    pub(crate) fn go_on<P: Processors>(
        &mut self,
        store: &dyn Store,
        snapshot: &Snapshot<P::State>,
    ) -> Result<usize, StoreError> {
        let Some(before) = snapshot.forget else { return Ok(0) };
        if self.rests.is_some_and(|oldest| before <= oldest) {
            return Ok(0);
        }
        self.rests = None;
        // What is written from now on is not older than what was decided last.
        let mut oldest = self.oldest.unwrap_or(snapshot.position.time);
        let mut left = ROWS + ROWS_PER_NEW * snapshot.window.len();
        let mut forgotten = 0;
        while left > 0 {
            let limit = left.min(PORTION);
            let rows = store.scan(&window_prefix(snapshot.partition), self.after.as_deref(), limit)?;
            left -= rows.len();
            let ended = rows.len() < limit;
            self.after = rows.last().map(|(key, _)| key.clone()).filter(|_| !ended);
            let mut old = Vec::new();
            for (key, used) in rows {
                // What cannot be read is left for whoever needs it, and who then says so.
                let Some(used) = Used::read(&used) else { continue };
                oldest = oldest.min(used.at);
                if used.at < before {
                    old.push(key);
                }
            }
            forgotten += forget::<P>(store, snapshot.partition, old)?;
            if ended {
                (self.oldest, self.rests) = (None, Some(oldest));
                return Ok(forgotten);
            }
        }
        self.oldest = Some(oldest);
        Ok(forgotten)
    }
}

/// Deletes those of the rows that are of streams whose work is over.
fn forget<P: Processors>(
    store: &dyn Store,
    partition: Partition,
    rows: Vec<Vec<u8>>,
) -> Result<usize, StoreError> {
    let mut old: BTreeMap<StreamKey, Vec<Vec<u8>>> = BTreeMap::new();
    for key in rows {
        if let Some(stream) = stream_of(&key) {
            old.entry(stream).or_default().push(key);
        }
    }
    let keys: Vec<Vec<u8>> = old.keys().map(|key| stream_key(partition, key)).collect();
    let mut batch = Batch::default();
    let mut forgotten = 0;
    for (state, keys) in store.get(&keys)?.into_iter().zip(old.into_values()) {
        let state = state.as_deref().and_then(StreamState::<P::State>::read);
        if state.is_some_and(|state| is_over::<P>(&state)) {
            forgotten += keys.len();
            keys.into_iter().for_each(|key| batch.delete(key));
        }
    }
    if forgotten > 0 {
        store.write(batch)?;
    }
    Ok(forgotten)
}

/// Whether no work goes on, so that a trim keeps no frames of the stream either.
fn is_over<P: Processors>(stream: &StreamState<P::State>) -> bool {
    stream.quarantine.is_none() && stream.held.is_empty() && P::carry(&stream.state, &Keep::NOTHING).is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use omium_processor::testkit::{BankState, BankSuite};
    use omium_schemas::{Digest, Filter, Offset, Seq, StreamId, TenantId};
    use omium_store::MemoryStore;

    use super::*;
    use crate::book::Book;
    use crate::key::{WindowKey, window_key};
    use crate::snapshot::Position;

    const P: Partition = Partition(0);

    fn snapshot(forget: Option<Time>) -> Snapshot<<BankSuite as Processors>::State> {
        let position = Position::new(1, Offset(1), &Filter::new(), Digest::default(), Book::default(), 0);
        Snapshot { partition: P, position, streams: Vec::new(), window: Arc::default(), forget }
    }

    /// A store with so many keys of one stream, used one microsecond after the other.
    fn filled(keys: u32) -> MemoryStore {
        let (store, mut batch) = (MemoryStore::default(), Batch::default());
        let stream = StreamKey::new(TenantId([1; 16]), StreamId::account());
        let over: <BankSuite as Processors>::State =
            (BankState::Account(Default::default()), Default::default());
        let state = StreamState { state: over, ..StreamState::default() };
        batch.put(stream_key(P, &stream), postcard::to_stdvec(&state).expect("it can be written"));
        for n in 0..keys {
            let key = window_key(P, &WindowKey { stream, key: n.to_be_bytes().to_vec() });
            let used = Used { first: Seq(1), last: Seq(1), at: Time(u64::from(n)), request: None };
            batch.put(key, postcard::to_stdvec(&used).expect("it can be written"));
        }
        store.write(batch).expect("written");
        store
    }

    fn left(store: &MemoryStore) -> usize {
        store.scan(&window_prefix(P), None, usize::MAX).expect("readable").len()
    }

    #[test]
    fn a_flush_looks_at_a_part_of_the_keys_and_the_next_one_goes_on_there() {
        let (store, mut sweep) = (filled(2_500), Sweep::default());
        let all = snapshot(Some(Time(u64::MAX)));
        for (forgotten, rest) in [(1_000, 1_500), (1_000, 500), (500, 0), (0, 0)] {
            assert_eq!(sweep.go_on::<BankSuite>(&store, &all).expect("nothing fails"), forgotten);
            assert_eq!(left(&store), rest);
        }
    }

    #[test]
    fn only_recorded_time_tells_what_is_old_and_nothing_does_while_clocks_have_parted() {
        let (store, mut sweep) = (filled(100), Sweep::default());
        assert_eq!(sweep.go_on::<BankSuite>(&store, &snapshot(None)).expect("nothing fails"), 0);
        let some = snapshot(Some(Time(40)));
        assert_eq!(sweep.go_on::<BankSuite>(&store, &some).expect("nothing fails"), 40);
        assert_eq!((sweep.go_on::<BankSuite>(&store, &some).expect("nothing fails"), left(&store)), (0, 60));
    }

    #[test]
    fn a_sweep_that_met_nothing_old_rests_until_something_is() {
        let (store, mut sweep) = (filled(100), Sweep::default());
        for (before, forgotten) in [(0, 0), (0, 0), (10, 10), (10, 0), (100, 90)] {
            let some = snapshot(Some(Time(before)));
            assert_eq!(sweep.go_on::<BankSuite>(&store, &some).expect("nothing fails"), forgotten);
        }
        assert_eq!(left(&store), 0);
    }
}
