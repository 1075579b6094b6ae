//! Real blocks: numbered, chained, with frames that are chained too.

use bytes::Bytes;
use omium_schemas::block::epoch_record;
use omium_schemas::{
    Block, BlockBuilder, BlockHead, BlockKind, BlockNo, Digest, Epoch, Frame, FrameBuilder, FrameHead,
    Partition, Seq, StreamId, TenantId, Time, TypeId,
};

/// Makes the blocks that one leader of one partition would.
#[derive(Clone)]
pub(crate) struct Chain {
    partition: Partition,
    epoch: Epoch,
    no: BlockNo,
    prev: Digest,
    frame: Digest,
    seq: u64,
}

impl Chain {
    pub(crate) fn new(partition: u16) -> Chain {
        let (no, prev) = (BlockNo(0), Digest::NONE);
        Chain { partition: Partition(partition), epoch: Epoch(0), no, prev, frame: Digest::NONE, seq: 1 }
    }

    /// Goes on where the records of a log end.
    pub(crate) fn resume(partition: u16, records: &[Bytes]) -> Chain {
        let mut chain = Chain::new(partition);
        for record in records {
            let block = Block::parse(record.clone()).unwrap();
            chain.epoch = block.head.epoch;
            for frame in block.frames().unwrap() {
                (chain.frame, chain.seq) = (frame.hash(), frame.last().0 + 1);
            }
            if block.head.kind == BlockKind::Frames {
                (chain.no, chain.prev) = (block.head.no, block.hash().unwrap());
            }
        }
        chain
    }

    /// The record that opens the next epoch.
    pub(crate) fn open_epoch(&mut self) -> Bytes {
        self.epoch = self.epoch.next();
        epoch_record(self.partition, self.epoch, self.no, self.prev, Time(1)).bytes
    }

    /// The next block, with one frame of one record for each body.
    pub(crate) fn block(&mut self, bodies: &[&[u8]]) -> Bytes {
        let mut builder = BlockBuilder::default();
        for body in bodies {
            let head = FrameHead {
                tenant: TenantId([1; 16]),
                stream: StreamId::account(),
                first: Seq(self.seq),
                time: Time(self.seq),
                prev: self.frame,
                actor: None,
                trace: None,
            };
            let mut frame = FrameBuilder::new(&head, builder.buffer());
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(body);
                Ok(())
            };
            frame.record(TypeId(1), 0, write).unwrap();
            let (length, hash) = frame.finish();
            assert!(builder.fits());
            builder.push(length, hash);
            self.frame = hash;
            self.seq += 1;
        }
        self.no = self.no.next();
        let closed = builder.close(BlockHead {
            kind: BlockKind::Frames,
            partition: self.partition,
            frames: 0,
            epoch: self.epoch,
            no: self.no,
            prev: self.prev,
            time: Time(self.seq),
        });
        self.prev = closed.hash;
        closed.bytes
    }

    /// So many blocks, each with one frame whose body is its number and then `size` bytes.
    pub(crate) fn blocks(&mut self, count: usize, size: usize) -> Vec<Bytes> {
        let body = |n: usize| [&(n as u64).to_le_bytes()[..], &vec![n as u8; size]].concat();
        (0..count).map(|n| self.block(&[&body(n)])).collect()
    }

    /// Goes on as another leader would that never heard of what came after.
    pub(crate) fn fork(&self) -> Chain {
        self.clone()
    }
}

/// The frames of a record.
pub(crate) fn frames_of(bytes: &Bytes) -> Vec<Frame> {
    Block::parse(bytes.clone()).unwrap().frames().unwrap()
}
