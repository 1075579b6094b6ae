//! From segment to segment.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Instant;

use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Journal, JournalOptions};
use omium_schemas::{Offset, Partition};

use crate::directory::{Directory, ID, read_all};
use crate::disk::FailingDisk;

#[test]
fn a_log_of_many_segments_reads_back_while_open_and_after_both_kinds_of_end() {
    for closed in [true, false] {
        let mut directory = Directory::new();
        let mut journal = directory.open().unwrap();
        assert!(journal.opened().created);
        for _ in 0..4 {
            directory.write(&mut journal, 40, 700);
            directory.assert_holds_all(&journal);
            if closed {
                journal.close().unwrap();
            } else {
                drop(journal);
            }
            journal = directory.open().unwrap();
            assert_eq!(journal.opened().clean, closed);
            assert_eq!(journal.opened().copied > 0, !closed);
            directory.assert_holds_all(&journal);
        }
        assert!(directory.segments().len() > 4);
    }
}

#[test]
fn reading_begins_at_every_offset_of_every_segment() {
    let directory = Directory::filled(true);
    let journal = directory.open().unwrap();
    for partition in 0..2 {
        for from in 0..90_u64 {
            let entries = journal.read(Partition(partition), Offset(from), 1).unwrap();
            assert_eq!(entries[0].bytes, directory.acknowledged[usize::from(partition)][from as usize]);
        }
    }
}

#[test]
fn an_empty_directory_takes_less_than_five_megabytes_and_segments_double() {
    let directory = Directory::new();
    let mut journal = Journal::open(RealDisk, JournalOptions::new(directory.root(), 4, ID)).unwrap();
    journal.prepare_next().unwrap();
    let sizes = || directory.content().iter().map(|(_, bytes)| bytes.len() as u64).collect::<Vec<_>>();
    assert!(sizes().iter().sum::<u64>() < 5_000_000, "{:?}", sizes());
    assert_eq!(sizes().iter().filter(|size| **size >= 1 << 20).collect::<Vec<_>>(), [&(1 << 20), &(2 << 20)]);
}

#[test]
fn one_block_in_a_write_costs_at_most_96_bytes_beside_its_frames() {
    let mut directory = Directory::new();
    let mut chain = crate::contract::Chain::new(0);
    let mut journal = directory.open().unwrap();
    directory.write(&mut journal, 1, 10);
    let before = crate::directory::data_end(&directory.last());
    let block = chain.block(&[&[1; 500]]);
    let frame = block.len() - 72;
    journal.write(&[block]).unwrap();
    journal.sync().unwrap();
    assert!(crate::directory::data_end(&directory.last()) - before <= frame + 96);
}

#[test]
fn a_full_segment_without_a_next_one_refuses_and_loses_nothing() {
    let mut directory = Directory::new();
    let mut journal = directory.open().unwrap();
    let mut chain = crate::contract::Chain::new(0);
    let blocks = chain.blocks(100, 3000);
    let mut written = 0;
    let refusal = loop {
        match journal.write(&blocks[written..=written]) {
            Ok(()) => assert_eq!(journal.sync().unwrap(), [(Partition(0), Offset(written as u64))]),
            Err(error) => break error,
        }
        written += 1;
    };
    assert!(matches!(refusal, LogError::Full { .. }), "{refusal}");
    assert_eq!(read_all(&journal, 0).unwrap(), blocks[..written]);
    journal.prepare_next().unwrap();
    journal.write(&blocks[written..=written]).unwrap();
    journal.sync().unwrap();
    assert_eq!(read_all(&journal, 0).unwrap(), blocks[..=written]);
    directory.acknowledged[0] = blocks[..=written].to_vec();
    drop(journal);
    directory.assert_holds_all(&directory.open().unwrap());
}

#[test]
fn what_cannot_fit_any_segment_is_refused() {
    let directory = Directory::new();
    let mut journal = directory.open().unwrap();
    journal.prepare_next().unwrap();
    let block = crate::contract::Chain::new(0).block(&[&vec![1; 70_000]]);
    assert!(matches!(journal.write(&[block]), Err(LogError::NotABlock { .. })));
}

#[test]
fn trimming_removes_segments_that_no_partition_needs_and_is_remembered() {
    let directory = Directory::filled(true);
    let journal = directory.open().unwrap();
    let before = directory.segments().len();
    journal.trim(Partition(0), Offset(80)).unwrap();
    assert_eq!(directory.segments().len(), before, "partition 1 needs them still");
    journal.trim(Partition(1), Offset(50)).unwrap();
    assert!(directory.segments().len() < before);
    drop(journal);
    let journal = directory.open().unwrap();
    assert_eq!(journal.start(Partition(0)).unwrap(), Offset(80));
    assert_eq!(read_all(&journal, 0).unwrap(), directory.acknowledged[0][80..]);
    assert_eq!(read_all(&journal, 1).unwrap(), directory.acknowledged[1][50..]);
    assert!(matches!(journal.read(Partition(1), Offset(49), 1), Err(LogError::Trimmed { .. })));
}

#[test]
fn opening_reads_the_indexes_of_full_segments_and_not_their_records() {
    let directory = Directory::filled(true);
    // The first segment's records become holes; only its last page, with the index, stays.
    let first = &directory.segments()[0];
    let bytes = fs::read(first).unwrap();
    let mut hollow = vec![0; bytes.len()];
    hollow[bytes.len() - 400..].copy_from_slice(&bytes[bytes.len() - 400..]);
    fs::write(first, hollow).unwrap();
    let started = Instant::now();
    let journal = directory.open().unwrap();
    assert!(started.elapsed().as_secs() < 2);
    assert!(matches!(journal.read(Partition(0), Offset(0), 1), Err(LogError::Damaged { .. })));
}

#[test]
fn a_crash_at_any_step_between_two_segments_leaves_a_log_that_opens_and_goes_on() {
    for step in 1..=3 {
        for failing_sync in [false, true] {
            let mut directory = Directory::new();
            let disk = FailingDisk::default();
            let mut journal = directory.open_on(disk.clone()).unwrap();
            while journal.room() >= 8_000 {
                directory.write(&mut journal, 1, 3_000);
            }
            journal.prepare_next().unwrap();
            let plan = if failing_sync { &disk.plan.failing_sync } else { &disk.plan.failing_write };
            plan.store(step, Ordering::SeqCst);
            // Sealing writes and syncs, and so does the first write of the next segment; then come more.
            let failed = (0..4).find_map(|round| directory.write_once(&mut journal, round, 3_000).err());
            assert!(matches!(failed, Some(LogError::Io { .. })), "{failed:?}");
            assert!(journal.poisoned().is_some());
            assert!(journal.prepare_next().is_ok() && journal.write(&[]).is_err(), "nothing is tried again");
            drop(journal);
            let mut journal = directory.open().unwrap();
            for (partition, acknowledged) in directory.acknowledged.iter().enumerate() {
                let found = read_all(&journal, partition as u16).unwrap();
                assert_eq!(found[..acknowledged.len()], acknowledged[..]);
            }
            directory.acknowledged = [read_all(&journal, 0).unwrap(), read_all(&journal, 1).unwrap()];
            directory.write(&mut journal, 30, 3_000);
            directory.assert_holds_all(&journal);
            drop(journal);
            directory.assert_holds_all(&directory.open().unwrap());
        }
    }
}
