//! One task per partition: carries out what leaves its shell.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omium_log::LogError;
use omium_processor::Processors;
use omium_schemas::{Offset, Partition};
use omium_store::{Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::cell::{Cell, Leaving, Standing};
use super::clock;
use super::content::Contents;
use super::intact::check_start;
use super::node::NodeParts;
use super::retake::Leads;
use super::telemetry::Stage;
use crate::Snapshot;
use crate::key::{StreamKey, open_prefix, stream_of};
use crate::port::{Ended, Input, Needs, Output};
use crate::window::Sweep;

/// How much is read from the log at once.
pub(super) const READ: usize = 4 << 20;
/// How often a shell is told that time has passed.
const TICK: Duration = Duration::from_millis(100);
/// After how many microseconds it is asked again whether the log still begins where it should.
const LOOK: u64 = 5_000_000;
/// How long a record that has to be in the log may take until it can be read.
const SOON: Duration = Duration::from_millis(100);
/// After how long a store that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How far a node's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It takes commands.
    Running,
    /// It finishes what is on its way.
    Finishing,
    /// It does nothing any more.
    Over,
}

/// Carries out what leaves one partition.
pub(super) struct Carrier<P: Processors> {
    pub(super) partition: Partition,
    pub(super) cells: Vec<Arc<Cell<P>>>,
    pub(super) parts: Arc<NodeParts>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) leads: Leads,
    sweep: Arc<Mutex<Sweep>>,
    looking: Option<(u64, AbortHandle)>,
}

impl<P: Processors> Carrier<P> {
    pub(super) fn new(
        partition: Partition,
        cells: Vec<Arc<Cell<P>>>,
        parts: Arc<NodeParts>,
        phase: watch::Receiver<Phase>,
    ) -> Carrier<P> {
        Carrier {
            partition,
            cells,
            parts,
            phase,
            leads: Leads::default(),
            sweep: Arc::default(),
            looking: None,
        }
    }

    pub(super) async fn run(mut self, mut outputs: mpsc::UnboundedReceiver<Leaving<P>>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut phase = self.phase.clone();
        let mut work = JoinSet::new();
        loop {
            // In this order: a partition that is never idle must still hear that time passes.
            tokio::select! {
                biased;
                () = reaches(&mut phase, Phase::Over) => break,
                _ = ticks.tick() => {
                    self.cell().feed(Input::Tick);
                    self.look_at_the_log(&mut work);
                    self.cell().report();
                }
                Some(_) = work.join_next() => {}
                output = outputs.recv() => match output {
                    Some(output) => self.carry_out(output, &mut work).await,
                    None => break,
                },
            }
        }
        // Nothing of this node may touch log or store once it is over: another one may have opened them.
        while work.join_next().await.is_some() {}
        // A shell may have taken the place of another one after the node let go of that one.
        self.cell().detach();
        self.cell().report();
    }

    /// Somebody may remove records while nobody reads them.
    fn look_at_the_log(&mut self, work: &mut JoinSet<()>) {
        let now = clock::now().boot;
        let last = self.looking.as_ref();
        let due = last.is_none_or(|(at, looking)| now - at >= LOOK && looking.is_finished());
        if !due || *self.cell().standing.borrow() != Standing::Leading {
            return;
        }
        let (cell, parts, partition) = (self.cell().clone(), self.parts.clone(), self.partition);
        let looking = work.spawn_blocking(move || {
            // While it computes there will be another time.
            let Some(known) = cell.turns.try_take(&cell).map(|inside| inside.shell.book().start) else {
                return;
            };
            if let Err(why @ Ended::Unreadable(_)) = check_start(&*parts.log, partition, known) {
                cell.feed(Input::Failed(why));
            }
        });
        self.looking = Some((now, looking));
    }

    pub(super) fn cell(&self) -> &Arc<Cell<P>> {
        &self.cells[usize::from(self.partition.0)]
    }

    async fn carry_out(&mut self, output: Leaving<P>, work: &mut JoinSet<()>) {
        match output {
            Output::Dispatch(dispatch) => self.cell().world.dispatch(*dispatch),
            Output::Deliver(parcel) => {
                let to = usize::from(parcel.to_partition.0);
                self.cells[to].feed(Input::Message(parcel));
            }
            Output::Acknowledge(to, through) => {
                self.cells[usize::from(to.0)].feed(Input::Acknowledged(self.partition, through));
            }
            Output::Publish(block) => self.cell().world.publish(self.partition, block),
            Output::Flush(snapshot) => drop(work.spawn(self.flush(*snapshot))),
            Output::Need(key, needs) => drop(work.spawn(self.provide(key, needs))),
            Output::LoadWaiting => drop(work.spawn_blocking(self.load_waiting())),
            Output::Fetch(from, through) => self.fetch(from, through).await,
            Output::Led(epoch) => {
                tracing::info!(partition = self.partition.0, epoch = epoch.0, "leading");
                self.leads.begin(clock::now().boot);
                self.cell().standing.send_if_modified(|standing| {
                    let arrives = *standing == Standing::Opening;
                    *standing = if arrives { Standing::Leading } else { standing.clone() };
                    arrives
                });
            }
            Output::Stopped => drop(self.cell().standing.send_replace(Standing::Stopped)),
            Output::Ended(why) => self.ended(why, work).await,
            Output::Alarm(text) => tracing::error!(partition = self.partition.0, "{text}"),
            // These never come this far: the cell answers them itself.
            Output::Ready | Output::Load(..) | Output::Answer(..) | Output::View(..) => {}
        }
    }

    /// Until the state is in the store the shell takes no other snapshot, so this is tried until it succeeds.
    fn flush(&self, snapshot: Snapshot<P::State>) -> impl Future<Output = ()> + Send + 'static {
        let (cell, store, mut phase) = (self.cell().clone(), self.parts.store.clone(), self.phase.clone());
        let (snapshot, sweep) = (Arc::new(snapshot), self.sweep.clone());
        async move {
            let since = clock::now().boot;
            loop {
                let (store, taken, sweep) = (store.clone(), snapshot.clone(), sweep.clone());
                let write = move || save::<P>(&*store, &taken, &sweep);
                let written = tokio::task::spawn_blocking(write).await;
                let Ok(Err(error)) = written else {
                    cell.measured(Stage::Flush, since);
                    return cell.feed(Input::Flushed(omium_schemas::BlockNo(snapshot.position.no)));
                };
                if matches!(error, StoreError::Damaged { .. }) {
                    // It will never be saved there, and would fill the memory: the next opening makes the store anew.
                    return cell.feed(Input::Failed(Ended::Unreadable(error.to_string())));
                }
                tracing::error!(%error, "the state could not be saved; it is kept in memory and tried again");
                if *phase.borrow() != Phase::Running {
                    // A node that stops does not wait for a store: all of it is in the log.
                    cell.standing.send_replace(Standing::Stopped);
                    return;
                }
                let _ = tokio::time::timeout(AGAIN, reaches(&mut phase, Phase::Finishing)).await;
            }
        }
    }

    fn provide(&self, key: StreamKey, needs: Needs) -> impl Future<Output = ()> + Send + 'static {
        let (cell, phase) = (self.cell().clone(), self.phase.clone());
        let contents = Contents { vault: self.parts.vault.clone(), blobs: self.parts.blobs.clone() };
        async move {
            // Neither a node that stops nor a shell that has ended waits for a store.
            let goes_on = || *phase.borrow() == Phase::Running && !cell.has_ended();
            let given = contents.provide(&key, &needs, goes_on).await;
            cell.feed(Input::AtHand(key, given));
        }
    }

    fn load_waiting(&self) -> impl FnOnce() + Send + 'static {
        let (store, partition, cell) = (self.parts.store.clone(), self.partition, self.cell().clone());
        move || {
            let since = clock::now().boot;
            let mut after: Option<Vec<u8>> = None;
            loop {
                let rows = match store.scan(&open_prefix(partition), after.as_deref(), 1_000) {
                    Ok(rows) => rows,
                    // Without them work would be forgotten in silence.
                    Err(error) => return cell.feed(Input::Failed(Ended::Unreadable(error.to_string()))),
                };
                let Some((last, _)) = rows.last() else { return cell.measured(Stage::Load, since) };
                after = Some(last.clone());
                cell.feed(Input::Waiting(rows.iter().filter_map(|(key, _)| stream_of(key)).collect()));
            }
        }
    }

    /// What was asked for is in the log; where it is not readable yet, it will be in a moment. Whoever waits for the
    /// proof of a block would wait for ever without it.
    async fn fetch(&self, mut from: Offset, through: Offset) {
        while from <= through && *self.phase.borrow() != Phase::Over && !self.cell().has_ended() {
            match self.parts.log.read(self.partition, from, READ).await {
                Ok(entries) => match entries.last() {
                    Some(last) => {
                        from = last.offset.next();
                        self.cell().feed(Input::Entries(entries));
                    }
                    None => self.reaches_log(from).await,
                },
                Err(LogError::Full { .. }) => tokio::time::sleep(AGAIN).await,
                Err(error) => return self.cell().feed(Input::Failed(error.into())),
            }
        }
    }

    /// Waits for the log to grow beyond an offset, or a moment.
    async fn reaches_log(&self, from: Offset) {
        if let Ok(mut tail) = self.parts.log.tail(self.partition) {
            // Looked at again after a moment, whatever the log tells.
            let _ = tokio::time::timeout(SOON, tail.wait_for(|tail| *tail > from)).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Resolves when the node's life has come this far.
pub(super) async fn reaches(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the node is gone, which is further than any phase.
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}

fn save<P: Processors>(
    store: &dyn Store,
    snapshot: &Snapshot<P::State>,
    sweep: &Mutex<Sweep>,
) -> Result<(), StoreError> {
    snapshot.batches().into_iter().try_for_each(|batch| store.write(batch))?;
    sweep.lock().unwrap_or_else(PoisonError::into_inner).go_on::<P>(store, snapshot)?;
    store.flush()
}
