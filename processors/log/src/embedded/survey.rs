//! Looking at every file of a log and judging it, before anything is changed.

use omium_schemas::Offset;

use super::journal::{Claim, Cut};
use super::layout::{self, Identity, Layout};
use super::scan::{self, Ending, Scanned};
use super::seals::{self, DamagedSeal, Seals};
use super::segment::{self, Place, Span, Standing};
use super::watermark;
use crate::contract::LogError;
use crate::disk::{Disk, DiskFile};

/// What the files of a log say, before anything is changed.
pub(crate) struct Survey<D: Disk> {
    pub(crate) sealed: Vec<(u32, Vec<Span>)>,
    /// Seals that cannot be read, of segments whose records are all there.
    pub(crate) damaged: Vec<DamagedSeal>,
    pub(crate) last: Last<D>,
    /// The segments behind the last one, which nothing was acknowledged in, and whether they are all zeros.
    pub(crate) unused: Vec<(u32, D::File, bool)>,
    pub(crate) starts: Vec<Offset>,
    /// The mark of a good ending, where it fits what the segments say.
    pub(crate) clean: bool,
    pub(crate) cut: Option<Cut>,
}

/// The segment that writes go to.
pub(crate) struct Last<D: Disk> {
    pub(crate) number: u32,
    /// Nothing where the log has no segment yet.
    pub(crate) file: Option<D::File>,
    pub(crate) spans: Vec<Span>,
    /// Where its last good write ends; 0 where it has none.
    pub(crate) end: u32,
    /// Where its seal ends, if it has one.
    pub(crate) sealed: Option<u32>,
}

/// Whether the last segment has to be copied and synced before anything is read from it. After an unclean end what can
/// be read may stand in the page cache alone.
pub(crate) fn tail_must_be_copied<D: Disk>(survey: &Survey<D>) -> bool {
    !survey.clean && !omium_schemas::mutant::Mutant::OpenWithoutSync.on()
}

/// Looks at every file of the log and judges it, and changes nothing.
pub(crate) fn survey<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
    claims: &[Claim],
) -> Result<Survey<D>, LogError> {
    let starts = layout::read_starts(disk, layout, identity.partitions)?;
    let mark = layout::read_clean(disk, layout, identity)?;
    let numbers = segments(disk, layout)?;
    let Split { before, last: head, unused } = split(disk, layout, identity, &numbers)?;
    let end = head.as_ref().map(|(_, _, standings)| standings.as_slice());
    let Seals { sealed, damaged } = seals::read(disk, layout, identity, &before, end)?;
    let (last, cut) = match head {
        Some((number, file, standings)) => judge_last(layout, identity, number, file, &standings)?,
        None => (blank_last(identity, unused.first().map(|(number, ..)| *number)), None),
    };
    let clean = check_mark(layout, mark, &last, cut.as_ref())?;
    check_starts(layout, &starts, sealed.first().map_or(&last.spans, |(_, spans)| spans), &last.spans)?;
    let place = layout.segment(last.number);
    if let Some(why) = beyond(claims, &last.spans, "the state store has seen")? {
        return Err(LogError::Older { place, why });
    }
    let durable = watermark::claims(disk, layout, identity);
    if let Some(why) = beyond(&durable, &last.spans, "the log was durable up to")? {
        let hint = format!(
            "; the records between were acknowledged and are gone. Restore a backup of the directory; if there is none and \
         they may be lost, remove {} and the folder `state` and start again",
            layout.durable().display()
        );
        return Err(LogError::Damaged { place, at: u64::from(last.end), why: why + &hint });
    }
    Ok(Survey { sealed, damaged, last, unused, starts, clean, cut })
}

/// The numbers of the segments, which follow one another without a gap.
pub(crate) fn segments<D: Disk>(disk: &D, layout: &Layout) -> Result<Vec<u32>, LogError> {
    let names = disk.list(&layout.journal())?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| Layout::segment_number(name)).collect();
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        None => Ok(numbers),
        Some(gap) => {
            let place = layout.segment(gap[0] + 1);
            Err(LogError::Damaged {
                place,
                at: 0,
                why: "it is missing, and segments behind it are there".into(),
            })
        }
    }
}

/// The segments by how far they were used.
struct Split<D: Disk> {
    before: Vec<u32>,
    /// The last one with a head, and where it begins.
    last: Option<(u32, D::File, Vec<Standing>)>,
    unused: Vec<(u32, D::File, bool)>,
}

/// Splits the segments into those before the last one in use, that one, and those not used yet.
fn split<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
    numbers: &[u32],
) -> Result<Split<D>, LogError> {
    let mut unused = Vec::new();
    for (at, number) in numbers.iter().enumerate().rev() {
        let file = disk.open_to_read(&layout.segment(*number))?;
        let mut bytes = vec![0; segment::head_length(identity.partitions)];
        let read = file.read_at(&mut bytes, 0)?;
        if let Some(standings) =
            segment::read_segment_head(&identity.id, *number, identity.partitions, &bytes[..read])
        {
            return Ok(Split {
                before: numbers[..at].to_vec(),
                last: Some((*number, file, standings)),
                unused,
            });
        }
        let start = Place { segment: *number, byte: 0 };
        if let Some(byte) = scan::later_claim(&file, identity, start)? {
            let why =
                format!("its head is unreadable, but the write at byte {byte} shows that it was synced");
            return Err(LogError::Damaged { place: layout.segment(*number), at: 0, why });
        }
        let blank = scan::is_blank(&file)?;
        unused.insert(0, (*number, file, blank));
        if unused.len() > 2 {
            let why = "its head is unreadable, and segments behind it are there".to_owned();
            return Err(LogError::Damaged { place: layout.segment(*number), at: 0, why });
        }
    }
    Ok(Split { before: Vec::new(), last: None, unused })
}

/// Walks the last segment. Bytes that are no write end it, unless something shows that they were acknowledged.
fn judge_last<D: Disk>(
    layout: &Layout,
    identity: Identity,
    number: u32,
    file: D::File,
    standings: &[Standing],
) -> Result<(Last<D>, Option<Cut>), LogError> {
    let Scanned { spans, end, ending } = scan::scan(&file, identity, number, standings)?;
    let (mut sealed, mut cut) = (None, None);
    match ending {
        Ending::Open => {}
        Ending::Sealed(whole) => sealed = Some(whole),
        Ending::Bad(why) => cut = Some(Cut { file: layout.segment(number), at: u64::from(end), why }),
    }
    if sealed.is_none() {
        let at = Place { segment: number, byte: end };
        if let Some(byte) = scan::later_claim(&file, identity, at)? {
            let why = cut.map_or("it is empty".to_owned(), |cut| cut.why);
            let why = format!("{why}, but the write at byte {byte} shows that it was synced");
            return Err(LogError::Damaged { place: layout.segment(number), at: u64::from(end), why });
        }
    }
    Ok((Last { number, file: Some(file), spans, end, sealed }, cut))
}

fn blank_last<D: Disk>(identity: Identity, number: Option<u32>) -> Last<D> {
    let spans = vec![Span::default(); usize::from(identity.partitions)];
    Last { number: number.unwrap_or(1), file: None, spans, end: 0, sealed: None }
}

/// Whether the log was closed well. A mark that claims more than there is shows a loss; one that claims less is old
/// and means nothing.
fn check_mark<D: Disk>(
    layout: &Layout,
    mark: Option<Place>,
    last: &Last<D>,
    cut: Option<&Cut>,
) -> Result<bool, LogError> {
    let end = Place { segment: last.number, byte: last.end };
    let Some(mark) = mark else { return Ok(false) };
    if mark > end {
        let why = cut.map_or("the log ends here".to_owned(), |cut| cut.why.clone());
        let why = format!(
            "{why}, but it was closed well with its end in segment {} at byte {}",
            mark.segment, mark.byte
        );
        return Err(LogError::Damaged { place: layout.segment(last.number), at: u64::from(last.end), why });
    }
    Ok(mark == end && cut.is_none())
}

fn check_starts(layout: &Layout, starts: &[Offset], first: &[Span], last: &[Span]) -> Result<(), LogError> {
    for (partition, start) in starts.iter().enumerate() {
        let (from, to) = (first[partition].first, last[partition].end());
        if *start < from || *start > to {
            let why = format!(
                "it says that partition {partition} starts at offset {start}, and the segments hold {from} to {to}: segments are missing"
            );
            return Err(LogError::Damaged { place: layout.starts(), at: 0, why });
        }
    }
    Ok(())
}

/// How the log ends before what somebody durably knows of it, where it does.
fn beyond(claims: &[Claim], spans: &[Span], who: &str) -> Result<Option<String>, LogError> {
    for Claim { partition, before, no } in claims {
        let Some(span) = spans.get(usize::from(partition.0)) else {
            return Err(LogError::NoPartition { wanted: *partition, partitions: spans.len() as u16 });
        };
        if *before > span.end() || *no > span.no {
            return Ok(Some(format!(
                "partition {partition} ends before offset {} with block {}, but {who} offset {before} and block {no}",
                span.end(),
                span.no
            )));
        }
    }
    Ok(None)
}
