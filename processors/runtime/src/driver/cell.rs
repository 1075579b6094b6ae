//! One partition: its shell under a lock, those who wait for it, and the log that pulls from it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use omium_log::{Appender, Log, LogError, Refused};
use omium_processor::Processors;
use omium_schemas::{BlockNo, Epoch, Offset, Partition};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock;
use super::node::World;
use super::seat::Seat;
use super::suspects::Suspects;
use super::telemetry::{Stage, Telemetry};
use super::turns::{Turn, Turns};
use super::watch::Busy;
use crate::key::{Lookup, StreamKey, WindowKey, stream_key, window_key, window_row};
use crate::port::{Answer, Ended, Found, Input, Loaded, Now, Output, Ticket};
use crate::shell::{Deciding, Figures, Noted, Shell};
use crate::snapshot::Used;
use crate::stream::StreamState;
use omium_store::Store;

pub(super) type View<P> = Option<Arc<StreamState<<P as Processors>::State>>>;
/// How many reads of one partition may wait for the log, and how many callers for their turn.
const WAITING: usize = 10_000;

pub(super) type Leaving<P> = Output<<P as Processors>::State>;

/// How far a partition's life has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Opening,
    Leading,
    Stopped,
    Ended(Ended),
}

/// What is asked of a log that may be short of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Something that can as well come later.
    Begins,
    /// The end of what is under way, or room for all else.
    Ends,
}

impl Work {
    fn is_refused(self, refused: &Refused) -> bool {
        self == Work::Begins || matches!(refused, Refused::All(_))
    }
}

/// A shell and those who wait for it.
pub(super) struct Inside<P: Processors> {
    pub(super) shell: Shell<P>,
    answers: Lookup<Ticket, oneshot::Sender<Answer>>,
    views: Lookup<Ticket, oneshot::Sender<Result<View<P>, Answer>>>,
    tickets: u64,
    /// Room for what leaves, used again and again.
    leaving: Vec<Leaving<P>>,
    /// The newest ticket at some moments of the past.
    marks: VecDeque<(u64, Ticket)>,
    told: Figures,
    /// Which shell of this partition it is: what an older one had begun is not for this one.
    pub(super) life: u64,
    /// The highest epoch that any of them has asked for.
    pub(super) asked: Epoch,
    pub(super) taken_at: u64,
    /// What the log does not take for now, and why.
    pub(super) refusing: Option<Refused>,
}

/// One partition of a node.
pub(super) struct Cell<P: Processors> {
    partition: Partition,
    pub(super) turns: Turns<Cell<P>, Inside<P>>,
    /// The stream that it decides on, for who watches.
    pub(super) deciding: Arc<Deciding>,
    /// How long the present turn has taken, where that is long; and the stream that was noted for it.
    pub(super) busy: Busy,
    pub(super) busy_with: Noted,
    /// [`Shell::stored`], or what it was a moment ago, to be read without the lock.
    stored: AtomicU64,
    store: Arc<dyn Store>,
    appender: RwLock<Option<Box<dyn Appender>>>,
    leaving: mpsc::UnboundedSender<Leaving<P>>,
    pub(super) standing: watch::Sender<Standing>,
    /// Why the log takes nothing, for who must not wait for a turn.
    full: Mutex<Option<String>>,
    pub(super) world: Arc<dyn World>,
    pub(super) telemetry: Telemetry,
    suspects: Arc<Suspects>,
}

impl<P: Processors> Cell<P> {
    pub(super) fn new(
        mut shell: Shell<P>,
        store: Arc<dyn Store>,
        world: Arc<dyn World>,
        telemetry: Telemetry,
        suspects: Arc<Suspects>,
    ) -> (Arc<Cell<P>>, mpsc::UnboundedReceiver<Leaving<P>>) {
        let deciding = Arc::<Deciding>::default();
        shell.say_in(deciding.clone());
        // What leaves is bounded by what may wait inside the shell, so the channel needs no bound of its own.
        let (leaving, arriving) = mpsc::unbounded_channel();
        let (answers, views) = (Lookup::default(), Lookup::default());
        let inside = Inside {
            shell,
            answers,
            views,
            tickets: 0,
            leaving: Vec::new(),
            marks: VecDeque::new(),
            told: Figures::default(),
            life: 0,
            asked: Epoch(0),
            taken_at: 0,
            refusing: None,
        };
        let (partition, appender) = (inside.shell.partition(), RwLock::new(None));
        let turns = Turns::new(inside, Cell::broken);
        let standing = watch::Sender::new(Standing::Opening);
        let stored = AtomicU64::new(0);
        let (busy, busy_with) = (Busy::default(), Noted::default());
        let cell = Cell {
            partition,
            turns,
            deciding,
            busy,
            busy_with,
            stored,
            store,
            appender,
            leaving,
            standing,
            full: Mutex::default(),
            world,
            telemetry,
            suspects,
        };
        (Arc::new(cell), arriving)
    }

    /// Asks for the partition under an epoch that none of this node's shells has asked for before.
    pub(super) fn lead(self: &Arc<Self>, log: &dyn Log, seed: [u8; 16]) -> Result<(), LogError> {
        let seat = Seat::of(self);
        let appender = log.attach(self.partition, Arc::new(seat))?;
        *self.appender.write().unwrap_or_else(PoisonError::into_inner) = Some(appender);
        let mut inside = self.lock();
        inside.asked = inside.asked.max(inside.shell.epoch()).next();
        let epoch = inside.asked;
        drop(inside);
        self.feed(Input::Lead(epoch, seed));
        Ok(())
    }

    /// Puts another shell in the place of one that has ended, whose callers were told, and whose log is let go of.
    pub(super) fn renew(&self, mut shell: Shell<P>) {
        shell.say_in(self.deciding.clone());
        let appender = self.appender.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(appender);
        let mut inside = self.lock();
        inside.life += 1;
        inside.told = Figures::default();
        inside.refusing = None;
        self.say_full(None);
        let old = std::mem::replace(&mut inside.shell, shell);
        // Letting go of all that memory takes its time.
        drop(inside);
        drop(old);
    }

    pub(super) fn say_full(&self, refused: Option<&Refused>) {
        let why = refused.map(|refused| refused.why().to_string());
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why the log takes nothing for now, where it does not. Waits for nobody.
    pub(super) fn full(&self) -> Option<String> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log takes nothing more from here, and whoever still waits learns that the outcome is unknown.
    pub(super) fn detach(&self) {
        let appender = self.appender.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(appender);
        self.turns.run(self, |_, inside| {
            inside.shell.handle(Input::Failed(Ended::Halted), clock::now());
            for output in inside.shell.outputs().collect::<Vec<_>>() {
                if let Output::Answer(ticket, answer) = output {
                    inside.answer(ticket, answer);
                }
            }
        });
    }

    /// Some work has panicked, so the shell is not to be trusted: it ends, and whoever waits for it learns that nobody
    /// knows.
    fn broken(&self, inside: &mut Inside<P>) {
        let why = "a fault of this program: the partition panicked; its memory is thrown away".to_owned();
        tracing::error!(partition = self.partition.0, "{why}");
        // These go also where the shell panics once more.
        let waiting: Vec<Ticket> = inside.answers.keys().chain(inside.views.keys()).copied().collect();
        waiting.into_iter().for_each(|ticket| inside.answer(ticket, Answer::Unknown));
        // Noted before anybody hears of it: on disk that is the end of the process.
        if let Some(key) = self.deciding.stream() {
            self.suspects.blame(key);
        }
        self.deciding.end();
        let failed = AssertUnwindSafe(|| inside.shell.fail(Ended::Unreachable(why)));
        if catch_unwind(failed).is_err() {
            tracing::error!(partition = self.partition.0, "it panicked once more while it ended");
        }
        self.carry_out(inside, clock::now());
    }

    /// Waits for a turn: only for who takes the partition over, and so has to.
    pub(super) fn lock(&self) -> Turn<'_, Cell<P>, Inside<P>> {
        self.turns.take(self)
    }

    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    /// Gives the shell one input and carries out what follows at once; the rest goes to the partition's task.
    pub(super) fn feed(&self, input: Input) {
        self.turns.run(self, |cell, inside| {
            let folds = matches!(input, Input::Entries(_));
            let now = clock::now();
            inside.shell.handle(input, now);
            cell.carry_out(inside, now);
            if folds {
                cell.telemetry.stage(cell.partition, Stage::Fold, clock::now().boot - now.boot);
            }
        });
    }

    pub(super) fn ask(
        &self,
        work: Work,
        make: impl FnOnce(Ticket) -> Input + Send + 'static,
    ) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        if self.turns.waiting() >= WAITING {
            // A receiver that is gone has stopped asking.
            let _ = sender.send(Answer::Busy);
            return receiver;
        }
        self.turns.run(self, move |cell, inside| {
            if let Some(refused) = inside.refusing.as_ref().filter(|refused| work.is_refused(refused)) {
                let _ = sender.send(Answer::Full(refused.why().to_string()));
                return;
            }
            if sender.is_closed() {
                // Its caller was told that the outcome is unknown, and may ask again.
                return;
            }
            let now = clock::now();
            let ticket = inside.ticket();
            inside.answers.insert(ticket, sender);
            inside.shell.handle(make(ticket), now);
            cell.carry_out(inside, now);
        });
        receiver
    }

    pub(super) fn view(&self, key: StreamKey) -> oneshot::Receiver<Result<View<P>, Answer>> {
        let (sender, receiver) = oneshot::channel();
        if self.turns.waiting() >= WAITING {
            let _ = sender.send(Err(Answer::Busy));
            return receiver;
        }
        self.turns.run(self, move |cell, inside| {
            if inside.views.len() >= WAITING {
                let _ = sender.send(Err(Answer::Busy));
                return;
            }
            let now = clock::now();
            let ticket = inside.ticket();
            inside.views.insert(ticket, sender);
            inside.shell.handle(Input::Read(ticket, key), now);
            cell.carry_out(inside, now);
        });
        receiver
    }

    /// Whether its shell is of no use any more, as far as that can be told without waiting.
    pub(super) fn has_ended(&self) -> bool {
        self.turns.try_take(self).is_some_and(|inside| inside.shell.role() == crate::Role::Ended)
    }

    /// The log is to look again.
    pub(super) fn wake(&self) {
        let appender = self.appender.read().unwrap_or_else(PoisonError::into_inner);
        appender.iter().for_each(|appender| appender.wake());
    }

    /// Rows of the store are read at once, for they are nearly always in memory; everything else leaves.
    pub(super) fn carry_out(&self, inside: &mut Inside<P>, now: Now) {
        // Whoever reads this finds in the store all that is in it by then.
        self.stored.store(inside.shell.stored().0, Ordering::Release);
        let mut outputs = std::mem::take(&mut inside.leaving);
        loop {
            let mut load = None;
            outputs.extend(inside.shell.outputs());
            if outputs.is_empty() {
                inside.leaving = outputs;
                return;
            }
            for output in outputs.drain(..) {
                match output {
                    Output::Load(streams, window) => {
                        let (all_streams, all_window) = load.get_or_insert_with(|| (Vec::new(), Vec::new()));
                        all_streams.extend(streams);
                        all_window.extend(window);
                    }
                    Output::Ready => self.wake(),
                    Output::Answer(ticket, answer) => inside.answer(ticket, answer),
                    Output::View(ticket, view) => {
                        if let Some(waiting) = inside.views.remove(&ticket) {
                            // Who has stopped waiting does not want to know.
                            let _ = waiting.send(Ok(view));
                        }
                    }
                    output => {
                        let _ = self.leaving.send(output);
                    }
                }
            }
            if let Some((streams, window)) = load {
                let input = match self.load(streams, window) {
                    Ok(loaded) => Input::Loaded(loaded),
                    // Whoever waits for these rows would wait for ever; another shell starts from the log.
                    Err(error) => Input::Failed(Ended::Unreadable(error.to_string())),
                };
                inside.shell.handle(input, now);
            }
        }
    }

    /// Whether there is certainly nothing to be found of an idempotency key.
    pub(super) fn is_new(&self, stream: &StreamKey, key: &[u8]) -> bool {
        self.turns.try_take(self).is_some_and(|inside| inside.shell.is_new(stream, key))
    }

    /// What the store holds of an idempotency key, asked for before the lock is taken. Nothing where it cannot be
    /// read: the shell asks once more then, and ends by name.
    pub(super) fn find(&self, partition: Partition, stream: &StreamKey, key: &[u8]) -> Option<Found> {
        let stored = BlockNo(self.stored.load(Ordering::Acquire));
        let row = self.store.get(&[window_row(partition, stream, key)]).ok()?.pop()?;
        match row {
            None => Some(Found { stored, used: None }),
            Some(row) => Some(Found { stored, used: Some(Used::read(&row)?) }),
        }
    }

    fn load(
        &self,
        streams: Vec<StreamKey>,
        window: Vec<WindowKey>,
    ) -> Result<Loaded, omium_store::StoreError> {
        let partition = self.partition;
        let mut keys: Vec<Vec<u8>> = streams.iter().map(|key| stream_key(partition, key)).collect();
        keys.extend(window.iter().map(|key| window_key(partition, key)));
        let mut rows = self.store.get(&keys)?.into_iter();
        let streams = streams.into_iter().map(|key| (key, rows.next().flatten())).collect();
        let window = window.into_iter().map(|key| (key, rows.next().flatten())).collect();
        Ok(Loaded { streams, window })
    }

    /// Whether the front of the log is being carried forward, and where the log starts.
    pub(super) fn carried(&self) -> (bool, Offset) {
        let inside = self.lock();
        (inside.shell.is_carrying(), inside.shell.book().start)
    }

    /// Whoever has asked before the last `limit` microseconds, and waits still, learns that the outcome is unknown.
    pub(super) fn expire(&self, limit: u64) {
        self.turns.run(self, move |_, inside| inside.expire(clock::now().boot, limit));
    }

    /// Measures a stage of the partition.
    pub(super) fn measured(&self, stage: Stage, since: u64) {
        self.telemetry.stage(self.partition, stage, clock::now().boot - since);
    }

    /// Tells the counters what has happened since the last time.
    pub(super) fn report(&self) {
        self.turns.run(self, |cell, inside| {
            let figures = inside.shell.figures();
            cell.telemetry.progress(cell.partition, &inside.told, &figures);
            inside.told = figures;
        });
    }
}

impl<P: Processors> Inside<P> {
    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// A mark now and then instead of a moment per ticket: it costs a caller nothing.
    fn expire(&mut self, boot: u64, limit: u64) {
        self.marks.push_back((boot, Ticket(self.tickets)));
        let mut expired = None;
        while let Some((_, ticket)) = self.marks.pop_front_if(|(at, _)| at.saturating_add(limit) <= boot) {
            expired = Some(ticket);
        }
        let Some(expired) = expired else { return };
        let late = self.answers.keys().chain(self.views.keys()).copied().filter(|ticket| *ticket <= expired);
        for ticket in late.collect::<Vec<_>>() {
            self.answer(ticket, Answer::Unknown);
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(waiting) = self.answers.remove(&ticket) {
            let _ = waiting.send(answer);
        } else if let Some(waiting) = self.views.remove(&ticket) {
            let _ = waiting.send(Err(answer));
        }
    }
}
