//! The events of one stream, read from the log, and its state at any seq.

use std::sync::Arc;

use anyhow::Context as _;
use omium_execution::{Execution, State};
use omium_log::Log;
use omium_processor::{Processor as _, Recorded};
use omium_runtime::{StreamKey, Told};
use omium_schemas::{Block, Frame, Partition, Seq};

use super::index::Index;

/// Reads streams.
pub(crate) struct History {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) index: Arc<Index>,
}

impl History {
    /// The frames of a stream that hold seqs from `from` on, in order, at most about so many records.
    pub(crate) async fn raw_frames(
        &self,
        key: &StreamKey,
        from: Seq,
        records: usize,
    ) -> anyhow::Result<Vec<Frame>> {
        let partition = self.partition(key);
        self.index.caught_up(&*self.log, partition).await?;
        let mut found: Vec<Frame> = Vec::new();
        let mut left = records as i64;
        for offset in self.index.offsets(key)? {
            let entry = self.log.read(partition, offset, 1).await?.into_iter().next();
            let entry = entry.with_context(|| format!("offset {offset} of partition {partition} is gone"))?;
            for frame in Block::trusted(entry.bytes)?.frames()? {
                let ours = (frame.head.tenant, frame.head.stream) == (key.tenant, key.stream);
                // A frame that was carried forward stands in the log twice.
                let new = found.last().is_none_or(|last| frame.head.first > last.head.first);
                if ours && new && frame.last() >= from {
                    left -= frame.count() as i64;
                    found.push(frame);
                }
            }
            if left <= 0 {
                break;
            }
        }
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
        let mut frames = self.frames(key, Seq(1), usize::MAX >> 1).await?;
        frames.retain(|told| told.first <= at);
        if let Some(last) = frames.last_mut() {
            last.events.retain(|(seq, _)| *seq <= at);
        }
        Ok(walk(&frames, key, |_, _| {}))
    }

    pub(crate) fn partition(&self, key: &StreamKey) -> Partition {
        key.stream.partition(key.tenant, self.log.partitions())
    }
}

/// Folds frames from the stream's first one on, and shows the state after each event.
pub(crate) fn walk(frames: &[Told], key: &StreamKey, mut seen: impl FnMut(Seq, &State)) -> State {
    let mut state = State::default();
    for told in frames {
        for (seq, event) in &told.events {
            let (tenant, stream, time, command) = (key.tenant, key.stream, told.time, &told.command);
            state = Execution::apply(state, &Recorded { tenant, stream, seq: *seq, time, event, command });
            seen(*seq, &state);
        }
    }
    state
}
