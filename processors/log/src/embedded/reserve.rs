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

    /// Makes it where it is missing. Where that fails it takes no room. Whether it was made.
    pub(crate) fn keep(&self) -> Result<bool, DiskError> {
        let mut there = self.there();
        if *there {
            return Ok(false);
        }
        let unfinished = self.layout.reserve().with_extension("tmp");
        let made = self.make(&unfinished);
        if made.is_err() {
            // Whether this fails too changes nothing.
            let _ = self.disk.remove(&unfinished);
        }
        *there = made.is_ok();
        made.map(|()| true)
    }

    fn make(&self, unfinished: &std::path::Path) -> Result<(), DiskError> {
        let file = self.disk.create(unfinished)?;
        zero(&file, 0, u64::from(self.size))?;
        self.disk.rename(unfinished, &self.layout.reserve())?;
        self.disk.sync_dir(&self.layout.journal())
    }

    /// Makes a segment of it; nothing where it is used up, or where that cannot be done for now: then it stays what it is.
    pub(crate) fn give(&self, number: u32) -> Result<Option<Prepared<D>>, DiskError> {
        let mut there = self.there();
        if !*there {
            return Ok(None);
        }
        let (reserve, path) = (self.layout.reserve(), self.layout.segment(number));
        let opened = self.disk.open(&reserve).and_then(|file| Ok((file.size()?, file)));
        let renamed = opened.and_then(|opened| self.disk.rename(&reserve, &path).map(|()| opened));
        let (size, file) = match renamed {
            Ok(opened) => opened,
            Err(error) if error.fault == DiskFault::Missing => {
                *there = false;
                return Ok(None);
            }
            Err(error) if error.fault.passes() => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Err(error) = self.disk.sync_dir(&self.layout.journal()) {
            let back = error.fault.passes() && self.disk.rename(&path, &reserve).is_ok();
            return if back { Ok(None) } else { Err(error) };
        }
        *there = false;
        let capacity = u32::try_from(size).unwrap_or(u32::MAX);
        Ok(Some(Prepared { number, file: Arc::new(file), capacity }))
    }

    /// Gives its room back to the disk while something is done that needs some. Whether there was any.
    pub(crate) fn give_up<T>(&self, meanwhile: impl FnOnce() -> T) -> Option<T> {
        let mut there = self.there();
        if !*there || self.disk.remove(&self.layout.reserve()).is_err() {
            return None;
        }
        *there = false;
        // Nobody makes it again as long as this holds it.
        Some(meanwhile())
    }

    fn there(&self) -> MutexGuard<'_, bool> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
