//! Seals that are damaged, of segments whose records are not.

use std::fs;
use std::path::Path;

use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::{Repair, repair, verify};

use crate::directory::{Directory, SEGMENT, flip};

/// Where the seal of a full segment begins: its last four bytes say how long it is.
fn seal_begin(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    let length = u32::from_le_bytes(bytes[bytes.len() - 4..].try_into().unwrap());
    bytes.len() - length as usize
}

#[test]
fn every_byte_of_a_seal_may_be_damaged_and_a_repair_writes_the_seal_anew() {
    let directory = Directory::filled(true);
    let path = directory.segments()[1].clone();
    let (original, begin) = (fs::read(&path).unwrap(), seal_begin(&path));
    assert!(original.len() - begin > 80, "a seal with rows and points");
    for byte in begin..original.len() {
        flip(&path, byte * 8 + byte % 8);
        let before = directory.content();
        let verified = verify(&RealDisk, &directory.root()).unwrap();
        assert_eq!(verified.problems.len(), 1, "byte {byte}: {verified}");
        assert!(verified.to_string().contains("the next opening writes it anew"), "{verified}");
        let planned = repair(&RealDisk, &directory.root(), Vec::new(), Repair::DryRun).unwrap();
        assert!(planned.to_string().contains("would be written anew: the seal of"), "{planned}");
        assert_eq!(directory.content(), before, "byte {byte}: a dry run changes nothing");

        let done = repair(&RealDisk, &directory.root(), Vec::new(), Repair::Apply).unwrap();
        assert_eq!((&done.resealed[..], &planned.resealed), (&[path.clone()][..], &done.resealed));
        let verified = verify(&RealDisk, &directory.root()).unwrap();
        assert!(verified.is_sound(), "byte {byte}: {verified}");
        let now = fs::read(&path).unwrap();
        assert_eq!((&now[..begin], now.len()), (&original[..begin], original.len()), "byte {byte}");
        fs::write(&path, &original).unwrap();
    }
}

#[test]
fn an_opening_writes_damaged_seals_anew_and_reads_through_them() {
    let directory = Directory::filled(false);
    let paths = directory.segments()[..2].to_vec();
    for path in &paths {
        flip(path, seal_begin(path) * 8 + 300);
    }
    let journal = directory.open().unwrap();
    assert_eq!(journal.opened().resealed, paths);
    directory.assert_holds_all(&journal);
    journal.close().unwrap();
    assert!(directory.open().unwrap().opened().resealed.is_empty(), "once is enough");
}

#[test]
fn a_seal_that_is_cut_off_is_written_anew() {
    let directory = Directory::filled(true);
    let path = &directory.segments()[0];
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..seal_begin(path)]).unwrap();
    let journal = directory.open().unwrap();
    assert_eq!(journal.opened().resealed.len(), 1);
    directory.assert_holds_all(&journal);
}

#[test]
fn a_seal_is_not_written_anew_where_a_record_is_damaged_too() {
    let directory = Directory::filled(true);
    let path = &directory.segments()[1];
    flip(path, seal_begin(path) * 8);
    flip(path, 20_000 * 8);
    let before = directory.content();
    for how in [Repair::DryRun, Repair::Apply] {
        let error = repair(&RealDisk, &directory.root(), Vec::new(), how).unwrap_err();
        assert!(
            matches!(&error, LogError::Damaged { at, why, .. }
                if *at <= 20_000 && why.contains("the seal is damaged too")),
            "{error}"
        );
        assert_eq!(directory.content(), before);
    }
    assert!(directory.open().is_err());
}

#[test]
fn the_seal_of_the_last_segment_in_use_may_be_damaged() {
    let mut directory = Directory::new();
    let mut journal = directory.open().unwrap();
    // The round that begins the second segment seals the first one. Without its bytes the log ends with that seal.
    let mut rest;
    loop {
        rest = directory.acknowledged.each_ref().map(Vec::len);
        directory.write(&mut journal, 1, 900);
        if fs::read(&directory.segments()[0]).unwrap().len() != SEGMENT as usize {
            break;
        }
    }
    drop(journal);
    let (first, second) = (directory.segments()[0].clone(), directory.segments()[1].clone());
    fs::write(&second, vec![0; SEGMENT as usize]).unwrap();
    for (acknowledged, rest) in directory.acknowledged.iter_mut().zip(rest) {
        acknowledged.truncate(rest);
    }
    let (original, begin) = (fs::read(&first).unwrap(), seal_begin(&first));
    for byte in begin..original.len() {
        flip(&first, byte * 8);
        let journal = directory.open().unwrap();
        directory.assert_holds_all(&journal);
        drop(journal);
        fs::write(&first, &original).unwrap();
        fs::write(&second, vec![0; SEGMENT as usize]).unwrap();
    }
}
