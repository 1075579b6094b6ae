//! Folding a log whose front was dropped, with no state at hand: frames whose stream's beginning comes later are held
//! until it does.

use std::collections::BTreeMap;

use omium_processor::Processors;
use omium_schemas::catalogue::CarryStream;
use omium_schemas::{BlockHead, BlockNo, Digest, Filter, Frame, Offset, Seq, StreamKind};

use super::Shell;
use crate::key::StreamKey;
use crate::stream::{LastFrame, StreamState};

/// How many bytes of frames may wait for what comes before them. Without their beginnings the partition cannot be folded at
/// all, so this is only where a log is surely not what it says.
const HELD: usize = 2 << 30;

/// What a reader lacks that began where the log does.
#[derive(Default)]
pub(super) struct Front {
    /// Where it began; nothing once all that was carried forward has been read, or where nothing was dropped.
    from: Option<Offset>,
    held: BTreeMap<(StreamKey, Seq), Waiting>,
    bytes: usize,
}

/// A frame that waits for its stream's beginning.
pub(super) struct Waiting {
    pub(super) frame: Frame,
    pub(super) hash: Option<Digest>,
    pub(super) no: BlockNo,
}

impl Front {
    pub(super) fn is_open(&self) -> bool {
        self.from.is_some()
    }

    pub(super) fn from(&self) -> Option<Offset> {
        self.from
    }

    fn hold(&mut self, key: StreamKey, mut waiting: Waiting) -> Result<(), String> {
        // A copy: what waits must not keep the block that it came in.
        waiting.frame = waiting.frame.detached();
        self.bytes += waiting.frame.bytes().len();
        if self.bytes > HELD {
            return Err(format!(
                "{HELD} bytes of frames wait for what stands before them; it seems to be lost"
            ));
        }
        self.held.insert((key, waiting.frame.head.first), waiting);
        Ok(())
    }

    /// The frame that goes on after this seq. What is not after it is known and goes.
    pub(super) fn next(&mut self, key: StreamKey, seq: Seq) -> Option<Waiting> {
        while let Some((at, waiting)) = self.held.range((key, Seq(0))..=(key, seq.next())).next() {
            let (at, known) = (*at, waiting.frame.last() <= seq);
            let waiting = self.held.remove(&at)?;
            self.bytes -= waiting.frame.bytes().len();
            if !known {
                return Some(waiting);
            }
        }
        None
    }

    fn missing(&self) -> Option<&(StreamKey, Seq)> {
        self.held.keys().next()
    }
}

impl<P: Processors> Shell<P> {
    /// A reader without any state whose first record is not the log's very first one begins at the log's front.
    pub(super) fn begin_at_front(&mut self, offset: Offset, head: &BlockHead) {
        if self.next == Offset(0) && offset > Offset(0) && self.filter == Filter::new() {
            self.filter = Filter::starting_at(head);
            self.front.from = Some(offset);
        }
    }

    /// A frame that does not go on where its stream ends here: it begins the stream anew, or it has to wait. True
    /// where it can be folded now.
    pub(super) fn fits_front(&mut self, key: StreamKey, waiting: Waiting) -> Result<bool, String> {
        let head = &waiting.frame.head;
        if !begins(&waiting.frame) {
            self.front.hold(key, waiting)?;
            return Ok(false);
        }
        let state = StreamState { seq: Seq(head.first.0 - 1), hash: head.prev, ..StreamState::default() };
        self.residents.change(&key, state, (LastFrame::Hashed(head.prev), head.time), self.filter.no);
        Ok(true)
    }

    /// The log says that it starts here: everything that was carried forward has been read.
    pub(super) fn close_front(&mut self, at: Offset) -> Result<(), String> {
        if self.front.from.is_none_or(|from| from > at) {
            return Ok(());
        }
        if let Some((key, seq)) = self.front.missing() {
            return Err(format!(
                "the log starts at {at}, but what stands before seq {seq} of {} was not carried forward; restore a backup",
                key.stream
            ));
        }
        self.front = Front::default();
        Ok(())
    }
}

/// Whether a stream may begin with this frame: its events stand for all that was before.
fn begins(frame: &Frame) -> bool {
    frame.records().next().is_some_and(|record| record.kind == CarryStream::TYPE_ID)
}

/// Whether a block holds copies behind its first frame.
pub fn holds_copies(frames: &[Frame]) -> bool {
    frames.first().is_some_and(|first| {
        first.head.stream.kind() == StreamKind::Book && first.count() == 1 && begins(first)
    })
}
