//! The program under test: leads every partition of a log and prints what it is told.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use omium_log::disk::{Disk, DiskError, DiskFile, RealDisk, RealFile, RealLock};
use omium_log::embedded::JournalOptions;
use omium_log::{Appender, EmbeddedLog, EmbeddedOptions, Log, LogError, Refused, Source};
use omium_schemas::{Offset, Partition};
use tokio::sync::watch;

use crate::contract::Chain;

pub(crate) const PARTITIONS: u16 = 3;
/// How many records of a partition the writer keeps; the rest it trims.
const KEPT: u64 = 400;

/// What the writer is asked to do; passed on in the environment.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) root: PathBuf,
    /// How many blocks each partition writes; all it can where there is no limit.
    pub(crate) blocks: Option<usize>,
    /// Whether it only opens the log, says what it reads there, and waits to be killed.
    pub(crate) only_reads: bool,
    /// Whether it acknowledges without having synced: the control that must lose.
    pub(crate) lying: bool,
}

impl Task {
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OMIUM_TRUTH_ROOT", self.root.display().to_string()),
            ("OMIUM_TRUTH_BLOCKS", self.blocks.map_or("all".into(), |blocks| blocks.to_string())),
            ("OMIUM_TRUTH_ONLY_READS", self.only_reads.to_string()),
            ("OMIUM_TRUTH_LYING", self.lying.to_string()),
        ]
    }

    fn from_environment() -> Option<Task> {
        let value = |name: &str| std::env::var(name).ok();
        Some(Task {
            root: value("OMIUM_TRUTH_ROOT")?.into(),
            blocks: value("OMIUM_TRUTH_BLOCKS")?.parse().ok(),
            only_reads: value("OMIUM_TRUTH_ONLY_READS")? == "true",
            lying: value("OMIUM_TRUTH_LYING")? == "true",
        })
    }
}

/// Started again with a task in the environment, this is the writer; as a test it writes a little and reads it back.
#[test]
fn the_writer_acknowledges_every_block_it_wrote() {
    if let Some(task) = Task::from_environment() {
        std::process::exit(run(&task, Arc::new(Mutex::new(std::io::stdout()))));
    }
    let dir = tempfile::tempdir().unwrap();
    let task = Task { root: dir.path().join("log"), blocks: Some(20), only_reads: false, lying: false };
    let lines = Arc::new(Mutex::new(Vec::new()));
    assert_eq!(run(&task, lines.clone()), 0);
    let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    // An epoch record and 20 blocks for each of the partitions.
    assert_eq!(lines.lines().filter(|line| line.starts_with("ack ")).count(), 3 * 21);
}

fn run<W: std::io::Write + Send + 'static>(task: &Task, out: Arc<Mutex<W>>) -> i32 {
    let written = if task.lying { lead(LyingDisk, task, &out) } else { lead(RealDisk, task, &out) };
    match written {
        Ok(()) => 0,
        Err(error) => {
            say(&out, &format!("error {error}"));
            1
        }
    }
}

/// One line, all of it in one call, so that a stop never leaves half of it.
fn say<W: std::io::Write>(out: &Mutex<W>, line: &str) {
    let mut out = out.lock().unwrap();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn lead<D: Disk, W: std::io::Write + Send + 'static>(
    disk: D,
    task: &Task,
    out: &Arc<Mutex<W>>,
) -> Result<(), LogError> {
    let mut options = EmbeddedOptions::new(&task.root, PARTITIONS)?;
    options.journal = JournalOptions { last_segment: 4 << 20, ..options.journal };
    // The test's harness prints before the first line, without ending it.
    say(out, "");
    let log = EmbeddedLog::open_on(disk, options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut leaders = Vec::new();
    for partition in 0..PARTITIONS {
        let records = runtime.block_on(read_all(&log, Partition(partition)))?;
        for (offset, record) in &records {
            say(out, &format!("seen {partition} {offset} {:08x}", crc32c::crc32c(record)));
        }
        if task.only_reads {
            continue;
        }
        let records: Vec<Bytes> = records.into_iter().map(|(_, record)| record).collect();
        leaders.push(Leader::attach(&log, partition, &records, task.blocks, out.clone())?);
    }
    say(out, "open");
    if task.only_reads {
        loop {
            std::thread::park();
        }
    }
    runtime.block_on(follow(&log, &leaders, task.blocks.is_none(), out))?;
    drop(leaders);
    log.close()
}

async fn read_all<D: Disk>(
    log: &EmbeddedLog<D>,
    partition: Partition,
) -> Result<Vec<(Offset, Bytes)>, LogError> {
    let (mut records, mut next) = (Vec::new(), log.start(partition)?);
    loop {
        let entries = log.read(partition, next, 1 << 20).await?;
        let Some(last) = entries.last() else { return Ok(records) };
        next = last.offset.next();
        records.extend(entries.into_iter().map(|entry| (entry.offset, entry.bytes)));
    }
}

/// Waits until every leader has written what it had to, and trims a log that grows without end.
async fn follow<D: Disk, W: std::io::Write + Send + 'static>(
    log: &EmbeddedLog<D>,
    leaders: &[Arc<Leader<W>>],
    endless: bool,
    out: &Mutex<W>,
) -> Result<(), LogError> {
    for leader in leaders {
        let mut done = leader.settled.subscribe();
        loop {
            let next = *done.borrow_and_update();
            match next {
                Progress::Done => break,
                Progress::Failed => return Err(LogError::Closed),
                Progress::At(offset) if endless && offset.0 > log.start(leader.partition)?.0 + 2 * KEPT => {
                    for partition in (0..PARTITIONS).map(Partition) {
                        let tail = *log.tail(partition)?.borrow();
                        let before = Offset(tail.0.saturating_sub(KEPT));
                        say(out, &format!("trim {partition} {before} 0"));
                        log.trim(partition, before).await?;
                    }
                }
                Progress::At(_) => done.changed().await.map_err(|_| LogError::Closed)?,
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Progress {
    At(Offset),
    Done,
    Failed,
}

/// Leads one partition: always has a block to give, until it has given all.
struct Leader<W> {
    partition: Partition,
    state: Mutex<Leading>,
    settled: watch::Sender<Progress>,
    appender: std::sync::OnceLock<Box<dyn Appender>>,
    out: Arc<Mutex<W>>,
}

struct Leading {
    chain: Chain,
    left: Option<usize>,
    opened: bool,
    flight: Option<u32>,
}

impl<W: std::io::Write + Send + 'static> Leader<W> {
    fn attach(
        log: &dyn Log,
        partition: u16,
        records: &[Bytes],
        left: Option<usize>,
        out: Arc<Mutex<W>>,
    ) -> Result<Arc<Leader<W>>, LogError> {
        let chain = Chain::resume(partition, records);
        let leader = Arc::new(Leader {
            partition: Partition(partition),
            state: Mutex::new(Leading { chain, left, opened: false, flight: None }),
            settled: watch::Sender::new(Progress::At(Offset(0))),
            appender: std::sync::OnceLock::new(),
            out,
        });
        let appender = log.attach(Partition(partition), leader.clone())?;
        appender.wake();
        assert!(leader.appender.set(appender).is_ok());
        Ok(leader)
    }
}

impl<W: std::io::Write + Send + 'static> Source for Leader<W> {
    fn take(&self) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap();
        let block = if !std::mem::replace(&mut state.opened, true) {
            state.chain.open_epoch()
        } else if state.left == Some(0) {
            return None;
        } else {
            state.left = state.left.map(|left| left - 1);
            // Sizes differ, so that writes begin and end everywhere in a page.
            let size = state.left.map_or(700, |left| (left * 7919) % 2500);
            state.chain.block(&[&vec![size as u8; size]])
        };
        state.flight = Some(crc32c::crc32c(&block));
        Some(block)
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let mut state = self.state.lock().unwrap();
        let crc = state.flight.take().expect("only what was taken settles");
        let done = state.left == Some(0);
        drop(state);
        let progress = match outcome {
            Ok(offset) => {
                say(&self.out, &format!("ack {} {offset} {crc:08x}", self.partition));
                if done { Progress::Done } else { Progress::At(offset) }
            }
            Err(_) => Progress::Failed,
        };
        self.settled.send_replace(progress);
    }

    fn refuse(&self, refused: Option<Refused>) {
        match refused.as_ref().map(Refused::why) {
            Some(LogError::Full { .. }) => say(&self.out, "full"),
            Some(_) => {}
            None => say(&self.out, "room"),
        }
    }
}

/// A disk that says it has synced the journal, and has not. Everything else is honest, so that the log can be opened.
#[derive(Clone, Copy)]
struct LyingDisk;

struct LyingFile {
    file: RealFile,
    honest: bool,
}

fn lying(file: Result<RealFile, DiskError>, path: &Path) -> Result<LyingFile, DiskError> {
    let honest = path.extension().is_none_or(|extension| extension != "seg");
    Ok(LyingFile { file: file?, honest })
}

impl Disk for LyingDisk {
    type File = LyingFile;
    type Lock = RealLock;

    fn create(&self, path: &Path) -> Result<LyingFile, DiskError> {
        lying(RealDisk.create(path), path)
    }

    fn open(&self, path: &Path) -> Result<LyingFile, DiskError> {
        lying(RealDisk.open(path), path)
    }

    fn open_to_read(&self, path: &Path) -> Result<LyingFile, DiskError> {
        lying(RealDisk.open_to_read(path), path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        RealDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        RealDisk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<RealLock, DiskError> {
        RealDisk.lock(path)
    }
}

impl DiskFile for LyingFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> Result<usize, DiskError> {
        self.file.read_at(into, at)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], at: u64) -> Result<(), DiskError> {
        self.file.write_at(parts, at)
    }

    fn sync(&self) -> Result<(), DiskError> {
        if self.honest { self.file.sync() } else { Ok(()) }
    }

    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }

    fn truncate(&self, size: u64) -> Result<(), DiskError> {
        self.file.truncate(size)
    }
}
