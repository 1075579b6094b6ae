//! What the embedded log asks of a disk. The real one is the operating system; the simulation has one that lies.

mod real;

use std::fmt;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use crate::contract::LogError;

pub use real::{RealDisk, RealFile, RealLock};

/// A file system, as far as the log needs one. Nothing here is durable before a `sync` says so.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// A held lock; dropping it lets go.
    type Lock: Send + Sync;

    /// Makes a new empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Opens a file for reading alone; a read-only disk allows it.
    fn open_to_read(&self, path: &Path) -> Result<Self::File, DiskError>;

    /// Gives a file another name, over whatever had it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// The names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// Makes a directory, unless it is there.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Makes what happened to a directory's names durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Takes the lock that a file stands for, and writes there who holds it; [`DiskFault::Held`] where another does.
    fn lock(&self, path: &Path) -> Result<Self::Lock, DiskError>;
}

/// An open file.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `into.len()` bytes at `at`; fewer only at the end of the file.
    fn read_at(&self, into: &mut [u8], at: u64) -> Result<usize, DiskError>;

    /// Writes the parts one behind the other at `at`, all of them or an error.
    fn write_at(&self, parts: &mut [IoSlice<'_>], at: u64) -> Result<(), DiskError>;

    /// Makes the file's content durable, its length too.
    fn sync(&self) -> Result<(), DiskError>;

    /// How long it is.
    fn size(&self) -> Result<u64, DiskError>;

    /// Cuts it to `size` bytes.
    fn truncate(&self, size: u64) -> Result<(), DiskError>;
}

/// What kind of failure it was, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// No space, over quota, or over a limit on the size of a file.
    Full,
    /// Too many open files, or no memory for another one.
    Exhausted,
    /// Mounted or set read-only.
    ReadOnly,
    /// It is not there.
    Missing,
    /// This user may not.
    Denied,
    /// Another process holds the lock.
    Held,
    /// The device failed, or anything else.
    Failed,
}

impl DiskFault {
    /// Whether it may go by itself, so that trying again later makes sense.
    pub fn passes(self) -> bool {
        matches!(self, DiskFault::Full | DiskFault::Exhausted)
    }
}

/// A disk operation that failed.
#[derive(Clone, Debug)]
pub struct DiskError {
    /// What kind of failure.
    pub fault: DiskFault,
    /// What was being done, as "reading".
    pub doing: &'static str,
    /// To which file or directory.
    pub place: PathBuf,
    /// The system's own words.
    pub why: String,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} failed: {}", self.doing, self.place.display(), self.why)
    }
}

impl std::error::Error for DiskError {}

impl From<DiskError> for LogError {
    fn from(error: DiskError) -> LogError {
        let DiskError { fault, doing, place, why } = error;
        let hint = match fault {
            DiskFault::Full | DiskFault::Exhausted => return LogError::Full { place, why },
            DiskFault::Held => return LogError::InUse { place, holder: why },
            DiskFault::ReadOnly => "; make it writable, or choose another directory",
            DiskFault::Denied => "; let this user read and write it, or choose another directory",
            DiskFault::Missing => "; check the path",
            DiskFault::Failed => "",
        };
        LogError::Io { doing, place: place.display().to_string(), why: format!("{why}{hint}") }
    }
}

/// Replaces a small file so that a crash leaves the old one or the new one: written beside it, synced, renamed, and
/// the directory synced.
pub fn replace<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let beside = path.with_extension("tmp");
    let file = disk.create(&beside)?;
    file.write_at(&mut [IoSlice::new(bytes)], 0)?;
    file.sync()?;
    disk.rename(&beside, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Reads a small file whole; nothing where it does not exist. Longer than `limit` counts as cut there.
pub fn read_small<D: Disk>(disk: &D, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match disk.open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.fault == DiskFault::Missing => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.size()?.min(limit as u64) as usize];
    let length = file.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(Some(bytes))
}
