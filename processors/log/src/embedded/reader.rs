//! Reading records back. Only what is synced can be read: the index moves when a sync has ended, never before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use omium_schemas::{Offset, Partition};

use super::layout::{Identity, Layout};
use super::scan::{self, Window, checked};
use super::segment::{self, Place, Point, STEP, Span, WRITE_HEAD, WriteHead};
use crate::contract::{Entry, LogError};
use crate::disk::Disk;

/// How many sealed segments keep their index and file open between reads.
const KEPT_OPEN: usize = 8;
/// How much a read takes from the disk at once: a step and a usual block.
const READ_AHEAD: usize = STEP as usize + 16 * 1024;

/// A segment that is full. Its points stay on disk until someone reads from it.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) number: u32,
    /// First offset and count of each partition.
    pub(crate) rows: Vec<(Offset, u64)>,
}

impl Sealed {
    pub(crate) fn new(number: u32, spans: &[Span]) -> Sealed {
        Sealed { number, rows: spans.iter().map(|span| (span.first, span.count)).collect() }
    }

    fn holds(&self, partition: usize, offset: Offset) -> bool {
        let (first, count) = self.rows[partition];
        offset >= first && offset.0 < first.0 + count
    }
}

/// The segment being written, as far as it is synced.
#[derive(Debug)]
pub(crate) struct Current<D: Disk> {
    pub(crate) number: u32,
    pub(crate) file: Arc<D::File>,
    pub(crate) spans: Vec<Span>,
}

struct Loaded<D: Disk> {
    number: u32,
    file: D::File,
    spans: Vec<Span>,
}

pub(crate) struct State<D: Disk> {
    pub(crate) sealed: VecDeque<Sealed>,
    pub(crate) current: Current<D>,
    pub(crate) starts: Vec<Offset>,
}

/// What readers share with the journal.
pub(crate) struct Reader<D: Disk> {
    disk: D,
    layout: Layout,
    identity: Identity,
    state: RwLock<State<D>>,
    loaded: Mutex<VecDeque<Arc<Loaded<D>>>>,
}

/// A run of records of one partition, from one point on.
struct Run<'a, F> {
    file: &'a F,
    number: u32,
    partition: Partition,
    point: Point,
    first: Offset,
}

impl<D: Disk> Reader<D> {
    pub(crate) fn new(disk: D, layout: Layout, identity: Identity, state: State<D>) -> Reader<D> {
        Reader { disk, layout, identity, state: RwLock::new(state), loaded: Mutex::default() }
    }

    /// Looks at the index.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&State<D>) -> T) -> T {
        at(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the index.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State<D>) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn known(&self, partition: Partition) -> Result<usize, LogError> {
        let partitions = self.identity.partitions;
        let known = partition.0 < partitions;
        known
            .then_some(usize::from(partition.0))
            .ok_or(LogError::NoPartition { wanted: partition, partitions })
    }

    pub(crate) fn start(&self, partition: Partition) -> Result<Offset, LogError> {
        let index = self.known(partition)?;
        Ok(self.look(|state| state.starts[index]))
    }

    pub(crate) fn tail(&self, partition: Partition) -> Result<Offset, LogError> {
        let index = self.known(partition)?;
        Ok(self.look(|state| state.current.spans[index].end()))
    }

    /// Reads records from `from` on, about `bytes` of them and at least one where there is one.
    pub(crate) fn read(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let index = self.known(partition)?;
        let (mut entries, mut taken, mut next) = (Vec::new(), 0, from);
        loop {
            let before = entries.len();
            let read = self.read_some(partition, next, bytes - taken, &mut entries);
            match self.look(|state| state.starts[index]) {
                // The segment may have gone while it was being read.
                start if from < start => return Err(LogError::Trimmed { partition, wanted: from, start }),
                _ => read?,
            }
            taken += entries[before..].iter().map(|entry| entry.bytes.len()).sum::<usize>();
            next.0 += (entries.len() - before) as u64;
            if entries.len() == before || taken >= bytes {
                return Ok(entries);
            }
        }
    }

    /// Reads from one point on, in one segment.
    fn read_some(
        &self,
        partition: Partition,
        from: Offset,
        bytes: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let index = usize::from(partition.0);
        enum Where<D: Disk> {
            Nowhere,
            Sealed(u32),
            Current(u32, Arc<D::File>, Point, Option<Point>, Offset, Offset),
        }
        let place: Where<D> = self.look(|state| {
            let span = &state.current.spans[index];
            if from >= span.end() {
                return Where::Nowhere;
            }
            if from >= span.first {
                let at = span.point_before(from);
                let (point, following) = (span.points[at], span.points.get(at + 1).copied());
                let current = &state.current;
                return Where::Current(
                    current.number,
                    current.file.clone(),
                    point,
                    following,
                    span.first,
                    span.end(),
                );
            }
            let at = state.sealed.partition_point(|sealed| {
                let (first, count) = sealed.rows[index];
                first.0 + count <= from.0
            });
            let sealed = state.sealed.get(at).filter(|sealed| sealed.holds(index, from));
            sealed.map_or(Where::Nowhere, |sealed| Where::Sealed(sealed.number))
        });
        match place {
            Where::Nowhere => Ok(()),
            Where::Sealed(number) => {
                let loaded = self.load(number)?;
                let span = &loaded.spans[index];
                let at = span.point_before(from);
                let run =
                    Run { file: &loaded.file, number, partition, point: span.points[at], first: span.first };
                let until = span
                    .points
                    .get(at + 1)
                    .map_or(span.end(), |point| Offset(span.first.0 + u64::from(point.after)));
                self.walk(&run, from, until, bytes, entries)
            }
            Where::Current(number, file, point, following, first, end) => {
                let run = Run { file: &*file, number, partition, point, first };
                let until = following.map_or(end, |point| Offset(first.0 + u64::from(point.after)));
                self.walk(&run, from, until, bytes, entries)
            }
        }
    }

    /// Walks from a point to the record `until`, and takes what belongs to the partition and is not before `from`.
    fn walk(
        &self,
        run: &Run<'_, D::File>,
        from: Offset,
        until: Offset,
        bytes: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), LogError> {
        let damaged = |byte: u64, why: String| LogError::Damaged {
            place: self.layout.segment(run.number),
            at: byte,
            why,
        };
        let mut window = Window::of(run.file, READ_AHEAD);
        let mut at = u64::from(run.point.byte);
        let mut offset = Offset(run.first.0 + u64::from(run.point.after));
        let mut taken = 0;
        while offset < until && (taken < bytes || taken == 0) {
            let place = Place { segment: run.number, byte: at as u32 };
            let head = window.get(at, omium_schemas::block::BLOCK_HEAD)?;
            if WriteHead::read(&self.identity.id, place, head).is_some() {
                at += WRITE_HEAD as u64;
                continue;
            }
            let (head, length) =
                omium_schemas::block::read_head(head).map_err(|error| damaged(at, error.to_string()))?;
            let whole = window.get(at, length)?;
            // Blocks of other partitions are checked too: a flipped partition number would shift every offset behind it.
            checked(whole).map_err(|why| damaged(at, why))?;
            if head.partition == run.partition {
                if offset >= from {
                    taken += length;
                    entries.push(Entry { offset, bytes: Bytes::copy_from_slice(whole) });
                }
                offset = offset.next();
            }
            at += length as u64;
        }
        Ok(())
    }

    /// The file and the index of a sealed segment.
    fn load(&self, number: u32) -> Result<Arc<Loaded<D>>, LogError> {
        let mut kept = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = kept.iter().find(|loaded| loaded.number == number) {
            return Ok(loaded.clone());
        }
        let path = self.layout.segment(number);
        let file = self.disk.open_to_read(&path)?;
        let (_, spans) =
            scan::seal_at_end(&file, self.identity, number)?.ok_or_else(|| unsealed(&self.layout, number))?;
        let loaded = Arc::new(Loaded { number, file, spans });
        kept.push_back(loaded.clone());
        if kept.len() > KEPT_OPEN {
            kept.pop_front();
        }
        Ok(loaded)
    }

    /// Closes the file of a segment that is being let go.
    pub(crate) fn forget(&self, number: u32) {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).retain(|loaded| loaded.number != number);
    }
}

/// The error for a segment that must have a sound seal and has none.
pub(crate) fn unsealed(layout: &Layout, number: u32) -> LogError {
    let place = layout.segment(number);
    let why = "a later segment follows it, so it was sealed, but its seal is missing or damaged".to_owned();
    LogError::Damaged { place, at: u64::from(segment::head_length(0) as u32), why }
}
