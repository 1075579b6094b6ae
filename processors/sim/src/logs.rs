//! The log of a run: brokers' partitions for several nodes, or one node's journal on a disk that forgets.

use std::path::PathBuf;

use bytes::Bytes;
use omium_log::Entry;
use omium_log::embedded::{Claim, Journal, JournalOptions};
use omium_schemas::{BlockNo, Offset, Partition};

use crate::broker::Broker;
use crate::chance::Chance;
use crate::counts::{Counts, Fault};
use crate::disk::SimDisk;
use crate::truth::{Violation, broken};

/// The log that all nodes share.
pub(crate) enum Logs {
    Brokers(Vec<Broker>),
    Disk(Box<OnDisk>),
}

/// A journal on a simulated disk.
pub(crate) struct OnDisk {
    disk: SimDisk,
    journal: Option<Journal<SimDisk>>,
    partitions: u16,
    /// What the last sync left readable, by partition.
    records: Vec<Vec<Bytes>>,
    /// Whether a write is waiting for its sync.
    pub(crate) writing: bool,
}

const ROOT: &str = "/log";

impl OnDisk {
    pub(crate) fn new(partitions: u16) -> OnDisk {
        let records = vec![Vec::new(); usize::from(partitions)];
        OnDisk {
            disk: SimDisk::with_root(&PathBuf::from(ROOT)),
            journal: None,
            partitions,
            records,
            writing: false,
        }
    }

    /// Opens the journal as a starting process would. Gives the records that it holds.
    pub(crate) fn open(&mut self, claims: Vec<(Offset, BlockNo)>, id: [u8; 16]) -> Result<(), Violation> {
        let mut options = JournalOptions::new(ROOT, self.partitions, id);
        options.first_segment = 32 * 1024;
        options.last_segment = 128 * 1024;
        options.claims = (0..)
            .zip(claims)
            .map(|(n, (before, no))| Claim { partition: Partition(n), before, no })
            .collect();
        self.journal = None;
        let journal = Journal::open(self.disk.clone(), options)
            .map_err(|error| broken(1, format!("a log that was only stopped does not open: {error}")))?;
        for (n, records) in self.records.iter_mut().enumerate() {
            records.clear();
            let partition = Partition(n as u16);
            loop {
                let from = Offset(records.len() as u64);
                let entries = journal
                    .read(partition, from, 1 << 20)
                    .map_err(|error| broken(1, format!("what was opened cannot be read: {error}")))?;
                if entries.is_empty() {
                    break;
                }
                records.extend(entries.into_iter().map(|entry| entry.bytes));
            }
        }
        self.journal = Some(journal);
        self.writing = false;
        Ok(())
    }

    /// Writes one round of blocks; they are durable after [`OnDisk::sync`].
    pub(crate) fn write(&mut self, blocks: &[Bytes]) -> Result<(), String> {
        let journal = self.journal.as_mut().ok_or("the journal is closed")?;
        let needed: usize = blocks.iter().map(Bytes::len).sum();
        if journal.room() < needed {
            journal.prepare_next().map_err(|error| error.to_string())?;
        }
        journal.write(blocks).map_err(|error| error.to_string())?;
        self.writing = true;
        Ok(())
    }

    pub(crate) fn sync(&mut self, blocks: &[Bytes]) -> Result<Vec<(Partition, Offset)>, String> {
        let journal = self.journal.as_mut().ok_or("the journal is closed")?;
        let settled = journal.sync().map_err(|error| error.to_string())?.to_vec();
        for ((partition, _), bytes) in settled.iter().zip(blocks) {
            self.records[usize::from(partition.0)].push(bytes.clone());
        }
        self.writing = false;
        Ok(settled)
    }

    /// The process dies, and perhaps the power goes with it.
    pub(crate) fn crash(&mut self, power: bool, chance: &mut Chance, counts: &mut Counts) {
        self.journal = None;
        self.writing = false;
        if power {
            let cut = self.disk.cut_power(chance);
            *counts.faults.entry(Fault::PowerCut).or_default() += u64::from(cut.lost > 0);
            *counts.faults.entry(Fault::TornWrite).or_default() += cut.torn as u64;
        } else {
            *counts.faults.entry(Fault::PageCache).or_default() += u64::from(self.disk.unsynced() > 0);
            self.disk.kill();
        }
    }
}

impl Logs {
    /// The records that a reader of this partition can see.
    pub(crate) fn records(&self, partition: Partition) -> &[Bytes] {
        match self {
            Logs::Brokers(brokers) => brokers[usize::from(partition.0)].records(),
            Logs::Disk(disk) => &disk.records[usize::from(partition.0)],
        }
    }

    /// Records from an offset on, some of them.
    pub(crate) fn read(&self, partition: Partition, from: Offset, through: Offset) -> Vec<Entry> {
        let records = self.records(partition);
        let end = records.len().min(through.0.saturating_add(1) as usize);
        let from = from.0 as usize;
        let some = records.get(from..end).unwrap_or_default().iter().zip(from as u64..);
        some.map(|(bytes, offset)| Entry { offset: Offset(offset), bytes: bytes.clone() }).collect()
    }
}
