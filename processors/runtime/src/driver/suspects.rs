//! What was under way when the process ended, three times in a row, is not tried a fourth time: its stream is
//! quarantined. Only what takes long or panics is noted, in a small file beside the log, so that nothing else pays for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use omium_log::disk::{Disk as _, DiskError, DiskFault, DiskFile as _, RealDisk, read_small};
use omium_schemas::{StreamId, TenantId};

use crate::key::StreamKey;

/// How many unclean ends in a row are enough.
const ENDS: u32 = 3;
/// After how many microseconds work is noted.
const LONG: u64 = 100_000;
/// After how many microseconds of one process an end is not one in a row any more.
const IN_A_ROW: u64 = 3_600_000_000;
/// More than that is not read back: nobody has so much under way.
const LONGEST: usize = 1 << 20;

/// Work on one stream.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    key: StreamKey,
    since: u64,
}

#[derive(Debug, Default)]
struct Inside {
    under_way: BTreeMap<u64, UnderWay>,
    next: u64,
    /// What was under way at this many unclean ends in a row, and has not come to an end since.
    ends: BTreeMap<StreamKey, u32>,
    /// What has panicked in this many processes in a row. Work that ends well says nothing of a command that does not.
    panics: BTreeMap<StreamKey, u32>,
    /// What took long when it was last looked at.
    running: Vec<StreamKey>,
    /// What has panicked in this process.
    blamed: BTreeSet<StreamKey>,
    /// When it was first looked at.
    since: Option<u64>,
    /// What stands in the file.
    written: Option<String>,
}

/// What is under way in one process, and was when the ones before it ended.
#[derive(Debug)]
pub(super) struct Suspects {
    file: Option<PathBuf>,
    inside: Mutex<Inside>,
    /// Taken before `inside`, so that nothing older is written over something newer.
    writing: Mutex<()>,
}

impl Suspects {
    /// Reads what the last process left. What it had under way it did not finish.
    pub(super) fn open(file: Option<PathBuf>) -> Arc<Suspects> {
        let (ends, panics) = file.as_deref().map(read).unwrap_or_default();
        let inside = Mutex::new(Inside { ends, panics, ..Inside::default() });
        Arc::new(Suspects { file, inside, writing: Mutex::default() })
    }

    /// Whose work has ended too many processes.
    pub(super) fn convicted(&self) -> Vec<StreamKey> {
        let inside = self.lock();
        let convicted = inside.ends.iter().chain(&inside.panics).filter(|(_, ends)| **ends >= ENDS);
        let keys: BTreeSet<StreamKey> = convicted.map(|(key, _)| *key).collect();
        keys.into_iter().collect()
    }

    /// Work on a stream begins. It ends when what this gives is dropped.
    pub(super) fn begin(self: &Arc<Self>, key: StreamKey, boot: u64) -> Working {
        let mut inside = self.lock();
        inside.next += 1;
        let number = inside.next;
        inside.under_way.insert(number, UnderWay { key, since: boot });
        Working { suspects: self.clone(), number, key }
    }

    /// Writes down what takes long; called now and then. `computing` are the streams that partitions are busy with.
    pub(super) fn note(&self, boot: u64, computing: &[StreamKey]) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.lock();
        let long = inside.under_way.values().filter(|work| boot.saturating_sub(work.since) >= LONG);
        let running = long.map(|work| work.key).chain(computing.iter().copied()).collect();
        inside.running = running;
        if boot.saturating_sub(*inside.since.get_or_insert(boot)) >= IN_A_ROW {
            let Inside { ends, panics, running, blamed, .. } = &mut *inside;
            ends.retain(|key, _| running.contains(key));
            panics.retain(|key, _| blamed.contains(key));
        }
        self.write_down(inside);
    }

    /// Work on this stream has panicked, which may be the end of the process: it is written down by the time this returns.
    pub(super) fn blame(&self, key: StreamKey) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.lock();
        inside.blamed.insert(key);
        self.write_down(inside);
    }

    /// The process ends as it should: nobody is to blame for that.
    pub(super) fn end_well(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self.lock();
        let blamed = std::mem::take(&mut inside.blamed);
        let panics = std::mem::take(&mut inside.panics);
        if !blamed.is_empty() || !panics.is_empty() {
            self.write_down(inside);
        }
    }

    fn write_down(&self, mut inside: MutexGuard<'_, Inside>) {
        let counted = |known: &BTreeMap<StreamKey, u32>, met: &mut dyn Iterator<Item = &StreamKey>| {
            let mut counts = known.clone();
            let met: BTreeSet<StreamKey> = met.copied().collect();
            met.into_iter().for_each(|key| *counts.entry(key).or_default() += 1);
            counts
        };
        let ends = counted(&inside.ends, &mut inside.running.iter());
        let panics = counted(&inside.panics, &mut inside.blamed.iter());
        let lines: Vec<String> = (ends.iter().map(|(key, count)| line(key, *count, "")))
            .chain(panics.iter().map(|(key, count)| line(key, *count, PANICKED)))
            .collect();
        let text = lines.concat();
        if inside.written.as_ref() == Some(&text) {
            return;
        }
        inside.written = Some(text.clone());
        drop(inside);
        if let Some(file) = &self.file
            && let Err(error) = write(file, &text)
        {
            tracing::warn!(%error, "what takes long cannot be noted");
        }
    }

    /// Work on this stream has come to an end, or the stream is quarantined: it is not to blame any more.
    pub(super) fn acquit(&self, key: &StreamKey) {
        let mut inside = self.lock();
        inside.ends.remove(key);
        inside.panics.remove(key);
        inside.blamed.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that is under way.
#[derive(Debug)]
pub struct Working {
    suspects: Arc<Suspects>,
    number: u64,
    key: StreamKey,
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut inside = self.suspects.lock();
        inside.under_way.remove(&self.number);
        inside.ends.remove(&self.key);
    }
}

/// The last word of a line that counts panics.
const PANICKED: &str = " panicked";

fn line(key: &StreamKey, ends: u32, how: &str) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{} {} {ends}{how}\n", hex(&key.tenant.0), hex(key.stream.bytes()))
}

fn parsed(line: &str) -> Option<(StreamKey, u32)> {
    let mut words = line.split(' ');
    let (tenant, stream, ends) = (sixteen(words.next()?)?, sixteen(words.next()?)?, words.next()?);
    Some((StreamKey::new(TenantId(tenant), StreamId::from_bytes(stream).ok()?), ends.parse().ok()?))
}

fn sixteen(hex: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    (hex.len() == 32).then_some(bytes)
}

/// Damaged or missing notes are no notes.
fn read(file: &Path) -> (BTreeMap<StreamKey, u32>, BTreeMap<StreamKey, u32>) {
    let bytes = read_small(&RealDisk, file, LONGEST).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let (panics, ends): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.ends_with(PANICKED));
    let counts = |lines: Vec<&str>| lines.into_iter().filter_map(parsed).collect();
    (counts(ends), counts(panics))
}

/// What a process leaves when it ends is in the page cache: only a power cut loses it, and that blames nobody.
fn write(file: &Path, text: &str) -> Result<(), DiskError> {
    if text.is_empty() {
        return match RealDisk.remove(file) {
            Err(error) if error.fault != DiskFault::Missing => Err(error),
            _ => Ok(()),
        };
    }
    let beside = file.with_extension("tmp");
    RealDisk.create(&beside)?.write_at(&mut [IoSlice::new(text.as_bytes())], 0)?;
    RealDisk.rename(&beside, file)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test looks at files")]
mod tests {
    use omium_schemas::StreamKind;

    use super::*;

    fn key(name: &str) -> StreamKey {
        StreamKey::new(TenantId([0xab; 16]), StreamId::named(StreamKind::Account, name))
    }

    #[test]
    fn what_is_under_way_at_three_ends_in_a_row_is_convicted_and_what_ends_well_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("under-way");
        for ends in 0..3 {
            let suspects = Suspects::open(Some(file.clone()));
            assert!(suspects.convicted().is_empty(), "after {ends} ends");
            let (bad, good) = (suspects.begin(key("bad"), 0), suspects.begin(key("good"), 0));
            suspects.note(LONG, &[key("computing")]);
            drop(good);
            suspects.note(LONG + 1, &[key("computing")]);
            // The process ends here.
            std::mem::forget(bad);
        }
        let suspects = Suspects::open(Some(file.clone()));
        let mut both = [key("bad"), key("computing")];
        both.sort_unstable();
        assert_eq!(suspects.convicted(), both);
        suspects.acquit(&key("bad"));
        suspects.acquit(&key("computing"));
        suspects.note(0, &[]);
        assert!(Suspects::open(Some(file.clone())).convicted().is_empty());
    }

    #[test]
    fn what_panics_is_written_down_at_once_and_forgotten_by_a_process_that_goes_on_or_ends_well() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("under-way");
        let ends = |text: &str| text.trim_end().ends_with(" 1 panicked");
        let suspects = Suspects::open(Some(file.clone()));
        suspects.blame(key("bad"));
        suspects.note(0, &[]);
        assert!(ends(&std::fs::read_to_string(&file).expect("a file")));
        suspects.end_well();
        assert!(!file.exists());
        for ends in 0..3 {
            assert!(Suspects::open(Some(file.clone())).convicted().is_empty(), "after {ends} ends");
            let suspects = Suspects::open(Some(file.clone()));
            // Its step is sent out again, which ends well, before its outcome is there once more.
            drop(suspects.begin(key("bad"), 0));
            suspects.note(0, &[]);
            suspects.blame(key("bad"));
        }
        assert_eq!(Suspects::open(Some(file.clone())).convicted(), [key("bad")]);
        let suspects = Suspects::open(Some(file.clone()));
        suspects.note(1, &[]);
        assert!(file.exists());
        suspects.note(1 + IN_A_ROW, &[]);
        assert!(!file.exists());
    }

    #[test]
    fn what_is_quick_is_not_written_down_and_one_good_end_begins_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("under-way");
        let suspects = Suspects::open(Some(file.clone()));
        let quick = suspects.begin(key("quick"), 1_000);
        suspects.note(1_000 + LONG - 1, &[]);
        assert!(!file.exists());
        suspects.note(1_000 + LONG, &[]);
        assert!(file.exists());
        std::mem::forget(quick);
        let suspects = Suspects::open(Some(file.clone()));
        drop(suspects.begin(key("quick"), 0));
        suspects.note(0, &[]);
        assert!(!file.exists());
        std::fs::write(&file, "not a note\n\u{fffd}").expect("a file");
        assert!(Suspects::open(Some(file)).convicted().is_empty());
    }
}
