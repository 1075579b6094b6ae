//! The small files of a log directory: which log it is, where it starts, and that it was closed well.
//!
//! Each is text that ends in a line with its CRC-32C, so that a flipped bit is found and a person can read it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use omium_schemas::Offset;

use super::segment::{LogId, Place};
use crate::contract::LogError;
use crate::disk::{self, Disk, DiskError};

/// The version of the directory that this program writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// No small file is longer: 65,536 partitions with 20 digits each fit.
const LONGEST: usize = 2 * 1024 * 1024;

/// Which log a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: LogId,
    pub(crate) partitions: u16,
}

/// The names inside a log directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("FORMAT")
    }

    pub(crate) fn clean(&self) -> PathBuf {
        self.root.join("clean")
    }

    pub(crate) fn starts(&self) -> PathBuf {
        self.root.join("starts")
    }

    pub(crate) fn durable(&self) -> PathBuf {
        self.root.join("durable")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(crate) fn segment(&self, number: u32) -> PathBuf {
        self.journal().join(format!("{number:08}.seg"))
    }

    pub(crate) fn unfinished(&self, number: u32) -> PathBuf {
        self.journal().join(format!("{number:08}.tmp"))
    }

    /// Room that is kept for what ends something.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.journal().join("reserve")
    }

    /// The number in a segment's name.
    pub(crate) fn segment_number(name: &str) -> Option<u32> {
        let digits = name.strip_suffix(".seg").filter(|digits| digits.len() >= 8)?;
        digits.parse().ok()
    }
}

fn with_crc(body: &str) -> Vec<u8> {
    format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes())).into_bytes()
}

/// The body of a small file; nothing where its checksum does not match.
fn without_crc(bytes: &[u8]) -> Option<&str> {
    const CRC_LINE: usize = "crc 01234567\n".len();
    let body = bytes.get(..bytes.len().checked_sub(CRC_LINE)?)?;
    let body = std::str::from_utf8(body).ok()?;
    (with_crc(body) == bytes).then_some(body)
}

pub(crate) fn write_identity<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
) -> Result<(), DiskError> {
    let id = hex(&identity.id);
    let body = format!(
        "omium log\nformat {FORMAT_VERSION}\nid {id}\npartitions {partitions}\n",
        partitions = identity.partitions
    );
    disk::replace(disk, &layout.format(), &with_crc(&body))
}

/// Which log the directory holds; nothing where it holds none yet.
pub(crate) fn read_identity<D: Disk>(disk: &D, layout: &Layout) -> Result<Option<Identity>, LogError> {
    let Some(bytes) = disk::read_small(disk, &layout.format(), LONGEST)? else { return Ok(None) };
    let foreign = |why: String| LogError::Foreign { place: layout.format().display().to_string(), why };
    if !bytes.starts_with(b"omium log\n") {
        return Err(foreign("it was not written by omium, or its first bytes are damaged; choose another directory, or restore this file from a backup".into()));
    }
    let damaged =
        || foreign("its checksum does not match; restore this file from a backup of the directory".into());
    let body = without_crc(&bytes).ok_or_else(damaged)?;
    let field = |name: &str| body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let version = field("format").and_then(|text| text.parse::<u32>().ok()).ok_or_else(damaged)?;
    if version != FORMAT_VERSION {
        return Err(foreign(format!(
            "it has format {version}, this program reads format {FORMAT_VERSION}; use the version of omium that wrote it"
        )));
    }
    let id = field("id").and_then(parse_id).ok_or_else(damaged)?;
    let partitions = field("partitions").and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    Ok(Some(Identity { id, partitions }))
}

/// A log's id as people see it.
pub(crate) fn hex(id: &LogId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_id(hex: &str) -> Option<LogId> {
    let mut id = [0; 16];
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(id)
}

pub(crate) fn write_starts<D: Disk>(disk: &D, layout: &Layout, starts: &[Offset]) -> Result<(), DiskError> {
    let mut body = String::from("omium log starts\n");
    for start in starts {
        let _ = writeln!(body, "{start}");
    }
    disk::replace(disk, &layout.starts(), &with_crc(&body))
}

/// Where each partition starts.
pub(crate) fn read_starts<D: Disk>(
    disk: &D,
    layout: &Layout,
    partitions: u16,
) -> Result<Vec<Offset>, LogError> {
    let damaged = |why: &str| LogError::Damaged { place: layout.starts(), at: 0, why: why.to_owned() };
    let bytes = disk::read_small(disk, &layout.starts(), LONGEST)?.ok_or_else(|| damaged("it is missing"))?;
    let body = without_crc(&bytes).ok_or_else(|| damaged("its checksum does not match"))?;
    let lines = body.strip_prefix("omium log starts\n").ok_or_else(|| damaged("it is another file"))?;
    let starts: Option<Vec<Offset>> = lines.lines().map(|line| line.parse().ok().map(Offset)).collect();
    starts
        .filter(|starts| starts.len() == usize::from(partitions))
        .ok_or_else(|| damaged("it does not hold one offset per partition"))
}

pub(crate) fn write_clean<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
    end: Place,
) -> Result<(), DiskError> {
    let body = format!("omium log closed\nid {}\nend {} {}\n", hex(&identity.id), end.segment, end.byte);
    disk::replace(disk, &layout.clean(), &with_crc(&body))
}

/// Where the journal ended when it was closed; nothing where it was not closed, or where the mark cannot be trusted,
/// which costs a copy of the last segment and nothing else.
pub(crate) fn read_clean<D: Disk>(
    disk: &D,
    layout: &Layout,
    identity: Identity,
) -> Result<Option<Place>, LogError> {
    let bytes = disk::read_small(disk, &layout.clean(), LONGEST)?;
    Ok(bytes.and_then(|bytes| parse_clean(without_crc(&bytes)?, identity)))
}

fn parse_clean(body: &str, identity: Identity) -> Option<Place> {
    let end = body.strip_prefix(&format!("omium log closed\nid {}\nend ", hex(&identity.id)))?;
    let (segment, byte) = end.trim_end().split_once(' ')?;
    Some(Place { segment: segment.parse().ok()?, byte: byte.parse().ok()? })
}

/// Names that may stand in a directory that is to become a log: what an interrupted creation leaves, and the blobs.
pub(crate) fn may_become_a_log(names: &[String]) -> bool {
    const OURS: [&str; 7] = ["LOCK", "durable", "FORMAT.tmp", "starts", "starts.tmp", "journal", "blobs"];
    names.iter().all(|name| OURS.contains(&name.as_str()) || Path::new(name).starts_with("lost+found"))
}
