//! `verify`, `inspect` and `repair` of a log directory.

use std::fs;

use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Repair, SegmentState, inspect, repair, verify};
use omium_schemas::{BlockNo, Offset, Partition};

use crate::directory::{Directory, data_end, flip};

#[test]
fn a_sound_log_verifies_with_its_counts() {
    for closed in [true, false] {
        let directory = Directory::filled(closed);
        let before = directory.content();
        let verified = verify(&RealDisk, &directory.root()).unwrap();
        assert!(verified.is_sound(), "{verified}");
        assert_eq!(verified.clean, closed);
        let frames: Vec<u64> = verified.partitions.iter().map(|tally| tally.frames).collect();
        assert_eq!(frames, [90, 180]);
        assert_eq!((verified.partitions[1].next, verified.partitions[1].no), (Offset(90), BlockNo(90)));
        assert!(verified.to_string().ends_with("sound"), "{verified}");
        let lock = directory.root().join("LOCK");
        let changed =
            directory.content().into_iter().zip(before).filter(|(now, then)| now != then && now.0 != lock);
        assert_eq!(changed.count(), 0, "verifying changes nothing");
    }
}

#[test]
fn every_damaged_segment_is_named_and_the_rest_is_still_checked() {
    let directory = Directory::filled(true);
    let segments = directory.segments();
    for path in &segments[..2] {
        flip(path, 20_000 * 8);
    }
    let verified = verify(&RealDisk, &directory.root()).unwrap();
    let files: Vec<_> = verified.problems.iter().map(|problem| &problem.file).collect();
    assert_eq!(files, [&segments[0], &segments[1]], "{verified}");
    assert!(verified.partitions[0].frames > 50, "{verified}");
    assert!(verified.to_string().contains("restore the directory from a backup"), "{verified}");
}

#[test]
fn a_flipped_bit_in_the_heads_of_a_full_segment_is_a_problem() {
    let directory = Directory::filled(true);
    let path = &directory.segments()[1];
    for bit in (0..88 * 8).step_by(3) {
        flip(path, bit);
        let verified = verify(&RealDisk, &directory.root()).unwrap();
        assert!(!verified.is_sound(), "bit {bit}");
        flip(path, bit);
    }
}

#[test]
fn a_damaged_index_is_a_problem() {
    let directory = Directory::filled(true);
    let path = &directory.segments()[0];
    flip(path, (data_end(path) - 40) * 8);
    let verified = verify(&RealDisk, &directory.root()).unwrap();
    assert!(!verified.is_sound());
    assert!(verified.to_string().contains("seal"), "{verified}");
}

#[test]
fn a_torn_end_is_told_apart_from_damage() {
    let directory = Directory::filled(false);
    flip(&directory.last(), (data_end(&directory.last()) - 3) * 8);
    let verified = verify(&RealDisk, &directory.root()).unwrap();
    assert!(verified.is_sound(), "{verified}");
    assert_eq!(verified.torn.as_ref().unwrap().file, directory.last(), "{verified}");
    assert_eq!(verified.partitions[0].blocks, 89);
}

#[test]
fn a_block_that_does_not_follow_its_predecessor_is_a_problem() {
    let mut directory = Directory::new();
    let mut journal = directory.open().unwrap();
    let mut chain = crate::contract::Chain::new(0);
    let (one, two) = (chain.block(&[b"one"]), chain.block(&[b"two"]));
    let mut other = crate::contract::Chain::new(0);
    let (other_one, _) = (other.block(&[b"another one"]), two);
    let forged = other.block(&[b"two"]);
    for block in [one, forged] {
        journal.write(&[block]).unwrap();
        journal.sync().unwrap();
    }
    journal.close().unwrap();
    directory.acknowledged[0].push(other_one);
    let verified = verify(&RealDisk, &directory.root()).unwrap();
    assert_eq!(verified.problems.len(), 1, "{verified}");
    assert!(verified.problems[0].what.contains("does not follow"), "{verified}");
}

#[test]
fn a_trimmed_log_verifies_from_where_it_starts() {
    let directory = Directory::filled(true);
    let journal = directory.open().unwrap();
    for partition in 0..2 {
        journal.trim(Partition(partition), Offset(60)).unwrap();
    }
    journal.close().unwrap();
    let verified = verify(&RealDisk, &directory.root()).unwrap();
    assert!(verified.is_sound(), "{verified}");
    assert!(
        verified.partitions[0].first > Offset(0) && verified.partitions[0].next == Offset(90),
        "{verified}"
    );
}

#[test]
fn inspect_shows_every_segment_and_its_state() {
    let directory = Directory::filled(true);
    let inspected = inspect(&RealDisk, &directory.root()).unwrap();
    let records: u64 =
        inspected.segments.iter().flat_map(|segment| segment.rows.first()).map(|row| row.1).sum();
    assert_eq!((inspected.partitions, inspected.clean, records), (2, true, 90));
    assert_eq!(inspected.segments[0].state, SegmentState::Sealed);
    assert!(matches!(inspected.segments.last().unwrap().state, SegmentState::Open(_)), "{inspected}");
    flip(&directory.last(), data_end(&directory.last()) / 2 * 8);
    let inspected = inspect(&RealDisk, &directory.root()).unwrap();
    assert!(inspected.to_string().contains("unreadable at byte"), "{inspected}");
}

#[test]
fn repair_does_what_an_opening_would_and_a_dry_run_only_says_so() {
    let mut directory = Directory::filled(false);
    flip(&directory.last(), (data_end(&directory.last()) - 3) * 8);
    let before = directory.content();
    let planned = repair(&RealDisk, &directory.root(), Vec::new(), Repair::DryRun).unwrap();
    assert_eq!(directory.content(), before);
    assert!(planned.to_string().contains("would be cut"), "{planned}");
    let done = repair(&RealDisk, &directory.root(), Vec::new(), Repair::Apply).unwrap();
    assert_eq!((done.cut, done.copied), (planned.cut, planned.copied));
    let journal = directory.open().unwrap();
    assert!(journal.opened().clean, "after a repair nothing is left to do");
    for acknowledged in &mut directory.acknowledged {
        acknowledged.pop();
    }
    directory.assert_holds_all(&journal);
}

#[test]
fn repair_leaves_real_damage_alone() {
    let directory = Directory::filled(false);
    flip(&directory.last(), data_end(&directory.last()) / 2 * 8);
    let before = directory.content();
    for how in [Repair::DryRun, Repair::Apply] {
        let error = repair(&RealDisk, &directory.root(), Vec::new(), how).err();
        assert!(matches!(error, Some(LogError::Damaged { .. })), "{error:?}");
        assert_eq!(directory.content(), before);
    }
}

#[test]
fn the_tools_need_a_log_and_make_none() {
    let directory = Directory::new();
    fs::create_dir(directory.root()).unwrap();
    let errors = [
        verify(&RealDisk, &directory.root()).err(),
        inspect(&RealDisk, &directory.root()).err(),
        repair(&RealDisk, &directory.root(), Vec::new(), Repair::Apply).err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(LogError::Foreign { .. })), "{error:?}");
    }
    assert!(directory.content().is_empty());
}
