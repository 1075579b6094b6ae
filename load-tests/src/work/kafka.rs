//! A node whose log is a topic of a real broker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bytes::Bytes;
use omium_log::blobs::BlobDirectory;
use omium_log::{KafkaLog, KafkaOptions};
use omium_runtime::{Config, Dispatch, Ended, MemoryVault, Node, NodeParts, World};
use omium_schemas::Partition;
use omium_store::MemoryStore;

use super::callers;
use super::shell::TillCaller;
use super::till::TillSuite;
use crate::once::{Figures, Once};
use crate::series::median;

/// How many partitions both sides write to.
pub(crate) const PARTITIONS: u16 = 8;

/// Counts the bytes of the blocks that were accepted, and keeps some of their sizes.
#[derive(Default)]
struct Scales {
    bytes: AtomicU64,
    sizes: Mutex<Vec<f64>>,
}

impl World for Scales {
    fn dispatch(&self, _: Dispatch) {}

    fn publish(&self, _: Partition, block: Bytes) {
        self.bytes.fetch_add(block.len() as u64, Ordering::Relaxed);
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if sizes.len() < 100_000 {
            sizes.push(block.len() as f64);
        }
    }

    fn ended(&self, partition: Partition, why: Ended) {
        eprintln!("omium-load: partition {partition} has ended: {why}");
        std::process::exit(2);
    }
}

pub(crate) fn run(once: &Once) -> anyhow::Result<Figures> {
    let bootstrap = once.bootstrap.as_ref().context("`--bootstrap` names the broker")?;
    callers::runtime()?.block_on(async {
        let topic = format!("omium-load-{}", std::process::id());
        let options =
            KafkaOptions { partitions: PARTITIONS, replication: 1, ..KafkaOptions::new(bootstrap, topic) };
        let scales = Arc::new(Scales::default());
        let parts = NodeParts {
            log: Arc::new(KafkaLog::open(options).await?),
            store: Arc::new(MemoryStore::default()),
            blobs: Arc::new(BlobDirectory::open(once.dir.join("blobs"))?),
            vault: Arc::new(MemoryVault::new([7; 32])),
            world: scales.clone(),
            config: Config { partitions: PARTITIONS, ..Config::default() },
            under_way: None,
        };
        let node: Arc<Node<TillSuite>> = Arc::new(Node::open(parts).await?);
        let before = scales.bytes.load(Ordering::Relaxed);
        let callers = (0..once.callers).map(|number| TillCaller::new(&node, once, number)).collect();
        let mut figures = callers::drive(once.seconds, callers).await?;
        // The warming up before the measured time counts for both: it is a tenth of it.
        let bytes = scales.bytes.load(Ordering::Relaxed) - before;
        figures.insert("bytes_per_second".to_owned(), bytes as f64 / (once.seconds * 1.1));
        let sizes = scales.sizes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        figures.insert("median_block".to_owned(), median(&sizes));
        node.halt().await;
        Ok(figures)
    })
}
