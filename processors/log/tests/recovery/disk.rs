//! A real disk that fails when it is told to.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use omium_log::disk::{Disk, DiskError, DiskFault, DiskFile, RealDisk, RealFile, RealLock};

/// What goes wrong.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) full: AtomicBool,
    /// What can still be written where it is full: a part of what was removed, for others take the rest.
    pub(crate) freed: AtomicU64,
    pub(crate) no_new_file: AtomicBool,
    pub(crate) read_only: AtomicBool,
    /// No folder can be synced, as where the table of open files is full.
    pub(crate) no_sync_of_folders: AtomicBool,
    /// Which of the journal's writes from now on fails, counted from 1; 0 for none. Likewise for syncs.
    pub(crate) failing_write: AtomicU64,
    pub(crate) failing_sync: AtomicU64,
    pub(crate) syncs_after_failure: AtomicU64,
    failed: AtomicBool,
}

#[derive(Clone, Default)]
pub(crate) struct FailingDisk {
    pub(crate) plan: Arc<Plan>,
}

pub(crate) struct FailingFile {
    file: RealFile,
    path: PathBuf,
    plan: Arc<Plan>,
}

impl Plan {
    fn fits(&self, parts: &[IoSlice<'_>]) -> bool {
        let length = parts.iter().map(|part| part.len() as u64).sum();
        let less = |freed: u64| freed.checked_sub(length);
        self.freed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

fn fault(fault: DiskFault, doing: &'static str, place: &Path) -> DiskError {
    DiskError { fault, doing, place: place.to_owned(), why: format!("planned: {fault:?}") }
}

fn is_due(counter: &AtomicU64) -> bool {
    let before = counter.load(Ordering::SeqCst);
    before > 0 && counter.fetch_sub(1, Ordering::SeqCst) == 1
}

impl FailingFile {
    /// The next segment is made beside the journal, at any time; it is left out of the counting.
    fn is_being_made(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "tmp")
    }
}

impl FailingDisk {
    fn of(&self, file: RealFile, path: &Path) -> FailingFile {
        FailingFile { file, path: path.to_owned(), plan: self.plan.clone() }
    }

    fn changing(&self, doing: &'static str, path: &Path) -> Result<(), DiskError> {
        let read_only = self.plan.read_only.load(Ordering::SeqCst);
        if read_only { Err(fault(DiskFault::ReadOnly, doing, path)) } else { Ok(()) }
    }
}

impl Disk for FailingDisk {
    type File = FailingFile;
    type Lock = RealLock;

    fn create(&self, path: &Path) -> Result<FailingFile, DiskError> {
        self.changing("creating", path)?;
        if self.plan.no_new_file.load(Ordering::SeqCst) {
            return Err(fault(DiskFault::Full, "creating", path));
        }
        Ok(self.of(RealDisk.create(path)?, path))
    }

    fn open(&self, path: &Path) -> Result<FailingFile, DiskError> {
        self.changing("opening", path)?;
        Ok(self.of(RealDisk.open(path)?, path))
    }

    fn open_to_read(&self, path: &Path) -> Result<FailingFile, DiskError> {
        Ok(self.of(RealDisk.open_to_read(path)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.changing("renaming", from)?;
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.changing("removing", path)?;
        if path.ends_with("reserve") {
            self.plan.freed.store(64 * 1024, Ordering::SeqCst);
        }
        RealDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.changing("creating", dir)?;
        RealDisk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        if self.plan.no_sync_of_folders.load(Ordering::SeqCst) {
            return Err(fault(DiskFault::Exhausted, "syncing", dir));
        }
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<RealLock, DiskError> {
        self.changing("opening", path)?;
        RealDisk.lock(path)
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> Result<usize, DiskError> {
        self.file.read_at(into, at)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], at: u64) -> Result<(), DiskError> {
        let grows = self.is_being_made();
        if !grows && is_due(&self.plan.failing_write) {
            self.plan.failed.store(true, Ordering::SeqCst);
            return Err(fault(DiskFault::Failed, "writing", &self.path));
        }
        // Only new space runs out: what was zeroed before can be written again.
        if grows && self.plan.full.load(Ordering::SeqCst) && !self.plan.fits(parts) {
            return Err(fault(DiskFault::Full, "writing", &self.path));
        }
        self.file.write_at(parts, at)
    }

    fn sync(&self) -> Result<(), DiskError> {
        let failed = self.plan.failed.load(Ordering::SeqCst);
        self.plan.syncs_after_failure.fetch_add(u64::from(failed && !self.is_being_made()), Ordering::SeqCst);
        if !self.is_being_made() && is_due(&self.plan.failing_sync) {
            self.plan.failed.store(true, Ordering::SeqCst);
            return Err(fault(DiskFault::Failed, "syncing", &self.path));
        }
        self.file.sync()
    }

    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.file.truncate(size)
    }
}
