//! Where a test's node keeps its things: in memory or on disk, both outliving the node itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use omium_log::blobs::Swept;
use omium_log::contract::Waiting;
use omium_log::{BlobError, Blobs, EmbeddedLog, EmbeddedOptions, Log, MemoryLog};
use omium_processor::Processors;
use omium_runtime::{Config, MemoryVault, Node, NodeParts};
use omium_schemas::{BlobId, BlobRef};
use omium_store::{MemoryStore, RocksStore, Settings, Store};

use crate::faulty::FaultyLog;
use crate::world::{Running, TestWorld};

/// What is kept between two openings.
pub(crate) enum Place {
    Memory(Arc<MemoryLog>, Arc<MemoryStore>),
    Faulty(Arc<FaultyLog>, Arc<MemoryStore>),
    Disk(tempfile::TempDir, u16),
}

impl Place {
    pub(crate) fn memory(partitions: u16) -> Place {
        Place::Memory(Arc::new(MemoryLog::new(partitions).expect("a thread")), Arc::default())
    }

    pub(crate) fn disk(partitions: u16) -> Place {
        Place::Disk(tempfile::tempdir().expect("a temporary directory"), partitions)
    }

    /// Both kinds, with one and with eight partitions.
    pub(crate) fn all() -> Vec<Place> {
        vec![Place::memory(1), Place::memory(8), Place::disk(1), Place::disk(8)]
    }

    pub(crate) fn config(&self) -> Config {
        let partitions = match self {
            Place::Memory(log, _) => log.partitions(),
            Place::Faulty(log, _) => log.partitions(),
            Place::Disk(_, partitions) => *partitions,
        };
        Config { partitions, ..Config::default() }
    }

    pub(crate) fn parts(&self) -> (Arc<dyn Log>, Arc<dyn Store>) {
        match self {
            Place::Memory(log, store) => (log.clone(), store.clone()),
            Place::Faulty(log, store) => (log.clone(), store.clone()),
            Place::Disk(dir, partitions) => {
                let options = EmbeddedOptions::new(dir.path().join("log"), *partitions).expect("randomness");
                let store =
                    RocksStore::open(&dir.path().join("state"), Settings::default()).expect("a store");
                (Arc::new(EmbeddedLog::open(options).expect("a log")), Arc::new(store))
            }
        }
    }

    /// Opens a node here.
    pub(crate) async fn open<P: Processors>(&self) -> Running<P> {
        self.open_with(self.config(), Arc::<KeptBlobs>::default()).await
    }

    /// Opens a node here, set in another way.
    pub(crate) async fn open_with<P: Processors>(&self, config: Config, blobs: Arc<dyn Blobs>) -> Running<P> {
        let (log, store) = self.parts();
        let (world, events) = TestWorld::new();
        let vault = Arc::new(MemoryVault::new([7; 32]));
        let parts = NodeParts { log, store, blobs, vault, world, config, under_way: None };
        Running::new(Node::open(parts).await.expect("a node"), events)
    }

    /// Forgets what a power cut would take from the store.
    pub(crate) fn lose_unflushed_state(&self) {
        if let Place::Memory(_, store) | Place::Faulty(_, store) = self {
            store.crash(0);
        }
    }
}

/// Blobs in memory.
#[derive(Default)]
pub(crate) struct KeptBlobs(pub(crate) Mutex<BTreeMap<BlobId, Bytes>>);

impl Blobs for KeptBlobs {
    fn put(&self, name: BlobId, sealed: Bytes) -> Waiting<'_, Result<(), BlobError>> {
        self.0.lock().expect("no panic").insert(name, sealed);
        Box::pin(async { Ok(()) })
    }

    fn get(&self, place: BlobRef) -> Waiting<'_, Result<Bytes, BlobError>> {
        let found = self.0.lock().expect("no panic").get(&place.blob).cloned();
        let run = found.map(|whole| whole.slice(place.at as usize..(place.at + place.length) as usize));
        Box::pin(async move { run.ok_or(BlobError::Missing { place: place.blob.hex().into() }) })
    }

    fn remove(&self, name: BlobId) -> Waiting<'_, Result<(), BlobError>> {
        self.0.lock().expect("no panic").remove(&name);
        Box::pin(async { Ok(()) })
    }

    fn sweep(&self, _: BTreeSet<BlobId>, _: SystemTime) -> Waiting<'_, Result<Swept, BlobError>> {
        Box::pin(async { Ok(Swept::default()) })
    }
}
