//! A frame: all that one command causes, atomic, chained to the previous frame of its stream.
//!
//! `FORMAT.md` states every byte. The frame's hash is over all of its bytes and is not stored: the next frame of the
//! stream holds it as `prev`, and the block's hash covers it.

use bytes::Bytes;

use crate::avro::{DecodeError, EncodeError, Reader};
use crate::block::{BLOCK_CRC, BLOCK_HEAD, MAX_BLOCK};
use crate::digest::Digest;
use crate::ids::{StreamId, TenantId};
use crate::position::{Seq, Time};

/// The bytes of a frame before its optional parts.
const FIXED: usize = 87;
/// The largest frame that a block can hold.
pub const MAX_FRAME: usize = MAX_BLOCK - BLOCK_HEAD - BLOCK_CRC;
/// The most records that one frame holds: its command and 8,192 events, so eight for each of a thousand lanes.
pub const MAX_RECORDS: usize = 8193;

const HAS_ACTOR: u8 = 1;
const HAS_TRACE: u8 = 2;

/// The number of a record's schema, fixed for ever in its `.avsc` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u16);

/// W3C trace context: where this frame stands in a distributed trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: [u8; 16],
    /// The span that issued the command.
    pub span: [u8; 8],
    /// Trace flags; bit 0 says "sampled".
    pub flags: u8,
}

/// What stands once per frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Whose stream.
    pub tenant: TenantId,
    /// Which stream.
    pub stream: StreamId,
    /// The seq of the command; its events follow without a gap.
    pub first: Seq,
    /// When it was decided.
    pub time: Time,
    /// The hash of the stream's previous frame, or [`Digest::NONE`].
    pub prev: Digest,
    /// Who issued the command.
    pub actor: Option<String>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
}

/// One record of a frame, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its schema.
    pub kind: TypeId,
    /// The index in the frame of the record that caused it. The command is 0 and causes itself.
    pub cause: u16,
    /// Its Avro bytes.
    pub body: &'a [u8],
}

/// Builds one frame at the end of a buffer, so that frames of a block are written once and in place.
#[derive(Debug)]
pub struct FrameBuilder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: u16,
}

impl<'a> FrameBuilder<'a> {
    /// Writes the head.
    pub fn new(head: &FrameHead, out: &'a mut Vec<u8>) -> FrameBuilder<'a> {
        let start = out.len();
        let flags = if head.actor.is_some() { HAS_ACTOR } else { 0 }
            | if head.trace.is_some() { HAS_TRACE } else { 0 };
        out.extend_from_slice(&[0; 4]);
        out.push(flags);
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&head.tenant.0);
        out.extend_from_slice(head.stream.bytes());
        out.extend_from_slice(&head.first.0.to_le_bytes());
        out.extend_from_slice(&head.time.0.to_le_bytes());
        out.extend_from_slice(&head.prev.0);
        if let Some(actor) = &head.actor {
            let mut end = actor.len().min(255);
            while !actor.is_char_boundary(end) {
                end -= 1;
            }
            out.push(end as u8);
            out.extend_from_slice(&actor.as_bytes()[..end]);
        }
        if let Some(trace) = &head.trace {
            out.extend_from_slice(&trace.trace);
            out.extend_from_slice(&trace.span);
            out.push(trace.flags);
        }
        FrameBuilder { out, start, count: 0 }
    }

    /// Appends one record, whose body `write` appends.
    pub fn record(
        &mut self,
        kind: TypeId,
        cause: u16,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        if usize::from(self.count) == MAX_RECORDS {
            return Err(EncodeError::TooLarge { what: "the number of records in a frame" });
        }
        self.out.extend_from_slice(&kind.0.to_le_bytes());
        if cause >= 0x80 {
            self.out.push(cause as u8 & 0x7f | 0x80);
        }
        self.out.push(if cause >= 0x80 { (cause >> 7) as u8 } else { cause as u8 });
        // The body is written where it stays, and only then moved up by what its length takes beyond one byte.
        let place = self.out.len();
        self.out.push(0);
        write(self.out)?;
        let (body, end) = (place + 1, self.out.len());
        let length = end - body;
        let more = length.max(1).ilog2() as usize / 7;
        self.out.resize(end + more, 0);
        self.out.copy_within(body..end, body + more);
        for at in 0..=more {
            let goes_on = if at < more { 0x80 } else { 0 };
            self.out[place + at] = (length >> (7 * at)) as u8 & 0x7f | goes_on;
        }
        self.count += 1;
        Ok(())
    }

    /// Closes the frame and gives its length and hash.
    pub fn finish(self) -> (usize, Digest) {
        let length = self.out.len() - self.start;
        let frame = &mut self.out[self.start..];
        frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
        frame[5..7].copy_from_slice(&self.count.to_le_bytes());
        (length, Digest::of(frame))
    }
}

/// A frame as read, over the block's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What stands once.
    pub head: FrameHead,
    count: u16,
    records: usize,
    bytes: Bytes,
}

impl Frame {
    /// The same with bytes of its own, so that it does not keep those of the block that it came in.
    #[must_use]
    pub fn detached(self) -> Frame {
        Frame { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }

    /// Reads one whole frame; `bytes` ends where the frame does.
    pub fn parse(bytes: Bytes) -> Result<Frame, DecodeError> {
        let mut reader = Reader::new(&bytes);
        let length = u32::from_le_bytes(reader.fixed()?) as usize;
        if length != bytes.len() {
            return Err(DecodeError::Short { wanted: length as u64, left: bytes.len() });
        }
        let [flags] = reader.fixed()?;
        if flags & !(HAS_ACTOR | HAS_TRACE) != 0 {
            return Err(DecodeError::Malformed {
                what: "a frame",
                why: "it has flags that this version does not know",
            });
        }
        let count = u16::from_le_bytes(reader.fixed()?);
        if count == 0 || usize::from(count) > MAX_RECORDS {
            return Err(DecodeError::Malformed {
                what: "a frame",
                why: "it holds no record, or more than 8193",
            });
        }
        let head = FrameHead {
            tenant: TenantId(reader.fixed()?),
            stream: StreamId::from_bytes(reader.fixed()?)?,
            first: Seq(u64::from_le_bytes(reader.fixed()?)),
            time: Time(u64::from_le_bytes(reader.fixed()?)),
            prev: Digest(reader.fixed()?),
            actor: if flags & HAS_ACTOR == 0 { None } else { Some(actor(&mut reader)?) },
            trace: if flags & HAS_TRACE == 0 { None } else { Some(trace(&mut reader)?) },
        };
        if head.first.0 == 0 || head.first.0 > i64::MAX as u64 - u64::from(count) {
            return Err(DecodeError::Malformed {
                what: "a frame",
                why: "its first seq is 0, or beyond all counting",
            });
        }
        let records = bytes.len() - reader.left().len();
        let frame = Frame { head, count, records, bytes };
        // Every record's bounds are checked here, once, so that walking them later cannot fail.
        let mut reader = Reader::new(&frame.bytes[records..]);
        for index in 0..count {
            let record = record(&mut reader)?;
            if record.cause > index.saturating_sub(1) {
                return Err(DecodeError::Malformed { what: "a record", why: "its cause is not before it" });
            }
        }
        reader.end()?;
        Ok(frame)
    }

    /// How many records it holds, the command among them.
    pub fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// The seq of its last record.
    pub fn last(&self) -> Seq {
        Seq(self.head.first.0 + self.count() - 1)
    }

    /// Its records in order; the first is the command.
    pub fn records(&self) -> impl Iterator<Item = RecordRef<'_>> {
        let mut reader = Reader::new(&self.bytes[self.records..]);
        (0..self.count).map(move |_| record(&mut reader).expect("parse has checked every record's bounds"))
    }

    /// Its hash: what the stream's next frame holds as `prev`.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn record<'a>(reader: &mut Reader<'a>) -> Result<RecordRef<'a>, DecodeError> {
    let kind = TypeId(u16::from_le_bytes(reader.fixed()?));
    let cause = u16::try_from(reader.varint()?)
        .map_err(|_| DecodeError::Malformed { what: "a record", why: "its cause is not before it" })?;
    let length = reader.varint()?;
    let left = reader.left().len();
    let length = usize::try_from(length).map_err(|_| DecodeError::Short { wanted: length, left })?;
    Ok(RecordRef { kind, cause, body: reader.take(length)? })
}

fn actor(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let [length] = reader.fixed()?;
    let bytes = reader.take(usize::from(length))?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Utf8)
}

fn trace(reader: &mut Reader<'_>) -> Result<TraceContext, DecodeError> {
    let (trace, span, [flags]) = (reader.fixed()?, reader.fixed()?, reader.fixed()?);
    Ok(TraceContext { trace, span, flags })
}

/// Splits a run of frames; each carries its length first. Bytes of `fixed` size are the least a frame can have.
pub(crate) fn split(mut bytes: Bytes, count: u16) -> Result<Vec<Frame>, DecodeError> {
    let mut frames = Vec::with_capacity(usize::from(count).min(bytes.len() / FIXED));
    for _ in 0..count {
        let mut reader = Reader::new(&bytes);
        let length = u32::from_le_bytes(reader.fixed()?) as usize;
        if length < FIXED || length > bytes.len() {
            return Err(DecodeError::Short { wanted: length as u64, left: bytes.len() });
        }
        frames.push(Frame::parse(bytes.split_to(length))?);
    }
    if bytes.is_empty() { Ok(frames) } else { Err(DecodeError::Trailing(bytes.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(actor: Option<&str>) -> FrameHead {
        FrameHead {
            tenant: TenantId([1; 16]),
            stream: StreamId::account(),
            first: Seq(5),
            time: Time(9),
            prev: Digest([3; 32]),
            actor: actor.map(str::to_owned),
            trace: actor.map(|_| TraceContext { trace: [4; 16], span: [5; 8], flags: 1 }),
        }
    }

    fn build(head: &FrameHead, bodies: &[&[u8]]) -> (Bytes, Digest) {
        let mut out = Vec::new();
        let mut builder = FrameBuilder::new(head, &mut out);
        for body in bodies {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(body);
                Ok(())
            };
            builder.record(TypeId(7), 0, write).expect("a body of bytes");
        }
        let (length, hash) = builder.finish();
        assert_eq!(length, out.len());
        (out.into(), hash)
    }

    #[test]
    fn a_frame_reads_back_as_it_was_written() {
        for actor in [None, Some("user:ann")] {
            let head = head(actor);
            let (bytes, hash) = build(&head, &[b"command", b"", &[9; 300]]);
            let frame = Frame::parse(bytes).expect("what was written");
            assert_eq!(frame.head, head);
            assert_eq!(frame.last(), Seq(7));
            assert_eq!(frame.hash(), hash);
            let bodies: Vec<&[u8]> = frame.records().map(|record| record.body).collect();
            assert_eq!(bodies, [&b"command"[..], b"", &[9; 300]]);
        }
    }

    #[test]
    fn a_frame_without_options_costs_87_bytes_and_five_per_record_of_128_to_16383() {
        assert_eq!(build(&head(None), &[&[0; 200]]).0.len(), FIXED + 5 + 200);
    }

    #[test]
    fn a_body_of_any_length_reads_back() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 200_000] {
            let body: Vec<u8> = (0..length).map(|at: usize| at as u8).collect();
            let (bytes, _) = build(&head(None), &[&body, b"next"]);
            let frame = Frame::parse(bytes).expect("it was just built");
            let bodies: Vec<&[u8]> = frame.records().map(|record| record.body).collect();
            assert_eq!(bodies, [&body[..], b"next"], "{length} bytes");
        }
    }

    #[test]
    fn as_many_records_as_a_frame_holds_read_back_with_their_causes() {
        let mut out = Vec::new();
        let mut builder = FrameBuilder::new(&head(None), &mut out);
        for n in 0..MAX_RECORDS as u16 {
            builder.record(TypeId(7), n.saturating_sub(1), |_| Ok(())).expect("room");
        }
        assert!(builder.record(TypeId(7), 0, |_| Ok(())).is_err());
        builder.finish();
        let frame = Frame::parse(out.into()).expect("what was written");
        assert!(frame.records().zip(0..).all(|(record, n)| record.cause == u16::saturating_sub(n, 1)));
    }

    #[test]
    fn no_prefix_of_a_frame_is_a_frame_and_no_flip_panics() {
        let (bytes, _) = build(&head(Some("a")), &[b"command", b"event"]);
        for end in 0..bytes.len() {
            assert!(Frame::parse(bytes.slice(..end)).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                let _ = Frame::parse(flipped.into()).map(|frame| frame.records().count());
            }
        }
    }
}
