//! The plain probe: one pre-zeroed file, one writer, group commit. What any log has to measure itself by.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::callers::{self, Caller};
use crate::latency::Latencies;
use crate::machine;
use crate::once::{Figures, Once};

/// The size of a record.
pub(crate) const RECORD: usize = 512;
/// The size of the file; behind its end the writer begins anew, which costs the same.
const FILE: u64 = 256 << 20;

/// Makes the file with real zeros on the disk.
fn zeroed(dir: &Path) -> anyhow::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(dir.join("plain"))?;
    let zeros = vec![0; 1 << 20];
    for at in (0..FILE).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

#[derive(Default)]
struct Open {
    bytes: Vec<u8>,
    waiting: Vec<oneshot::Sender<()>>,
}

struct Plain {
    open: Mutex<Open>,
    ready: AtomicBool,
    over: AtomicBool,
}

impl Plain {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, file: &File) -> std::io::Result<()> {
        let mut at = 0;
        let mut spare = Open::default();
        loop {
            if !self.ready.swap(false, Ordering::AcqRel) {
                if self.over.load(Ordering::Acquire) {
                    return Ok(());
                }
                thread::park();
                continue;
            }
            std::mem::swap(&mut *self.open(), &mut spare);
            if at + spare.bytes.len() as u64 > FILE {
                at = 0;
            }
            file.write_all_at(&spare.bytes, at)?;
            file.sync_data()?;
            at += spare.bytes.len() as u64;
            spare.bytes.clear();
            for waiting in spare.waiting.drain(..) {
                // Whoever has gone does not want to know.
                let _ = waiting.send(());
            }
        }
    }
}

struct PlainCaller {
    plain: Arc<Plain>,
    writer: Thread,
    record: [u8; RECORD],
}

impl Caller for PlainCaller {
    async fn call(&mut self) -> anyhow::Result<()> {
        let durable = self.append();
        durable.await.context("the writer is gone")
    }
}

impl PlainCaller {
    fn append(&self) -> oneshot::Receiver<()> {
        let (sender, durable) = oneshot::channel();
        let mut open = self.plain.open();
        open.bytes.extend_from_slice(&self.record);
        open.waiting.push(sender);
        drop(open);
        if !self.plain.ready.swap(true, Ordering::AcqRel) {
            self.writer.unpark();
        }
        durable
    }
}

pub(crate) fn run(once: &Once) -> anyhow::Result<Figures> {
    let file = zeroed(&once.dir)?;
    let plain = Arc::new(Plain {
        open: Mutex::default(),
        ready: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let of_writer = plain.clone();
    let writer: JoinHandle<std::io::Result<()>> =
        thread::Builder::new().spawn(move || of_writer.write(&file))?;
    let caller =
        |_| PlainCaller { plain: plain.clone(), writer: writer.thread().clone(), record: [7; RECORD] };
    let callers: Vec<PlainCaller> = (0..once.callers).map(caller).collect();
    let figures = callers::runtime()?.block_on(callers::drive(once.seconds, callers))?;
    plain.over.store(true, Ordering::Release);
    writer.thread().unpark();
    writer.join().ok().context("the writer panicked")??;
    Ok(figures)
}

/// One thread that writes a record and syncs it, again and again: the latency below which nobody gets.
pub(crate) fn run_raw(once: &Once) -> anyhow::Result<Figures> {
    let file = zeroed(&once.dir)?;
    let mut latencies = Latencies::default();
    let (begin, used) = (Instant::now(), machine::cpu_seconds());
    let mut at = 0;
    while begin.elapsed() < Duration::from_secs_f64(once.seconds) {
        let since = Instant::now();
        file.write_all_at(&[7; RECORD], at)?;
        file.sync_data()?;
        latencies.record(since.elapsed().as_micros() as u64);
        at = (at + RECORD as u64) % FILE;
    }
    let used = machine::cpu_seconds() - used;
    Ok(Figures::from([
        ("per_second".to_owned(), latencies.count() as f64 / begin.elapsed().as_secs_f64()),
        ("p50_us".to_owned(), latencies.quantile(0.5)),
        ("p99_us".to_owned(), latencies.quantile(0.99)),
        ("cpu_us".to_owned(), used * 1e6 / latencies.count() as f64),
    ]))
}
