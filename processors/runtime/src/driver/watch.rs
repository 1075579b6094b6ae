//! A thread that watches the partitions: no task of theirs could tell that they hold everybody up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use omium_processor::Processors;

use super::cell::Cell;
use super::clock;
use super::suspects::Suspects;
use crate::key::StreamKey;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// After how many microseconds the stream that a partition is busy with is noted.
const LONG: u64 = 100_000;
/// After how many microseconds somebody should know.
const TOO_LONG: u64 = 1_000_000;

/// For how long one partition has been busy with one turn, in microseconds; 0 where it is not.
#[derive(Debug, Default)]
pub(super) struct Busy(AtomicU64);

impl Busy {
    pub(super) fn micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The running thread.
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Watched<P: Processors> {
    cell: Weak<Cell<P>>,
    /// The turn that it was in at the last look, and since when.
    turn: Option<(u64, u64)>,
    told: bool,
}

impl Watch {
    pub(super) fn begin<P: Processors>(cells: &[Arc<Cell<P>>], suspects: Arc<Suspects>) -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let watched =
            cells.iter().map(|cell| Watched { cell: Arc::downgrade(cell), turn: None, told: false });
        let (mut watched, until): (Vec<_>, _) = (watched.collect(), over.clone());
        let look = move || {
            while !until.load(Ordering::Acquire) {
                let boot = clock::now().boot;
                let computing: Vec<StreamKey> =
                    watched.iter_mut().filter_map(|watched| watched.look(boot, &suspects)).collect();
                suspects.note(boot, &computing);
                thread::park_timeout(LOOK);
            }
        };
        let spawned = thread::Builder::new().name("omium-watch".to_owned()).spawn(look);
        let thread =
            spawned.inspect_err(|error| tracing::error!(%error, "nobody watches the partitions")).ok();
        Watch { over, thread }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends at its next look; what it panicked with was said by the panic's own message.
            let _ = thread.join();
        }
    }
}

impl<P: Processors> Watched<P> {
    /// The stream that the partition has been busy with for long.
    fn look(&mut self, boot: u64, suspects: &Suspects) -> Option<StreamKey> {
        let cell = self.cell.upgrade()?;
        let now = cell.turns.now();
        if now.is_none() || self.turn.map(|(turn, _)| turn) != now {
            if let Some(key) = cell.busy_with.take() {
                suspects.acquit(&key);
            }
            self.turn = now.map(|turn| (turn, boot));
            self.told = false;
            cell.busy.0.store(0, Ordering::Relaxed);
            return None;
        }
        let for_micros = self.turn.map_or(0, |(_, since)| boot.saturating_sub(since));
        cell.busy.0.store(for_micros, Ordering::Relaxed);
        let key = cell.deciding.stream();
        if for_micros >= TOO_LONG && !std::mem::replace(&mut self.told, true) {
            let (partition, stream) = (cell.partition(), key.map(|key| key.stream.to_string()));
            let stream = stream.as_deref().unwrap_or("no stream in particular");
            tracing::error!(
                %partition,
                stream,
                "a partition has been computing for more than a second; until it is done it takes no commands"
            );
        }
        let key = key.filter(|_| for_micros >= LONG)?;
        cell.busy_with.set(key);
        Some(key)
    }
}
