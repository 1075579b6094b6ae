//! A block: one group commit of one partition. One Kafka record and one contiguous write of the embedded log.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::avro::{DecodeError, Reader};
use crate::digest::Digest;
use crate::frame::{self, Frame};
use crate::mutant::Mutant;
use crate::position::{BlockNo, Epoch, Partition, Time};

/// The largest block, head and checksum included.
pub const MAX_BLOCK: usize = 512 * 1024;
/// The bytes before the first frame.
pub const BLOCK_HEAD: usize = 68;
/// The checksum behind the last frame.
pub const BLOCK_CRC: usize = 4;
/// The version of the format that this program writes.
pub const BLOCK_VERSION: u8 = 1;

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// It holds frames.
    Frames,
    /// It holds nothing and opens an epoch.
    Epoch,
}

impl BlockKind {
    fn magic(self) -> [u8; 4] {
        match self {
            BlockKind::Frames => [b'O', b'M', b'B', BLOCK_VERSION],
            BlockKind::Epoch => [b'O', b'M', b'E', BLOCK_VERSION],
        }
    }
}

/// What stands once per block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    /// What it is for.
    pub kind: BlockKind,
    /// The partition it was written for.
    pub partition: Partition,
    /// How many frames it holds.
    pub frames: u16,
    /// The epoch of the leader that wrote it.
    pub epoch: Epoch,
    /// Its number. An epoch record carries the last number that its writer knew, and does not count.
    pub no: BlockNo,
    /// The hash of the block accepted before it.
    pub prev: Digest,
    /// When it was closed; never earlier than the block before.
    pub time: Time,
}

impl BlockHead {
    fn bytes(&self, length: usize) -> [u8; BLOCK_HEAD] {
        let mut head = [0; BLOCK_HEAD];
        head[..4].copy_from_slice(&self.kind.magic());
        head[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        head[8..10].copy_from_slice(&self.partition.0.to_le_bytes());
        head[10..12].copy_from_slice(&self.frames.to_le_bytes());
        head[12..20].copy_from_slice(&self.epoch.0.to_le_bytes());
        head[20..28].copy_from_slice(&self.no.0.to_le_bytes());
        head[28..60].copy_from_slice(&self.prev.0);
        head[60..68].copy_from_slice(&self.time.0.to_le_bytes());
        head
    }
}

/// The block that a partition is filling. Hash and checksum grow with each frame, so that closing it is cheap.
#[derive(Debug)]
pub struct BlockBuilder {
    buffer: Vec<u8>,
    frames: u16,
    hashes: Sha256,
    crc: u32,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        BlockBuilder::with_room(BLOCK_HEAD)
    }
}

/// A closed block, ready for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedBlock {
    /// What stands in its head.
    pub head: BlockHead,
    /// Its hash: what the next block holds as `prev`.
    pub hash: Digest,
    /// All of its bytes.
    pub bytes: Bytes,
}

impl BlockBuilder {
    /// An empty one that need not grow until it has this many bytes.
    pub fn with_room(bytes: usize) -> BlockBuilder {
        let mut buffer = Vec::with_capacity(bytes.max(BLOCK_HEAD));
        buffer.resize(BLOCK_HEAD, 0);
        BlockBuilder { buffer, frames: 0, hashes: Sha256::new(), crc: 0 }
    }

    /// Whether it holds no frame.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// How many frames it holds.
    pub fn frames(&self) -> u16 {
        self.frames
    }

    /// How many bytes it would have if it were closed now.
    pub fn size(&self) -> usize {
        self.buffer.len() + BLOCK_CRC
    }

    /// The buffer to build the next frame at the end of; [`BlockBuilder::push`] or [`BlockBuilder::undo`] follows.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether what was built since `start` still leaves a block within its limits.
    pub fn fits(&self) -> bool {
        self.size() <= MAX_BLOCK && self.frames < u16::MAX
    }

    /// Takes what was built at the end of the buffer as one more frame.
    pub fn push(&mut self, length: usize, hash: Digest) {
        let start = self.buffer.len() - length;
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer[start..]);
        self.hashes.update(hash.0);
        self.frames += 1;
    }

    /// Forgets what was built since the buffer had `length` bytes.
    pub fn undo(&mut self, length: usize) {
        self.buffer.truncate(length);
    }

    /// Moves a frame that did not fit to a new builder.
    pub fn move_last(&mut self, length: usize) -> BlockBuilder {
        let start = self.buffer.len() - length;
        let mut next = BlockBuilder::default();
        next.buffer.extend_from_slice(&self.buffer[start..]);
        self.buffer.truncate(start);
        next
    }

    /// Closes the block. `head.frames` is set here.
    pub fn close(self, mut head: BlockHead) -> ClosedBlock {
        head.frames = self.frames;
        let mut buffer = self.buffer;
        let front = head.bytes(buffer.len() + BLOCK_CRC);
        buffer[..BLOCK_HEAD].copy_from_slice(&front);
        let crc = crc32c::crc32c_append(self.crc, &front);
        buffer.extend_from_slice(&crc.to_le_bytes());
        let hash = Digest(self.hashes.chain_update(front).finalize().into());
        ClosedBlock { head, hash, bytes: buffer.into() }
    }
}

/// A record without frames that opens an epoch.
pub fn epoch_record(
    partition: Partition,
    epoch: Epoch,
    no: BlockNo,
    prev: Digest,
    time: Time,
) -> ClosedBlock {
    let head = BlockHead { kind: BlockKind::Epoch, partition, frames: 0, epoch, no, prev, time };
    BlockBuilder::default().close(head)
}

/// Why bytes are not a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// It does not begin like a block.
    #[error("the bytes do not begin like a block of omium")]
    Magic,
    /// It has a later version.
    #[error(
        "the block has format version {0}, this program reads version {BLOCK_VERSION}; upgrade omium to read it"
    )]
    Version(u8),
    /// Its length is impossible or not that of the bytes.
    #[error("the block says it has {said} bytes where {found} are at hand")]
    Length {
        /// What its head says.
        said: usize,
        /// What is there.
        found: usize,
    },
    /// Its checksum is wrong.
    #[error("the block's checksum does not match its bytes")]
    Checksum,
    /// A frame in it is malformed.
    #[error("a frame of the block is malformed: {0}")]
    Frame(#[from] DecodeError),
}

/// A block as read: its head is checked, its frames are split only when asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands once.
    pub head: BlockHead,
    bytes: Bytes,
}

impl Block {
    /// Reads the head and checks length and checksum.
    pub fn parse(bytes: Bytes) -> Result<Block, BlockError> {
        let head = Block::check(&bytes)?;
        Ok(Block { head, bytes })
    }

    /// Checks length and checksum of a block of exactly these bytes, and reads its head.
    pub fn check(bytes: &[u8]) -> Result<BlockHead, BlockError> {
        let head = Block::peek(bytes)?;
        let crc_at = bytes.len() - BLOCK_CRC;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[BLOCK_HEAD..crc_at]), &bytes[..BLOCK_HEAD]);
        if bytes[crc_at..] != crc.to_le_bytes() && !Mutant::NoChecksum.on() {
            return Err(BlockError::Checksum);
        }
        Ok(head)
    }

    /// Reads the head alone, of a block of exactly these bytes.
    pub fn peek(bytes: &[u8]) -> Result<BlockHead, BlockError> {
        let (head, length) = read_head(bytes)?;
        if length != bytes.len() {
            return Err(BlockError::Length { said: length, found: bytes.len() });
        }
        Ok(head)
    }

    /// Reads the head alone of bytes whose checksum was compared when they were read from the log.
    pub fn trusted(bytes: Bytes) -> Result<Block, BlockError> {
        let head = Block::peek(&bytes)?;
        Ok(Block { head, bytes })
    }

    /// Its frames.
    pub fn frames(&self) -> Result<Vec<Frame>, BlockError> {
        let frames = self.bytes.slice(BLOCK_HEAD..self.bytes.len() - BLOCK_CRC);
        Ok(frame::split(frames, self.head.frames)?)
    }

    /// Its hash, over its frames' hashes and its head.
    pub fn hash(&self) -> Result<Digest, BlockError> {
        let hashes = self.frames()?.iter().map(Frame::hash).collect::<Vec<_>>();
        Ok(self.hash_of(hashes.iter()))
    }

    /// Its hash, where the frames' hashes are known already.
    pub fn hash_of<'a>(&self, frames: impl Iterator<Item = &'a Digest>) -> Digest {
        let mut hashes = Sha256::new();
        for hash in frames {
            hashes.update(hash.0);
        }
        Digest(hashes.chain_update(&self.bytes[..BLOCK_HEAD]).finalize().into())
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Reads a head at the front of `bytes`, which may go on behind the block. Gives the block's length too.
pub fn read_head(bytes: &[u8]) -> Result<(BlockHead, usize), BlockError> {
    let mut reader = Reader::new(bytes);
    let magic: [u8; 4] = reader.fixed().map_err(|_| BlockError::Magic)?;
    let kind = match [magic[0], magic[1], magic[2]] {
        [b'O', b'M', b'B'] => BlockKind::Frames,
        [b'O', b'M', b'E'] => BlockKind::Epoch,
        _ => return Err(BlockError::Magic),
    };
    if magic[3] != BLOCK_VERSION {
        return Err(BlockError::Version(magic[3]));
    }
    let length = u32::from_le_bytes(reader.fixed()?) as usize;
    if !(BLOCK_HEAD + BLOCK_CRC..=MAX_BLOCK).contains(&length) {
        return Err(BlockError::Length { said: length, found: bytes.len() });
    }
    let head = BlockHead {
        kind,
        partition: Partition(u16::from_le_bytes(reader.fixed()?)),
        frames: u16::from_le_bytes(reader.fixed()?),
        epoch: Epoch(u64::from_le_bytes(reader.fixed()?)),
        no: BlockNo(u64::from_le_bytes(reader.fixed()?)),
        prev: Digest(reader.fixed()?),
        time: Time(u64::from_le_bytes(reader.fixed()?)),
    };
    Ok((head, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FrameBuilder, FrameHead, TypeId};
    use crate::ids::{StreamId, TenantId};
    use crate::position::Seq;

    fn closed(frames: u16) -> ClosedBlock {
        let mut builder = BlockBuilder::default();
        for n in 0..frames {
            let head = FrameHead {
                tenant: TenantId([1; 16]),
                stream: StreamId::account(),
                first: Seq(u64::from(n) + 1),
                time: Time(9),
                prev: Digest::NONE,
                actor: None,
                trace: None,
            };
            let mut frame = FrameBuilder::new(&head, builder.buffer());
            frame
                .record(TypeId(1), 0, |out| {
                    out.extend_from_slice(b"body");
                    Ok(())
                })
                .expect("four bytes");
            let (length, hash) = frame.finish();
            assert!(builder.fits());
            builder.push(length, hash);
        }
        builder.close(BlockHead {
            kind: BlockKind::Frames,
            partition: Partition(3),
            frames: 0,
            epoch: Epoch(2),
            no: BlockNo(1),
            prev: Digest([7; 32]),
            time: Time(11),
        })
    }

    #[test]
    fn a_block_reads_back_with_the_same_hash() {
        let closed = closed(3);
        let block = Block::parse(closed.bytes.clone()).expect("what was written");
        assert_eq!(block.head, closed.head);
        assert_eq!(block.frames().expect("three frames").len(), 3);
        assert_eq!(block.hash().expect("three frames"), closed.hash);
    }

    #[test]
    fn an_empty_block_costs_72_bytes() {
        let record = epoch_record(Partition(0), Epoch(1), BlockNo(0), Digest::NONE, Time(1));
        assert_eq!(record.bytes.len(), BLOCK_HEAD + BLOCK_CRC);
        assert_eq!(Block::parse(record.bytes).expect("an epoch record").head.kind, BlockKind::Epoch);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let closed = closed(2);
        for at in 0..closed.bytes.len() {
            for bit in 0..8 {
                let mut flipped = closed.bytes.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(Block::parse(flipped.into()).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn every_cut_is_found() {
        let closed = closed(2);
        for end in 0..closed.bytes.len() {
            assert!(Block::parse(closed.bytes.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
