//! Keys in a file beside the log: random data keys per stream, under a tenant's key, under a master key that stands in
//! a file of its own and never in the log.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use omium_schemas::{Digest, KeyId, TenantId};

use super::error::VaultError;
use super::slot::{SLOT, Slot, Wrapper};
use crate::key::{Lookup, StreamKey};
use crate::sealing::{DataKey, Vault};

/// How many opened data keys are kept ready.
const READY: usize = 10_000;

/// A vault on disk. A key is on disk for good before anything is sealed under it.
pub struct FileVault {
    place: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    master: Wrapper,
    tenants: Lookup<TenantId, Wrapper>,
    /// The slot of each stream's key; 0 where it was destroyed.
    streams: Lookup<StreamKey, u64>,
    ready: Lookup<u64, DataKey>,
    /// How many slots there are, the head included.
    slots: u64,
}

impl FileVault {
    /// Opens the vault in this file under the master key in that one. Both are made where there is neither.
    pub fn open(place: &Path, master: &Path) -> Result<FileVault, VaultError> {
        let io = |doing| failed(doing, place);
        let fresh = std::fs::metadata(place).map_or(true, |found| found.len() == 0);
        let secret = if fresh { make_master(master)? } else { read_master(master, place)? };
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(place);
        let file = file.map_err(io("opening"))?;
        if fresh {
            file.write_all_at(&Slot::Head { certain: 1 }.bytes(), 0).map_err(io("writing"))?;
            file.sync_all().and_then(|()| sync_parent(place)).map_err(io("syncing"))?;
        }
        let inner = Inner::read(file, Wrapper::new(&secret), place, master)?;
        Ok(FileVault { place: place.to_owned(), inner: Mutex::new(inner) })
    }

    /// Destroys the key of a stream: what was sealed under it cannot be opened by anyone, and nothing new can be sealed
    /// for this stream.
    pub fn destroy(&self, stream: &StreamKey) -> Result<(), VaultError> {
        let mut inner = self.inner();
        let at = match inner.streams.get(stream) {
            Some(0) => return Ok(()),
            Some(at) => *at,
            // It never had one: the slot remembers that it must not get one either.
            None => inner.slots,
        };
        let slot = Slot::Destroyed(*stream).bytes();
        // Written over, not beside: the sealed key itself must go.
        let written = inner.file.write_all_at(&slot, at * SLOT as u64).and_then(|()| inner.file.sync_data());
        written.map_err(failed("writing", &self.place))?;
        inner.slots = inner.slots.max(at + 1);
        inner.streams.insert(*stream, 0);
        inner.ready.remove(&at);
        inner.tell().map_err(failed("writing", &self.place))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault for FileVault {
    fn sealing(&self, stream: &StreamKey) -> Option<DataKey> {
        if !self.has(stream)
            && let Err(error) = self.provide(std::slice::from_ref(stream))
        {
            tracing::error!(%error, "no key could be made");
            return None;
        }
        let mut inner = self.inner();
        let at = inner.streams.get(stream).copied().filter(|at| *at > 0)?;
        inner.key(stream, at)
    }

    fn opening(&self, stream: &StreamKey, id: KeyId) -> Option<DataKey> {
        let mut inner = self.inner();
        // Only the newest key of a stream is remembered by stream; a slot knows itself whose it is.
        (id.0 > 0 && id.0 < inner.slots).then(|| inner.key(stream, id.0)).flatten()
    }

    fn has(&self, stream: &StreamKey) -> bool {
        self.inner().streams.contains_key(stream)
    }

    fn provide(&self, streams: &[StreamKey]) -> Result<(), String> {
        let mut inner = self.inner();
        inner.make(streams).map_err(|error| failed("writing", &self.place)(error).to_string())
    }
}

impl Inner {
    fn read(file: File, master: Wrapper, place: &Path, master_place: &Path) -> Result<Inner, VaultError> {
        let (tenants, streams, ready) = (Lookup::default(), Lookup::default(), Lookup::default());
        let length = file.metadata().map_err(failed("reading", place))?.len();
        let mut inner = Inner { file, master, tenants, streams, ready, slots: 1 };
        let head = inner.slot(0).map_err(failed("reading", place))?;
        let Some(Slot::Head { certain }) = head else {
            return Err(VaultError::Foreign { place: place.to_owned() });
        };
        let damaged =
            |at: u64, why| VaultError::Damaged { place: place.to_owned(), at: at * SLOT as u64, why };
        if length / (SLOT as u64) < certain {
            return Err(damaged(
                length / SLOT as u64,
                "keys that were there are missing: the file was cut short",
            ));
        }
        for at in 1..length.div_ceil(SLOT as u64) {
            let Some(slot) = inner.slot(at).map_err(failed("reading", place))? else {
                if at < certain {
                    return Err(damaged(at, "the key's checksum is wrong"));
                }
                // The last keys of a process that was killed while it made them: nothing was sealed under them.
                inner.file.set_len(at * SLOT as u64).map_err(failed("writing", place))?;
                break;
            };
            let why = "is another one";
            let (keys, master) = (place.to_owned(), master_place.to_owned());
            inner.take_in(slot, at).ok_or(VaultError::NoMaster { keys, master, why })?;
            inner.slots = at + 1;
        }
        if inner.slots > certain {
            inner.file.sync_data().and_then(|()| inner.tell()).map_err(failed("writing", place))?;
        }
        Ok(inner)
    }

    fn slot(&self, at: u64) -> std::io::Result<Option<Slot>> {
        let mut bytes = [0; SLOT];
        match self.file.read_exact_at(&mut bytes, at * SLOT as u64) {
            Ok(()) => Ok(Slot::read(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take_in(&mut self, slot: Slot, at: u64) -> Option<()> {
        match slot {
            Slot::Head { .. } => return None,
            Slot::Tenant(tenant, wrapped) => {
                let secret = self.master.unwrap(&wrapped, at, &tenant.0)?;
                self.tenants.insert(tenant, Wrapper::new(&secret));
            }
            Slot::Data(stream, _) => drop(self.streams.insert(stream, at)),
            Slot::Destroyed(stream) => drop(self.streams.insert(stream, 0)),
        }
        Some(())
    }

    /// Says in the head how many slots are on disk for good: what is missing of them later was lost, not torn. This
    /// itself need not be synced, the next keys' sync takes it along.
    fn tell(&self) -> std::io::Result<()> {
        self.file.write_all_at(&Slot::Head { certain: self.slots }.bytes(), 0)
    }

    /// Makes the keys that are missing, and returns when they are on disk.
    fn make(&mut self, streams: &[StreamKey]) -> std::io::Result<()> {
        let certain = self.slots;
        let mut bytes = Vec::new();
        let mut made = Vec::new();
        let mut tenants = Vec::new();
        for stream in streams.iter().filter(|stream| !self.streams.contains_key(*stream)) {
            let at = |bytes: &Vec<u8>| certain + (bytes.len() / SLOT) as u64;
            if !self.tenants.contains_key(&stream.tenant) {
                let secret = random();
                let wrapped = self.master.wrap(&secret, at(&bytes), &stream.tenant.0);
                bytes.extend_from_slice(&Slot::Tenant(stream.tenant, wrapped).bytes());
                self.tenants.insert(stream.tenant, Wrapper::new(&secret));
                tenants.push(stream.tenant);
            }
            let tenant = self.tenants.get(&stream.tenant).expect("it was just made");
            let place = at(&bytes);
            let wrapped = tenant.wrap(&random(), place, stream.stream.bytes());
            bytes.extend_from_slice(&Slot::Data(*stream, wrapped).bytes());
            made.push((*stream, place));
        }
        let written =
            (self.file.write_all_at(&bytes, certain * SLOT as u64)).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            tenants.iter().for_each(|tenant| drop(self.tenants.remove(tenant)));
            return Err(error);
        }
        self.slots += (bytes.len() / SLOT) as u64;
        self.streams.extend(made);
        self.tell()
    }

    fn key(&mut self, stream: &StreamKey, at: u64) -> Option<DataKey> {
        if let Some(key) = self.ready.get(&at) {
            return Some(key.clone());
        }
        let Ok(Some(Slot::Data(owner, wrapped))) = self.slot(at) else { return None };
        let tenant = self.tenants.get(&owner.tenant)?;
        let secret = tenant.unwrap(&wrapped, at, owner.stream.bytes()).filter(|_| owner == *stream)?;
        let key = DataKey::new(KeyId(at), secret);
        if self.ready.len() >= READY {
            self.ready.clear();
        }
        self.ready.insert(at, key.clone());
        Some(key)
    }
}

fn failed(doing: &'static str, place: &Path) -> impl Fn(std::io::Error) -> VaultError {
    move |error| VaultError::Io { doing, place: place.to_owned(), why: error.to_string() }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

fn sync_parent(place: &Path) -> std::io::Result<()> {
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes the master key, or takes the one that stands there for a new vault.
fn make_master(place: &Path) -> Result<[u8; 32], VaultError> {
    if let Ok(secret) = read_master(place, place) {
        return Ok(secret);
    }
    let secret = random();
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(place).and_then(|mut file| {
        writeln!(file, "{}", Digest(secret).hex())?;
        file.sync_all()?;
        sync_parent(place)
    });
    made.map_err(failed("making the master key", place))?;
    Ok(secret)
}

fn read_master(place: &Path, keys: &Path) -> Result<[u8; 32], VaultError> {
    let no_master = |why| VaultError::NoMaster { keys: keys.to_owned(), master: place.to_owned(), why };
    let mut text = String::new();
    let read = File::open(place).and_then(|file| file.take(1024).read_to_string(&mut text));
    read.map_err(|_| no_master("cannot be read"))?;
    Ok(Digest::from_hex(text.trim_end()).ok_or_else(|| no_master("is not 64 hexadecimal digits"))?.0)
}
