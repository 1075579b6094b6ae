//! The operating system's files.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::{Disk, DiskError, DiskFault, DiskFile};

/// The most parts that one vectored write takes on Linux.
const MOST_PARTS: usize = 1024;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A file of the operating system.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
}

/// A held `flock`; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct RealLock {
    file: File,
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that is just being started shares the lock until it runs its own program.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

fn failed(doing: &'static str, place: &Path, error: &io::Error) -> DiskError {
    let fault = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => DiskFault::Full,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => DiskFault::Exhausted,
        Some(Errno::ROFS) => DiskFault::ReadOnly,
        Some(Errno::NOENT | Errno::NOTDIR) => DiskFault::Missing,
        Some(Errno::ACCESS | Errno::PERM) => DiskFault::Denied,
        Some(Errno::WOULDBLOCK) => DiskFault::Held,
        _ => DiskFault::Failed,
    };
    DiskError { fault, doing, place: place.to_owned(), why: error.to_string() }
}

fn no_file(place: &Path) -> DiskError {
    let why = "it is not a regular file".to_owned();
    DiskError { fault: DiskFault::Failed, doing: "opening", place: place.to_owned(), why }
}

fn opened(options: &OpenOptions, path: &Path, doing: &'static str) -> Result<RealFile, DiskError> {
    let file = options.open(path).map_err(|error| failed(doing, path, &error))?;
    Ok(RealFile { file, path: path.to_owned() })
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn create(&self, path: &Path) -> Result<RealFile, DiskError> {
        opened(OpenOptions::new().read(true).write(true).create(true).truncate(true), path, "creating")
    }

    fn open(&self, path: &Path) -> Result<RealFile, DiskError> {
        opened(OpenOptions::new().read(true).write(true), path, "opening")
    }

    fn open_to_read(&self, path: &Path) -> Result<RealFile, DiskError> {
        // Without waiting: a pipe or a device that was put in a file's place must not hold anybody up.
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let file = opened(OpenOptions::new().read(true).custom_flags(nonblocking), path, "opening")?;
        let kind = file.file.metadata().map_err(|error| failed("measuring", path, &error))?;
        if kind.is_file() { Ok(file) } else { Err(no_file(path)) }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        std::fs::rename(from, to).map_err(|error| failed("renaming", from, &error))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        std::fs::remove_file(path).map_err(|error| failed("removing", path, &error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let listed = || -> io::Result<Vec<String>> {
            let names =
                std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        };
        listed().map_err(|error| failed("listing", dir, &error))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("creating", dir, &error))
            }
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| failed("syncing", dir, &error))
    }

    fn lock(&self, path: &Path) -> Result<RealLock, DiskError> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let RealFile { mut file, .. } = opened(&options, path, "opening")?;
        if let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            let mut error = failed("locking", path, &error.into());
            if error.fault == DiskFault::Held {
                error.why = holder(&mut file);
                error.place = path.parent().unwrap_or(path).to_owned();
            }
            return Err(error);
        }
        // The pid is for people who meet the error; the lock is what counts, so a failure to write it is harmless.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(RealLock { file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(20).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("reading", &self.path, &error)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], at: u64) -> Result<(), DiskError> {
        let (mut parts, mut at) = (parts, at);
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match rustix::io::pwritev(&self.file, &parts[..parts.len().min(MOST_PARTS)], at) {
                Ok(0) => return Err(failed("writing", &self.path, &io::ErrorKind::WriteZero.into())),
                Ok(length) => {
                    at += length as u64;
                    IoSlice::advance_slices(&mut parts, length);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed("writing", &self.path, &error.into())),
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        rustix::fs::fdatasync(&self.file).map_err(|error| failed("syncing", &self.path, &error.into()))
    }

    fn size(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata().map_err(|error| failed("measuring", &self.path, &error))?;
        Ok(metadata.len())
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.file.set_len(size).map_err(|error| failed("cutting", &self.path, &error))
    }
}
