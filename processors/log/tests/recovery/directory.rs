//! A log directory under test.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use omium_log::LogError;
use omium_log::disk::{Disk, RealDisk};
use omium_log::embedded::{Journal, JournalOptions};
use omium_schemas::{Offset, Partition};

use crate::contract::Chain;

pub(crate) const ID: [u8; 16] = [5; 16];
pub(crate) const PARTITIONS: u16 = 2;
/// Small segments, so that a test sees many.
pub(crate) const SEGMENT: u32 = 64 * 1024;

/// A temporary directory with a log in it, and what was acknowledged of it.
pub(crate) struct Directory {
    keep: tempfile::TempDir,
    chains: [Chain; 2],
    pub(crate) acknowledged: [Vec<Bytes>; 2],
}

impl Directory {
    pub(crate) fn new() -> Directory {
        // These tests are about what is in the files, not about what is on the disk: in memory they are fast.
        let memory = Path::new("/dev/shm");
        let keep = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        Directory { keep, chains: [Chain::new(0), Chain::new(1)], acknowledged: Default::default() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.keep.path().join("log")
    }

    pub(crate) fn options(&self) -> JournalOptions {
        let usual = JournalOptions::new(self.root(), PARTITIONS, ID);
        JournalOptions { first_segment: SEGMENT, last_segment: SEGMENT, ..usual }
    }

    pub(crate) fn open(&self) -> Result<Journal<RealDisk>, LogError> {
        self.open_on(RealDisk)
    }

    pub(crate) fn open_on<D: Disk>(&self, disk: D) -> Result<Journal<D>, LogError> {
        Journal::open(disk, self.options())
    }

    /// Writes so many rounds of one block per partition, synced, and remembers them.
    pub(crate) fn write<D: Disk>(&mut self, journal: &mut Journal<D>, rounds: usize, size: usize) {
        for round in 0..rounds {
            self.write_once(journal, round, size).unwrap();
        }
    }

    pub(crate) fn write_once<D: Disk>(
        &mut self,
        journal: &mut Journal<D>,
        round: usize,
        size: usize,
    ) -> Result<(), LogError> {
        let mut chains = self.chains.clone();
        let body = vec![round as u8; size];
        let blocks = [chains[0].block(&[&body]), chains[1].block(&[&body, b"second frame"])];
        if journal.room() < blocks.iter().map(Bytes::len).sum() {
            journal.prepare_next()?;
        }
        journal.write(&blocks)?;
        journal.sync()?;
        self.chains = chains;
        for (acknowledged, block) in self.acknowledged.iter_mut().zip(blocks) {
            acknowledged.push(block);
        }
        Ok(())
    }

    /// Makes a log of several segments and closes it well, or leaves it as a killed process would.
    pub(crate) fn filled(closed: bool) -> Directory {
        let mut directory = Directory::new();
        let mut journal = directory.open().unwrap();
        directory.write(&mut journal, 90, 900);
        if closed {
            journal.close().unwrap();
        }
        directory
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root().join("journal")).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// The segment that the last record stands in.
    pub(crate) fn last(&self) -> PathBuf {
        let used = |path: &PathBuf| fs::read(path).unwrap().iter().any(|byte| *byte != 0);
        self.segments().into_iter().rfind(used).unwrap()
    }

    /// Every file of the directory with its content.
    pub(crate) fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut dirs = vec![self.root()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    files.push((path, bytes));
                }
            }
        }
        files.sort();
        files
    }

    /// Holds what can be read against what was acknowledged.
    #[track_caller]
    pub(crate) fn assert_holds_all<D: Disk>(&self, journal: &Journal<D>) {
        for (partition, acknowledged) in self.acknowledged.iter().enumerate() {
            assert_eq!(read_all(journal, partition as u16).unwrap(), *acknowledged, "partition {partition}");
        }
    }
}

/// All records of a partition.
pub(crate) fn read_all<D: Disk>(journal: &Journal<D>, partition: u16) -> Result<Vec<Bytes>, LogError> {
    let partition = Partition(partition);
    let (mut records, mut next) = (Vec::new(), journal.start(partition)?);
    while next < journal.tail(partition)? {
        for entry in journal.read(partition, next, 10_000)? {
            assert_eq!(entry.offset, next);
            next = Offset(next.0 + 1);
            records.push(entry.bytes);
        }
    }
    Ok(records)
}

/// Changes one bit of a file.
pub(crate) fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

/// Where the data of a file end: behind its last byte that is not zero.
pub(crate) fn data_end(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).unwrap() + 1
}
