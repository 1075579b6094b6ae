//! The thread that writes the journal, and the one that prepares its next segment.
//!
//! The journal's thread takes, writes, syncs and tells, and does nothing else: no hash, no checksum, no allocation per
//! block. While it syncs the blocks of the next write fill, and when the sync ends it takes them itself.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use omium_schemas::{MAX_BLOCK, Offset, Partition};
use tokio::sync::watch;

use super::OnFailure;
use super::journal::Journal;
use super::layout::Layout;
use super::prepare::{Preparation, Prepared};
use super::reader::Reader;
use super::recent::Recent;
use super::reserve::Reserve;
use super::segment::Span;
use super::watermark::Watermark;
use crate::contract::{LogError, Refused};
use crate::disk::Disk;
use crate::slots::{Slots, Taken};

/// How often a full disk is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often it is looked whether the reserve has to be made. Not at once: a log that is open for a moment needs none.
const LOOK: Duration = Duration::from_secs(1);

/// What the log and its threads share.
pub(crate) struct Shared<D: Disk> {
    pub(crate) reader: Arc<Reader<D>>,
    pub(crate) tails: Vec<watch::Sender<Offset>>,
    pub(crate) recent: Vec<Recent>,
    pub(crate) slots: Arc<Slots>,
    disk: D,
    layout: Layout,
    reserve: Arc<Reserve<D>>,
    trimming: Mutex<()>,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn trim(&self, partition: Partition, before: Offset) -> Result<(), LogError> {
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        super::trim::trim(&self.disk, &self.layout, &self.reader, &self.reserve, partition, before)
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
        reserve: journal.reserve(),
        trimming: Mutex::default(),
    });
    let begun = Watermark::begin(&shared.disk, &shared.layout, identity, shared.slots.clone());
    let watermark =
        begun.inspect_err(|error| tracing::warn!(%error, "a lost tail would not be noticed")).ok();
    let (wanted, wants) = mpsc::channel();
    let (makes, made) = mpsc::channel();
    let for_preparer = shared.slots.clone();
    let reserve = journal.reserve();
    spawn("omium-segments", move || prepare(&for_preparer, &reserve, &wants, &makes))?;
    let for_journal = shared.clone();
    let writer = move || {
        let writer = Writer {
            journal,
            shared: for_journal,
            on_failure,
            wanted,
            made,
            expecting: false,
            full: None,
            holding: None,
            reserve: Kept::Perhaps,
            told: Told::Nothing,
            blocks: Vec::new(),
            taken: Vec::new(),
            aside: Vec::new(),
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

/// What the preparer is asked for.
enum Want<D: Disk> {
    /// The next segment.
    Segment(Preparation<D>),
    /// What is kept in reserve, as the segment that there is no room for.
    Reserve,
}

/// What became of a preparation.
enum Made<D: Disk> {
    Segment(Prepared<D>),
    /// There is no room for it; it is tried again.
    Full(LogError),
    /// The reserve in its place.
    Reserve(Prepared<D>),
    /// There is no reserve.
    Spent,
    /// There is a reserve again: the disk has room.
    Room,
    Failed(LogError),
}

/// Prepares segments, one at a time. A full disk is asked again until there is space; the journal is told once.
fn prepare<D: Disk>(
    slots: &Slots,
    reserve: &Reserve<D>,
    wants: &mpsc::Receiver<Want<D>>,
    makes: &mpsc::Sender<Made<D>>,
) {
    let tell = |made| {
        let _ = makes.send(made);
        slots.wake();
    };
    let mut look = Instant::now() + LOOK;
    loop {
        match wants.recv_timeout(look.saturating_duration_since(Instant::now())) {
            Ok(Want::Segment(preparation)) => {
                if !prepare_one(&preparation, reserve, wants, tell) {
                    return;
                }
            }
            // The segment was there before the reserve was asked for.
            Ok(Want::Reserve) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        if look <= Instant::now() {
            look = Instant::now() + LOOK;
            // Where there is no room for it, or anything else fails, there is none until there is.
            if reserve.keep().is_ok_and(|made| made) {
                tell(Made::Room);
            }
        }
    }
}

/// Prepares one segment. False where the journal has ended.
fn prepare_one<D: Disk>(
    preparation: &Preparation<D>,
    reserve: &Reserve<D>,
    wants: &mpsc::Receiver<Want<D>>,
    tell: impl Fn(Made<D>),
) -> bool {
    let (mut told, mut owed, mut spent) = (false, false, false);
    loop {
        if owed {
            match preparation.run_on(reserve) {
                Ok(Some(prepared)) => {
                    tell(Made::Reserve(prepared));
                    return true;
                }
                Ok(None) if std::mem::replace(&mut spent, true) => {}
                Ok(None) => tell(Made::Spent),
                Err(error) => {
                    tell(Made::Failed(error));
                    return true;
                }
            }
        }
        match preparation.run() {
            Ok(prepared) => {
                tell(Made::Segment(prepared));
                return true;
            }
            Err(LogError::Full { .. }) if std::mem::replace(&mut told, true) => {}
            Err(error @ LogError::Full { .. }) => tell(Made::Full(error)),
            Err(error) => {
                tell(Made::Failed(error));
                return true;
            }
        }
        // It takes less than a segment.
        let _ = reserve.keep();
        match wants.recv_timeout(ASK_AGAIN) {
            Ok(_) => owed = true,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// What is known of the reserve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Perhaps,
    Asked,
    Spent,
}

/// What the sources were told to refuse.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Beginnings,
    All,
}

struct Writer<D: Disk> {
    journal: Journal<D>,
    shared: Arc<Shared<D>>,
    on_failure: OnFailure,
    wanted: mpsc::Sender<Want<D>>,
    made: mpsc::Receiver<Made<D>>,
    /// A preparation is under way.
    expecting: bool,
    /// It waits for space, for this reason.
    full: Option<LogError>,
    /// So do blocks that were taken already.
    holding: Option<LogError>,
    reserve: Kept,
    told: Told,
    blocks: Vec<Bytes>,
    taken: Vec<Taken>,
    /// Blocks, at most one of each partition, that wait for another segment.
    aside: Vec<(Bytes, Taken)>,
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
        // More than one may have been told with one waking.
        while let Ok(made) = self.made.try_recv() {
            match made {
                Made::Segment(prepared) => {
                    self.adopt(prepared);
                    self.full = None;
                }
                Made::Reserve(prepared) => {
                    tracing::warn!("the room kept in reserve is used for what ends something");
                    self.adopt(prepared);
                }
                Made::Full(error) => {
                    tracing::warn!(%error, "no space for the next segment");
                    self.full = Some(error);
                }
                Made::Spent => self.reserve = Kept::Spent,
                // While a segment is asked for it says itself when there is room for it.
                Made::Room if !self.expecting => self.full = None,
                Made::Room => {}
                Made::Failed(error) => return Err(error),
            }
        }
        if !self.expecting
            && let Some(preparation) = self.journal.preparation()
        {
            self.expecting = self.wanted.send(Want::Segment(preparation)).is_ok();
        }
        if self.full.is_some() && self.expecting && self.is_used_up() && self.reserve == Kept::Perhaps {
            self.reserve = Kept::Asked;
            let _ = self.wanted.send(Want::Reserve);
        }
        self.tell();
        Ok(())
    }

    /// Whether no block is asked for until there is another segment.
    fn is_used_up(&self) -> bool {
        self.journal.room() < MAX_BLOCK
    }

    fn adopt(&mut self, prepared: Prepared<D>) {
        self.journal.adopt(prepared);
        self.expecting = false;
        self.reserve = Kept::Perhaps;
    }

    /// Tells the sources what to refuse, where that has changed.
    fn tell(&mut self) {
        let spent = self.reserve == Kept::Spent && self.is_used_up();
        let (told, refused) = match (&self.holding, &self.full) {
            (Some(why), _) => (Told::All, Some(Refused::All(why.clone()))),
            (None, Some(why)) if spent => (Told::All, Some(Refused::All(why.clone()))),
            (None, Some(why)) => (Told::Beginnings, Some(Refused::Beginnings(why.clone()))),
            (None, None) => (Told::Nothing, None),
        };
        if std::mem::replace(&mut self.told, told) != told {
            self.shared.slots.refuse(refused);
        }
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
        self.holding = None;
        self.tell();
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
        if self.holding.is_none() {
            tracing::error!(%error, "the journal cannot write");
            self.holding = Some(error);
            self.tell();
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
        while let Some((block, taken)) = self.aside.pop_if(|(block, _)| block.len() <= room) {
            room -= block.len();
            self.blocks.push(block);
            self.taken.push(taken);
        }
        let first = self.first;
        for index in (first..partitions).chain(0..first) {
            if room < MAX_BLOCK && self.told != Told::All {
                // Whoever could not be asked now is asked first in the next round.
                self.first = index;
                break;
            }
            if self.aside.iter().any(|(_, taken)| taken.index() == index) {
                continue;
            }
            if let Some((block, taken)) = self.shared.slots.take(index) {
                if block.len() > room {
                    // Small ones still find room, above all the first of a leader, whose readers wait for it.
                    self.aside.push((block, taken));
                    continue;
                }
                room -= block.len();
                self.blocks.push(block);
                self.taken.push(taken);
            }
        }
    }

    fn close(mut self) -> Result<(), LogError> {
        for (_, taken) in self.aside.drain(..) {
            // There was no room for them: nobody was told that they are there.
            self.shared.slots.settle(taken, Err(LogError::Closed));
        }
        self.shared.slots.end(LogError::Closed);
        let Writer { journal, wanted, made, .. } = self;
        wait_for_preparer(wanted, &made);
        journal.close()
    }

    /// A failed write or sync: the process should end here. Where the hook lets it live on, reads do.
    fn fail(mut self, error: LogError) -> LogError {
        (self.on_failure)(&error);
        self.shared.slots.end(error.clone());
        for taken in self.taken.drain(..).chain(self.aside.drain(..).map(|(_, taken)| taken)) {
            self.shared.slots.settle(taken, Err(error.clone()));
        }
        wait_for_preparer(self.wanted, &self.made);
        error
    }
}

/// The directory's lock is let go only after the preparer has ended too: it still writes there.
fn wait_for_preparer<D: Disk>(wanted: mpsc::Sender<Want<D>>, made: &mpsc::Receiver<Made<D>>) {
    drop(wanted);
    while made.recv().is_ok() {}
}
