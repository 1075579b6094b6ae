//! The events of one stream, read from the log, and its state at any seq.

use std::sync::Arc;

use anyhow::Context as _;
use omium_execution::{Execution, State};
use omium_log::Log;
use omium_processor::{Processor as _, Recorded};
use omium_runtime::{StreamKey, Told};
use omium_schemas::{Block, Frame, Partition, Seq};

use super::index::{Index, Place};

/// How many bytes of frames are read at once.
const PAGE: usize = 4 << 20;

/// Reads streams.
pub(crate) struct History {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) index: Arc<Index>,
}

impl History {
    /// The frames of a stream that hold seqs from `from` on, in order, at most about so many records, and no more than fit
    /// into a page of a few megabytes: who wants more goes on behind the last of them.
    pub(crate) async fn raw_frames(
        &self,
        key: &StreamKey,
        from: Seq,
        records: usize,
    ) -> anyhow::Result<Vec<Frame>> {
        let mut found: Vec<Frame> = Vec::new();
        let (mut left, mut bytes) = (records as i64, 0_usize);
        self.walk(key, from, |frames| {
            left -= frames.iter().map(|frame| frame.count() as i64).sum::<i64>();
            bytes += frames.iter().flat_map(Frame::records).map(|record| record.body.len()).sum::<usize>();
            found.extend(frames);
            Ok(left > 0 && bytes < PAGE)
        })
        .await?;
        Ok(found)
    }

    /// The same, decoded.
    pub(crate) async fn frames(
        &self,
        key: &StreamKey,
        from: Seq,
        records: usize,
    ) -> anyhow::Result<Vec<Told>> {
        let frames = self.raw_frames(key, from, records).await?;
        frames.iter().map(|frame| Ok(Told::read(frame)?)).collect()
    }

    /// The state after a seq.
    pub(crate) async fn state_at(&self, key: &StreamKey, at: Seq) -> anyhow::Result<State> {
        self.fold(key, at, |_, _| {}).await
    }

    /// Folds a stream from its first frame up to a seq, and shows the state after each event. One block of it is in memory
    /// at a time, however long it is.
    pub(crate) async fn fold(
        &self,
        key: &StreamKey,
        until: Seq,
        mut seen: impl FnMut(Seq, &State),
    ) -> anyhow::Result<State> {
        let mut state = State::default();
        self.walk(key, Seq(0), |frames| {
            let reached = frames.last().map_or(Seq(0), Frame::last);
            for frame in frames {
                state = apply(std::mem::take(&mut state), &Told::read(&frame)?, key, until, &mut seen);
            }
            Ok(reached < until)
        })
        .await?;
        Ok(state)
    }

    /// Shows the frames of a stream that hold seqs from `from` on, each once and in order, a block of them at a time, for as
    /// long as more are wanted.
    async fn walk(
        &self,
        key: &StreamKey,
        from: Seq,
        mut wants_more: impl FnMut(Vec<Frame>) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let partition = self.partition(key);
        self.index.caught_up(&*self.log, partition).await?;
        let mut next = from;
        loop {
            let places = self.index.places(key, next)?;
            if places.is_empty() {
                return Ok(());
            }
            for place in places {
                let Some(mut frames) = self.of_place(key, partition, place).await? else { break };
                // A frame that was carried forward stands in the log twice.
                frames.retain(|frame| frame.last() >= next);
                next = place.last.next();
                if !wants_more(frames)? {
                    return Ok(());
                }
            }
        }
    }

    /// The frames of a stream in a block, up to the seq that the place is for: copies stand in the order in which they were
    /// met, and what goes on behind it has a place of its own. Nothing where the block went with the front of the log since
    /// the place was looked up: what is still needed of it stands elsewhere by now.
    async fn of_place(
        &self,
        key: &StreamKey,
        partition: Partition,
        place: Place,
    ) -> anyhow::Result<Option<Vec<Frame>>> {
        let Place { offset, last } = place;
        let read = self.log.read(partition, offset, 1).await;
        if offset < self.log.start(partition)? {
            self.index.caught_up(&*self.log, partition).await?;
            // One that nobody carried forward has no frames any more.
            let gone = self.index.places(key, last)?.first() == Some(&place);
            return Ok(gone.then(Vec::new));
        }
        let entry = read?.into_iter().next();
        let entry = entry.with_context(|| format!("offset {offset} of partition {partition} is gone"))?;
        let mut frames = Block::trusted(entry.bytes)?.frames()?;
        let ours = |frame: &Frame| (frame.head.tenant, frame.head.stream) == (key.tenant, key.stream);
        frames.retain(|frame| ours(frame) && frame.last() <= last);
        frames.sort_by_key(|frame| frame.head.first);
        Ok(Some(frames))
    }

    pub(crate) fn partition(&self, key: &StreamKey) -> Partition {
        key.stream.partition(key.tenant, self.log.partitions())
    }
}

fn apply(
    mut state: State,
    told: &Told,
    key: &StreamKey,
    until: Seq,
    seen: &mut impl FnMut(Seq, &State),
) -> State {
    let (tenant, stream, time, command) = (key.tenant, key.stream, told.time, &told.command);
    for (seq, event) in told.events.iter().filter(|(seq, _)| *seq <= until) {
        state = Execution::apply(state, &Recorded { tenant, stream, seq: *seq, time, event, command });
        seen(*seq, &state);
    }
    state
}
