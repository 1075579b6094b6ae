//! A disk that forgets: what was written and not synced survives the death of a process but not a power cut, and a
//! write that was under way survives in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use omium_log::disk::{Disk, DiskError, DiskFault, DiskFile};

use crate::chance::Chance;

const SECTOR: usize = 512;

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimDisk {
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    held: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write(at, bytes) => write(to, *at, bytes),
            Change::Cut(size) => to.resize(*size, 0),
        }
    }
}

fn write(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    /// Writes that were not synced and are gone.
    pub(crate) lost: usize,
    /// Writes of which a part is there.
    pub(crate) torn: usize,
}

impl SimDisk {
    pub(crate) fn with_root(root: &Path) -> SimDisk {
        let disk = SimDisk::default();
        disk.inside().dirs.insert(root.to_owned());
        disk
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes only the page cache has.
    pub(crate) fn unsynced(&self) -> usize {
        self.inside().files.iter().map(|file| file.unsynced.len()).sum()
    }

    /// The process is gone, the page cache is not.
    pub(crate) fn kill(&self) {
        self.inside().held.clear();
    }

    /// The power is gone. Of each file's unsynced writes a prefix survives, the next one perhaps in some sectors.
    pub(crate) fn cut_power(&self, chance: &mut Chance) -> Cut {
        let mut cut = Cut::default();
        let mut inside = self.inside();
        inside.held.clear();
        for file in &mut inside.files {
            let unsynced = std::mem::take(&mut file.unsynced);
            let survivors = chance.below(unsynced.len() as u64 + 1) as usize;
            unsynced[..survivors].iter().for_each(|change| change.apply(&mut file.durable));
            cut.lost += unsynced.len() - survivors;
            if let Some(Change::Write(at, bytes)) = unsynced.get(survivors) {
                cut.torn += usize::from(tear(&mut file.durable, *at, bytes, chance));
            }
            file.live = file.durable.clone();
        }
        if chance.per_mille(500) {
            inside.durable_names = inside.names.clone();
        }
        inside.names = inside.durable_names.clone();
        cut
    }
}

/// Some sectors of a write reach the disk, in no particular order; now and then one of them arrives as rubbish.
fn tear(file: &mut Vec<u8>, at: usize, bytes: &[u8], chance: &mut Chance) -> bool {
    let mut some = false;
    let mut from = 0;
    while from < bytes.len() {
        let end = bytes.len().min(((at + from) / SECTOR + 1) * SECTOR - at);
        if chance.per_mille(600) {
            write(file, at + from, &bytes[from..end]);
            some = true;
            if chance.per_mille(250) {
                let place = at + from + chance.below((end - from) as u64) as usize;
                file[place] ^= 1 << chance.below(8);
            }
        }
        from = end;
    }
    some
}

/// An open file of the simulated disk.
pub(crate) struct SimFile {
    disk: SimDisk,
    index: usize,
}

/// A lock; letting go of it is what a dying process does.
pub(crate) struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inside().held.remove(&self.path);
    }
}

fn fail(fault: DiskFault, doing: &'static str, place: &Path) -> DiskError {
    DiskError { fault, doing, place: place.to_owned(), why: format!("{fault:?}") }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, path: &Path) -> Result<SimFile, DiskError> {
        let mut inside = self.inside();
        inside.files.push(File::default());
        let index = inside.files.len() - 1;
        inside.names.insert(path.to_owned(), index);
        Ok(SimFile { disk: self.clone(), index })
    }

    fn open(&self, path: &Path) -> Result<SimFile, DiskError> {
        let index = self.inside().names.get(path).copied();
        let index = index.ok_or_else(|| fail(DiskFault::Missing, "opening", path))?;
        Ok(SimFile { disk: self.clone(), index })
    }

    fn open_to_read(&self, path: &Path) -> Result<SimFile, DiskError> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut inside = self.inside();
        let index = inside.names.remove(from).ok_or_else(|| fail(DiskFault::Missing, "renaming", from))?;
        inside.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let removed = self.inside().names.remove(path);
        removed.map(drop).ok_or_else(|| fail(DiskFault::Missing, "removing", path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let inside = self.inside();
        if !inside.dirs.contains(dir) && dir != Path::new(".") && dir != Path::new("/") {
            return Err(fail(DiskFault::Missing, "listing", dir));
        }
        let here = inside.names.keys().chain(&inside.dirs).filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.inside().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut inside = self.inside();
        let here = |path: &PathBuf| path.parent() == Some(dir);
        let now: Vec<(PathBuf, usize)> = inside
            .names
            .iter()
            .filter(|(path, _)| here(path))
            .map(|(path, index)| (path.clone(), *index))
            .collect();
        inside.durable_names.retain(|path, _| !here(path));
        inside.durable_names.extend(now);
        Ok(())
    }

    fn lock(&self, path: &Path) -> Result<SimLock, DiskError> {
        if !self.inside().held.insert(path.to_owned()) {
            return Err(fail(DiskFault::Held, "locking", path));
        }
        Ok(SimLock { disk: self.clone(), path: path.to_owned() })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> Result<usize, DiskError> {
        let inside = self.disk.inside();
        let live = &inside.files[self.index].live;
        let from = live.len().min(at as usize);
        let count = into.len().min(live.len() - from);
        into[..count].copy_from_slice(&live[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], at: u64) -> Result<(), DiskError> {
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        self.change(Change::Write(at as usize, bytes));
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let mut inside = self.disk.inside();
        let file = &mut inside.files[self.index];
        for change in std::mem::take(&mut file.unsynced) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn size(&self) -> Result<u64, DiskError> {
        Ok(self.disk.inside().files[self.index].live.len() as u64)
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.change(Change::Cut(size as usize));
        Ok(())
    }
}

impl SimFile {
    fn change(&self, change: Change) {
        let mut inside = self.disk.inside();
        let file = &mut inside.files[self.index];
        change.apply(&mut file.live);
        file.unsynced.push(change);
    }
}
