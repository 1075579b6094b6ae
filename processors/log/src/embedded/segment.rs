//! The bytes of a segment. Pure: it knows no disk.
//!
//! ```text
//! segment       head, writes …, then zeros or, once full, a seal as the file's last bytes
//! head          "OMJ" 1 | length u32 | log id 16 | segment u32 | partitions u16 | 0 u16
//!               | per partition: next offset u64, last block number u64 | CRC-32C u32
//! write         "OMW" 1 | length of the blocks u32 | durable_to u64 | CRC-32C u32 | blocks, byte for byte
//! seal          "OMS" 1 | length of the rest u32 | durable_to u64 | CRC-32C u32
//!               | per partition: first offset u64, count u64, last block number u64, points u32
//!               | points: records after the first u32, byte u32 | CRC-32C of the body u32 | length of the whole seal u32
//! ```
//!
//! All numbers are little-endian. The checksum of a write's or seal's head also covers the log's id, the segment and
//! the byte where it stands, so that bytes of another place or log are never taken for one. Blocks carry their own.

use omium_schemas::{BlockNo, Offset};

/// The bytes before the blocks of a write.
pub(crate) const WRITE_HEAD: usize = 20;
/// A reader walks at most this far, plus one block, to find a record.
pub(crate) const STEP: u32 = 64 * 1024;

const HEAD_MAGIC: [u8; 4] = *b"OMJ\x01";
const WRITE_MAGIC: [u8; 4] = *b"OMW\x01";
const SEAL_MAGIC: [u8; 4] = *b"OMS\x01";
const HEAD_FIXED: usize = 32;
const SEAL_ROW: usize = 28;
/// The checksum and the length that end a seal.
pub(crate) const SEAL_END: usize = 8;

/// A place in the journal: which segment, which byte. It grows as the journal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) byte: u32,
}

impl Place {
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.byte)
    }

    pub(crate) fn unpack(packed: u64) -> Place {
        Place { segment: (packed >> 32) as u32, byte: packed as u32 }
    }
}

/// The id of one log, made when it was created.
pub(crate) type LogId = [u8; 16];

/// Where one partition stands between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// The offset of the next record.
    pub(crate) next: Offset,
    /// The highest block number so far.
    pub(crate) no: BlockNo,
}

/// Where the records of one partition lie in one segment; every so many bytes a point to start walking from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) first: Offset,
    pub(crate) count: u64,
    pub(crate) no: BlockNo,
    pub(crate) points: Vec<Point>,
}

/// A record's place: how many records of its partition stand before it in the segment, and its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) after: u32,
    pub(crate) byte: u32,
}

impl Span {
    pub(crate) fn new(standing: Standing) -> Span {
        Span { first: standing.next, count: 0, no: standing.no, points: Vec::new() }
    }

    pub(crate) fn end(&self) -> Offset {
        Offset(self.first.0 + self.count)
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { next: self.end(), no: self.no }
    }

    /// Takes a record at `byte` as the next one. Epoch records carry the number before theirs, so it never falls.
    pub(crate) fn push(&mut self, byte: u32, no: BlockNo) {
        if self.points.last().is_none_or(|last| byte >= last.byte.saturating_add(STEP)) {
            self.points.push(Point { after: self.count as u32, byte });
        }
        self.count += 1;
        self.no = self.no.max(no);
    }

    /// The last point that is not behind `offset`.
    pub(crate) fn point_before(&self, offset: Offset) -> usize {
        let after = offset.0.saturating_sub(self.first.0);
        self.points.partition_point(|point| u64::from(point.after) <= after).saturating_sub(1)
    }
}

pub(crate) fn head_length(partitions: u16) -> usize {
    HEAD_FIXED + usize::from(partitions) * 16 + 4
}

/// The most that a seal can take in a segment of `capacity` bytes; kept free at its end.
pub(crate) fn seal_room(partitions: u16, capacity: u32) -> usize {
    let points = capacity / STEP + 2;
    WRITE_HEAD + usize::from(partitions) * (SEAL_ROW + 8 * points as usize) + SEAL_END
}

pub(crate) fn write_segment_head(id: &LogId, segment: u32, standings: &[Standing], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&HEAD_MAGIC);
    out.extend_from_slice(&(head_length(standings.len() as u16) as u32).to_le_bytes());
    out.extend_from_slice(id);
    out.extend_from_slice(&segment.to_le_bytes());
    out.extend_from_slice(&(standings.len() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    for standing in standings {
        out.extend_from_slice(&standing.next.0.to_le_bytes());
        out.extend_from_slice(&standing.no.0.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads a segment's head; nothing where the bytes are not the head of this segment of this log.
pub(crate) fn read_segment_head(
    id: &LogId,
    segment: u32,
    partitions: u16,
    bytes: &[u8],
) -> Option<Vec<Standing>> {
    let length = head_length(partitions);
    let head = bytes.get(..length)?;
    let (head, crc) = head.split_at(length - 4);
    let fits = head[..4] == HEAD_MAGIC
        && u32_at(head, 4) as usize == length
        && head[8..24] == *id
        && u32_at(head, 24) == segment
        && head[28..32] == [partitions.to_le_bytes()[0], partitions.to_le_bytes()[1], 0, 0]
        && *crc == crc32c::crc32c(head).to_le_bytes();
    let rows = head[HEAD_FIXED..].chunks_exact(16);
    fits.then(|| {
        rows.map(|row| Standing { next: Offset(u64_at(row, 0)), no: BlockNo(u64_at(row, 8)) }).collect()
    })
}

/// What a 20-byte head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Seal,
}

/// The head of a write or of a seal, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteHead {
    pub(crate) kind: Kind,
    /// How many bytes follow.
    pub(crate) length: u32,
    /// Up to where the journal was known to be synced when this was issued.
    pub(crate) durable_to: Place,
}

impl WriteHead {
    pub(crate) fn bytes(&self, id: &LogId, at: Place) -> [u8; WRITE_HEAD] {
        let mut head = [0; WRITE_HEAD];
        head[..4].copy_from_slice(match self.kind {
            Kind::Write => &WRITE_MAGIC,
            Kind::Seal => &SEAL_MAGIC,
        });
        head[4..8].copy_from_slice(&self.length.to_le_bytes());
        head[8..16].copy_from_slice(&self.durable_to.pack().to_le_bytes());
        let crc = place_crc(id, at, &head[..16]);
        head[16..].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// Reads the head at `at`; nothing where the bytes are none.
    pub(crate) fn read(id: &LogId, at: Place, bytes: &[u8]) -> Option<WriteHead> {
        let bytes = bytes.get(..WRITE_HEAD)?;
        let kind = match bytes[..4].try_into().ok()? {
            WRITE_MAGIC => Kind::Write,
            SEAL_MAGIC => Kind::Seal,
            _ => return None,
        };
        let sound = u32_at(bytes, 16) == place_crc(id, at, &bytes[..16]);
        let durable_to = Place::unpack(u64_at(bytes, 8));
        sound.then_some(WriteHead { kind, length: u32_at(bytes, 4), durable_to })
    }

    /// Whether bytes begin like a head, before anything is checked. Cheap, for searching.
    pub(crate) fn resembles(bytes: &[u8]) -> bool {
        bytes.starts_with(&WRITE_MAGIC) || bytes.starts_with(&SEAL_MAGIC)
    }
}

fn place_crc(id: &LogId, at: Place, head: &[u8]) -> u32 {
    let salt = crc32c::crc32c_append(crc32c::crc32c(id), &at.pack().to_le_bytes());
    crc32c::crc32c_append(salt, head)
}

/// The whole seal of a segment whose data end at `at`.
pub(crate) fn write_seal(id: &LogId, at: Place, durable_to: Place, spans: &[Span]) -> Vec<u8> {
    let mut out = vec![0; WRITE_HEAD];
    for span in spans {
        out.extend_from_slice(&span.first.0.to_le_bytes());
        out.extend_from_slice(&span.count.to_le_bytes());
        out.extend_from_slice(&span.no.0.to_le_bytes());
        out.extend_from_slice(&(span.points.len() as u32).to_le_bytes());
    }
    for point in spans.iter().flat_map(|span| &span.points) {
        out.extend_from_slice(&point.after.to_le_bytes());
        out.extend_from_slice(&point.byte.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[WRITE_HEAD..]);
    out.extend_from_slice(&crc.to_le_bytes());
    let whole = out.len() as u32 + 4;
    out.extend_from_slice(&whole.to_le_bytes());
    let head = WriteHead { kind: Kind::Seal, length: whole - WRITE_HEAD as u32, durable_to };
    out[..WRITE_HEAD].copy_from_slice(&head.bytes(id, at));
    out
}

/// Reads the seal that stands at `at`; nothing where the bytes are none, or are damaged.
pub(crate) fn read_seal(id: &LogId, at: Place, partitions: u16, bytes: &[u8]) -> Option<Vec<Span>> {
    let head = WriteHead::read(id, at, bytes).filter(|head| head.kind == Kind::Seal)?;
    if bytes.len() != WRITE_HEAD + head.length as usize || bytes.len() < WRITE_HEAD + SEAL_END {
        return None;
    }
    let body = &bytes[WRITE_HEAD..bytes.len() - SEAL_END];
    let end = &bytes[bytes.len() - SEAL_END..];
    if u32_at(end, 0) != crc32c::crc32c(body) || u32_at(end, 4) as usize != bytes.len() {
        return None;
    }
    spans_of(partitions, body)
}

fn spans_of(partitions: u16, body: &[u8]) -> Option<Vec<Span>> {
    let rows = body.get(..usize::from(partitions) * SEAL_ROW)?;
    let mut points = body[rows.len()..].chunks_exact(8);
    let mut spans = Vec::with_capacity(usize::from(partitions));
    for row in rows.chunks_exact(SEAL_ROW) {
        let wanted = u32_at(row, 24) as usize;
        let mut span = Span {
            first: Offset(u64_at(row, 0)),
            count: u64_at(row, 8),
            no: BlockNo(u64_at(row, 16)),
            points: Vec::with_capacity(wanted.min(points.len())),
        };
        span.points.extend(
            points
                .by_ref()
                .take(wanted)
                .map(|point| Point { after: u32_at(point, 0), byte: u32_at(point, 4) }),
        );
        if span.points.len() != wanted || (span.count > 0) != (wanted > 0) {
            return None;
        }
        spans.push(span);
    }
    points.next().is_none().then_some(spans)
}

/// The length of the seal that a file's last bytes announce, where that is possible at all.
pub(crate) fn seal_length(end: &[u8; SEAL_END], file: u64) -> Option<usize> {
    let length = u32_at(end, 4) as usize;
    (length >= WRITE_HEAD + SEAL_END && length as u64 <= file && length <= 16 * 1024 * 1024).then_some(length)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes are four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogId = [7; 16];
    const AT: Place = Place { segment: 3, byte: 4711 };

    fn spans() -> Vec<Span> {
        let mut busy = Span::new(Standing { next: Offset(10), no: BlockNo(9) });
        for n in 0..1000 {
            busy.push(100 + n * 700, BlockNo(10 + u64::from(n)));
        }
        vec![busy, Span::new(Standing { next: Offset(4), no: BlockNo(2) })]
    }

    #[test]
    fn a_seal_reads_back_and_every_flipped_bit_of_it_is_found() {
        let seal = write_seal(&ID, AT, AT, &spans());
        assert_eq!(read_seal(&ID, AT, 2, &seal), Some(spans()));
        for bit in 0..seal.len() * 8 {
            let mut flipped = seal.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_seal(&ID, AT, 2, &flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_head_counts_only_where_it_was_written() {
        let head = WriteHead { kind: Kind::Write, length: 72, durable_to: Place { segment: 3, byte: 4000 } };
        let bytes = head.bytes(&ID, AT);
        assert_eq!(WriteHead::read(&ID, AT, &bytes), Some(head));
        assert_eq!(WriteHead::read(&[8; 16], AT, &bytes), None);
        assert_eq!(WriteHead::read(&ID, Place { byte: 4712, ..AT }, &bytes), None);
    }

    #[test]
    fn a_segment_head_belongs_to_one_log_and_one_segment() {
        let standings = [Standing { next: Offset(1), no: BlockNo(2) }, Standing::default()];
        let mut bytes = Vec::new();
        write_segment_head(&ID, 3, &standings, &mut bytes);
        assert_eq!(bytes.len(), head_length(2));
        assert_eq!(read_segment_head(&ID, 3, 2, &bytes), Some(standings.to_vec()));
        assert_eq!(read_segment_head(&ID, 4, 2, &bytes), None);
        assert_eq!(read_segment_head(&ID, 3, 1, &bytes), None);
        assert_eq!(read_segment_head(&[8; 16], 3, 2, &bytes), None);
    }

    #[test]
    fn the_point_before_an_offset_is_at_most_a_step_away() {
        let span = &spans()[0];
        for offset in 10..1010 {
            let point = span.points[span.point_before(Offset(offset))];
            assert!(u64::from(point.after) <= offset - 10);
            let byte = 100 + (offset as u32 - 10) * 700;
            assert!(byte - point.byte < STEP, "offset {offset}");
        }
    }

    #[test]
    fn a_seal_fits_the_room_kept_for_it() {
        let capacity = 1024 * 1024;
        let mut span = Span::default();
        for byte in (0..capacity).step_by(STEP as usize) {
            span.push(byte, BlockNo(1));
        }
        let seal = write_seal(&ID, AT, AT, &[span.clone(), span]);
        assert!(seal.len() <= seal_room(2, capacity));
    }
}
