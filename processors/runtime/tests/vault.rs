//! The vault on disk: what it keeps, what it forgets for good, and what it says when it is damaged.

#![expect(clippy::disallowed_methods, reason = "files are damaged on purpose")]

use std::path::PathBuf;

use omium_runtime::{FileVault, Place, StreamKey, Vault, VaultError, open, seal};
use omium_schemas::{Content, KeyId, Seq, StreamId, StreamKind, TenantId};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a temporary directory"))
    }

    fn keys(&self) -> PathBuf {
        self.0.path().join("keys")
    }

    fn master(&self) -> PathBuf {
        self.0.path().join("master")
    }

    fn open(&self) -> Result<FileVault, VaultError> {
        FileVault::open(&self.keys(), &self.master())
    }

    fn vault(&self) -> FileVault {
        self.open().expect("a vault")
    }
}

fn stream(name: &str) -> StreamKey {
    let tenant = TenantId([name.as_bytes()[0]; 16]);
    StreamKey::new(tenant, StreamId::named(StreamKind::Account, name))
}

fn sealed(vault: &dyn Vault, name: &str) -> Content {
    let key = vault.sealing(&stream(name)).expect("a key");
    let place = Place { stream: stream(name), seq: Seq(2), field: 0 };
    seal(&key, &place, &[3; 16], name.as_bytes())
}

fn opened(vault: &dyn Vault, name: &str, content: &Content) -> Option<Vec<u8>> {
    open(vault, stream(name), content).ok().map(|bytes| bytes.to_vec())
}

#[test]
fn keys_are_there_after_opening_again_and_differ_between_streams() {
    let files = Files::new();
    let vault = files.vault();
    let (a, b) = (sealed(&vault, "a"), sealed(&vault, "b"));
    assert_ne!(
        vault.sealing(&stream("a")).unwrap().digest(b"x"),
        vault.sealing(&stream("b")).unwrap().digest(b"x")
    );
    drop(vault);
    let vault = files.vault();
    assert_eq!(opened(&vault, "a", &a).as_deref(), Some(&b"a"[..]));
    assert_eq!(opened(&vault, "b", &b).as_deref(), Some(&b"b"[..]));
    assert_eq!(opened(&vault, "b", &a), None);
}

#[test]
fn a_key_is_on_disk_before_it_is_used() {
    let files = Files::new();
    let vault = files.vault();
    let content = sealed(&vault, "a");
    // What a crash at this very moment would leave: the files as they are, and no goodbye.
    let copy = Files::new();
    std::fs::copy(files.keys(), copy.keys()).unwrap();
    std::fs::copy(files.master(), copy.master()).unwrap();
    assert_eq!(opened(&copy.vault(), "a", &content).as_deref(), Some(&b"a"[..]));
}

#[test]
fn erased_content_cannot_be_opened_by_anyone_also_not_with_the_files() {
    let files = Files::new();
    let vault = files.vault();
    let (erased, kept) = (sealed(&vault, "erased"), sealed(&vault, "kept"));
    let before = std::fs::read(files.keys()).unwrap();
    vault.destroy(&stream("erased")).unwrap();
    vault.destroy(&stream("never seen")).unwrap();
    for vault in [vault, files.vault()] {
        assert_eq!(opened(&vault, "erased", &erased), None);
        assert!(vault.sealing(&stream("erased")).is_none());
        assert!(vault.sealing(&stream("never seen")).is_none());
        assert_eq!(opened(&vault, "kept", &kept).as_deref(), Some(&b"kept"[..]));
    }
    let after = std::fs::read(files.keys()).unwrap();
    let slot = before.chunks(128).skip(1).find(|slot| !after.chunks(128).any(|now| now == *slot)).unwrap();
    assert!(!after.windows(48).any(|window| window == &slot[52..100]), "the sealed key is still in the file");
}

#[test]
fn every_cut_and_every_flipped_byte_is_reported() {
    let files = Files::new();
    let vault = files.vault();
    let names = ["a", "b", "c"];
    let content: Vec<Content> = names.iter().map(|name| sealed(&vault, name)).collect();
    drop(vault);
    let whole = std::fs::read(files.keys()).unwrap();
    for length in (0..whole.len()).rev().step_by(13) {
        std::fs::write(files.keys(), &whole[..length]).unwrap();
        if length == 0 {
            // An empty file is what a crash leaves before anything was made.
            continue;
        }
        let error = files.open().err().unwrap_or_else(|| panic!("cut at {length}"));
        assert!(matches!(error, VaultError::Damaged { .. } | VaultError::Foreign { .. }), "{error}");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(files.keys(), &flipped).unwrap();
        let error = files.open().err().unwrap_or_else(|| panic!("flipped at {at}"));
        assert!(error.to_string().contains("keys"), "{error}");
    }
    std::fs::write(files.keys(), &whole).unwrap();
    let vault = files.vault();
    for (name, content) in names.iter().zip(&content) {
        assert_eq!(opened(&vault, name, content).as_deref(), Some(name.as_bytes()));
    }
}

#[test]
fn a_torn_last_key_was_never_used_and_does_no_harm() {
    let files = Files::new();
    let vault = files.vault();
    let content = sealed(&vault, "a");
    drop(vault);
    let mut bytes = std::fs::read(files.keys()).unwrap();
    bytes.extend_from_slice(&[9; 77]);
    bytes.extend_from_slice(&[0; 128]);
    std::fs::write(files.keys(), bytes).unwrap();
    let vault = files.vault();
    let more = sealed(&vault, "b");
    drop(vault);
    let vault = files.vault();
    assert_eq!(opened(&vault, "a", &content).as_deref(), Some(&b"a"[..]));
    assert_eq!(opened(&vault, "b", &more).as_deref(), Some(&b"b"[..]));
}

#[test]
fn many_callers_get_each_stream_one_key() {
    let files = Files::new();
    let vault = files.vault();
    let names: Vec<String> = (0..40).map(|n| format!("{n}")).collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| names.iter().for_each(|name| drop(vault.sealing(&stream(name)).expect("a key"))));
        }
    });
    let id = |vault: &FileVault, name: &String| vault.sealing(&stream(name)).expect("a key").id;
    let ids: std::collections::BTreeSet<_> = names.iter().map(|name| id(&vault, name)).collect();
    assert_eq!(ids.len(), names.len());
    // One for the head, one for each of the ten tenants, one for each stream: none was made twice.
    assert_eq!(std::fs::metadata(files.keys()).unwrap().len(), 128 * (1 + 10 + 40));
    let again = files.vault();
    assert!(names.iter().all(|name| id(&again, name) == id(&vault, name)));
}

#[test]
fn without_its_master_key_a_vault_does_not_open_and_says_what_is_missing() {
    let files = Files::new();
    sealed(&files.vault(), "a");
    let master = std::fs::read_to_string(files.master()).unwrap();
    for (bad, words) in [("zz", "64 hexadecimal digits"), (&"0".repeat(64)[..], "another one")] {
        std::fs::write(files.master(), bad).unwrap();
        let error = files.open().err().expect("no opening").to_string();
        assert!(error.contains(words) && error.contains("restore it"), "{error}");
    }
    std::fs::remove_file(files.master()).unwrap();
    assert!(matches!(files.open().err(), Some(VaultError::NoMaster { .. })));
    std::fs::write(files.master(), master).unwrap();
    files.vault();
}

#[test]
fn a_first_start_that_was_killed_leaves_nothing_that_a_second_one_stumbles_over() {
    let files = Files::new();
    std::fs::write(files.master(), "").unwrap();
    std::fs::write(files.master().with_extension("new"), "half a ke").unwrap();
    let key = files.vault().sealing(&stream("a")).unwrap();
    assert_eq!(files.vault().sealing(&stream("a")).unwrap().digest(b"x"), key.digest(b"x"));
}

#[test]
fn who_only_looks_makes_no_key() {
    let files = Files::new();
    let vault = files.vault();
    vault.sealing(&stream("a")).unwrap();
    let size = || std::fs::metadata(files.keys()).unwrap().len();
    let before = size();
    for number in 0..20 {
        assert!(vault.known(&stream(&format!("made-up-{number}"))).is_none());
    }
    assert!(vault.known(&stream("a")).is_some());
    assert_eq!(size(), before);
}

#[test]
fn a_number_that_no_key_can_have_is_refused_also_where_an_operator_has_accepted_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = dir.path().join("keys");
    let vault = FileVault::open(&keys, &dir.path().join("master.key")).expect("a vault");
    let before = std::fs::metadata(&keys).expect("a file").len();
    for newest in [u64::MAX, u64::MAX / 64] {
        std::fs::write(dir.path().join("keys.older"), newest.to_string()).expect("a file");
        let why = vault.reaches(KeyId(newest)).expect_err("there is no such key").to_string();
        assert!(why.contains("is no number of a key"), "{why}");
    }
    assert_eq!(std::fs::metadata(&keys).expect("a file").len(), before);
}

#[test]
fn looking_whether_there_is_room_makes_no_key_and_changes_nothing() {
    let files = Files::new();
    let vault = files.vault();
    let a = sealed(&vault, "a");
    let before = std::fs::read(files.keys()).expect("a file");
    assert!(vault.has_room());
    assert_eq!(std::fs::read(files.keys()).expect("a file"), before);
    let b = sealed(&vault, "b");
    drop(vault);
    // As if it had been killed while it looked.
    let mut torn = std::fs::read(files.keys()).expect("a file");
    torn.extend([0; 128]);
    std::fs::write(files.keys(), torn).expect("a file");
    let vault = files.vault();
    assert_eq!(opened(&vault, "a", &a).as_deref(), Some(&b"a"[..]));
    assert_eq!(opened(&vault, "b", &b).as_deref(), Some(&b"b"[..]));
}
