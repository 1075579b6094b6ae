//! Room kept on the disk for what ends something that is under way, when there is none for anything else.
//!
//! It is a file of zeros like a segment that was made ahead, so that it serves as the next segment by getting its name:
//! nobody else can take the room in between.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::layout::Layout;
use super::prepare::{Prepared, zero};
use crate::disk::{Disk, DiskError, DiskFault, DiskFile};

/// Below this a block of any size may not fit, so such a file is none of ours.
const LEAST: u64 = 1 << 20;

/// The file of one log.
pub(crate) struct Reserve<D: Disk> {
    disk: D,
    layout: Layout,
    size: u32,
    /// Whether it is there, as far as this process knows.
    there: Mutex<bool>,
}

impl<D: Disk> Reserve<D> {
    /// Looks whether it is there.
    pub(crate) fn find(disk: D, layout: Layout, size: u32) -> Reserve<D> {
        let measured = disk.open_to_read(&layout.reserve()).and_then(|file| file.size());
        let there = measured.is_ok_and(|size| size >= LEAST && u32::try_from(size).is_ok());
        Reserve { disk, layout, size, there: Mutex::new(there) }
    }

    /// Makes it where it is missing. Where that fails it takes no room.
    pub(crate) fn keep(&self) -> Result<(), DiskError> {
        let mut there = self.there();
        if *there {
            return Ok(());
        }
        let unfinished = self.layout.reserve().with_extension("tmp");
        let made = self.make(&unfinished);
        if made.is_err() {
            // Whether this fails too changes nothing.
            let _ = self.disk.remove(&unfinished);
        }
        *there = made.is_ok();
        made
    }

    fn make(&self, unfinished: &std::path::Path) -> Result<(), DiskError> {
        let file = self.disk.create(unfinished)?;
        zero(&file, 0, u64::from(self.size))?;
        self.disk.rename(unfinished, &self.layout.reserve())?;
        self.disk.sync_dir(&self.layout.journal())
    }

    /// Makes a segment of it; nothing where it is used up.
    pub(crate) fn give(&self, number: u32) -> Result<Option<Prepared<D>>, DiskError> {
        let mut there = self.there();
        if !std::mem::take(&mut *there) {
            return Ok(None);
        }
        let path = self.layout.segment(number);
        match self.disk.rename(&self.layout.reserve(), &path) {
            Err(error) if error.fault.passes() || error.fault == DiskFault::Missing => return Ok(None),
            renamed => renamed?,
        }
        self.disk.sync_dir(&self.layout.journal())?;
        let file = self.disk.open(&path)?;
        let capacity = u32::try_from(file.size()?).unwrap_or(u32::MAX);
        Ok(Some(Prepared { number, file: Arc::new(file), capacity }))
    }

    /// Gives its room back to the disk. Whether there was any.
    pub(crate) fn give_up(&self) -> bool {
        let mut there = self.there();
        std::mem::take(&mut *there) && self.disk.remove(&self.layout.reserve()).is_ok()
    }

    fn there(&self) -> MutexGuard<'_, bool> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
