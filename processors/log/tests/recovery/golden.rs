//! A directory as an earlier version wrote it must still open, with the same records.

use std::fs;
use std::path::{Path, PathBuf};

use omium_log::disk::RealDisk;
use omium_log::embedded::{Journal, JournalOptions, verify};

use crate::contract::Chain;
use crate::directory::{Directory, ID, PARTITIONS, read_all};

/// The files of version 1. A new version gets files of its own; these stay.
const VERSION_1: &str = "tests/golden/log-v1";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(VERSION_1)
}

/// Writes what the golden files hold, with segments small enough to be kept in the repository.
fn write_sample(root: &Path) -> [Vec<bytes::Bytes>; 2] {
    let options = JournalOptions::new(root, PARTITIONS, ID);
    let options = JournalOptions { first_segment: 4096, last_segment: 8192, ..options };
    let mut journal = Journal::open(RealDisk, options).unwrap();
    let blocks = [Chain::new(0).blocks(12, 300), Chain::new(1).blocks(12, 500)];
    for (one, other) in blocks[0].iter().zip(&blocks[1]) {
        let round = [one.clone(), other.clone()];
        if journal.room() < round.iter().map(bytes::Bytes::len).sum() {
            journal.prepare_next().unwrap();
        }
        journal.write(&round).unwrap();
        journal.sync().unwrap();
    }
    journal.close().unwrap();
    blocks
}

#[test]
fn a_log_of_version_1_opens_and_holds_what_it_held() {
    let fresh = Directory::new();
    let expected = write_sample(&fresh.root());
    let directory = Directory::new();
    fs::create_dir_all(directory.root().join("journal")).unwrap();
    for name in ["FORMAT", "starts", "clean"] {
        fs::copy(golden().join(name), directory.root().join(name)).unwrap();
    }
    for segment in fs::read_dir(golden().join("journal")).unwrap() {
        let segment = segment.unwrap();
        fs::copy(segment.path(), directory.root().join("journal").join(segment.file_name())).unwrap();
    }
    assert!(verify(&RealDisk, &directory.root()).unwrap().is_sound());
    let journal = directory.open().unwrap();
    assert!(journal.opened().clean);
    assert!(directory.segments().len() >= 3);
    for (partition, expected) in expected.iter().enumerate() {
        assert_eq!(read_all(&journal, partition as u16).unwrap(), *expected);
    }
}

#[test]
fn this_version_still_writes_the_same_bytes() {
    let directory = Directory::new();
    write_sample(&directory.root());
    for (path, bytes) in directory.content() {
        let name = path.strip_prefix(directory.root()).unwrap();
        if name != Path::new("LOCK") {
            assert_eq!(fs::read(golden().join(name)).unwrap(), bytes, "{}", name.display());
        }
    }
}
