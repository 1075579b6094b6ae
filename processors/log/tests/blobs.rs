//! Large values beside the log.
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use omium_log::blobs::{BlobDirectory, BlobError, Blobs, MAX_BLOB, Swept};
use omium_schemas::Digest;

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

const NOTHING: &[u8] = b"";
const FAR_AHEAD: Duration = Duration::from_secs(3600);

fn soon() -> SystemTime {
    SystemTime::now() + FAR_AHEAD
}

#[tokio::test]
async fn a_value_is_named_by_its_hash_and_reads_back() {
    let dir = dir();
    for value in [NOTHING, b"one", &[7; 300_000]] {
        let name = dir.blobs.put(Bytes::from_static(b"other")).await.unwrap();
        assert_ne!(name, Digest::of(value));
        let name = dir.blobs.put(Bytes::copy_from_slice(value)).await.unwrap();
        assert_eq!(name, Digest::of(value));
        assert_eq!(dir.blobs.get(name).await.unwrap(), value);
    }
    assert_eq!(fs::read_dir(&dir.root).unwrap().count(), 4);
}

#[tokio::test]
async fn a_flipped_bit_is_found_and_putting_the_value_again_heals_it() {
    let dir = dir();
    let value = Bytes::from_static(b"a value of some bytes");
    let name = dir.blobs.put(value.clone()).await.unwrap();
    let path = dir.root.join(name.hex());
    for bit in 0..value.len() * 8 {
        let mut bytes = value.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        assert!(matches!(dir.blobs.get(name).await, Err(BlobError::Damaged { .. })), "bit {bit}");
    }
    fs::write(&path, &value[..5]).unwrap();
    assert!(matches!(dir.blobs.get(name).await, Err(BlobError::Damaged { .. })), "cut");
    dir.blobs.put(value.clone()).await.unwrap();
    assert_eq!(dir.blobs.get(name).await.unwrap(), value);
}

#[tokio::test]
async fn a_missing_value_is_named_with_its_file() {
    let dir = dir();
    let error = dir.blobs.get(Digest::of(b"never put")).await.unwrap_err();
    assert!(matches!(error, BlobError::Missing { .. }));
    assert!(error.to_string().contains(&Digest::of(b"never put").hex()), "{error}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_a_file_that_is_too_large_is_not_read() {
    let dir = dir();
    let size = MAX_BLOB + 1;
    let error = dir.blobs.put(Bytes::from(vec![0; size])).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge { .. }));
    assert_eq!(fs::read_dir(&dir.root).unwrap().count(), 0, "nothing is left of it");
    let name = Digest::of(b"grown");
    fs::File::create(dir.root.join(name.hex())).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(dir.blobs.get(name).await, Err(BlobError::Damaged { .. })));
}

#[tokio::test]
async fn a_sweep_removes_what_no_frame_names_and_nothing_young() {
    let dir = dir();
    let named = dir.blobs.put(Bytes::from_static(b"named")).await.unwrap();
    let orphan = dir.blobs.put(Bytes::from_static(b"orphan")).await.unwrap();
    fs::write(dir.root.join(format!("{}.0.tmp", named.hex())), b"left over").unwrap();
    fs::write(dir.root.join("README"), b"someone else's").unwrap();
    let young = dir.blobs.sweep(BTreeSet::from([named]), SystemTime::UNIX_EPOCH).await.unwrap();
    assert_eq!(young, Swept { kept: 2, removed: 0, bytes: 0 });
    let old = dir.blobs.sweep(BTreeSet::from([named]), soon()).await.unwrap();
    assert_eq!(old, Swept { kept: 1, removed: 2, bytes: 6 + 9 });
    assert_eq!(dir.blobs.get(named).await.unwrap(), &b"named"[..]);
    assert!(matches!(dir.blobs.get(orphan).await, Err(BlobError::Missing { .. })));
    assert!(dir.root.join("README").exists());
}
