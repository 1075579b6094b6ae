//! Looking at a log directory without judging it.

use std::fmt;
use std::path::{Path, PathBuf};

use omium_schemas::{BlockNo, Offset};

use super::layout::{self, Layout};
use super::scan::{self, Ending, Scanned};
use super::segment;
use super::verify::identify;
use crate::contract::LogError;
use crate::disk::{Disk, DiskFile};

/// What a log directory consists of.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The directory.
    pub root: PathBuf,
    /// The log's id.
    pub id: [u8; 16],
    /// How many partitions it has.
    pub partitions: u16,
    /// Where each partition starts, as far as that can be read.
    pub starts: Result<Vec<Offset>, String>,
    /// Whether it carries the mark of a good ending.
    pub clean: bool,
    /// Its segments in order.
    pub segments: Vec<SegmentSeen>,
}

/// One segment.
#[derive(Clone, Debug)]
pub struct SegmentSeen {
    /// Its file.
    pub file: PathBuf,
    /// The file's size.
    pub size: u64,
    /// In what state it is.
    pub state: SegmentState,
    /// Per partition: first offset, number of records, last block number.
    pub rows: Vec<(Offset, u64, BlockNo)>,
}

/// In what state a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// It has no head: prepared and not used yet, or damaged.
    Headless,
    /// It takes writes, and this byte is the next.
    Open(u32),
    /// It is full, and has its index.
    Sealed,
    /// Its writes end at this byte with something that is none.
    Unreadable(u32, String),
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = layout::hex(&self.id);
        writeln!(f, "log {id} in {}, {} partitions", self.root.display(), self.partitions)?;
        match &self.starts {
            Ok(starts) => {
                let starts: Vec<String> = starts.iter().map(Offset::to_string).collect();
                writeln!(f, "starts at {}", starts.join(" "))?;
            }
            Err(why) => writeln!(f, "its starts cannot be read: {why}")?,
        }
        writeln!(f, "{}", if self.clean { "closed well" } else { "not closed" })?;
        for segment in &self.segments {
            write!(f, "{} {} bytes, ", segment.file.display(), segment.size)?;
            match &segment.state {
                SegmentState::Headless => write!(f, "not used yet")?,
                SegmentState::Open(end) => write!(f, "open at byte {end}")?,
                SegmentState::Sealed => write!(f, "sealed")?,
                SegmentState::Unreadable(at, why) => write!(f, "unreadable at byte {at}: {why}")?,
            }
            for (partition, (first, count, no)) in segment.rows.iter().enumerate() {
                write!(f, "; {partition}: {count} records from {first}, block {no}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Looks at a log that no process has open.
pub fn inspect<D: Disk>(disk: &D, root: &Path) -> Result<Inspected, LogError> {
    let (layout, identity, _lock) = identify(disk, root)?;
    let names = disk.list(&layout.journal())?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| Layout::segment_number(name)).collect();
    numbers.sort_unstable();
    let mut segments = Vec::with_capacity(numbers.len());
    for number in numbers {
        let path = layout.segment(number);
        let file = disk.open_to_read(&path)?;
        let size = file.size()?;
        let (state, spans) = match scan::seal_at_end(&file, identity, number)? {
            Some((_, spans)) => (SegmentState::Sealed, spans),
            None => {
                let mut head = vec![0; segment::head_length(identity.partitions)];
                let read = file.read_at(&mut head, 0)?;
                match segment::read_segment_head(&identity.id, number, identity.partitions, &head[..read]) {
                    None => (SegmentState::Headless, Vec::new()),
                    Some(standings) => {
                        let Scanned { spans, end, ending } = scan::scan(&file, identity, number, &standings)?;
                        let state = match ending {
                            Ending::Open => SegmentState::Open(end),
                            Ending::Sealed(_) => SegmentState::Sealed,
                            Ending::Bad(why) => SegmentState::Unreadable(end, why),
                        };
                        (state, spans)
                    }
                }
            }
        };
        let rows = spans.iter().map(|span| (span.first, span.count, span.no)).collect();
        segments.push(SegmentSeen { file: path, size, state, rows });
    }
    Ok(Inspected {
        root: root.to_owned(),
        id: identity.id,
        partitions: identity.partitions,
        starts: layout::read_starts(disk, &layout, identity.partitions).map_err(|error| error.to_string()),
        clean: layout::read_clean(disk, &layout, identity)?.is_some(),
        segments,
    })
}
