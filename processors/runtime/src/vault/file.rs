//! Keys in a file beside the log: random data keys per stream, under a tenant's key, under a master key that stands in
//! a file of its own and never in the log.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

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
    file: File,
    known: RwLock<Known>,
    /// Streams whose keys are wanted. Whoever writes next makes all of them, with one sync.
    wanted: Mutex<Vec<StreamKey>>,
    writer: Mutex<Writer>,
}

/// What is on disk, as far as it is needed to seal and open. Never locked while the disk is waited for.
#[derive(Default)]
struct Known {
    tenants: Lookup<TenantId, Arc<Wrapper>>,
    /// The slot of each stream's key; 0 where it was destroyed.
    streams: Lookup<StreamKey, u64>,
    /// Data keys that were opened, by slot.
    ready: Lookup<u64, DataKey>,
}

/// Who makes keys, one at a time.
/// How many slots are given up at once.
const AT_ONCE: usize = 4096;

struct Writer {
    master: Wrapper,
    /// How many slots there are, the head included.
    slots: u64,
    /// The log whose keys these are.
    log: [u8; 16],
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
            file.write_all_at(&Slot::Head { certain: 1, log: [0; 16] }.bytes(), 0).map_err(io("writing"))?;
            file.sync_all().and_then(|()| sync_parent(place)).map_err(io("syncing"))?;
        }
        let mut writer = Writer { master: Wrapper::new(&secret), slots: 1, log: [0; 16] };
        let known = RwLock::new(writer.read(&file, place, master)?);
        let (wanted, writer) = (Mutex::default(), Mutex::new(writer));
        Ok(FileVault { place: place.to_owned(), file, known, wanted, writer })
    }

    /// Destroys the key of a stream: what was sealed under it cannot be opened by anyone, and nothing new can be sealed
    /// for this stream.
    pub fn destroy(&self, stream: &StreamKey) -> Result<(), VaultError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match self.slot_of(stream) {
            Some(0) => return Ok(()),
            Some(at) => at,
            // It never had one: the slot remembers that it must not get one either.
            None => writer.slots,
        };
        let slot = Slot::Destroyed(*stream).bytes();
        // Written over, not beside: the sealed key itself must go.
        let written = self.file.write_all_at(&slot, at * SLOT as u64).and_then(|()| self.file.sync_data());
        written.map_err(failed("writing", &self.place))?;
        writer.slots = writer.slots.max(at + 1);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.streams.insert(*stream, 0);
        known.ready.remove(&at);
        drop(known);
        writer.tell(&self.file).map_err(failed("writing", &self.place))
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot_of(&self, stream: &StreamKey) -> Option<u64> {
        self.known().streams.get(stream).copied()
    }

    /// The key in a slot, where it is this stream's.
    fn key(&self, stream: &StreamKey, at: u64) -> Option<DataKey> {
        if let Some(key) = self.known().ready.get(&at) {
            return Some(key.clone());
        }
        let Ok(Some(Slot::Data(owner, wrapped))) = read_slot(&self.file, at) else { return None };
        let tenant = self.known().tenants.get(&owner.tenant)?.clone();
        let secret = tenant.unwrap(&wrapped, at, owner.stream.bytes()).filter(|_| owner == *stream)?;
        let key = DataKey::new(KeyId(at), secret);
        self.keep_ready(std::iter::once((at, key.clone())));
        Some(key)
    }

    fn keep_ready(&self, keys: impl IntoIterator<Item = (u64, DataKey)>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (at, key) in keys {
            if known.ready.len() >= READY {
                known.ready.clear();
            }
            known.ready.insert(at, key);
        }
    }

    fn make_wanted(&self) -> std::io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|stream| self.slot_of(stream).is_none());
        if wanted.is_empty() {
            return Ok(());
        }
        let mut tenants = self.known().tenants.clone();
        let batch = writer.batch(&wanted, &mut tenants);
        self.file.write_all_at(&batch.bytes, writer.slots * SLOT as u64)?;
        self.file.sync_data()?;
        writer.slots += (batch.bytes.len() / SLOT) as u64;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.tenants = tenants;
        known.streams.extend(batch.made);
        drop(known);
        writer.tell(&self.file)
    }
}

impl Vault for FileVault {
    fn sealing(&self, stream: &StreamKey) -> Option<DataKey> {
        let known = self.known();
        let at = known.streams.get(stream).copied();
        if let Some(key) = at.and_then(|at| known.ready.get(&at)) {
            return Some(key.clone());
        }
        drop(known);
        let at = match at {
            Some(at) => at,
            None => {
                if let Err(error) = self.provide(std::slice::from_ref(stream)) {
                    tracing::error!(%error, "no key could be made");
                    return None;
                }
                self.slot_of(stream)?
            }
        };
        if at == 0 { None } else { self.key(stream, at) }
    }

    fn opening(&self, stream: &StreamKey, id: KeyId) -> Option<DataKey> {
        // A slot knows itself whose it is; the head and slots beyond the end hold no key.
        self.key(stream, id.0)
    }

    fn bind(&self, log: [u8; 16], new: bool) -> Result<(), VaultError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (empty, keys) = (writer.slots == 1, self.place.clone());
        if writer.log == log {
            return Ok(());
        }
        if empty && !new {
            let why = "holds no keys, but the log holds content: it would stay closed for ever";
            return Err(VaultError::OtherLog { keys, why });
        }
        if !empty && writer.log != [0; 16] {
            return Err(VaultError::OtherLog { keys, why: "holds the keys of another log" });
        }
        writer.log = log;
        let told = writer.tell(&self.file).and_then(|()| self.file.sync_data());
        told.map_err(failed("writing", &self.place))
    }

    fn reaches(&self, newest: KeyId) -> Result<(), VaultError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0 < writer.slots {
            return Ok(());
        }
        let (keys, accept) = (self.place.clone(), self.place.with_extension("older"));
        let said = match std::fs::read_to_string(&accept) {
            Ok(text) if text.trim() == newest.0.to_string() => None,
            Ok(_) => Some("; what that file says now is another number, or none".to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(String::new()),
            Err(error) => Some(format!("; that file is there and cannot be read: {error}")),
        };
        if let Some(said) = said {
            return Err(VaultError::Older { keys, last: writer.slots - 1, newest: newest.0, accept, said });
        }
        tracing::warn!(keys = %keys.display(), newest = newest.0, "going on without keys that are missing, as told");
        writer.give_up(&self.file, newest.0).map_err(failed("writing", &self.place))
    }

    fn has(&self, stream: &StreamKey) -> bool {
        self.known().streams.contains_key(stream)
    }

    fn has_room(&self) -> bool {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let end = writer.slots * SLOT as u64;
        // A crash in between leaves what a torn key would, which the next opening cuts off.
        let written = self.file.write_all_at(&[0; SLOT], end).and_then(|()| self.file.sync_data());
        let cut = self.file.set_len(end);
        written.and(cut).is_ok()
    }

    fn provide(&self, streams: &[StreamKey]) -> Result<(), String> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(streams);
        self.make_wanted().map_err(|error| failed("writing", &self.place)(error).to_string())?;
        // Another writer may have taken these along and failed; then they are wanted still.
        match streams.iter().all(|stream| self.has(stream)) {
            true => Ok(()),
            false => Err(format!("writing {} failed for another caller; try again", self.place.display())),
        }
    }
}

/// Keys on their way to the disk.
struct Batch {
    bytes: Vec<u8>,
    made: Vec<(StreamKey, u64)>,
}

impl Writer {
    /// Reads all slots once, and cuts off what a crash left half written.
    fn read(&mut self, file: &File, place: &Path, master_place: &Path) -> Result<Known, VaultError> {
        let damaged =
            |at: u64, why| VaultError::Damaged { place: place.to_owned(), at: at * SLOT as u64, why };
        let length = file.metadata().map_err(failed("reading", place))?.len();
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut next = || -> Result<Option<Slot>, VaultError> {
            let mut bytes = [0; SLOT];
            match reader.read_exact(&mut bytes) {
                Ok(()) => Ok(Slot::read(&bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
                Err(error) => Err(failed("reading", place)(error)),
            }
        };
        let Some(Slot::Head { certain, log }) = next()? else {
            return Err(VaultError::Foreign { place: place.to_owned() });
        };
        self.log = log;
        if length / (SLOT as u64) < certain {
            return Err(damaged(
                length / SLOT as u64,
                "keys that were there are missing: the file was cut short",
            ));
        }
        let mut known = Known::default();
        for at in 1..length.div_ceil(SLOT as u64) {
            let Some(slot) = next()? else {
                if at < certain {
                    return Err(damaged(at, "the key's checksum is wrong"));
                }
                // The last keys of a process that was killed while it made them: nothing was sealed under them.
                file.set_len(at * SLOT as u64).map_err(failed("writing", place))?;
                break;
            };
            let why = "is another one";
            let (keys, master) = (place.to_owned(), master_place.to_owned());
            self.take_in(slot, at, &mut known).ok_or(VaultError::NoMaster { keys, master, why })?;
            self.slots = at + 1;
        }
        if self.slots > certain {
            file.sync_data().and_then(|()| self.tell(file)).map_err(failed("writing", place))?;
        }
        Ok(known)
    }

    fn take_in(&self, slot: Slot, at: u64, known: &mut Known) -> Option<()> {
        match slot {
            Slot::Head { .. } => return None,
            Slot::Tenant(tenant, wrapped) => {
                let secret = self.master.unwrap(&wrapped, at, &tenant.0)?;
                known.tenants.insert(tenant, Arc::new(Wrapper::new(&secret)));
            }
            Slot::Data(stream, _) => drop(known.streams.insert(stream, at)),
            Slot::Destroyed(stream) => drop(known.streams.insert(stream, 0)),
            Slot::Lost => {}
        }
        Some(())
    }

    /// Says in the head how many slots are on disk for good: what is missing of them later was lost, not torn. This
    /// itself need not be synced, the next keys' sync takes it along.
    fn tell(&self, file: &File) -> std::io::Result<()> {
        file.write_all_at(&Slot::Head { certain: self.slots, log: self.log }.bytes(), 0)
    }

    /// Takes every number up to this one, so that no new key gets the name of one that is missing.
    fn give_up(&mut self, file: &File, newest: u64) -> std::io::Result<()> {
        // The number comes from the log, or from an operator.
        let slots = newest.checked_add(1).filter(|slots| slots.checked_mul(SLOT as u64).is_some());
        let slots = slots.ok_or_else(|| std::io::Error::other(format!("{newest} is no number of a key")))?;
        for at in (self.slots..slots).step_by(AT_ONCE) {
            let lost = Slot::Lost.bytes().repeat((slots - at).min(AT_ONCE as u64) as usize);
            file.write_all_at(&lost, at * SLOT as u64)?;
        }
        file.sync_data()?;
        self.slots = slots;
        self.tell(file)
    }

    /// New keys for these streams, and for tenants that have none yet.
    fn batch(&self, streams: &[StreamKey], tenants: &mut Lookup<TenantId, Arc<Wrapper>>) -> Batch {
        let mut batch = Batch { bytes: Vec::new(), made: Vec::new() };
        for stream in streams {
            let next = |batch: &Batch| self.slots + (batch.bytes.len() / SLOT) as u64;
            let tenant = tenants.entry(stream.tenant).or_insert_with(|| {
                let secret = random();
                let wrapped = self.master.wrap(&secret, next(&batch), &stream.tenant.0);
                batch.bytes.extend_from_slice(&Slot::Tenant(stream.tenant, wrapped).bytes());
                Arc::new(Wrapper::new(&secret))
            });
            let at = next(&batch);
            let wrapped = tenant.wrap(&random(), at, stream.stream.bytes());
            batch.bytes.extend_from_slice(&Slot::Data(*stream, wrapped).bytes());
            batch.made.push((*stream, at));
        }
        batch
    }
}

fn read_slot(file: &File, at: u64) -> std::io::Result<Option<Slot>> {
    let mut bytes = [0; SLOT];
    match file.read_exact_at(&mut bytes, at.saturating_mul(SLOT as u64)) {
        Ok(()) => Ok(Slot::read(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
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
    // What cannot be read and is not empty is somebody's key, and stays.
    if std::fs::metadata(place).is_ok_and(|found| found.len() > 0) {
        return read_master(place, place);
    }
    let secret = random();
    let beside = place.with_extension("key.tmp");
    let mut options = OpenOptions::new();
    let made =
        options.write(true).create(true).truncate(true).mode(0o600).open(&beside).and_then(|mut file| {
            writeln!(file, "{}", Digest(secret).hex())?;
            file.sync_all()?;
            // Whole or not at all: half a key would keep every later start from succeeding.
            std::fs::rename(&beside, place)?;
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
