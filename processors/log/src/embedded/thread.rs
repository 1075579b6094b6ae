//! The thread that writes the journal, and the one that prepares its next segment.
//!
//! The journal's thread takes, writes, syncs and tells, and does nothing else: no hash, no checksum, no allocation per
//! block. While it syncs the blocks of the next write fill, and when the sync ends it takes them itself.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use omium_schemas::{MAX_BLOCK, Offset, Partition};
use tokio::sync::watch;

use super::OnFailure;
use super::journal::Journal;
use super::layout::Layout;
use super::prepare::{Preparation, Prepared};
use super::reader::Reader;
use super::recent::Recent;
use super::segment::Span;
use super::watermark::Watermark;
use crate::contract::LogError;
use crate::disk::Disk;
use crate::slots::{Slots, Taken};

/// How often a full disk is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What the log and its threads share.
pub(crate) struct Shared<D: Disk> {
    pub(crate) reader: Arc<Reader<D>>,
    pub(crate) tails: Vec<watch::Sender<Offset>>,
    pub(crate) recent: Vec<Recent>,
    pub(crate) slots: Arc<Slots>,
    disk: D,
    layout: Layout,
    trimming: Mutex<()>,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn trim(&self, partition: Partition, before: Offset) -> Result<(), LogError> {
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        super::trim::trim(&self.disk, &self.layout, &self.reader, partition, before)
    }
}

/// The running threads.
pub(crate) struct Worker {
    slots: Arc<Slots>,
    journal: JoinHandle<Result<(), LogError>>,
}

impl Worker {
    pub(crate) fn stop(self) -> Result<(), LogError> {
        self.slots.close();
        self.journal.join().unwrap_or(Err(LogError::Closed))
    }
}

/// Starts the threads of a journal.
pub(crate) fn start<D: Disk>(
    journal: Journal<D>,
    on_failure: OnFailure,
) -> Result<(Arc<Shared<D>>, Worker), LogError> {
    let (disk, layout, identity) = journal.place();
    let partitions = identity.partitions;
    let reader = journal.reader();
    let tail = |index| reader.tail(Partition(index)).unwrap_or_default();
    let shared = Arc::new(Shared {
        tails: (0..partitions).map(|index| watch::Sender::new(tail(index))).collect(),
        recent: (0..partitions).map(|_| Recent::default()).collect(),
        slots: Slots::new(partitions),
        reader,
        disk,
        layout,
        trimming: Mutex::default(),
    });
    let begun = Watermark::begin(&shared.disk, &shared.layout, identity, shared.slots.clone());
    let watermark =
        begun.inspect_err(|error| tracing::warn!(%error, "a lost tail would not be noticed")).ok();
    let (wanted, wants) = mpsc::channel();
    let (makes, made) = mpsc::channel();
    let for_preparer = shared.slots.clone();
    spawn("omium-segments", move || prepare(&for_preparer, &wants, &makes))?;
    let for_journal = shared.clone();
    let writer = move || {
        let writer = Writer {
            journal,
            shared: for_journal,
            on_failure,
            wanted,
            made,
            expecting: false,
            full: false,
            holding: false,
            blocks: Vec::new(),
            taken: Vec::new(),
            first: 0,
            watermark,
        };
        // Should the thread panic, nobody waits for it in vain.
        let _ending = Ending(writer.shared.slots.clone());
        writer.run()
    };
    let thread = spawn("omium-journal", writer)?;
    shared.slots.taken_by(thread.thread());
    let slots = shared.slots.clone();
    Ok((shared, Worker { slots, journal: thread }))
}

struct Ending(Arc<Slots>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(LogError::Closed);
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, LogError> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    spawned.map_err(|error| LogError::Io {
        doing: "starting the thread",
        place: name.into(),
        why: error.to_string(),
    })
}

/// What became of a preparation.
type Made<D> = Result<Prepared<D>, LogError>;

/// Prepares segments, one at a time. A full disk is asked again until there is space; the journal is told once.
fn prepare<D: Disk>(slots: &Slots, wants: &mpsc::Receiver<Preparation<D>>, makes: &mpsc::Sender<Made<D>>) {
    while let Ok(preparation) = wants.recv() {
        let mut told = false;
        loop {
            let made = preparation.run();
            let full = matches!(made, Err(LogError::Full { .. }));
            if !full || !std::mem::replace(&mut told, true) {
                let _ = makes.send(made);
                slots.wake();
            }
            if !full {
                break;
            }
            // The journal wants one at a time: what comes before the time is over is that it has ended.
            if !matches!(wants.recv_timeout(ASK_AGAIN), Err(mpsc::RecvTimeoutError::Timeout)) {
                return;
            }
        }
    }
}

struct Writer<D: Disk> {
    journal: Journal<D>,
    shared: Arc<Shared<D>>,
    on_failure: OnFailure,
    wanted: mpsc::Sender<Preparation<D>>,
    made: mpsc::Receiver<Made<D>>,
    /// A preparation is under way.
    expecting: bool,
    /// It waits for space.
    full: bool,
    /// So do blocks that were taken already.
    holding: bool,
    blocks: Vec<Bytes>,
    taken: Vec<Taken>,
    /// Which partition is asked first in the next round, so that none starves when a write is full.
    first: usize,
    watermark: Option<Watermark<D>>,
}

impl<D: Disk> Writer<D> {
    fn run(mut self) -> Result<(), LogError> {
        loop {
            let step = self.see_to_next_segment().and_then(|()| self.round());
            match step {
                Ok(true) => {}
                Ok(false) if self.shared.slots.is_closing() => return self.close(),
                Ok(false) => thread::park(),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Asks for the next segment where there is none, and takes it when it is ready.
    fn see_to_next_segment(&mut self) -> Result<(), LogError> {
        if self.expecting {
            match self.made.try_recv() {
                Ok(Ok(prepared)) => {
                    self.journal.adopt(prepared);
                    self.expecting = false;
                    if std::mem::take(&mut self.full) && !self.holding {
                        self.shared.slots.refuse(None);
                    }
                }
                Ok(Err(error @ LogError::Full { .. })) => {
                    tracing::warn!(%error, "no space for the next segment");
                    self.full = true;
                    self.shared.slots.refuse(Some(error));
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        } else if let Some(preparation) = self.journal.preparation() {
            self.expecting = self.wanted.send(preparation).is_ok();
        }
        Ok(())
    }

    /// One group commit: takes every open block, writes them as one, syncs, and tells. Says whether there was any.
    fn round(&mut self) -> Result<bool, LogError> {
        if self.blocks.is_empty() {
            self.gather();
        }
        if self.blocks.is_empty() {
            return Ok(false);
        }
        match self.journal.write(&self.blocks) {
            Ok(()) => {}
            Err(error @ LogError::Full { .. }) => return Ok(self.hold(error)),
            Err(error) => return Err(error),
        }
        if std::mem::take(&mut self.holding) && !self.full {
            self.shared.slots.refuse(None);
        }
        let settled = self.journal.sync()?;
        if let Some(watermark) = &mut self.watermark {
            // Before anybody is told: what is acknowledged is claimed.
            self.shared.reader.look(|state| watermark.tell(state.current.spans.iter().map(Span::standing)));
        }
        for (((partition, offset), taken), block) in
            settled.iter().zip(&self.taken).zip(self.blocks.drain(..))
        {
            debug_assert_eq!(
                usize::from(partition.0),
                taken.index(),
                "blocks settle in the order of the write"
            );
            self.shared.recent[taken.index()].push(*offset, block);
            self.shared.tails[taken.index()].send_replace(offset.next());
        }
        for ((_, offset), taken) in settled.iter().zip(self.taken.drain(..)) {
            self.shared.slots.settle(taken, Ok(*offset));
        }
        Ok(true)
    }

    /// What did not fit is tried again until it does.
    fn hold(&mut self, error: LogError) -> bool {
        if !std::mem::replace(&mut self.holding, true) {
            tracing::error!(%error, "the journal cannot write");
            self.shared.slots.refuse(Some(error));
        }
        thread::park_timeout(ASK_AGAIN);
        // A log that is closed while there is no room for what is open leaves it out: nobody was told that it is there.
        let closing = self.shared.slots.is_closing();
        if closing {
            self.blocks.clear();
            for taken in self.taken.drain(..) {
                self.shared.slots.settle(taken, Err(LogError::Closed));
            }
        }
        !closing
    }

    fn gather(&mut self) {
        let partitions = usize::from(self.shared.slots.partitions());
        let mut room = self.journal.room();
        let first = self.first;
        for index in (first..partitions).chain(0..first) {
            if room < MAX_BLOCK {
                // Whoever could not be asked now is asked first in the next round.
                self.first = index;
                break;
            }
            if let Some((block, taken)) = self.shared.slots.take(index) {
                room -= block.len();
                self.blocks.push(block);
                self.taken.push(taken);
            }
        }
    }

    fn close(self) -> Result<(), LogError> {
        self.shared.slots.end(LogError::Closed);
        let Writer { journal, wanted, made, .. } = self;
        wait_for_preparer(wanted, &made);
        journal.close()
    }

    /// A failed write or sync: the process should end here. Where the hook lets it live on, reads do.
    fn fail(mut self, error: LogError) -> LogError {
        (self.on_failure)(&error);
        self.shared.slots.end(error.clone());
        for taken in self.taken.drain(..) {
            self.shared.slots.settle(taken, Err(error.clone()));
        }
        wait_for_preparer(self.wanted, &self.made);
        error
    }
}

/// The directory's lock is let go only after the preparer has ended too: it still writes there.
fn wait_for_preparer<D: Disk>(wanted: mpsc::Sender<Preparation<D>>, made: &mpsc::Receiver<Made<D>>) {
    drop(wanted);
    while made.recv().is_ok() {}
}
