//! The journal of one log directory: one writer, no threads, and a disk that may be simulated.
//!
//! A write is one vectored write of every block of the round; `sync` makes it durable and lets readers see it. The
//! next segment is prepared ahead, so that no space is met there and not in the middle of a write.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use omium_schemas::block::read_head;
use omium_schemas::{BlockNo, Offset, Partition};

use super::layout::{self, Identity, Layout};
use super::prepare::{Preparation, Prepared};
use super::reader::{Current, Reader, Sealed};
use super::reserve::Reserve;
use super::segment::{self, Kind, Place, Span, Standing, WRITE_HEAD, WriteHead};
use crate::contract::{Entry, LogError};
use crate::disk::{Disk, DiskError, DiskFile};

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The log's directory.
    pub root: PathBuf,
    /// How many partitions it has, or is to have.
    pub partitions: u16,
    /// The id that the log gets if it is made now.
    pub fresh_id: [u8; 16],
    /// What other durable state says is in the log.
    pub claims: Vec<Claim>,
    /// The capacity of the first segment. Each one is twice as large as the one before, up to `last_segment`.
    pub first_segment: u32,
    /// The capacity that segments grow up to.
    pub last_segment: u32,
    /// How much room is kept on the disk for what ends something that is under way. A block of any size has to fit.
    pub reserve: u32,
}

impl JournalOptions {
    /// What the embedded log uses.
    pub fn new(root: impl Into<PathBuf>, partitions: u16, fresh_id: [u8; 16]) -> JournalOptions {
        JournalOptions {
            root: root.into(),
            partitions,
            fresh_id,
            claims: Vec::new(),
            first_segment: 1024 * 1024,
            last_segment: 64 * 1024 * 1024,
            reserve: 8 * 1024 * 1024,
        }
    }
}

/// What another store durably knows of a partition. A log that holds less has lost what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: Partition,
    /// Every record before this offset was durable; 0 claims nothing.
    pub before: Offset,
    /// The block of this number was durable; 0 claims nothing.
    pub no: BlockNo,
}

/// What an opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// There was no log; one was made.
    pub created: bool,
    /// It was closed well the last time.
    pub clean: bool,
    /// What was cut off as torn: a write that was never acknowledged.
    pub cut: Option<Cut>,
    /// How many bytes of the last segment were copied to a new file and synced.
    pub copied: u64,
    /// Full segments whose seal was damaged, and written anew from their records, which were not.
    pub resealed: Vec<PathBuf>,
}

/// A torn tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: PathBuf,
    /// Its first byte that did not count.
    pub at: u64,
    /// What was wrong with it.
    pub why: String,
}

/// The segment that writes go to.
pub(crate) struct Active<D: Disk> {
    pub(crate) number: u32,
    pub(crate) file: Arc<D::File>,
    pub(crate) capacity: u32,
    /// Where the next write goes; 0 before the first, which brings the segment's head along.
    pub(crate) end: u32,
    /// It has its seal and takes no more.
    pub(crate) sealed: bool,
}

/// A block that was written and is not synced yet.
#[derive(Clone, Copy, Debug)]
struct Written {
    partition: Partition,
    byte: u32,
    no: BlockNo,
}

/// The journal of one directory.
pub struct Journal<D: Disk> {
    disk: D,
    layout: Layout,
    identity: Identity,
    sizes: (u32, u32),
    reader: Arc<Reader<D>>,
    reserve: Arc<Reserve<D>>,
    active: Active<D>,
    next: Option<Prepared<D>>,
    durable_to: Place,
    written: Vec<Written>,
    settled: Vec<(Partition, Offset)>,
    poison: Option<LogError>,
    opened: Opened,
    _lock: D::Lock,
}

/// What opening hands over.
pub(crate) struct Parts<D: Disk> {
    pub(crate) disk: D,
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    /// The smallest and the largest capacity of a segment.
    pub(crate) sizes: (u32, u32),
    pub(crate) reader: Reader<D>,
    pub(crate) reserve: Reserve<D>,
    pub(crate) active: Active<D>,
    pub(crate) next: Option<Prepared<D>>,
    pub(crate) opened: Opened,
    pub(crate) lock: D::Lock,
}

impl<D: Disk> Journal<D> {
    /// Opens the log in a directory, or makes one in an empty or missing directory. After an unclean end the last
    /// segment is copied and synced first: what was read from the page cache may not be on the disk.
    pub fn open(disk: D, options: JournalOptions) -> Result<Journal<D>, LogError> {
        super::open::open(disk, options).map(Journal::assemble)
    }

    fn assemble(parts: Parts<D>) -> Journal<D> {
        let Parts { disk, layout, identity, sizes, reader, reserve, active, next, opened, lock } = parts;
        let durable_to = Place { segment: active.number, byte: active.end };
        Journal {
            disk,
            layout,
            identity,
            sizes,
            reader: Arc::new(reader),
            reserve: Arc::new(reserve),
            active,
            next,
            durable_to,
            written: Vec::new(),
            settled: Vec::new(),
            poison: None,
            opened,
            _lock: lock,
        }
    }

    /// What opening found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(crate) fn reader(&self) -> Arc<Reader<D>> {
        self.reader.clone()
    }

    pub(crate) fn reserve(&self) -> Arc<Reserve<D>> {
        self.reserve.clone()
    }

    pub(crate) fn place(&self) -> (D, Layout, Identity) {
        (self.disk.clone(), self.layout.clone(), self.identity)
    }

    /// Why the journal takes nothing any more, after a failed write or sync.
    pub fn poisoned(&self) -> Option<&LogError> {
        self.poison.as_ref()
    }

    /// How many bytes of blocks the next write can take, in this segment or else in the prepared one.
    pub fn room(&self) -> usize {
        let here = self.free(self.active.capacity, self.active.end, self.active.sealed);
        let next = self.next.as_ref().map_or(0, |next| self.free(next.capacity, 0, false));
        here.max(next)
    }

    fn free(&self, capacity: u32, end: u32, sealed: bool) -> usize {
        let partitions = self.identity.partitions;
        let head = if end == 0 { segment::head_length(partitions) } else { 0 };
        let taken = end as usize + head + WRITE_HEAD + segment::seal_room(partitions, capacity);
        if sealed { 0 } else { (capacity as usize).saturating_sub(taken) }
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes <= self.free(self.active.capacity, self.active.end, self.active.sealed)
    }

    /// Writes closed blocks, at most one write's worth, as one contiguous write. They are durable after
    /// [`Journal::sync`]. [`LogError::Full`] means that nothing was written and nothing is lost; every other error of a
    /// disk ends the journal.
    pub fn write(&mut self, blocks: &[Bytes]) -> Result<(), LogError> {
        self.sound()?;
        debug_assert!(self.written.is_empty(), "a write follows the sync of the one before");
        let put = self.try_write(blocks);
        if put.is_err() {
            self.written.clear();
        }
        put
    }

    fn try_write(&mut self, blocks: &[Bytes]) -> Result<(), LogError> {
        let length = self.accept(blocks)?;
        if !self.fits(length) {
            self.roll(length)?;
        }
        self.put(blocks, length as u32)
    }

    /// Checks that the records are blocks of partitions of this log, since whoever reads them back relies on it.
    fn accept(&mut self, blocks: &[Bytes]) -> Result<usize, LogError> {
        let mut length = 0;
        for block in blocks {
            let refused = |why: String| LogError::NotABlock { why };
            let (head, said) = read_head(block).map_err(|error| refused(error.to_string()))?;
            if said != block.len() {
                return Err(refused(format!("it says it has {said} bytes and has {}", block.len())));
            }
            self.reader.known(head.partition)?;
            self.written.push(Written { partition: head.partition, byte: length as u32, no: head.no });
            length += block.len();
        }
        Ok(length)
    }

    /// The segment's head, where nothing was written to it yet.
    fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        if self.active.end == 0 {
            let standings: Vec<Standing> =
                self.reader.look(|state| state.current.spans.iter().map(Span::standing).collect());
            segment::write_segment_head(&self.identity.id, self.active.number, &standings, &mut head);
        }
        head
    }

    fn put(&mut self, blocks: &[Bytes], length: u32) -> Result<(), LogError> {
        let mut front = self.head();
        let start = self.active.end;
        let at = Place { segment: self.active.number, byte: start + front.len() as u32 };
        let head = WriteHead { kind: Kind::Write, length, durable_to: self.durable_to };
        front.extend_from_slice(&head.bytes(&self.identity.id, at));
        let first = start + front.len() as u32;
        let mut parts = Vec::with_capacity(blocks.len() + 1);
        parts.push(IoSlice::new(&front));
        parts.extend(blocks.iter().map(|block| IoSlice::new(block)));
        let put = self.active.file.write_at(&mut parts, u64::from(start));
        if let Err(error) = put {
            // What did not fit was not written as a whole, and the next try writes over it.
            return if error.fault.passes() { Err(error.into()) } else { self.poisoning(Err(error)) };
        }
        for written in &mut self.written {
            written.byte += first;
        }
        self.active.end = first + length;
        Ok(())
    }

    /// Makes what was written durable, lets readers see it, and tells where each block of the write stands, in the
    /// order of the write.
    pub fn sync(&mut self) -> Result<&[(Partition, Offset)], LogError> {
        self.sound()?;
        let synced = self.active.file.sync();
        self.poisoning(synced)?;
        self.durable_to = Place { segment: self.active.number, byte: self.active.end };
        self.settled.clear();
        let (written, settled) = (&self.written, &mut self.settled);
        self.reader.change(|state| {
            for Written { partition, byte, no } in written {
                let span = &mut state.current.spans[usize::from(partition.0)];
                settled.push((*partition, span.end()));
                span.push(*byte, *no);
            }
        });
        self.written.clear();
        Ok(&self.settled)
    }

    /// Seals the active segment and goes on in the prepared one.
    fn roll(&mut self, length: usize) -> Result<(), LogError> {
        let next = self.next.as_ref().ok_or_else(|| self.no_next())?;
        let room = self.free(next.capacity, 0, false);
        if length > room {
            let why = format!("a write of {length} bytes does not fit a segment, which takes {room}");
            return Err(LogError::NotABlock { why });
        }
        if !self.active.sealed {
            let sealed = self.seal();
            self.poisoning(sealed)?;
        }
        let next = self.next.take().expect("looked at above");
        let current = Current { number: next.number, file: next.file.clone(), spans: Vec::new() };
        self.reader.change(|state| {
            let spans = state.current.spans.iter().map(|span| Span::new(span.standing())).collect();
            let before = std::mem::replace(&mut state.current, Current { spans, ..current });
            state.sealed.push_back(Sealed::new(before.number, &before.spans));
        });
        let Prepared { number, file, capacity } = next;
        self.active = Active { number, file, capacity, end: 0, sealed: false };
        Ok(())
    }

    fn no_next(&self) -> LogError {
        LogError::Full { place: self.layout.root.clone(), why: "there is no next segment yet".to_owned() }
    }

    /// Ends the active segment with its index and cuts the zeros behind it, all synced before anything is written to
    /// the next segment: so where a later segment has a head, a seal must be.
    fn seal(&mut self) -> Result<(), DiskError> {
        let (head, start) = (self.head(), self.active.end);
        let at = Place { segment: self.active.number, byte: start + head.len() as u32 };
        let spans = self.reader.look(|state| state.current.spans.clone());
        let seal = segment::write_seal(&self.identity.id, at, self.durable_to, &spans);
        self.active.file.write_at(&mut [IoSlice::new(&head), IoSlice::new(&seal)], u64::from(start))?;
        self.active.file.truncate(u64::from(at.byte) + seal.len() as u64)?;
        self.active.file.sync()?;
        self.active.sealed = true;
        Ok(())
    }

    /// What has to be done so that there is a next segment; nothing where there is one.
    pub fn preparation(&self) -> Option<Preparation<D>> {
        let (smallest, largest) = self.sizes;
        let capacity = self.active.capacity.saturating_mul(2).max(smallest).min(largest);
        let number = self.active.number + 1;
        let preparation = Preparation::new(self.disk.clone(), self.layout.clone(), number, capacity);
        self.next.is_none().then_some(preparation)
    }

    /// Takes a segment that [`Preparation::run`] made.
    pub fn adopt(&mut self, prepared: Prepared<D>) {
        debug_assert_eq!(prepared.number, self.active.number + 1, "there is only one preparation at a time");
        self.next = Some(prepared);
    }

    /// Prepares the next segment here and now, unless there is one.
    pub fn prepare_next(&mut self) -> Result<(), LogError> {
        if let Some(preparation) = self.preparation() {
            let prepared = preparation.run()?;
            self.adopt(prepared);
        }
        Ok(())
    }

    /// The offset that the partition's next record will have, as far as it is durable.
    pub fn tail(&self, partition: Partition) -> Result<Offset, LogError> {
        self.reader.tail(partition)
    }

    /// The first offset that the partition still has.
    pub fn start(&self, partition: Partition) -> Result<Offset, LogError> {
        self.reader.start(partition)
    }

    /// Reads durable records from `from` on, about `bytes` of them and at least one where there is one.
    pub fn read(&self, partition: Partition, from: Offset, bytes: usize) -> Result<Vec<Entry>, LogError> {
        self.reader.read(partition, from, bytes)
    }

    /// Lets go of the partition's records before `before`.
    pub fn trim(&self, partition: Partition, before: Offset) -> Result<(), LogError> {
        super::trim::trim(&self.disk, &self.layout, &self.reader, &self.reserve, partition, before)
    }

    /// Closes the journal and marks that it ended well, so that the next opening need not copy the last segment.
    pub fn close(self) -> Result<(), LogError> {
        self.sound()?;
        if !self.written.is_empty() {
            return Ok(());
        }
        let end = Place { segment: self.active.number, byte: self.active.end };
        Ok(layout::write_clean(&self.disk, &self.layout, self.identity, end)?)
    }

    fn sound(&self) -> Result<(), LogError> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    /// After a failed write or sync nobody knows what the disk holds, and a second sync may say yes to lost pages. So
    /// nothing is tried again; only opening the log anew tells.
    fn poisoning(&mut self, result: Result<(), DiskError>) -> Result<(), LogError> {
        result.map_err(|error| {
            let DiskError { doing, place, why, .. } = error;
            let error = LogError::Io { doing, place: place.display().to_string(), why };
            self.poison = Some(error.clone());
            error
        })
    }
}
