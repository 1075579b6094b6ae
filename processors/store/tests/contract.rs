//! Both stores keep the same promises.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use omium_store::{Batch, MemoryStore, RocksStore, Settings, Store, StoreError};

fn batch(rows: &[(&str, Option<&str>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.put(key.as_bytes().to_vec(), value.as_bytes().to_vec()),
            None => batch.delete(key.as_bytes().to_vec()),
        }
    }
    batch
}

fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let rows = store.scan(prefix.as_bytes(), after.map(str::as_bytes), limit).expect("a scan");
    rows.into_iter().map(|(key, _)| String::from_utf8(key).expect("test keys are text")).collect()
}

#[track_caller]
fn check(store: &dyn Store) {
    store.write(batch(&[("a1", Some("x")), ("a2", Some("y")), ("b1", Some("z"))])).expect("a write");
    store.write(batch(&[("a2", None), ("a3", Some("w")), ("a3", Some("v"))])).expect("a write");
    let found = store.get(&[b"a1".to_vec(), b"a2".to_vec(), b"a3".to_vec()]).expect("a read");
    assert_eq!(found, [Some(b"x".to_vec()), None, Some(b"v".to_vec())]);
    assert_eq!(store.get(&[b"b1".to_vec()]).expect("a read"), [Some(b"z".to_vec())]);
    assert_eq!(keys(store, "a", None, 9), ["a1", "a3"]);
    assert_eq!(keys(store, "a", Some("a1"), 9), ["a3"]);
    assert_eq!(keys(store, "", None, 2), ["a1", "a3"]);
    assert_eq!(keys(store, "", None, 0), [""; 0]);
    store.flush().expect("a flush");
    check_taken_back(store);
}

/// A key that comes and goes, within a batch, over batches and over flushes.
#[track_caller]
fn check_taken_back(store: &dyn Store) {
    let key = || b"c1".to_vec();
    let taken = || {
        let mut batch = Batch::default();
        batch.take_back(key());
        batch
    };
    store.write(batch(&[("c1", Some("x"))])).expect("a write");
    let mut both = taken();
    both.put(key(), b"y".to_vec());
    store.write(both).expect("a write");
    store.flush().expect("a flush");
    assert_eq!(keys(store, "c", None, 9), ["c1"]);
    store.write(taken()).expect("a write");
    store.flush().expect("a flush");
    assert_eq!(keys(store, "c", None, 9), [""; 0]);
}

#[test]
fn memory_keeps_the_contract() {
    check(&MemoryStore::default());
}

#[test]
fn rocksdb_keeps_the_contract_and_its_rows() {
    let place = tempfile::tempdir().expect("a directory");
    check(&RocksStore::open(place.path(), Settings::default()).expect("a new store"));
    let again = RocksStore::open(place.path(), Settings::default()).expect("the same store");
    assert_eq!(keys(&again, "a", None, 9), ["a1", "a3"]);
}

#[test]
fn a_crash_in_memory_forgets_a_suffix_of_whole_batches() {
    let store = MemoryStore::default();
    store.write(batch(&[("a", Some("1"))])).expect("a write");
    store.flush().expect("a flush");
    store.write(batch(&[("b", Some("1")), ("c", Some("1"))])).expect("a write");
    store.write(batch(&[("d", Some("1"))])).expect("a write");
    store.crash(1);
    assert_eq!(keys(&store, "", None, 9), ["a", "b", "c"]);
}

#[test]
fn a_checkpoint_is_a_store_of_its_own() {
    let place = tempfile::tempdir().expect("a directory");
    let store = RocksStore::open(&place.path().join("live"), Settings::default()).expect("a new store");
    store.write(batch(&[("a", Some("1"))])).expect("a write");
    store.checkpoint(&place.path().join("copy")).expect("a copy");
    store.write(batch(&[("b", Some("1"))])).expect("a write");
    let copy = RocksStore::open(&place.path().join("copy"), Settings::default()).expect("the copy");
    assert_eq!(keys(&copy, "", None, 9), ["a"]);
}

#[test]
fn memory_stays_within_its_settings() {
    let place = tempfile::tempdir().expect("a directory");
    let settings = Settings { cache_bytes: 1 << 20, write_bytes: 2 << 20 };
    let store = RocksStore::open(place.path(), settings).expect("a new store");
    for n in 0..400_u32 {
        let mut batch = Batch::default();
        for row in 0..64_u32 {
            batch.put(format!("{n:05}-{row}").into_bytes(), vec![n as u8; 1000]);
        }
        store.write(batch).expect("a write");
    }
    // 25 MB were written. One buffer may be over its share while it is being flushed.
    assert!(store.memory() < 8 << 20, "{} bytes", store.memory());
}

/// Where this is set the test program writes batches until it is killed, and tells after each flush.
const WRITER: &str = "OMIUM_STORE_WRITER";

#[test]
fn a_kill_between_flushes_forgets_no_flushed_batch_and_splits_none() {
    if let Ok(place) = std::env::var(WRITER) {
        return write_for_ever(&place);
    }
    let place = tempfile::tempdir().expect("a directory");
    let mut writer = Command::new(std::env::current_exe().expect("this test program"))
        .args(["--exact", "a_kill_between_flushes_forgets_no_flushed_batch_and_splits_none", "--nocapture"])
        .env(WRITER, place.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer starts");
    let lines = BufReader::new(writer.stdout.take().expect("a pipe")).lines();
    let told =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("flushed ")?.parse::<u32>().ok());
    let last = told.take(4).last().expect("four flushes");
    writer.kill().expect("it is still running");
    writer.wait().expect("it ends");
    let store = RocksStore::open(place.path(), Settings::default()).expect("the store after the kill");
    let left = keys(&store, "left", None, usize::MAX).len() as u32;
    assert_eq!(keys(&store, "right", None, usize::MAX).len() as u32, left, "a batch was split");
    assert!(left >= last, "{last} batches were flushed, {left} are there");
    let position = store.get(&[b"position".to_vec()]).expect("a read").remove(0).expect("a position");
    assert_eq!(position, left.to_be_bytes(), "the position is not that of the rows");
}

fn write_for_ever(place: &str) {
    let store = RocksStore::open(place.as_ref(), Settings::default()).expect("a new store");
    for n in 1_u32.. {
        let mut batch = Batch::default();
        batch.put(format!("left{n:08}").into_bytes(), vec![1; 100]);
        batch.put(format!("right{n:08}").into_bytes(), vec![2; 100]);
        batch.put(b"position".to_vec(), n.to_be_bytes().to_vec());
        store.write(batch).expect("a write");
        if n % 50 == 0 {
            store.flush().expect("a flush");
            #[expect(clippy::print_stdout, reason = "the test reads it through a pipe")]
            {
                println!("\nflushed {n}");
            }
        }
    }
}

/// Damages a store, which is then empty and lies beside.
#[track_caller]
fn healed_after(damage: impl Fn(&std::path::Path)) {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("index");
    for _ in 0..2 {
        let store = RocksStore::open(&place, Settings::default()).expect("a store");
        store.write(batch(&[("a", Some("1"))])).expect("a write");
        store.flush().expect("a flush");
        drop(store);
        damage(&place);
        let healed = RocksStore::open(&place, Settings::default()).expect("a store that is made again");
        assert_eq!(keys(&healed, "", None, 9), [""; 0]);
        assert!(dir.path().join("index.damaged/CURRENT").exists(), "it was moved aside");
        check(&healed);
    }
}

#[test]
fn a_store_whose_current_file_holds_garbage_is_moved_aside_and_made_again() {
    healed_after(|place| std::fs::write(place.join("CURRENT"), "garbage").expect("a file"));
    healed_after(|place| std::fs::write(place.join("CURRENT"), "MANIFEST-999999\n").expect("a file"));
    healed_after(|place| std::fs::write(place.join("CURRENT"), [0xff; 64]).expect("a file"));
}

#[test]
fn a_store_whose_manifest_is_garbage_is_moved_aside_and_made_again() {
    healed_after(|place| {
        for entry in std::fs::read_dir(place).expect("a directory") {
            let path = entry.expect("a file").path();
            if path.to_string_lossy().contains("MANIFEST") {
                std::fs::write(path, [7; 4096]).expect("a file");
            }
        }
    });
}

#[test]
fn a_store_with_a_damaged_row_says_so_and_is_made_again_by_the_next_opening() {
    healed_after(|place| {
        for entry in std::fs::read_dir(place).expect("a directory") {
            let path = entry.expect("a file").path();
            if path.extension().is_some_and(|end| end == "sst") {
                let mut bytes = std::fs::read(&path).expect("a file");
                bytes[4] ^= 1;
                std::fs::write(path, bytes).expect("a file");
            }
        }
        assert!(!RocksStore::is_marked(place));
        let store = RocksStore::open(place, Settings::default()).expect("nobody has read it yet");
        let read = store.get(&[b"a".to_vec()]);
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
        assert!(RocksStore::is_marked(place));
    });
}

#[test]
fn a_store_that_another_has_open_is_not_moved_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("index");
    let store = RocksStore::open(&place, Settings::default()).expect("a store");
    assert!(RocksStore::open(&place, Settings::default()).is_err());
    assert!(!dir.path().join("index.damaged").exists());
    drop(store);
}

/// Where this is set the test program may not make any file longer, which is as a full disk is.
const CRAMPED: &str = "OMIUM_STORE_CRAMPED";

#[test]
fn a_store_that_there_is_no_room_to_open_is_read_and_keeps_what_is_written_until_there_is() {
    if let Ok(place) = std::env::var(CRAMPED) {
        return cramped(place.as_ref());
    }
    let dir = tempfile::tempdir().expect("a directory");
    let store = RocksStore::open(dir.path(), Settings::default()).expect("a new store");
    store.write(batch(&[("a1", Some("1")), ("a2", Some("1")), ("a3", Some("1"))])).expect("a write");
    store.write(batch(&[("c1", Some("1")), ("c2", Some("1"))])).expect("a write");
    store.flush().expect("a flush");
    drop(store);
    let name = "a_store_that_there_is_no_room_to_open_is_read_and_keeps_what_is_written_until_there_is";
    let ended = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 0; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test program"))
        .args(["--exact", name, "--nocapture"])
        .env(CRAMPED, dir.path())
        .output()
        .expect("the same program");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let store = RocksStore::open(dir.path(), Settings::default()).expect("the store");
    assert_eq!(keys(&store, "a", None, 9), ["a0", "a2", "a3", "a4"]);
    store.write(taken_back("c1")).expect("a write");
    store.flush().expect("a flush");
    assert_eq!(keys(&store, "c", None, 9), ["c3"], "a value that lay beneath another one is back");
}

fn taken_back(key: &str) -> Batch {
    let mut batch = Batch::default();
    batch.take_back(key.as_bytes().to_vec());
    batch
}

fn cramped(place: &std::path::Path) {
    let settings = Settings { write_bytes: 64 << 10, ..Settings::default() };
    let store = RocksStore::open(place, settings).expect("a store that is read");
    assert!(store.flush().expect_err("no room").to_string().contains("free some space"));
    store.write(batch(&[("a0", Some("2")), ("a1", None), ("a2", Some("2"))])).expect("it is kept");
    store.write(batch(&[("a4", Some("2")), ("b", Some("2")), ("b", None)])).expect("it is kept");
    assert_eq!(keys(&store, "a", None, 9), ["a0", "a2", "a3", "a4"]);
    assert_eq!(keys(&store, "a", Some("a2"), 1), ["a3"]);
    assert_eq!(keys(&store, "a", Some("a3"), 9), ["a4"]);
    assert_eq!(keys(&store, "b", None, 9), [""; 0]);
    let found = store.get(&[b"a1".to_vec(), b"a2".to_vec(), b"a3".to_vec()]).expect("a read");
    assert_eq!(found, [None, Some(b"2".to_vec()), Some(b"1".to_vec())]);
    for key in ["c1", "c2", "c3"] {
        store.write(taken_back(key)).expect("it is kept");
        store.write(batch(&[(key, Some("2"))])).expect("it is kept");
    }
    store.write(taken_back("c2")).expect("it is kept");
    assert_eq!(keys(&store, "c", None, 9), ["c1", "c3"]);
    // One key takes no more room however often it is written; many do, up to the limit.
    let long = "x".repeat(1000);
    for _ in 0..200 {
        store.write(batch(&[("d", Some(&long))])).expect("it is kept");
    }
    let fill = |n: u32| store.write(batch(&[(&format!("e{n}"), Some(&long))]));
    let kept = (0..200).take_while(|n| fill(*n).is_ok()).count();
    assert!((40..64).contains(&kept), "{kept} rows of 1000 bytes were kept");
    assert!(matches!(fill(999), Err(StoreError::Full { .. })));
    assert_eq!(keys(&store, "e", None, 200).len(), kept, "nothing is kept of what was refused");
    check_nothing_is_written(place);
    let none = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, none).expect("the soft limit");
    // It is not tried with every call.
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.flush() {
        assert!(Instant::now() < until, "there is room again, and yet: {error}");
        std::thread::yield_now();
    }
    assert_eq!(keys(&store, "a", None, 9), ["a0", "a2", "a3", "a4"]);
}

fn check_nothing_is_written(place: &std::path::Path) {
    let read = std::fs::read_to_string(place.join("CURRENT")).expect("a file");
    assert!(place.join(read.trim_end()).exists(), "the store is as it was");
}
