//! The log read again from its beginning, checked on the way and folded without any stored state.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use bytes::Bytes;
use omium_log::Entry;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Verified, verify_and_read};
use omium_processor::testkit::BankSuite;
use omium_runtime::{Input, Loaded, MemoryVault, Now, Output, Shell, StreamKey, StreamState};
use omium_schemas::{Digest, Offset, Partition, Seq};

use super::actor;

type State = <BankSuite as omium_processor::Processors>::State;

/// What the log says once more.
pub(super) struct Replayed {
    shells: Vec<Shell<BankSuite>>,
    /// What the check found on the way.
    pub(super) verified: Verified,
}

/// Folds a log from its beginning. Nothing is written, and no key is needed: `apply` never opens content.
pub(super) fn replay(log: &Path) -> anyhow::Result<Replayed> {
    let vault = Arc::new(MemoryVault::new([0; 32]));
    let config = omium_runtime::Config {
        verify: true,
        flush_records: u64::MAX,
        flush_micros: u64::MAX,
        ..actor::config()
    };
    let shell = |n| Shell::new(Partition(n), config.clone(), vault.clone(), None);
    let mut shells: Vec<Shell<BankSuite>> = (0..config.partitions).map(shell).collect();
    let mut trouble = None;
    let mut take_in = |partition: Partition, offset: Offset, bytes: &Bytes| {
        let entry = Entry { offset, bytes: bytes.clone() };
        let shell = shells.get_mut(usize::from(partition.0));
        trouble = trouble.take().or(shell.and_then(|shell| fold(shell, entry)));
    };
    let verified = verify_and_read(&RealDisk, log, &mut take_in)?;
    match trouble {
        Some(why) => bail!("the log cannot be folded: {why}"),
        None => Ok(Replayed { shells, verified }),
    }
}

fn fold(shell: &mut Shell<BankSuite>, entry: Entry) -> Option<String> {
    shell.handle(Input::Entries(vec![entry]), Now::default());
    loop {
        let outputs: Vec<Output<State>> = shell.outputs().collect();
        let mut missing = Vec::new();
        for output in outputs {
            match output {
                Output::Load(streams, _) => missing.extend(streams),
                Output::Ended(why) => return Some(why.to_string()),
                _ => {}
            }
        }
        if missing.is_empty() {
            return None;
        }
        // There is no store: whatever is not in memory does not exist yet.
        let streams = missing.into_iter().map(|key| (key, None)).collect();
        shell.handle(Input::Loaded(Loaded { streams, window: Vec::new() }), Now::default());
    }
}

impl Replayed {
    /// What a stream has come to.
    pub(super) fn hash(&self, key: &StreamKey) -> Option<(Seq, Digest)> {
        let stream = self.shells.iter().find_map(|shell| shell.resident(key))?;
        Some((stream.seq, StreamState::digest(&stream)))
    }

    /// How many commands and events were folded.
    pub(super) fn records(&self) -> u64 {
        self.shells.iter().map(|shell| shell.figures().records).sum()
    }
}
