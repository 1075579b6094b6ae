//! What an auditor checks of the records of a partition: that they count, and that every stream's chain holds.

use std::collections::HashMap;

use bytes::Bytes;
use omium_schemas::{
    Block, BlockHead, BlockKind, BlockNo, Digest, Epoch, Filter, Frame, Ignored, Offset, Seq, StreamId,
    TenantId, Verdict,
};

/// What was found in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The first record that is there.
    pub first: Offset,
    /// The one that would come next.
    pub next: Offset,
    /// Blocks that count.
    pub blocks: u64,
    /// Frames in them.
    pub frames: u64,
    /// Records in these: commands and events.
    pub records: u64,
    /// Epochs opened.
    pub epochs: u64,
    /// Records that do not count, as the filter says.
    pub ignored: u64,
    /// Frames whose chain was not followed, since there are too many streams.
    pub unchecked: u64,
    /// The current epoch.
    pub epoch: Epoch,
    /// The number of the last block that counts.
    pub no: BlockNo,
}

/// Follows one partition.
pub struct Audit {
    filter: Option<Filter>,
    streams: HashMap<(TenantId, StreamId), (Seq, Digest)>,
    most_streams: usize,
    /// Every stream was seen from its first frame on, so none may begin later.
    whole: bool,
    tally: Tally,
}

impl Audit {
    /// An audit from the first record that was ever written, or from a later one where the front was trimmed. It
    /// follows the chains of so many streams, 150 bytes each, and counts the frames of more as unchecked.
    pub fn new(first: Offset, most_streams: usize) -> Audit {
        let whole = first == Offset(0);
        let tally = Tally { first, next: first, ..Tally::default() };
        Audit { filter: whole.then(Filter::new), streams: HashMap::new(), most_streams, whole, tally }
    }

    /// What was found so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Goes on behind records that are lost: the next one is taken as it comes.
    pub fn skip_to(&mut self, next: Offset) {
        self.filter = None;
        self.streams.clear();
        self.whole = false;
        self.tally.next = next;
    }

    /// Takes the next record. Says what is wrong with it, if anything is; the audit goes on in any case.
    pub fn admit(&mut self, bytes: Bytes) -> Result<(), String> {
        self.tally.next = self.tally.next.next();
        let block = Block::parse(bytes).map_err(|error| error.to_string())?;
        let frames = block.frames().map_err(|error| error.to_string())?;
        let hashes: Vec<Digest> = frames.iter().map(Frame::hash).collect();
        let filter = self.filter.get_or_insert_with(|| from(&block.head));
        let verdict = filter.admit(&block.head, Some(block.hash_of(hashes.iter())));
        (self.tally.epoch, self.tally.no) = (filter.epoch, filter.no);
        match verdict {
            Verdict::Opens => self.tally.epochs += 1,
            Verdict::Ignored(Ignored::Chain) => {
                self.tally.ignored += 1;
                let no = block.head.no;
                return Err(format!(
                    "block {no} does not follow the block before it: it holds another hash of it"
                ));
            }
            Verdict::Ignored(_) => self.tally.ignored += 1,
            Verdict::Counts => {
                self.tally.blocks += 1;
                return self.count(&frames, &hashes);
            }
        }
        Ok(())
    }

    fn count(&mut self, frames: &[Frame], hashes: &[Digest]) -> Result<(), String> {
        let mut first_problem = Ok(());
        for (frame, hash) in frames.iter().zip(hashes) {
            self.tally.frames += 1;
            self.tally.records += frame.count();
            let followed = self.follow(frame, *hash);
            first_problem = first_problem.and(followed);
        }
        first_problem
    }

    /// Holds a frame against the one before it of its stream.
    fn follow(&mut self, frame: &Frame, hash: Digest) -> Result<(), String> {
        let head = &frame.head;
        let key = (head.tenant, head.stream);
        let room = self.streams.len() < self.most_streams;
        let before = match self.streams.get_mut(&key) {
            // A frame that was carried forward stands in the log twice; the second one changes nothing.
            Some((last, _)) if head.first <= *last => return Ok(()),
            Some(known) => Some(std::mem::replace(known, (frame.last(), hash))),
            None if room => {
                self.streams.insert(key, (frame.last(), hash));
                self.whole.then_some((Seq(0), Digest::NONE))
            }
            None => {
                self.tally.unchecked += 1;
                None
            }
        };
        match before {
            Some((last, _)) if head.first != last.next() => {
                Err(format!("stream {:?} goes on with seq {} after seq {last}", head.stream, head.first))
            }
            Some((last, hash)) if head.prev != hash => Err(format!(
                "the frame with seq {} of stream {:?} does not follow seq {last}: it holds another hash of it",
                head.first, head.stream
            )),
            _ => Ok(()),
        }
    }
}

/// The filter's state just before a record that is taken as it comes.
fn from(head: &BlockHead) -> Filter {
    let (epoch, no) = match head.kind {
        BlockKind::Epoch => (Epoch(head.epoch.0.saturating_sub(1)), head.no),
        BlockKind::Frames => (head.epoch, BlockNo(head.no.0.saturating_sub(1))),
    };
    Filter { epoch, no, prev: Some(head.prev), time: head.time, ignored: 0 }
}
