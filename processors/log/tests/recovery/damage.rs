//! Every flipped bit of every kind of file is found or harmless; garbage is an error, never a panic.

use std::fs;
use std::path::Path;

use omium_log::LogError;
use omium_schemas::{Offset, Partition};

use crate::directory::{Directory, SEGMENT, data_end, flip, read_all};

/// Flips bits of one file, every `step`-th, and holds whatever can then be read against what was acknowledged.
fn check_flips(directory: &Directory, path: &Path, bits: impl Iterator<Item = usize>) -> (u64, u64) {
    let content = directory.content();
    let (mut found, mut harmless) = (0, 0);
    for bit in bits {
        flip(path, bit);
        match read_everything(directory) {
            Ok(()) => harmless += 1,
            Err(LogError::Damaged { .. } | LogError::Foreign { .. }) => found += 1,
            Err(other) => panic!("bit {bit} of {}: {other}", path.display()),
        }
        for (path, bytes) in &content {
            fs::write(path, bytes).unwrap();
        }
    }
    (found, harmless)
}

/// Reads all there is; what is read must be what was acknowledged, all of it.
fn read_everything(directory: &Directory) -> Result<(), LogError> {
    let journal = directory.open()?;
    for (partition, acknowledged) in directory.acknowledged.iter().enumerate() {
        assert_eq!(read_all(&journal, partition as u16)?, *acknowledged, "a wrong answer");
    }
    for from in 0..directory.acknowledged[0].len() {
        let entries = journal.read(Partition(0), Offset(from as u64), 1)?;
        assert_eq!(entries[0].bytes, directory.acknowledged[0][from], "a wrong answer");
    }
    Ok(())
}

fn small(closed: bool) -> Directory {
    let mut directory = Directory::new();
    let mut journal = directory.open().unwrap();
    directory.write(&mut journal, 8, 100);
    if closed {
        journal.close().unwrap();
    }
    directory
}

#[test]
fn flipped_bits_of_the_last_segment_are_found_after_a_good_end() {
    let directory = small(true);
    let last = directory.last();
    let end = data_end(&last) * 8;
    let (found, harmless) = check_flips(&directory, &last, (0..end).step_by(13));
    assert_eq!(harmless, 0, "{found} found");
    let (found, harmless) = check_flips(&directory, &last, (end + 100..SEGMENT as usize * 8).step_by(50_001));
    assert!(harmless > 0 && found == 0, "bits behind the end are nobody's: {found} found");
}

#[test]
fn flipped_bits_of_a_middle_segment_and_its_index_are_found() {
    let directory = Directory::filled(true);
    let segments = directory.segments();
    let middle = &segments[segments.len() / 2];
    let bits = fs::read(middle).unwrap().len() * 8;
    // Who comes by the index does not pass the segment's head and that of its first write; `verify` looks at them.
    let (found, harmless) = check_flips(&directory, middle, (88 * 8..bits).step_by(9973));
    assert_eq!(harmless, 0, "{found} found in records");
    // What is in the index is in the records too, so an opening writes it anew. All else is refused.
    let index = fs::read(middle).unwrap();
    let index = u32::from_le_bytes(index[index.len() - 4..].try_into().unwrap()) as usize * 8;
    let (found, harmless) = check_flips(&directory, middle, (bits - index..bits).step_by(61));
    assert!(found == 0 && harmless > 5, "{found} found in the index, {harmless} mended");
}

#[test]
fn flipped_bits_of_the_small_files_are_found_or_harmless() {
    let directory = small(true);
    for (name, is_harmless) in [("FORMAT", false), ("starts", false), ("LOCK", true), ("clean", true)] {
        let path = directory.root().join(name);
        let bits = fs::read(&path).unwrap().len() * 8;
        let (found, harmless) = check_flips(&directory, &path, (0..bits).step_by(3));
        let all_as_expected = if is_harmless { found == 0 } else { harmless == 0 };
        assert!(all_as_expected, "{name}: {found} found, {harmless} harmless");
    }
}

#[test]
fn a_segment_of_garbage_is_an_error_and_stays_as_it_is() {
    let noise: Vec<u8> =
        (0..200_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect();
    for at in 0..2 {
        let directory = Directory::filled(true);
        fs::write(&directory.segments()[at], &noise).unwrap();
        let before = directory.content();
        let error = directory.open().err();
        assert!(matches!(error, Some(LogError::Damaged { .. })), "{error:?}");
        assert_eq!(directory.content(), before);
    }
}

#[test]
fn a_cut_segment_is_an_error_wherever_it_is_cut() {
    let directory = Directory::filled(true);
    for path in [directory.segments()[1].clone(), directory.last()] {
        let whole = fs::read(&path).unwrap();
        for length in (0..data_end(&path)).step_by(4001) {
            fs::write(&path, &whole[..length]).unwrap();
            let before = directory.content();
            let error = directory.open().err();
            assert!(matches!(error, Some(LogError::Damaged { .. })), "cut at {length}: {error:?}");
            assert_eq!(directory.content(), before);
        }
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn files_of_impossible_size_cost_no_memory() {
    let directory = Directory::filled(true);
    let path = &directory.segments()[1];
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 36).unwrap();
    let journal = directory.open().unwrap();
    assert_eq!(
        journal.opened().resealed,
        std::slice::from_ref(path),
        "what stands behind a seal is nobody's"
    );
    directory.assert_holds_all(&journal);
    let directory = small(true);
    let format = directory.root().join("FORMAT");
    fs::OpenOptions::new().write(true).open(format).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(directory.open().err(), Some(LogError::Foreign { .. })));
}
