//! What a writer has promised, and whether a directory keeps it.

use std::collections::BTreeMap;
use std::path::Path;

use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Journal, JournalOptions, verify};
use omium_schemas::{Offset, Partition};

use crate::writer::PARTITIONS;

/// What a writer has said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    /// (partition, offset) → checksum of the record: acknowledged, or read by the writer when it opened the log.
    records: BTreeMap<(u16, u64), u32>,
    /// How far each partition may have been trimmed.
    trimmed: BTreeMap<u16, u64>,
    acks: usize,
    pub(crate) open: bool,
    /// How often it was told that the disk is full, and that there is room again.
    pub(crate) full: usize,
    pub(crate) room: usize,
    pub(crate) ended: bool,
    pub(crate) error: Option<String>,
}

impl Promises {
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ack" | "seen", partition, offset, crc] => {
                self.acks += usize::from(words[0] == "ack");
                let key = (partition.parse().unwrap(), offset.parse().unwrap());
                self.records.insert(key, u32::from_str_radix(crc, 16).unwrap());
            }
            ["trim", partition, before, _] => {
                self.trimmed.insert(partition.parse().unwrap(), before.parse().unwrap());
            }
            ["open"] => self.open = true,
            ["full"] => self.full += 1,
            ["room"] => self.room += 1,
            ["error", ..] => self.error = Some(line.to_owned()),
            // What the test harness prints.
            _ => {}
        }
    }

    pub(crate) fn acks(&self) -> usize {
        self.acks
    }

    pub(crate) fn records(&self) -> usize {
        self.records.len()
    }

    /// Takes over what an earlier process of the same log has promised.
    pub(crate) fn and(mut self, earlier: &Promises) -> Promises {
        for (key, crc) in &earlier.records {
            self.records.entry(*key).or_insert(*crc);
        }
        for (partition, before) in &earlier.trimmed {
            let known = self.trimmed.entry(*partition).or_default();
            *known = (*known).max(*before);
        }
        self
    }

    /// Opens the log as a next process would, and says what is lost.
    pub(crate) fn lost_in(&self, root: &Path) -> Result<Vec<String>, LogError> {
        let verified = verify(&RealDisk, root)?;
        let mut lost: Vec<String> = verified.problems.iter().map(ToString::to_string).collect();
        let journal = Journal::open(RealDisk, JournalOptions::new(root, PARTITIONS, [0; 16]))?;
        for partition in 0..PARTITIONS {
            let start = journal.start(Partition(partition))?;
            let trimmed = self.trimmed.get(&partition).copied().unwrap_or(0);
            if start.0 > trimmed {
                lost.push(format!("partition {partition} starts at {start}, asked for was {trimmed}"));
            }
            let mut found = BTreeMap::new();
            let mut next = start;
            while next < journal.tail(Partition(partition))? {
                for entry in journal.read(Partition(partition), next, 1 << 20)? {
                    found.insert(entry.offset.0, crc32c::crc32c(&entry.bytes));
                    next = Offset(entry.offset.0 + 1);
                }
            }
            let range = (partition, start.0)..=(partition, u64::MAX);
            let missing =
                self.records.range(range).filter(|((_, offset), crc)| found.get(offset) != Some(*crc));
            lost.extend(missing.map(|((_, offset), _)| format!("record {offset} of partition {partition}")));
        }
        Ok(lost)
    }

    /// Holds the directory to it.
    #[track_caller]
    pub(crate) fn assert_kept_in(&self, root: &Path, story: &str) {
        match self.lost_in(root) {
            Ok(lost) => {
                assert!(lost.is_empty(), "{story}: {} lost, as {:?}", lost.len(), &lost[..lost.len().min(5)])
            }
            Err(error) => panic!("{story}: cannot be opened: {error}"),
        }
    }
}
