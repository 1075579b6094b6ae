//! Where steps wait for whoever performs them: workers with credit on one side, tasks on the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use omium_api::port::{Sending, Task, ToWorker, WorkerInfo};
use omium_runtime::StreamKey;
use omium_schemas::{Seq, TenantId};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// A step on its way to somebody.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) key: StreamKey,
    pub(super) sending: Sending,
    pub(super) task: Task,
}

#[derive(Default)]
pub(super) struct Board(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    seats: BTreeMap<u64, Seat>,
    waiting: VecDeque<Offer>,
}

struct Seat {
    /// Whose steps it performs; everybody's where it is a part of the engine itself.
    tenant: Option<TenantId>,
    info: WorkerInfo,
    credit: u32,
    draining: bool,
    /// Its connection is broken and it may come back.
    away: bool,
    held: BTreeMap<(StreamKey, Sending), Held>,
    steps: mpsc::Sender<ToWorker>,
}

/// A sending that somebody has.
struct Held {
    /// The name that he knows the execution by.
    execution: String,
    /// The tool calls that he has made or been served in it.
    calls: BTreeSet<Seq>,
}

impl Seat {
    fn takes(&self, offer: &Offer) -> bool {
        self.credit > 0
            && !self.draining
            && !self.away
            && self.tenant.is_none_or(|tenant| tenant == offer.key.tenant)
            && self.info.frameworks.contains(&offer.task.framework)
    }

    /// Hands a step over; gives it back where nobody takes it out at the other end.
    fn give(&mut self, offer: Offer) -> Option<Offer> {
        let Offer { key, sending, task } = offer;
        let execution = task.execution.clone();
        match self.steps.try_send(ToWorker::Perform(Box::new(task))) {
            Ok(()) => {
                self.credit -= 1;
                self.held.insert((key, sending), Held { execution, calls: BTreeSet::new() });
                None
            }
            Err(TrySendError::Full(told) | TrySendError::Closed(told)) => {
                self.credit = 0;
                let ToWorker::Perform(task) = told else { return None };
                Some(Offer { key, sending, task: *task })
            }
        }
    }
}

impl Board {
    pub(super) fn seat(
        &self,
        tenant: Option<TenantId>,
        info: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> u64 {
        let mut table = self.lock();
        table.next += 1;
        let id = table.next;
        let seat = Seat {
            tenant,
            credit: info.capacity,
            info,
            draining: false,
            away: false,
            held: BTreeMap::new(),
            steps,
        };
        table.seats.insert(id, seat);
        table.hand_out();
        id
    }

    /// Removes a worker; what it held is nobody's now.
    pub(super) fn leave(&self, id: u64) -> Vec<(StreamKey, Sending)> {
        let left = self.lock().seats.remove(&id);
        left.map(|seat| seat.held.into_keys().collect()).unwrap_or_default()
    }

    pub(super) fn offer(&self, offer: Offer) {
        let mut table = self.lock();
        // A newer sending of the same step makes an older one pointless.
        table.waiting.retain(|other| other.key != offer.key || other.sending.step != offer.sending.step);
        table.waiting.push_back(offer);
        table.hand_out();
    }

    pub(super) fn grant(&self, id: u64, credit: u32) {
        let mut table = self.lock();
        if let Some(seat) = table.seats.get_mut(&id) {
            seat.credit = seat.credit.saturating_add(credit).min(100_000);
        }
        table.hand_out();
    }

    /// A worker's connection is broken, or back again.
    pub(super) fn away(&self, id: u64, away: bool) {
        let mut table = self.lock();
        if let Some(seat) = table.seats.get_mut(&id) {
            seat.away = away;
        }
        table.hand_out();
    }

    pub(super) fn drain(&self, id: u64) {
        if let Some(seat) = self.lock().seats.get_mut(&id) {
            seat.draining = true;
        }
    }

    /// Whether this worker has the sending, by the name that it knows the execution by.
    pub(super) fn holds(&self, id: u64) -> Vec<(String, Sending)> {
        let table = self.lock();
        let held = table.seats.get(&id).map(|seat| &seat.held);
        held.into_iter().flatten().map(|((_, sending), held)| (held.execution.clone(), *sending)).collect()
    }

    /// Whether this worker has the sending.
    pub(super) fn has(&self, id: u64, key: StreamKey, sending: Sending) -> bool {
        self.lock().seats.get(&id).is_some_and(|seat| seat.held.contains_key(&(key, sending)))
    }

    /// The stream of a sending that this worker has, whoever's it is.
    pub(super) fn of_seat(&self, id: u64, execution: &str, sending: Sending) -> Option<StreamKey> {
        let table = self.lock();
        let held = &table.seats.get(&id)?.held;
        let this =
            |(of, held): &(&(StreamKey, Sending), &Held)| of.1 == sending && held.execution == execution;
        held.iter().find(this).map(|((key, _), _)| *key)
    }

    /// The tool calls that were made or served in a sending: all others of its step are an earlier one's.
    pub(super) fn calls_of(&self, id: u64, key: StreamKey, sending: Sending) -> BTreeSet<Seq> {
        let table = self.lock();
        let held = table.seats.get(&id).and_then(|seat| seat.held.get(&(key, sending)));
        held.map(|held| held.calls.clone()).unwrap_or_default()
    }

    pub(super) fn note_call(&self, id: u64, key: StreamKey, sending: Sending, call: Seq) {
        let mut table = self.lock();
        let held = table.seats.get_mut(&id).and_then(|seat| seat.held.get_mut(&(key, sending)));
        if let Some(held) = held {
            held.calls.insert(call);
        }
    }

    /// A sending is over: its worker may have another one.
    pub(super) fn release(&self, id: u64, key: StreamKey, sending: Sending) -> bool {
        let mut table = self.lock();
        let had = table.seats.get_mut(&id).is_some_and(|seat| {
            let had = seat.held.remove(&(key, sending)).is_some();
            seat.credit += u32::from(had);
            had
        });
        table.hand_out();
        had
    }

    /// A sending is over, and whoever had it may be stuck in it: it makes no room.
    pub(super) fn forfeit(&self, id: u64, key: StreamKey, sending: Sending) {
        if let Some(seat) = self.lock().seats.get_mut(&id) {
            seat.held.remove(&(key, sending));
        }
    }

    /// Everything of an execution that waits or is held, for whoever finds out what of it is not needed any more.
    pub(super) fn of(&self, key: StreamKey) -> Vec<Sending> {
        let table = self.lock();
        let waiting = table.waiting.iter().filter(|offer| offer.key == key).map(|offer| offer.sending);
        let held = table
            .seats
            .values()
            .flat_map(|seat| seat.held.keys())
            .filter(|(of, _)| *of == key)
            .map(|(_, sending)| *sending);
        waiting.chain(held).collect()
    }

    /// Takes a sending back, wherever it is.
    pub(super) fn withdraw(&self, key: StreamKey, sending: Sending) {
        let mut table = self.lock();
        table.waiting.retain(|offer| (offer.key, offer.sending) != (key, sending));
        for seat in table.seats.values_mut() {
            if let Some(held) = seat.held.remove(&(key, sending)) {
                seat.credit += 1;
                let execution = held.execution;
                let (step, delivery) = (sending.step, sending.delivery);
                // A worker whose channel is full or gone finds out when its outcome is refused.
                let _ = seat.steps.try_send(ToWorker::Cancel { execution, step, delivery });
            }
        }
        table.hand_out();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn hand_out(&mut self) {
        let mut still: VecDeque<Offer> = VecDeque::new();
        // Frameworks for which nobody has credit: their other offers need not be looked at.
        let mut without: Vec<(TenantId, String)> = Vec::new();
        while let Some(offer) = self.waiting.pop_front() {
            let want = (offer.key.tenant, offer.task.framework.clone());
            if without.contains(&want) {
                still.push_back(offer);
                continue;
            }
            // Who has most credit left is the one with the least to do.
            let seat =
                self.seats.values_mut().filter(|seat| seat.takes(&offer)).max_by_key(|seat| seat.credit);
            match seat {
                Some(seat) => {
                    if let Some(offer) = seat.give(offer) {
                        self.waiting.push_front(offer);
                    }
                }
                None => {
                    without.push(want);
                    still.push_back(offer);
                }
            }
        }
        self.waiting = still;
    }
}
