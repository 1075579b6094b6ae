//! Disks that fail, are full, or may not be written to; directories that are someone else's.

use std::fs;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use omium_log::disk::RealDisk;
use omium_log::embedded::{Journal, JournalOptions};
use omium_log::{EmbeddedLog, EmbeddedOptions, Log, LogError};
use omium_schemas::{Offset, Partition};

use crate::contract::{Chain, Feed};
use crate::directory::{Directory, flip, read_all};
use crate::disk::FailingDisk;

struct Running {
    log: EmbeddedLog<FailingDisk>,
    disk: FailingDisk,
    failures: Arc<Mutex<Vec<LogError>>>,
}

fn running(directory: &Directory) -> Running {
    let disk = FailingDisk::default();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let seen = failures.clone();
    let mut options = EmbeddedOptions::new(directory.root(), 2).unwrap();
    options.journal = JournalOptions { first_segment: 1 << 20, last_segment: 1 << 20, ..directory.options() };
    options.on_failure = Arc::new(move |error| seen.lock().unwrap().push(error.clone()));
    Running { log: EmbeddedLog::open_on(disk.clone(), options).unwrap(), disk, failures }
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_is_not_tried_again_and_ends_the_process() {
    let directory = Directory::new();
    let Running { log, disk, failures } = running(&directory);
    let mut chain = Chain::new(0);
    let feed = Feed::attach(&log, 0);
    let acknowledged = chain.blocks(3, 100);
    feed.append(acknowledged.clone()).await.unwrap();
    disk.plan.failing_sync.store(1, Ordering::SeqCst);
    let unknown = feed.append(vec![chain.block(&[b"unknown"])]).await.unwrap_err();
    assert!(matches!(unknown, LogError::Io { doing: "syncing", .. }), "{unknown}");
    feed.refused(true).await;
    assert_eq!(failures.lock().unwrap().len(), 1, "the process is ended once");
    assert!(log.attach(Partition(0), Feed::detached()).is_err());
    assert_eq!(log.read(Partition(0), Offset(0), 1 << 20).await.unwrap().len(), 3, "reads go on");
    assert_eq!(*log.tail(Partition(0)).unwrap().borrow(), Offset(3));
    drop(log);
    assert_eq!(disk.plan.syncs_after_failure.load(Ordering::SeqCst), 0);
    assert!(!directory.root().join("clean").exists(), "it did not end well");
    let journal = directory.open().unwrap();
    assert_eq!(read_all(&journal, 0).unwrap()[..3], acknowledged);
}

#[tokio::test]
async fn a_failed_write_ends_the_process_too() {
    let directory = Directory::new();
    let Running { log, disk, failures } = running(&directory);
    let feed = Feed::attach(&log, 1);
    let mut chain = Chain::new(1);
    feed.append(chain.blocks(2, 100)).await.unwrap();
    disk.plan.failing_write.store(1, Ordering::SeqCst);
    assert!(feed.append(vec![chain.block(&[b"unknown"])]).await.is_err());
    feed.refused(true).await;
    assert!(matches!(&failures.lock().unwrap()[..], [LogError::Io { doing: "writing", .. }]));
}

#[tokio::test]
async fn a_full_disk_refuses_new_work_while_reads_go_on_and_resumes_by_itself() {
    let directory = Directory::new();
    let Running { log, disk, failures } = running(&directory);
    let feed = Feed::attach(&log, 0);
    let blocks = Chain::new(0).blocks(40, 100_000);
    feed.append(blocks[..2].to_vec()).await.unwrap();
    disk.plan.full.store(true, Ordering::SeqCst);
    feed.push(blocks[2..].iter().cloned());
    match feed.refused(true).await {
        Some(LogError::Full { place, why }) => {
            assert_eq!(place, directory.root());
            assert!(why.ends_with("; the next segment needs 1 MiB"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Feed::attach(&log, 1).refused(true).await.is_some(), "who comes later is told too");
    assert_eq!(log.read(Partition(0), Offset(0), 1).await.unwrap()[0].bytes, blocks[0]);
    disk.plan.full.store(false, Ordering::SeqCst);
    assert!(feed.refused(false).await.is_none());
    feed.settled(40).await;
    assert!(feed.outcomes().iter().all(Result::is_ok));
    log.close().unwrap();
    assert_eq!(read_all(&directory.open().unwrap(), 0).unwrap(), blocks);
    assert!(failures.lock().unwrap().is_empty());
}

#[test]
fn a_killed_log_opens_on_a_full_disk_where_a_segment_was_prepared() {
    let mut directory = Directory::new();
    let mut journal = directory.open().unwrap();
    directory.write(&mut journal, 5, 100);
    journal.prepare_next().unwrap();
    drop(journal);
    let disk = FailingDisk::default();
    disk.plan.no_new_file.store(true, Ordering::SeqCst);
    let journal = directory.open_on(disk).unwrap();
    directory.assert_holds_all(&journal);
    assert_eq!(directory.segments().len(), 1);
}

#[test]
fn a_killed_log_opens_on_a_full_disk_where_no_segment_was_prepared_and_what_is_torn_is_cut() {
    for torn in [false, true] {
        let mut directory = Directory::new();
        let mut journal = directory.open().unwrap();
        directory.write(&mut journal, 5, 100);
        drop(journal);
        let last = directory.last();
        let end = crate::directory::data_end(&last);
        if torn {
            flip_behind(&last, end);
        }
        let disk = FailingDisk::default();
        disk.plan.no_new_file.store(true, Ordering::SeqCst);
        let mut journal = directory.open_on(disk).unwrap();
        assert_eq!(journal.opened().cut.is_some(), torn);
        directory.assert_holds_all(&journal);
        directory.write(&mut journal, 2, 100);
        drop(journal);
        directory.assert_holds_all(&directory.open().unwrap());
    }
}

/// Leaves bytes behind the last write, as one that was torn does.
fn flip_behind(segment: &std::path::Path, end: usize) {
    let mut bytes = fs::read(segment).unwrap();
    bytes[end..end + 5_000].fill(0xA5);
    fs::write(segment, bytes).unwrap();
}

#[tokio::test]
async fn what_is_no_block_of_the_partition_is_refused_and_harms_nobody() {
    let directory = Directory::new();
    let Running { log, .. } = running(&directory);
    let junk = Feed::attach(&log, 0);
    let other = Feed::attach(&log, 1);
    let refused = junk.append(vec![bytes::Bytes::from_static(b"junk")]).await.unwrap_err();
    assert!(matches!(refused, LogError::NotABlock { .. }));
    let astray = Feed::attach(&log, 0);
    let refused = astray.append(vec![Chain::new(1).block(&[b"astray"])]).await.unwrap_err();
    assert!(refused.to_string().contains("partition 1"), "{refused}");
    other.append(Chain::new(1).blocks(3, 10)).await.unwrap();
    assert_eq!(*log.tail(Partition(0)).unwrap().borrow(), Offset(0));
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let directory = Directory::new();
    let _first = directory.open().unwrap();
    let error = directory.open().err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, LogError::InUse { .. }));
    assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
    assert!(text.contains("stop it first"), "{text}");
}

#[track_caller]
fn check_refused(directory: &Directory, says: &[&str]) {
    let before = directory.content();
    let error = directory.open().err().expect("a directory that cannot be opened").to_string();
    for part in says {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
    assert_eq!(directory.content(), before, "nothing is changed");
}

#[test]
fn another_number_of_partitions_is_refused() {
    let directory = Directory::filled(true);
    let options = JournalOptions { partitions: 4, ..directory.options() };
    let error = Journal::open(RealDisk, options).err().unwrap();
    assert!(matches!(error, LogError::OtherPartitions { found: 2, wanted: 4, .. }));
    assert!(error.to_string().contains("start with 2"), "{error}");
}

#[test]
fn another_version_is_refused() {
    let directory = Directory::filled(true);
    let path = directory.root().join("FORMAT");
    let text = fs::read_to_string(&path).unwrap().replace("format 1", "format 2");
    let body = &text[..text.rfind("crc ").unwrap()];
    fs::write(&path, format!("{body}crc {:08x}\n", crc32c::crc32c(body.as_bytes()))).unwrap();
    check_refused(&directory, &["FORMAT", "format 2", "use the version of omium that wrote it"]);
}

#[test]
fn a_directory_of_another_program_is_refused_and_not_touched() {
    let directory = Directory::new();
    fs::create_dir(directory.root()).unwrap();
    fs::write(directory.root().join("PG_VERSION"), "15").unwrap();
    check_refused(&directory, &["it holds other files", "choose an empty directory"]);
    fs::write(directory.root().join("FORMAT"), "something else").unwrap();
    check_refused(&directory, &["FORMAT", "was not written by omium"]);
}

#[test]
fn segments_without_a_format_file_are_not_overwritten() {
    let directory = Directory::filled(true);
    fs::remove_file(directory.root().join("FORMAT")).unwrap();
    check_refused(&directory, &["segments but no FORMAT file", "backup"]);
}

#[test]
fn a_missing_directory_is_made_and_a_missing_parent_is_not() {
    let directory = Directory::new();
    let below = JournalOptions { root: directory.root().join("deeper"), ..directory.options() };
    let error = Journal::open(RealDisk, below).err().unwrap().to_string();
    assert!(error.contains("its parent directory has to exist"), "{error}");
    assert!(!directory.root().exists());
    assert!(directory.open().unwrap().opened().created);
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error() {
    let directory = Directory::new();
    fs::write(directory.root(), "a file").unwrap();
    let error = directory.open().err().unwrap().to_string();
    assert!(error.contains("log"), "{error}");
    assert_eq!(fs::read(directory.root()).unwrap(), b"a file");
}

#[test]
fn a_read_only_directory_is_refused_with_what_to_do() {
    let directory = Directory::filled(true);
    let disk = FailingDisk::default();
    disk.plan.read_only.store(true, Ordering::SeqCst);
    let error = directory.open_on(disk).err().unwrap().to_string();
    assert!(error.contains("make it writable, or choose another directory"), "{error}");
    directory.assert_holds_all(&directory.open().unwrap());
}

#[test]
fn an_interrupted_creation_is_finished() {
    let directory = Directory::new();
    fs::create_dir_all(directory.root().join("journal")).unwrap();
    fs::write(directory.root().join("LOCK"), "").unwrap();
    fs::write(directory.root().join("FORMAT.tmp"), "omium lo").unwrap();
    assert!(directory.open().unwrap().opened().created);
}

#[test]
fn a_flipped_bit_in_the_mark_of_a_good_end_costs_a_copy_and_nothing_else() {
    let directory = Directory::filled(true);
    let path = directory.root().join("clean");
    let bits = fs::read(&path).unwrap().len() * 8;
    let content = directory.content();
    for bit in (0..bits).step_by(5) {
        flip(&path, bit);
        let journal = directory.open().unwrap();
        assert!(!journal.opened().clean, "bit {bit}");
        directory.assert_holds_all(&journal);
        assert!(!path.exists(), "a mark that cannot be trusted goes too");
        drop(journal);
        for (path, bytes) in &content {
            fs::write(path, bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn acknowledged_records_that_are_blank_after_an_unclean_end_are_missed() {
    let directory = Directory::new();
    let Running { log, .. } = running(&directory);
    let feed = Feed::attach(&log, 0);
    feed.append(Chain::new(0).blocks(20, 300)).await.unwrap();
    // As a process leaves it that is killed here.
    let left = directory.content();
    log.close().unwrap();
    let restore = || {
        fs::remove_file(directory.root().join("clean")).unwrap();
        left.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    };
    restore();
    let last = directory.last();
    let mut bytes = fs::read(&last).unwrap();
    let end = crate::directory::data_end(&last);
    bytes[end - 1_000..end].fill(0);
    fs::write(&last, &bytes).unwrap();
    let before = directory.content();
    let error = directory.open().err().expect("acknowledged records are gone");
    assert!(error.to_string().contains("the log was durable up to offset 20"), "{error}");
    assert!(error.to_string().contains("Restore a backup"), "{error}");
    assert_eq!(directory.content(), before, "nothing was changed");
    // A watermark that cannot be read claims nothing, and neither does one of another log.
    let durable = directory.root().join("durable");
    for bit in [8 * 8, 8 * (4096 + 8)] {
        flip(&durable, bit);
    }
    assert!(directory.open().unwrap().opened().cut.is_some());
}
