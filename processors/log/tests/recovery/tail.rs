//! The end of the last segment: torn, or damaged, and how the two are told apart.

use std::fs;

use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Claim, Journal, JournalOptions};
use omium_schemas::{BlockNo, Offset, Partition};

use crate::directory::{Directory, SEGMENT, data_end, flip};

/// A log that a killed process left, with few records in its one segment.
fn killed(rounds: usize) -> Directory {
    let mut directory = Directory::new();
    let mut journal = directory.open().unwrap();
    directory.write(&mut journal, rounds, 200);
    directory
}

#[test]
fn a_write_that_never_ended_is_cut_and_the_log_goes_on() {
    let mut directory = killed(5);
    let end = data_end(&directory.last());
    let whole = fs::read(directory.last()).unwrap();
    let mut journal = directory.open().unwrap();
    let acknowledged = directory.acknowledged.clone();
    directory.write(&mut journal, 1, 300);
    drop(journal);
    let after = fs::read(directory.last()).unwrap();
    let longer = data_end(&directory.last());
    // Every state that a torn write of this size can leave: a prefix of it, the rest still zeros.
    for torn in (end..longer).step_by(7) {
        let mut bytes = whole.clone();
        bytes[end..torn].copy_from_slice(&after[end..torn]);
        fs::write(directory.last(), bytes).unwrap();
        let mut again = Directory::new();
        std::mem::swap(&mut again, &mut directory);
        again.acknowledged = acknowledged.clone();
        let mut journal = again.open().unwrap();
        again.assert_holds_all(&journal);
        assert_eq!(journal.opened().cut.is_some(), torn > end, "torn at {torn}");
        journal.write(&[crate::contract::Chain::new(1).block(&[b"goes on"])]).unwrap();
        journal.sync().unwrap();
        drop(journal);
        directory = again;
        fs::write(directory.last(), &whole).unwrap();
    }
}

#[test]
fn a_torn_end_leaves_nothing_behind_that_could_be_read_later() {
    let directory = killed(5);
    let end = data_end(&directory.last());
    flip(&directory.last(), (end - 1) * 8);
    let journal = directory.open().unwrap();
    let cut = journal.opened().cut.clone().expect("the last write was torn");
    assert!(data_end(&directory.last()) <= cut.at as usize);
}

#[test]
fn a_bad_write_with_a_later_one_behind_it_is_damage_and_changes_nothing() {
    let directory = killed(6);
    let end = data_end(&directory.last());
    for bit in (0..end * 8).step_by(331) {
        let before = directory.content();
        flip(&directory.last(), bit);
        let flipped = directory.content();
        match directory.open() {
            Ok(journal) => {
                // Only the last write may be taken for a torn one: nothing is known to be behind it.
                let cut = journal.opened().cut.clone().expect("a flipped bit is found");
                let last = directory.acknowledged[0].last().unwrap().len();
                assert!(bit / 8 >= cut.at as usize && cut.at as usize + last < end, "bit {bit}");
            }
            Err(LogError::Damaged { .. }) => assert_eq!(directory.content(), flipped, "bit {bit}"),
            Err(other) => panic!("bit {bit}: {other}"),
        }
        for (path, bytes) in before {
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_bad_last_write_is_damage_where_the_state_store_has_seen_it() {
    let directory = killed(6);
    let sound = fs::read(directory.last()).unwrap();
    let claims = [
        Claim { partition: Partition(1), before: Offset(6), no: BlockNo(0) },
        Claim { partition: Partition(1), before: Offset(0), no: BlockNo(6) },
    ];
    for claim in claims {
        let options = JournalOptions { claims: vec![claim], ..directory.options() };
        let before = directory.content();
        drop(Journal::open(RealDisk, options.clone()).unwrap());
        flip(&directory.last(), (data_end(&directory.last()) - 3) * 8);
        match Journal::open(RealDisk, options).err() {
            Some(LogError::Older { why, .. }) => assert!(why.contains("state store"), "{why}"),
            other => panic!("{other:?}"),
        }
        for (path, bytes) in before {
            fs::write(path, bytes).unwrap();
        }
        fs::write(directory.last(), &sound).unwrap();
    }
}

#[test]
fn a_bad_last_write_is_damage_where_the_log_was_closed_well() {
    let directory = Directory::filled(true);
    flip(&directory.last(), (data_end(&directory.last()) - 3) * 8);
    let before = directory.content();
    let error = directory.open().err();
    assert!(matches!(error, Some(LogError::Damaged { .. })), "{error:?}");
    assert_eq!(directory.content(), before);
}

#[test]
fn after_a_kill_the_last_segment_becomes_another_file_before_anything_is_read() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = killed(3);
    let inode = || fs::metadata(directory.last()).unwrap().ino();
    let before = inode();
    drop(directory.open().unwrap());
    let copied = inode();
    assert_ne!(copied, before);
    directory.open().unwrap().close().unwrap();
    let closed = inode();
    drop(directory.open().unwrap());
    assert_eq!(inode(), closed, "after a good end nothing is copied");
}

#[test]
fn a_crash_in_the_middle_of_the_copy_leaves_a_log_that_opens() {
    let directory = killed(4);
    fs::write(directory.root().join("journal/00000001.tmp"), [7; 3000]).unwrap();
    directory.assert_holds_all(&directory.open().unwrap());
    assert!(!directory.root().join("journal/00000001.tmp").exists());
}

#[test]
fn a_torn_first_write_of_a_segment_is_cut() {
    let directory = Directory::filled(false);
    let last: u32 = directory.last().file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let next = directory.root().join(format!("journal/{:08}.seg", last + 1));
    let mut torn = vec![0; SEGMENT as usize];
    torn[4096..5000].fill(9);
    // The last segment is not sealed, so what stands behind it was never acknowledged.
    fs::write(next, torn).unwrap();
    let mut journal = directory.open().unwrap();
    directory.assert_holds_all(&journal);
    journal.prepare_next().unwrap();
    assert_eq!(directory.segments().len(), last as usize + 1);
}

#[test]
fn a_missing_segment_is_damage() {
    for at in [0, 1] {
        let directory = Directory::filled(true);
        fs::remove_file(&directory.segments()[at]).unwrap();
        let error = directory.open().err();
        assert!(matches!(error, Some(LogError::Damaged { .. })), "{error:?}");
    }
    let directory = Directory::filled(true);
    for segment in directory.segments() {
        fs::remove_file(segment).unwrap();
    }
    assert!(matches!(directory.open().err(), Some(LogError::Damaged { .. })));
}
