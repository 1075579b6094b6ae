//! Blocks on their way into the log, and what waits for them.

use bytes::Bytes;
use omium_log::LogError;
use omium_processor::Processors;
use omium_schemas::block::epoch_record;
use omium_schemas::mutant::Mutant;
use omium_schemas::{
    BlockBuilder, BlockError, BlockHead, BlockKind, BlockNo, ClosedBlock, Digest, Offset, Time, Verdict,
};

use super::{Flight, Role, Shell};
use crate::port::{Ended, Now, Output};

impl<P: Processors> Shell<P> {
    /// Takes the next record for the log, where there is one and none is in flight.
    pub fn take(&mut self, now: Now) -> Option<Bytes> {
        if self.flight.is_some() {
            return None;
        }
        let block = match self.role {
            Role::Opening(epoch, None) => {
                let time = self.filter.time.max(now.wall);
                epoch_record(self.partition, epoch, self.filter.no, self.last_hash(), time)
            }
            Role::Leading(_) => self.next_block(now)?,
            _ => return None,
        };
        let bytes = block.bytes.clone();
        if Mutant::PublishFromMemory.on() && block.head.kind == BlockKind::Frames {
            self.outputs.push(Output::Publish(bytes.clone()));
        }
        self.flight = Some(Flight { block, unproven: None });
        Some(bytes)
    }

    fn next_block(&mut self, now: Now) -> Option<ClosedBlock> {
        if self.closed.is_empty() && !self.open.is_empty() {
            let time = self.time(now);
            self.close(time);
            self.snapshot_if_due(now);
        }
        self.closed.pop_front()
    }

    /// Closes the open block. Its number, predecessor and time are fixed now.
    pub(super) fn close(&mut self, time: Time) {
        let Role::Leading(epoch) = self.role else { return };
        let (no, prev) = (self.ahead.no.next(), self.ahead.prev);
        let head = BlockHead {
            kind: BlockKind::Frames,
            partition: self.partition,
            frames: 0,
            epoch,
            no,
            prev,
            time,
        };
        // The next one will be about as long.
        let room = self.open.size() + self.open.size() / 4;
        let next = BlockBuilder::with_room(room.min(omium_schemas::MAX_BLOCK));
        let block = std::mem::replace(&mut self.open, next).close(head);
        self.ahead.no = no;
        self.ahead.prev = block.hash;
        self.ahead.time = time;
        self.closed.push_back(block);
    }

    pub(super) fn settled(&mut self, outcome: Result<Offset, String>, now: Now) {
        let Some(mut flight) = self.flight.take() else { return };
        let offset = match outcome {
            Ok(offset) => offset,
            Err(why) => return self.end(Ended::AppendFailed(why)),
        };
        if offset < self.next {
            let gone = LogError::Truncated { partition: self.partition, wanted: self.next, end: offset };
            return self.end(Ended::Unreadable(gone.to_string()));
        }
        match self.role {
            Role::Opening(epoch, None) => {
                self.role = Role::Opening(epoch, Some(offset));
                if Mutant::ActBeforeFold.on() {
                    self.filter.epoch = epoch;
                    self.next = offset.next();
                    return self.begin(epoch, now);
                }
                self.outputs.push(Output::Fetch(self.next, offset));
            }
            Role::Leading(_) if offset == self.next || Mutant::AckWithoutProof.on() => {
                self.accept(flight.block, offset, now);
            }
            Role::Leading(_) => {
                // Something else stands between this block and the last one that counted. Only reading it tells
                // whether the filter still accepts this one.
                flight.unproven = Some(offset);
                self.flight = Some(flight);
                self.outputs.push(Output::Fetch(self.next, offset));
            }
            _ => {}
        }
    }

    /// Reads back what stands before and at the unproven block.
    pub(super) fn prove(&mut self, now: Now) {
        while let Some(entry) = self.folding.pop_front() {
            let Some(Flight { unproven: Some(at), .. }) = &self.flight else { return };
            if entry.offset < self.next {
                continue;
            }
            let (at, head) = (*at, omium_schemas::Block::peek(&entry.bytes));
            if entry.offset == at {
                let flight = self.flight.take().expect("it is there, it was just looked at");
                return match self.filter.judge(&flight.block.head) {
                    Verdict::Counts => self.accept(flight.block, at, now),
                    _ => self.end(Ended::Superseded(self.filter.epoch)),
                };
            }
            let verdict = head.map(|head| (self.filter.admit(&head, None), head));
            self.next = entry.offset.next();
            match verdict {
                Ok((Verdict::Ignored(_), _)) => {}
                Ok((_, head)) => return self.end(Ended::Superseded(head.epoch)),
                Err(BlockError::Magic) => self.pass_over(entry.offset),
                Err(error) => {
                    return self.end(Ended::Unreadable(format!("offset {}: {error}", entry.offset)));
                }
            }
        }
    }

    /// The block is durable and counts: what waited for it leaves.
    fn accept(&mut self, block: ClosedBlock, offset: Offset, now: Now) {
        self.filter.admit(&block.head, Some(block.hash));
        self.last_block = None;
        self.next = offset.next();
        self.figures.blocks += 1;
        let no = block.head.no;
        self.release(no);
        if !Mutant::PublishFromMemory.on() {
            self.outputs.push(Output::Publish(block.bytes));
        }
        self.save_if_reached(no);
        if !self.closed.is_empty() || !self.open.is_empty() {
            self.outputs.push(Output::Ready);
        }
        self.empty_inbox(now);
        self.stop_if_quiet(now);
    }

    fn release(&mut self, no: BlockNo) {
        while self.gated.front().is_some_and(|(gate, _)| *gate <= no) {
            let (_, output) = self.gated.pop_front().expect("the front was just looked at");
            self.outputs.push(output);
        }
    }

    /// Lets an output wait for the block that holds the newest state, where that is not durable yet.
    pub(super) fn gate(&mut self, output: Output<P::State>) {
        let no = if self.open.is_empty() { self.ahead.no } else { self.ahead.no.next() };
        let early = Mutant::AckBeforeSync.on() && matches!(output, Output::Answer(..));
        self.gate_at(if early { self.filter.no } else { no }, output);
    }

    /// Lets an output wait for this block.
    pub(super) fn gate_at(&mut self, no: BlockNo, output: Output<P::State>) {
        if no <= self.filter.no {
            return self.outputs.push(output);
        }
        let at = self.gated.partition_point(|(gate, _)| *gate <= no);
        self.gated.insert(at, (no, output));
    }

    /// The hash of the last block that counted; made now where this reader trusts its log and had not made it.
    pub(super) fn last_hash(&mut self) -> Digest {
        if self.filter.prev.is_none() {
            let hash = self.last_block.as_ref().and_then(|block| block.hash().ok());
            self.filter.prev = Some(hash.unwrap_or_default());
        }
        self.filter.prev.unwrap_or_default()
    }
}
