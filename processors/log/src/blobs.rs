//! Values too long for a frame, kept beside the log. A blob has a random name and holds one or more runs of sealed bytes.

use std::collections::BTreeSet;
use std::fs;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use omium_schemas::{BlobId, BlobRef, Digest};

use crate::contract::{LogError, Waiting};
use crate::disk::{Disk as _, DiskError, DiskFault, DiskFile as _, RealDisk};

/// The longest blob that is kept.
pub const MAX_BLOB: usize = 64 * 1024 * 1024;

/// Where long values are kept. What was `put` is durable, so a frame may name it.
pub trait Blobs: Send + Sync {
    /// Keeps sealed bytes under a name that was never used before. They are durable when it returns.
    fn put(&self, name: BlobId, sealed: Bytes) -> Waiting<'_, Result<(), BlobError>>;

    /// Gives a run of bytes, checked against its hash.
    fn get(&self, place: BlobRef) -> Waiting<'_, Result<Bytes, BlobError>>;

    /// Removes a blob that no frame names and none will name. It does not matter whether it is there.
    fn remove(&self, name: BlobId) -> Waiting<'_, Result<(), BlobError>>;

    /// Removes what no frame names and was last put before `before`. A blob is put before the frame that names it is
    /// written, so `before` must lie further back than any command takes, seen from when `named` was gathered.
    fn sweep(&self, named: BTreeSet<BlobId>, before: SystemTime) -> Waiting<'_, Result<Swept, BlobError>>;
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many values stay.
    pub kept: u64,
    /// How many were removed.
    pub removed: u64,
    /// How many bytes that gave back.
    pub bytes: u64,
}

/// Why a value cannot be kept or given.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// It is too large.
    #[error(
        "a value of {size} bytes is too large to keep, {MAX_BLOB} are allowed; split it, or pass a reference to it"
    )]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// It is not there.
    #[error("{place} is missing; restore it from a backup of the directory")]
    Missing {
        /// Its file.
        place: PathBuf,
    },
    /// Its bytes are not those that were kept.
    #[error(
        "{place} is damaged: its bytes are not those that were written; restore it from a backup of the directory"
    )]
    Damaged {
        /// Its file.
        place: PathBuf,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] LogError),
}

impl BlobError {
    /// Whether it may go by itself: no space, too many open files. Anything else stays until somebody does something.
    pub fn passes(&self) -> bool {
        matches!(self, BlobError::Disk(LogError::Full { .. }))
    }
}

impl From<DiskError> for BlobError {
    fn from(error: DiskError) -> BlobError {
        BlobError::Disk(error.into())
    }
}

/// A directory of values, one file each. One process uses it at a time: the one that holds the log beside it.
pub struct BlobDirectory {
    kept: Arc<Kept>,
}

struct Kept {
    root: PathBuf,
    counter: AtomicU64,
    /// A sweep looks at a file and removes it; meanwhile nobody may put it again.
    names: Mutex<()>,
}

impl BlobDirectory {
    /// Opens the directory, or makes it where only it is missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<BlobDirectory, BlobError> {
        let root = root.into();
        RealDisk.create_dir(&root)?;
        RealDisk.sync_dir(
            root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        )?;
        Ok(BlobDirectory {
            kept: Arc::new(Kept { root, counter: AtomicU64::new(0), names: Mutex::default() }),
        })
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Kept) -> Result<T, BlobError> + Send + 'static,
    ) -> Waiting<'_, Result<T, BlobError>> {
        let kept = self.kept.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&kept)).await;
            done.unwrap_or(Err(BlobError::Disk(LogError::Closed)))
        })
    }
}

impl Blobs for BlobDirectory {
    fn put(&self, name: BlobId, sealed: Bytes) -> Waiting<'_, Result<(), BlobError>> {
        self.blocking(move |kept| kept.put(name, &sealed))
    }

    fn get(&self, place: BlobRef) -> Waiting<'_, Result<Bytes, BlobError>> {
        self.blocking(move |kept| kept.get(&place))
    }

    fn remove(&self, name: BlobId) -> Waiting<'_, Result<(), BlobError>> {
        self.blocking(move |kept| match RealDisk.remove(&kept.root.join(name.hex())) {
            Err(error) if error.fault != DiskFault::Missing => Err(error.into()),
            _ => Ok(()),
        })
    }

    fn sweep(&self, named: BTreeSet<BlobId>, before: SystemTime) -> Waiting<'_, Result<Swept, BlobError>> {
        self.blocking(move |kept| kept.sweep(&named, before))
    }
}

impl Kept {
    fn put(&self, name: BlobId, sealed: &[u8]) -> Result<(), BlobError> {
        if sealed.len() > MAX_BLOB {
            return Err(BlobError::TooLarge { size: sealed.len() as u64 });
        }
        let beside =
            self.root.join(format!("{}.{}.tmp", name.hex(), self.counter.fetch_add(1, Ordering::Relaxed)));
        let put = self.put_beside(&beside, name, sealed);
        if put.is_err() {
            // What is left of it is swept later, if it cannot be removed now.
            let _ = RealDisk.remove(&beside);
        }
        Ok(put?)
    }

    fn put_beside(&self, beside: &Path, name: BlobId, sealed: &[u8]) -> Result<(), DiskError> {
        let file = RealDisk.create(beside)?;
        file.write_at(&mut [IoSlice::new(sealed)], 0)?;
        file.sync()?;
        let _sweeping = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        RealDisk.rename(beside, &self.root.join(name.hex()))?;
        RealDisk.sync_dir(&self.root)
    }

    fn get(&self, run: &BlobRef) -> Result<Bytes, BlobError> {
        let place = self.root.join(run.blob.hex());
        let file = match RealDisk.open_to_read(&place) {
            Ok(file) => file,
            Err(error) if error.fault == DiskFault::Missing => return Err(BlobError::Missing { place }),
            Err(error) => return Err(error.into()),
        };
        let end = run.at.checked_add(run.length).filter(|_| run.length <= MAX_BLOB as u64);
        let size = file.size()?;
        if end.is_none_or(|end| end > size) {
            return Err(BlobError::Damaged { place });
        }
        let mut bytes = vec![0; run.length as usize];
        let read = file.read_at(&mut bytes, run.at)?;
        if read != bytes.len() || Digest::of(&bytes) != run.sha256 {
            return Err(BlobError::Damaged { place });
        }
        Ok(bytes.into())
    }

    fn sweep(&self, named: &BTreeSet<BlobId>, before: SystemTime) -> Result<Swept, BlobError> {
        let mut swept = Swept::default();
        for file in RealDisk.list(&self.root)? {
            let name = BlobId::from_hex(&file);
            // What is neither a value nor left over from a put is not ours to remove.
            let orphan = name.map_or(file.ends_with(".tmp"), |name| !named.contains(&name));
            let _nobody_puts = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            match orphan.then(|| old(&self.root.join(&file), before)).flatten() {
                Some(bytes) => {
                    RealDisk.remove(&self.root.join(&file))?;
                    swept.removed += 1;
                    swept.bytes += bytes;
                }
                None => swept.kept += u64::from(name.is_some()),
            }
        }
        RealDisk.sync_dir(&self.root)?;
        Ok(swept)
    }
}

/// The size of a file that was last written before a moment; nothing for a younger one, or where that is unknown.
fn old(path: &Path, before: SystemTime) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    (metadata.modified().ok()? < before).then_some(metadata.len())
}
