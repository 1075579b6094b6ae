//! Making the next segment ahead of its use: zeros, written and synced.

use std::io::IoSlice;
use std::sync::Arc;

use super::layout::Layout;
use super::reserve::Reserve;
use crate::contract::LogError;
use crate::disk::{Disk, DiskError, DiskFault, DiskFile};

/// How much is zeroed between two syncs: small, so that the journal's own syncs do not wait behind it.
const ZEROS: usize = 1024 * 1024;

/// A segment of zeros, made ahead.
pub struct Prepared<D: Disk> {
    pub(crate) number: u32,
    pub(crate) file: Arc<D::File>,
    pub(crate) capacity: u32,
}

/// What it takes to make the next segment; it may run on another thread.
pub struct Preparation<D: Disk> {
    disk: D,
    layout: Layout,
    number: u32,
    capacity: u32,
}

impl<D: Disk> Preparation<D> {
    pub(crate) fn new(disk: D, layout: Layout, number: u32, capacity: u32) -> Preparation<D> {
        Preparation { disk, layout, number, capacity }
    }

    /// Takes what is kept in reserve for it; nothing where that is used up.
    pub(crate) fn run_on(&self, reserve: &Reserve<D>) -> Result<Option<Prepared<D>>, LogError> {
        Ok(reserve.give(self.number)?)
    }

    /// Writes and syncs the zeros. Where space is missing it gives back what it took and says [`LogError::Full`].
    pub fn run(&self) -> Result<Prepared<D>, LogError> {
        let unfinished = self.layout.unfinished(self.number);
        let made = self.make(&unfinished);
        if made.is_err() {
            // Half a segment of zeros is of use to nobody; whether this fails too changes nothing.
            let _ = self.disk.remove(&unfinished);
        }
        match made {
            Ok(prepared) => Ok(prepared),
            Err(DiskError { fault, why, .. }) if fault.passes() => {
                let needs = match fault {
                    DiskFault::Full => {
                        format!("; the next segment needs {} MiB", self.capacity.div_ceil(1 << 20))
                    }
                    // Room is not what is missing.
                    _ => String::new(),
                };
                Err(LogError::Full { place: self.layout.root.clone(), why: why + &needs })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn make(&self, unfinished: &std::path::Path) -> Result<Prepared<D>, DiskError> {
        let file = self.disk.create(unfinished)?;
        zero(&file, 0, u64::from(self.capacity))?;
        let path = self.layout.segment(self.number);
        self.disk.rename(unfinished, &path)?;
        self.disk.sync_dir(&self.layout.journal())?;
        // Opened again under its own name, so that a later error names the right file.
        let file = Arc::new(self.disk.open(&path)?);
        Ok(Prepared { number: self.number, file, capacity: self.capacity })
    }
}

/// Writes zeros from `at` to `end`, and syncs. Real zeros: a hole or a preallocated extent would make every first sync
/// of a page pay for the file system's own bookkeeping.
pub(crate) fn zero<F: DiskFile>(file: &F, at: u64, end: u64) -> Result<(), DiskError> {
    let zeros = vec![0; ZEROS.min((end.saturating_sub(at)) as usize)];
    let mut at = at;
    while at < end {
        let length = zeros.len().min((end - at) as usize);
        file.write_at(&mut [IoSlice::new(&zeros[..length])], at)?;
        file.sync()?;
        at += length as u64;
    }
    Ok(())
}
