//! The seals of full segments: read, and written anew where one is damaged and all that it seals is not.

use std::io::IoSlice;

use super::layout::{Identity, Layout};
use super::reader::unsealed;
use super::scan::{self, Ending, Scanned};
use super::segment::{self, Place, Span, Standing};
use crate::contract::LogError;
use crate::disk::{Disk, DiskError, DiskFile};

/// What the full segments hold.
pub(crate) struct Seals {
    pub(crate) sealed: Vec<(u32, Vec<Span>)>,
    pub(crate) damaged: Vec<DamagedSeal>,
}

/// A seal that cannot be read. Its segment was read instead, and ends where the next one begins.
#[derive(Debug)]
pub(crate) struct DamagedSeal {
    /// Where it stands.
    pub(crate) at: Place,
    spans: Vec<Span>,
}

/// Reads the seals of these segments, each of which must end where the next one begins, and the last one at `end`.
pub(crate) fn read<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
    numbers: &[u32],
    end: Option<&[Standing]>,
) -> Result<Seals, LogError> {
    let mut seals = Seals { sealed: Vec::with_capacity(numbers.len()), damaged: Vec::new() };
    for (index, number) in numbers.iter().enumerate() {
        let file = disk.open_to_read(&layout.segment(*number))?;
        let mut spans = match scan::seal_at_end(&file, identity, *number)? {
            Some((_, spans)) => spans,
            None => {
                let next = match numbers.get(index + 1) {
                    Some(next) => head(&disk.open_to_read(&layout.segment(*next))?, identity, *next)?,
                    None => end.map(<[Standing]>::to_vec),
                };
                let damaged = rescanned(layout, identity, *number, &file, next)?;
                seals.damaged.push(damaged);
                seals.damaged.last().map(|damaged| damaged.spans.clone()).unwrap_or_default()
            }
        };
        if let Some((before, ends)) = seals.sealed.last() {
            let follows = ends.iter().zip(&spans).all(|(end, span)| end.end() == span.first);
            follows.then_some(()).ok_or_else(|| gap(layout, *before, *number))?;
        }
        // Points are read again when someone reads from the segment; memory holds one row per segment.
        spans.iter_mut().for_each(|span| span.points = Vec::new());
        seals.sealed.push((*number, spans));
    }
    if let (Some((number, spans)), Some(standings)) = (seals.sealed.last(), end) {
        let follows = spans.iter().map(Span::standing).eq(standings.iter().copied());
        follows.then_some(()).ok_or_else(|| gap(layout, *number, number + 1))?;
    }
    Ok(seals)
}

fn head<F: DiskFile>(file: &F, identity: Identity, number: u32) -> Result<Option<Vec<Standing>>, DiskError> {
    let mut bytes = vec![0; segment::head_length(identity.partitions)];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(segment::read_segment_head(&identity.id, number, identity.partitions, &bytes[..read]))
}

/// Reads a whole segment whose seal is damaged. The head of the next one is the proof that nothing of it is missing.
fn rescanned<F: DiskFile>(
    layout: &Layout,
    identity: Identity,
    number: u32,
    file: &F,
    next: Option<Vec<Standing>>,
) -> Result<DamagedSeal, LogError> {
    let (Some(begin), Some(next)) = (head(file, identity, number)?, next) else {
        return Err(unsealed(layout, number));
    };
    let Scanned { spans, end, ending } = scan::scan(file, identity, number, &begin)?;
    if spans.iter().map(Span::standing).eq(next) {
        return Ok(DamagedSeal { at: Place { segment: number, byte: end }, spans });
    }
    let why = match ending {
        Ending::Bad(why) => why,
        Ending::Open | Ending::Sealed(_) => "its records end here".to_owned(),
    };
    let why = format!("{why}, but the next segment begins with later records, and the seal is damaged too");
    Err(LogError::Damaged { place: layout.segment(number), at: u64::from(end), why })
}

fn gap(layout: &Layout, before: u32, number: u32) -> LogError {
    let why = format!("it does not begin where segment {before} ends");
    LogError::Damaged { place: layout.segment(number), at: 0, why }
}

/// Writes a segment anew, with a sound seal, beside the old file and then in its place: no byte of a record is ever
/// overwritten.
pub(crate) fn rebuild<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
    damaged: &DamagedSeal,
) -> Result<(), DiskError> {
    let number = damaged.at.segment;
    let beside = layout.unfinished(number);
    let (from, to) = (disk.open_to_read(&layout.segment(number))?, disk.create(&beside)?);
    copy(&from, &to, u64::from(damaged.at.byte))?;
    let seal = segment::write_seal(&identity.id, damaged.at, damaged.at, &damaged.spans);
    to.write_at(&mut [IoSlice::new(&seal)], u64::from(damaged.at.byte))?;
    to.sync()?;
    disk.rename(&beside, &layout.segment(number))?;
    disk.sync_dir(&layout.journal())
}

/// Copies the first `length` bytes of a file.
pub(crate) fn copy<F: DiskFile>(from: &F, to: &F, length: u64) -> Result<(), DiskError> {
    let mut buffer = vec![0; length.min(1024 * 1024) as usize];
    let mut at = 0;
    while at < length {
        let wanted = buffer.len().min((length - at) as usize);
        let read = from.read_at(&mut buffer[..wanted], at)?;
        if read == 0 {
            break;
        }
        to.write_at(&mut [IoSlice::new(&buffer[..read])], at)?;
        at += read as u64;
    }
    Ok(())
}
