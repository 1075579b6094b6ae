//! Walking the bytes of one segment, through a small window: a file may be larger than memory, or garbage.

use omium_schemas::{Block, BlockHead, MAX_BLOCK};

use super::layout::Identity;
use super::segment::{self, Kind, Place, SEAL_END, Span, Standing, WRITE_HEAD, WriteHead};
use crate::disk::{DiskError, DiskFile};

/// How much is read at once.
const CHUNK: usize = 1024 * 1024;

/// A window over a file.
pub(crate) struct Window<'a, F> {
    file: &'a F,
    at: u64,
    buffer: Vec<u8>,
    chunk: usize,
}

impl<'a, F: DiskFile> Window<'a, F> {
    pub(crate) fn new(file: &'a F) -> Window<'a, F> {
        Window::of(file, CHUNK)
    }

    /// A window that reads `chunk` bytes at once.
    pub(crate) fn of(file: &'a F, chunk: usize) -> Window<'a, F> {
        Window { file, at: 0, buffer: Vec::new(), chunk }
    }

    /// `length` bytes at `at`, or what there is of them before the file ends.
    pub(crate) fn get(&mut self, at: u64, length: usize) -> Result<&[u8], DiskError> {
        let held = at >= self.at && at + length as u64 <= self.at + self.buffer.len() as u64;
        if !held {
            let size = self.file.size()?.saturating_sub(at).min(length.max(self.chunk) as u64) as usize;
            self.buffer.resize(size, 0);
            let read = self.file.read_at(&mut self.buffer, at)?;
            self.buffer.truncate(read);
            self.at = at;
        }
        let start = (at - self.at) as usize;
        Ok(&self.buffer[start..(start + length).min(self.buffer.len())])
    }
}

/// What a walk over a segment found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) spans: Vec<Span>,
    /// Where the last good write ends.
    pub(crate) end: u32,
    pub(crate) ending: Ending,
}

/// How the walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Where the next write would go, nothing was written yet.
    Open,
    /// With a seal, whose end is given.
    Sealed(u32),
    /// With bytes that are neither a write nor a seal.
    Bad(String),
}

/// Checks a block's bytes against their checksum. Every byte that is read from a segment passes here.
pub(crate) fn checked(bytes: &[u8]) -> Result<BlockHead, String> {
    Block::check(bytes).map_err(|error| error.to_string())
}

/// Walks a segment from its head to its end, and checks every checksum. A write counts whole or not at all: none of a
/// torn one was acknowledged.
pub(crate) fn scan<F: DiskFile>(
    file: &F,
    identity: Identity,
    number: u32,
    standings: &[Standing],
) -> Result<Scanned, DiskError> {
    let mut window = Window::new(file);
    let spans = standings.iter().copied().map(Span::new).collect();
    let end = segment::head_length(identity.partitions) as u32;
    let mut scanned = Scanned { spans, end, ending: Ending::Open };
    let mut found = Vec::new();
    loop {
        let at = Place { segment: number, byte: scanned.end };
        let bytes = window.get(u64::from(at.byte), WRITE_HEAD)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(scanned);
        }
        let Some(head) = WriteHead::read(&identity.id, at, bytes) else {
            return Ok(bad(scanned, "it is not the head of a write"));
        };
        let end = u64::from(at.byte) + WRITE_HEAD as u64 + u64::from(head.length);
        let Ok(end) = u32::try_from(end) else { return Ok(bad(scanned, "its length is impossible")) };
        if head.kind == Kind::Seal {
            let fits = sealed(&mut window, identity, at, head)?.is_some_and(|spans| spans == scanned.spans);
            scanned.ending = if fits {
                Ending::Sealed(end)
            } else {
                Ending::Bad("the seal does not fit what it seals".into())
            };
            return Ok(scanned);
        }
        found.clear();
        if let Some(why) = blocks(&mut window, identity, at.byte + WRITE_HEAD as u32, end, &mut found)? {
            return Ok(bad(scanned, &why));
        }
        for (byte, head) in &found {
            scanned.spans[usize::from(head.partition.0)].push(*byte, head.no);
        }
        scanned.end = end;
    }
}

fn bad(scanned: Scanned, why: &str) -> Scanned {
    Scanned { ending: Ending::Bad(why.to_owned()), ..scanned }
}

fn sealed<F: DiskFile>(
    window: &mut Window<'_, F>,
    identity: Identity,
    at: Place,
    head: WriteHead,
) -> Result<Option<Vec<Span>>, DiskError> {
    let mut end = [0; SEAL_END];
    end[4..].copy_from_slice(&(head.length.saturating_add(WRITE_HEAD as u32)).to_le_bytes());
    let Some(length) = segment::seal_length(&end, u64::MAX) else { return Ok(None) };
    let bytes = window.get(u64::from(at.byte), length)?;
    Ok(segment::read_seal(&identity.id, at, identity.partitions, bytes))
}

/// Reads the blocks of one write; says what is wrong, if anything is.
fn blocks<F: DiskFile>(
    window: &mut Window<'_, F>,
    identity: Identity,
    mut at: u32,
    end: u32,
    found: &mut Vec<(u32, BlockHead)>,
) -> Result<Option<String>, DiskError> {
    while at < end {
        let room = ((end - at) as usize).min(MAX_BLOCK);
        let bytes = window.get(u64::from(at), room)?;
        let length = match omium_schemas::block::read_head(bytes) {
            Ok((head, _)) if head.partition.0 >= identity.partitions => {
                return Ok(Some(format!("it names partition {}", head.partition)));
            }
            Ok((_, length)) if length > bytes.len() => return Ok(Some("a block of it is cut".into())),
            Ok((_, length)) => length,
            Err(error) => return Ok(Some(error.to_string())),
        };
        match checked(&bytes[..length]) {
            Ok(head) => found.push((at, head)),
            Err(why) => return Ok(Some(why)),
        }
        at += length as u32;
    }
    Ok(None)
}

/// The first byte behind `at` where a write or a seal says that the journal was synced beyond `at`. Then what is
/// unreadable at `at` was acknowledged, so it is damage and no torn tail.
pub(crate) fn later_claim<F: DiskFile>(
    file: &F,
    identity: Identity,
    at: Place,
) -> Result<Option<u32>, DiskError> {
    let mut from = at;
    while let Some((found, head)) = next_head(file, identity, from)? {
        if head.durable_to > at {
            return Ok(Some(found));
        }
        from.byte = found;
    }
    Ok(None)
}

/// The first sound head of a write or seal behind `at`. Pages of zeros are skipped.
pub(crate) fn next_head<F: DiskFile>(
    file: &F,
    identity: Identity,
    at: Place,
) -> Result<Option<(u32, WriteHead)>, DiskError> {
    const PAGE: usize = 4096;
    const ZEROS: [u8; PAGE] = [0; PAGE];
    let mut window = Window::new(file);
    let mut page = u64::from(at.byte) + 1;
    loop {
        let bytes = window.get(page, PAGE + WRITE_HEAD)?;
        if bytes.is_empty() || page > u64::from(u32::MAX) {
            return Ok(None);
        }
        let starts = bytes.len().min(PAGE);
        if bytes[..starts] != ZEROS[..starts] {
            for start in (0..starts).filter(|start| WriteHead::resembles(&bytes[*start..])) {
                let place = Place { segment: at.segment, byte: (page + start as u64) as u32 };
                if let Some(head) = WriteHead::read(&identity.id, place, &bytes[start..]) {
                    return Ok(Some((place.byte, head)));
                }
            }
        }
        page += starts as u64;
    }
}

/// The seal at the end of a file, and where it begins; nothing where there is no sound one.
pub(crate) fn seal_at_end<F: DiskFile>(
    file: &F,
    identity: Identity,
    number: u32,
) -> Result<Option<(u32, Vec<Span>)>, DiskError> {
    let size = file.size()?;
    let mut end = [0; SEAL_END];
    if size < SEAL_END as u64 || size > u64::from(u32::MAX) {
        return Ok(None);
    }
    file.read_at(&mut end, size - SEAL_END as u64)?;
    let Some(length) = segment::seal_length(&end, size) else { return Ok(None) };
    let at = Place { segment: number, byte: (size - length as u64) as u32 };
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, u64::from(at.byte))?;
    let spans = segment::read_seal(&identity.id, at, identity.partitions, &bytes);
    Ok(spans.map(|spans| (at.byte, spans)))
}

/// Whether a file holds nothing but zeros.
pub(crate) fn is_blank<F: DiskFile>(file: &F) -> Result<bool, DiskError> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut window = Window::new(file);
    let mut at = 0;
    loop {
        let bytes = window.get(at, CHUNK)?;
        if bytes.is_empty() {
            return Ok(true);
        }
        if bytes.chunks(ZEROS.len()).any(|part| part != &ZEROS[..part.len()]) {
            return Ok(false);
        }
        at += bytes.len() as u64;
    }
}
