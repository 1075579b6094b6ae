//! Checking a whole log directory: every checksum, every index, and the chains of all blocks and frames.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use omium_schemas::block::read_head;
use omium_schemas::{MAX_BLOCK, Offset, Partition};

use super::layout::{self, Identity, Layout};
use super::scan::{self, Window};
use super::segment::{self, Kind, Place, Span, Standing, WRITE_HEAD, WriteHead};
use super::survey::survey;
use crate::audit::{Audit, Tally};
use crate::contract::LogError;
use crate::disk::{Disk, DiskFault, DiskFile};

/// What a check of a whole log found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Per partition.
    pub partitions: Vec<Tally>,
    /// How many segments hold records.
    pub segments: u64,
    /// How many bytes of writes were read.
    pub bytes: u64,
    /// Whether the log was closed well.
    pub clean: bool,
    /// A torn end, which the next opening cuts off: nothing in it was acknowledged.
    pub torn: Option<Problem>,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The byte.
    pub at: u64,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
}

/// How many streams' chains are followed, which takes about 150 MB.
const MOST_STREAMS: usize = 1_000_000;

const RESTORE: &str =
    "restore the directory from a backup, or follow `omium log inspect` to see what is still readable";
const OPEN: &str =
    "nothing: the next opening cuts it off, and `omium log repair --apply` does the same offline";

const RESEAL: &str = "all that it seals is sound: the next opening writes it anew, and `omium log repair --apply` does \
                      the same offline";

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}; {}", self.file.display(), self.at, self.what, self.advice)
    }
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, tally) in self.partitions.iter().enumerate() {
            let Tally { first, next, blocks, frames, records, epochs, ignored, unchecked, epoch, no } = tally;
            write!(
                f,
                "partition {number}: offsets {first}..{next}, {blocks} blocks (last {no}), {frames} frames, "
            )?;
            write!(f, "{records} records, {epochs} epochs (current {epoch}), {ignored} ignored")?;
            writeln!(
                f,
                "{}",
                if *unchecked > 0 { format!(", {unchecked} frames not chained") } else { String::new() }
            )?;
        }
        let ended = if self.clean { "closed well" } else { "not closed" };
        writeln!(f, "{} segments, {} bytes, {ended}", self.segments, self.bytes)?;
        if let Some(torn) = &self.torn {
            writeln!(f, "torn end: {torn}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        match self.problems.len() {
            0 => write!(f, "sound"),
            1 => write!(f, "1 problem"),
            more => write!(f, "{more} problems"),
        }
    }
}

/// Which log a directory holds, and its lock. A directory that cannot be written to is read without one.
pub(crate) fn identify<D: Disk>(
    disk: &D,
    root: &Path,
) -> Result<(Layout, Identity, Option<D::Lock>), LogError> {
    let layout = Layout { root: root.to_owned() };
    let none = || LogError::Foreign {
        place: root.display().to_string(),
        why: "it holds no log: there is no FORMAT file; check the path".to_owned(),
    };
    let identity = layout::read_identity(disk, &layout)?.ok_or_else(none)?;
    let lock = match disk.lock(&layout.lock()) {
        Ok(lock) => Some(lock),
        Err(error) if matches!(error.fault, DiskFault::ReadOnly | DiskFault::Denied) => None,
        Err(error) => return Err(error.into()),
    };
    Ok((layout, identity, lock))
}

/// Checks a log that no process has open: every checksum, every seal and index, block chains by the filter, and the
/// chain of every stream's frames. Takes about 150 bytes of memory per stream, at most 150 MB; frames of streams beyond
/// that are counted and not chained.
pub fn verify<D: Disk>(disk: &D, root: &Path) -> Result<Verified, LogError> {
    verify_and_read(disk, root, &mut |_, _, _| ())
}

/// The same, and shows every record that is readable, damaged neighbours or not, in the order of the journal. Nothing is
/// written: for tools that read a log and must not change it.
pub fn verify_and_read<D: Disk>(disk: &D, root: &Path, visit: &mut Visit<'_>) -> Result<Verified, LogError> {
    let (layout, identity, _lock) = identify(disk, root)?;
    let mut verifier = Verifier {
        disk,
        layout,
        identity,
        audits: Vec::new(),
        ends: Vec::new(),
        damaged_seals: Vec::new(),
        verified: Verified::default(),
        visit,
    };
    verifier.run()?;
    Ok(verifier.verified)
}

/// What is shown a record: its partition, its offset and its bytes.
pub type Visit<'a> = dyn FnMut(Partition, Offset, &Bytes) + 'a;

struct Verifier<'a, D: Disk> {
    disk: &'a D,
    layout: Layout,
    identity: Identity,
    audits: Vec<Audit>,
    /// Where each partition stands at the end of the segment before.
    ends: Vec<Standing>,
    /// Of segments whose records are all there.
    damaged_seals: Vec<Place>,
    verified: Verified,
    visit: &'a mut Visit<'a>,
}

impl<D: Disk> Verifier<'_, D> {
    fn run(&mut self) -> Result<(), LogError> {
        // What an opening would say comes first: it knows the mark, the starts, and which end is torn.
        match survey(self.disk, &self.layout, self.identity, &[]) {
            Ok(survey) => {
                self.verified.clean = survey.clean;
                for seal in &survey.damaged {
                    let (file, at) = (self.layout.segment(seal.at.segment), u64::from(seal.at.byte));
                    self.verified.problems.push(problem(file, at, "its seal is damaged".into(), RESEAL));
                    self.damaged_seals.push(seal.at);
                }
                self.verified.torn = survey.cut.map(|cut| problem(cut.file, cut.at, cut.why, OPEN));
            }
            Err(LogError::Damaged { place, at, why }) => {
                self.verified.problems.push(problem(place, at, why, RESTORE))
            }
            Err(error) => return Err(error),
        }
        let mut numbers: Vec<u32> = Vec::new();
        numbers.extend(
            self.disk.list(&self.layout.journal())?.iter().filter_map(|name| Layout::segment_number(name)),
        );
        numbers.sort_unstable();
        for number in numbers {
            self.segment(number)?;
        }
        self.verified.partitions = self.audits.iter().map(|audit| audit.tally().clone()).collect();
        Ok(())
    }

    fn segment(&mut self, number: u32) -> Result<(), LogError> {
        let file = self.disk.open_to_read(&self.layout.segment(number))?;
        let mut head = vec![0; segment::head_length(self.identity.partitions)];
        let read = file.read_at(&mut head, 0)?;
        let standings =
            segment::read_segment_head(&self.identity.id, number, self.identity.partitions, &head[..read]);
        let Some(standings) = standings else {
            return self.headless(number, &file);
        };
        self.verified.segments += 1;
        if self.audits.is_empty() {
            let each = MOST_STREAMS / standings.len().max(1);
            self.audits = standings.iter().map(|standing| Audit::new(standing.next, each)).collect();
        } else if self.ends != standings {
            self.problem(number, 0, "it does not begin where the segment before it ends".into());
            for (audit, standing) in self.audits.iter_mut().zip(&standings) {
                audit.skip_to(standing.next);
            }
        }
        let spans = self.walk(number, &file, standings)?;
        self.ends = spans.iter().map(Span::standing).collect();
        Ok(())
    }

    /// A segment without a head is one that was prepared, or that a first write was torn in; else it is damaged.
    fn headless(&mut self, number: u32, file: &D::File) -> Result<(), LogError> {
        let start = Place { segment: number, byte: 0 };
        if scan::later_claim(file, self.identity, start)?.is_some() {
            self.problem(number, 0, "its head is unreadable".into());
            self.lost();
        }
        Ok(())
    }

    /// Walks a segment and goes on behind what is damaged.
    fn walk(&mut self, number: u32, file: &D::File, standings: Vec<Standing>) -> Result<Vec<Span>, LogError> {
        let mut spans: Vec<Span> = standings.into_iter().map(Span::new).collect();
        let mut window = Window::new(file);
        let mut at = Place { segment: number, byte: segment::head_length(self.identity.partitions) as u32 };
        let mut whole = true;
        loop {
            if self.is_torn(at) || self.damaged_seals.contains(&at) {
                return Ok(spans);
            }
            let bytes = window.get(u64::from(at.byte), WRITE_HEAD)?;
            if let Some(head) = WriteHead::read(&self.identity.id, at, bytes) {
                let end = at.byte.saturating_add(WRITE_HEAD as u32).saturating_add(head.length);
                if head.kind == Kind::Seal {
                    return self.seal(file, at, spans, whole);
                }
                whole &= self.write(&mut window, at, end, &mut spans)?;
                self.verified.bytes += u64::from(end - at.byte);
                at.byte = end;
                continue;
            }
            if bytes.iter().all(|byte| *byte == 0) && scan::later_claim(file, self.identity, at)?.is_none() {
                return Ok(spans);
            }
            self.problem(number, u64::from(at.byte), "there is neither a write nor a seal".into());
            whole = false;
            self.lost();
            match scan::next_head(file, self.identity, at)? {
                Some((next, _)) => at.byte = next,
                None => return Ok(spans),
            }
        }
    }

    /// Whether the log ends here with a write that was torn.
    fn is_torn(&self, at: Place) -> bool {
        let torn = self.verified.torn.as_ref();
        torn.is_some_and(|torn| torn.at == u64::from(at.byte) && torn.file == self.layout.segment(at.segment))
    }

    /// Checks the blocks of one write. Says whether all of them were readable.
    fn write(
        &mut self,
        window: &mut Window<'_, D::File>,
        at: Place,
        end: u32,
        spans: &mut [Span],
    ) -> Result<bool, LogError> {
        let mut byte = at.byte + WRITE_HEAD as u32;
        while byte < end {
            let room = ((end - byte) as usize).min(MAX_BLOCK);
            let bytes = window.get(u64::from(byte), room)?;
            let head = match read_head(bytes) {
                Ok((head, length))
                    if length <= bytes.len() && head.partition.0 < self.identity.partitions =>
                {
                    Ok((head, length))
                }
                Ok(_) => Err("the head of a block is impossible".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let checked = head.and_then(|(head, length)| {
                scan::checked(&bytes[..length])?;
                Ok((head, Bytes::copy_from_slice(&bytes[..length])))
            });
            match checked {
                Ok((head, block)) => {
                    let partition = usize::from(head.partition.0);
                    spans[partition].push(byte, head.no);
                    let length = block.len() as u32;
                    (self.visit)(head.partition, self.audits[partition].tally().next, &block);
                    if let Err(what) = self.audits[partition].admit(block) {
                        self.problem(
                            at.segment,
                            u64::from(byte),
                            format!("partition {}: {what}", head.partition),
                        );
                    }
                    byte += length;
                }
                Err(what) => {
                    self.problem(at.segment, u64::from(byte), what);
                    self.lost();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Holds a segment's index against what is in it. Where records of it were unreadable the index knows better.
    fn seal(
        &mut self,
        file: &D::File,
        at: Place,
        spans: Vec<Span>,
        whole: bool,
    ) -> Result<Vec<Span>, LogError> {
        match scan::seal_at_end(file, self.identity, at.segment)? {
            Some((byte, index)) if byte == at.byte && (index == spans || !whole) => {
                if !whole {
                    for (audit, span) in self.audits.iter_mut().zip(&index) {
                        audit.skip_to(span.end());
                    }
                }
                Ok(index)
            }
            _ => {
                self.problem(at.segment, u64::from(at.byte), "the seal does not fit what it seals".into());
                Ok(spans)
            }
        }
    }

    /// Records are lost, so what follows is taken as it comes.
    fn lost(&mut self) {
        for audit in &mut self.audits {
            let next: Offset = audit.tally().next;
            audit.skip_to(next);
        }
    }

    fn problem(&mut self, number: u32, at: u64, what: String) {
        let file = self.layout.segment(number);
        // The opening's own verdict may name the same place; once is enough.
        if !self.verified.problems.iter().any(|known| known.file == file && known.at == at) {
            self.verified.problems.push(problem(file, at, what, RESTORE));
        }
    }
}

fn problem(file: PathBuf, at: u64, what: String, advice: &'static str) -> Problem {
    Problem { file, at, what, advice }
}
