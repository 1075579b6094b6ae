//! What the log says, read by rules written down a second time: the simulation does not trust the filter it tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use omium_runtime::StreamKey;
use omium_schemas::block::read_head;
use omium_schemas::{Block, BlockKind, Digest, Frame, Seq, StreamKind, TypeId};

/// Something that must always hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant in the list of what must always hold.
    pub invariant: u8,
    /// What was seen.
    pub text: String,
}

/// One frame that counts.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) key: StreamKey,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) frame: Frame,
}

/// One partition of the log as a careful reader sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    epoch: u64,
    no: u64,
    prev: Digest,
    pub(crate) read: usize,
    pub(crate) frames: Vec<Counted>,
    ends: BTreeMap<StreamKey, (Seq, Digest)>,
    blocks: Vec<Bytes>,
    unknown: bool,
}

impl Truth {
    /// Reads the next record.
    pub(crate) fn read(&mut self, bytes: &Bytes) -> Result<(), Violation> {
        self.read += 1;
        let Ok((head, length)) = read_head(bytes) else { return Ok(()) };
        if length != bytes.len() {
            return Ok(());
        }
        if head.kind == BlockKind::Epoch {
            self.epoch = self.epoch.max(head.epoch.0);
            return Ok(());
        }
        if head.epoch.0 != self.epoch || head.no.0 != self.no + 1 || head.prev != self.prev {
            return Ok(());
        }
        let Ok(block) = Block::parse(bytes.clone()) else { return Ok(()) };
        let frames = block.frames().map_err(|error| broken(2, format!("a block that counts: {error}")))?;
        let hashes: Vec<Digest> = frames.iter().map(Frame::hash).collect();
        self.no = head.no.0;
        self.prev = block.hash_of(hashes.iter());
        self.blocks.push(bytes.clone());
        let copies = frames.first().is_some_and(marks_copies);
        for (n, (frame, hash)) in frames.into_iter().zip(hashes).enumerate() {
            if copies && n > 0 { self.compare(&frame)? } else { self.count(frame, hash)? }
        }
        Ok(())
    }

    /// A copy is of a frame that is there, to the last byte.
    fn compare(&self, copy: &Frame) -> Result<(), Violation> {
        let key = StreamKey::new(copy.head.tenant, copy.head.stream);
        match self.frame(&key, copy.head.first) {
            Some(counted) if counted.frame.bytes() == copy.bytes() => Ok(()),
            _ => Err(broken(
                2,
                format!("{} at {} is carried otherwise than it was", key.stream, copy.head.first),
            )),
        }
    }

    fn count(&mut self, frame: Frame, hash: Digest) -> Result<(), Violation> {
        let key = StreamKey::new(frame.head.tenant, frame.head.stream);
        let (end, prev) = self.ends.get(&key).copied().unwrap_or_default();
        let (first, last) = (frame.head.first, frame.last());
        if first != end.next() {
            return Err(broken(2, format!("{} goes on at {first} after {end}", key.stream)));
        }
        if frame.head.prev != prev {
            return Err(broken(2, format!("the chain of {} breaks at {first}", key.stream)));
        }
        self.unknown |= frame.records().any(|record| record.kind >= UNKNOWN);
        self.ends.insert(key, (last, hash));
        self.frames.push(Counted { key, first, last, frame });
        Ok(())
    }

    /// The last seq of a stream.
    pub(crate) fn end(&self, key: &StreamKey) -> Seq {
        self.ends.get(key).map_or(Seq(0), |(seq, _)| *seq)
    }

    /// The hash of a stream's last frame.
    pub(crate) fn hash(&self, key: &StreamKey) -> Digest {
        self.ends.get(key).map_or(Digest::NONE, |(_, hash)| *hash)
    }

    /// The frame of a stream that begins at this seq.
    pub(crate) fn frame(&self, key: &StreamKey, first: Seq) -> Option<&Counted> {
        self.frames.iter().rev().find(|counted| counted.first == first && counted.key == *key)
    }

    /// Whether this block counts.
    pub(crate) fn has_block(&self, block: &Bytes) -> bool {
        self.blocks.iter().rev().any(|known| known == block)
    }

    /// Every stream, with its last seq.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamKey> {
        self.ends.keys()
    }

    pub(crate) fn position(&self) -> (u64, u64, Digest) {
        (self.epoch, self.no, self.prev)
    }

    /// Whether an event counts that no program of today knows.
    pub(crate) fn has_unknown(&self) -> bool {
        self.unknown
    }
}

/// Whether what follows in this block are copies: the book says that it carries, and says nothing else.
fn marks_copies(first: &Frame) -> bool {
    let command = first.records().next().map(|record| record.kind);
    first.count() == 1
        && first.head.stream.kind() == StreamKind::Book
        && command == Some(omium_schemas::catalogue::CarryStream::TYPE_ID)
}

/// The type of the event that no program of today knows.
pub(crate) const UNKNOWN: TypeId = TypeId(65_000);

pub(crate) fn broken(invariant: u8, text: impl Into<String>) -> Violation {
    Violation { invariant, text: text.into() }
}
