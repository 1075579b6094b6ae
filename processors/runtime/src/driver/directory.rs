//! The parts of a node that keeps everything in one directory.

use std::path::Path;
use std::sync::Arc;

use omium_log::blobs::BlobDirectory;
use omium_log::embedded::Claim;
use omium_log::{EmbeddedLog, EmbeddedOptions, Log};
use omium_schemas::{BlockNo, Partition};
use omium_store::{RocksStore, Settings, Store};

use super::node::{NodeParts, OpenError, World};
use crate::key::position_key;
use crate::shell::Config;
use crate::snapshot::Position;
use crate::vault::FileVault;

impl NodeParts {
    /// State, blobs and keys in this directory, beside a log that lives elsewhere. One process at a time may have it.
    pub fn beside(
        root: &Path,
        log: Arc<dyn Log>,
        config: Config,
        world: Arc<dyn World>,
    ) -> Result<NodeParts, OpenError> {
        let made = std::fs::create_dir_all(root);
        made.map_err(|error| OpenError::Directory(root.to_owned(), error.to_string()))?;
        let store = RocksStore::open(&root.join("state"), Settings::default())?;
        let blobs = BlobDirectory::open(root.join("blobs"))?;
        let vault = FileVault::open(&root.join("keys"), &root.join("master.key"))?;
        let under_way = Some(root.join("under-way"));
        let (store, blobs, vault) = (Arc::new(store), Arc::new(blobs), Arc::new(vault));
        Ok(NodeParts { log, store, blobs, vault, world, config, under_way })
    }

    /// Log, state, blobs and keys in this directory, which is made where it is missing. The master key stands beside
    /// the rest until an operator moves it elsewhere.
    pub fn in_directory(root: &Path, config: Config, world: Arc<dyn World>) -> Result<NodeParts, OpenError> {
        let made = std::fs::create_dir_all(root);
        made.map_err(|error| OpenError::Directory(root.to_owned(), error.to_string()))?;
        let mut options = EmbeddedOptions::new(root.join("log"), config.partitions)?;
        let state = root.join("state");
        // Two processes meet at the log first, whose message is the clearer one. Only a state that was there before can
        // claim anything of the log.
        if state.exists() {
            options.journal.claims =
                claims(&RocksStore::open(&state, Settings::default())?, config.partitions)?;
        }
        let log = EmbeddedLog::open(options)?;
        let store = RocksStore::open(&state, Settings::default())?;
        let blobs = BlobDirectory::open(root.join("blobs"))?;
        let vault = FileVault::open(&root.join("keys"), &root.join("master.key"))?;
        Ok(NodeParts {
            log: Arc::new(log),
            store: Arc::new(store),
            blobs: Arc::new(blobs),
            vault: Arc::new(vault),
            world,
            config,
            under_way: Some(root.join("under-way")),
        })
    }
}

/// State is saved only behind blocks that were durable, so a log that ends before it has lost something.
fn claims(store: &dyn Store, partitions: u16) -> Result<Vec<Claim>, OpenError> {
    let keys: Vec<Vec<u8>> = (0..partitions).map(|n| position_key(Partition(n))).collect();
    let rows = store.get(&keys)?;
    let claim = |(n, row): (u16, Option<Vec<u8>>)| {
        let position = Position::read(&row?)?;
        Some(Claim { partition: Partition(n), before: position.next, no: BlockNo(position.no) })
    };
    Ok((0..).zip(rows).filter_map(claim).collect())
}
