//! Long values beside the log.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use omium_log::blobs::{BlobDirectory, BlobError, Blobs, MAX_BLOB, Swept};
use omium_schemas::{BlobId, BlobRef, Digest};

struct Dir {
    blobs: BlobDirectory,
    root: PathBuf,
    _keep: tempfile::TempDir,
}

fn dir() -> Dir {
    let keep = tempfile::tempdir().unwrap();
    let root = keep.path().join("blobs");
    Dir { blobs: BlobDirectory::open(&root).unwrap(), root, _keep: keep }
}

const NAME: BlobId = BlobId([0x5a; 16]);
const FAR_AHEAD: Duration = Duration::from_secs(3600);

fn soon() -> SystemTime {
    SystemTime::now() + FAR_AHEAD
}

fn run(blob: BlobId, whole: &[u8], at: usize, length: usize) -> BlobRef {
    let sha256 = Digest::of(&whole[at..at + length]);
    BlobRef { blob, at: at as u64, length: length as u64, sha256, ..BlobRef::default() }
}

#[tokio::test]
async fn every_run_of_a_blob_reads_back() {
    let dir = dir();
    for (n, value) in [&b""[..], b"one", &[7; 300_000]].into_iter().enumerate() {
        let name = BlobId([n as u8; 16]);
        dir.blobs.put(name, Bytes::copy_from_slice(value)).await.unwrap();
        for at in [0, value.len() / 3, value.len()] {
            let read = dir.blobs.get(run(name, value, at, value.len() - at)).await.unwrap();
            assert_eq!(read, value[at..]);
        }
    }
    assert_eq!(fs::read_dir(&dir.root).unwrap().count(), 3);
}

#[tokio::test]
async fn a_flipped_bit_or_a_cut_is_found() {
    let dir = dir();
    let value = b"a value of some bytes";
    dir.blobs.put(NAME, Bytes::from_static(value)).await.unwrap();
    let (path, whole) = (dir.root.join(NAME.hex()), run(NAME, value, 0, value.len()));
    for bit in 0..value.len() * 8 {
        let mut bytes = value.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        assert!(matches!(dir.blobs.get(whole).await, Err(BlobError::Damaged { .. })), "bit {bit}");
    }
    fs::write(&path, &value[..5]).unwrap();
    assert!(matches!(dir.blobs.get(whole).await, Err(BlobError::Damaged { .. })), "cut");
    let beyond = BlobRef { at: u64::MAX - 3, ..whole };
    assert!(matches!(dir.blobs.get(beyond).await, Err(BlobError::Damaged { .. })), "beyond");
}

#[tokio::test]
async fn a_missing_blob_is_named_with_its_file() {
    let dir = dir();
    let error = dir.blobs.get(BlobRef { blob: NAME, ..BlobRef::default() }).await.unwrap_err();
    assert!(matches!(error, BlobError::Missing { .. }));
    assert!(error.to_string().contains(&NAME.hex()), "{error}");
    dir.blobs.remove(NAME).await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_is_no_blob_and_holds_nobody_up() {
    let dir = dir();
    let made = std::process::Command::new("mkfifo").arg(dir.root.join(NAME.hex())).status().unwrap();
    assert!(made.success());
    let read = dir.blobs.get(BlobRef { blob: NAME, length: 1, ..BlobRef::default() });
    let error = tokio::time::timeout(FAR_AHEAD, read).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_is_never_read() {
    let dir = dir();
    let error = dir.blobs.put(NAME, Bytes::from(vec![0; MAX_BLOB + 1])).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge { .. }));
    assert_eq!(fs::read_dir(&dir.root).unwrap().count(), 0, "nothing is left of it");
    fs::File::create(dir.root.join(NAME.hex())).unwrap().set_len(1 << 40).unwrap();
    let grown = BlobRef { blob: NAME, length: 1 << 40, ..BlobRef::default() };
    assert!(matches!(dir.blobs.get(grown).await, Err(BlobError::Damaged { .. })));
}

#[tokio::test]
async fn a_sweep_removes_what_no_frame_names_and_nothing_young() {
    let dir = dir();
    let (named, orphan, removed) = (NAME, BlobId([1; 16]), BlobId([2; 16]));
    dir.blobs.put(named, Bytes::from_static(b"named")).await.unwrap();
    dir.blobs.put(orphan, Bytes::from_static(b"orphan")).await.unwrap();
    dir.blobs.put(removed, Bytes::from_static(b"removed")).await.unwrap();
    dir.blobs.remove(removed).await.unwrap();
    fs::write(dir.root.join(format!("{}.0.tmp", named.hex())), b"left over").unwrap();
    fs::write(dir.root.join("README"), b"someone else's").unwrap();
    let young = dir.blobs.sweep(BTreeSet::from([named]), SystemTime::UNIX_EPOCH).await.unwrap();
    assert_eq!(young, Swept { kept: 2, removed: 0, bytes: 0 });
    let old = dir.blobs.sweep(BTreeSet::from([named]), soon()).await.unwrap();
    assert_eq!(old, Swept { kept: 1, removed: 2, bytes: 6 + 9 });
    assert_eq!(dir.blobs.get(run(named, b"named", 0, 5)).await.unwrap(), &b"named"[..]);
    let gone = dir.blobs.get(run(orphan, b"orphan", 0, 6)).await;
    assert!(matches!(gone, Err(BlobError::Missing { .. })));
    assert!(dir.root.join("README").exists());
}
