//! The board with channels to its workers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use omium_api::port::{Sending, ToWorker, WorkerInfo};
use omium_runtime::StreamKey;
use omium_schemas::TenantId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::core::board::{Board as Core, Cancelled, Handed, Offer, Want};

#[derive(Default)]
pub(super) struct Board(Mutex<Table>);

#[derive(Default)]
struct Table {
    core: Core,
    workers: BTreeMap<u64, mpsc::Sender<ToWorker>>,
}

impl Board {
    pub(super) fn seat(
        &self,
        tenant: Option<TenantId>,
        info: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> u64 {
        let mut table = self.lock();
        let (id, handed) = table.core.seat(tenant, info.frameworks, info.capacity);
        table.workers.insert(id, steps);
        table.bring(handed);
        id
    }

    /// Removes a worker; what it held is nobody's now.
    pub(super) fn leave(&self, id: u64) -> Vec<(StreamKey, Sending)> {
        let mut table = self.lock();
        table.workers.remove(&id);
        table.core.leave(id)
    }

    pub(super) fn offer(&self, offer: Offer) {
        let mut table = self.lock();
        let (cancelled, handed) = table.core.offer(offer);
        cancelled.into_iter().for_each(|cancelled| table.cancel(cancelled));
        table.bring(handed);
    }

    pub(super) fn grant(&self, id: u64, credit: u32) {
        self.change(|core| core.grant(id, credit));
    }

    /// A worker's connection is broken, or back again.
    pub(super) fn away(&self, id: u64, away: bool) {
        self.change(|core| core.away(id, away));
    }

    pub(super) fn drain(&self, id: u64) {
        self.lock().core.drain(id);
    }

    pub(super) fn holds(&self, id: u64) -> Vec<(String, Sending)> {
        self.lock().core.holds(id)
    }

    pub(super) fn has(&self, id: u64, key: StreamKey, sending: Sending) -> bool {
        self.lock().core.has(id, key, sending)
    }

    pub(super) fn of_seat(&self, id: u64, execution: &str, sending: Sending) -> Option<StreamKey> {
        self.lock().core.of_seat(id, execution, sending)
    }

    pub(super) fn has_worker(&self, want: &Want) -> bool {
        self.lock().core.has_worker(want)
    }

    pub(super) fn unserved(&self) -> BTreeMap<Want, usize> {
        self.lock().core.unserved()
    }

    /// The same, with labels.
    pub(super) fn unserved_counts(&self) -> Vec<(String, String, u64)> {
        let labelled =
            |((tenant, framework), count): (Want, usize)| (framework, tenant.to_string(), count as u64);
        self.unserved().into_iter().map(labelled).collect()
    }

    /// A sending is over: its worker may have another one.
    pub(super) fn release(&self, id: u64, key: StreamKey, sending: Sending) {
        self.change(|core| core.release(id, key, sending));
    }

    /// A sending is over, and its worker may be stuck in it: it makes no room.
    pub(super) fn forfeit(&self, id: u64, key: StreamKey, sending: Sending) {
        self.lock().core.forfeit(id, key, sending);
    }

    /// Everything of an execution that waits or is held.
    pub(super) fn of(&self, key: StreamKey) -> Vec<Sending> {
        self.lock().core.of(key)
    }

    /// Takes a sending back, wherever it is.
    pub(super) fn withdraw(&self, key: StreamKey, sending: Sending) {
        let mut table = self.lock();
        let (cancelled, handed) = table.core.withdraw(key, sending);
        cancelled.into_iter().for_each(|cancelled| table.cancel(cancelled));
        table.bring(handed);
    }

    fn change(&self, change: impl FnOnce(&mut Core) -> Vec<Handed>) {
        let mut table = self.lock();
        let handed = change(&mut table.core);
        table.bring(handed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn cancel(&self, Cancelled { seat, execution, sending }: Cancelled) {
        let Some(worker) = self.workers.get(&seat) else { return };
        let (step, delivery) = (sending.step, sending.delivery);
        // A worker whose channel is full or gone finds out when its outcome is refused.
        let _ = worker.try_send(ToWorker::Cancel { execution, step, delivery });
    }

    /// Brings steps to their workers. One that does not take any gets no more until it grants credit again, so this ends.
    fn bring(&mut self, handed: Vec<Handed>) {
        let mut handed = VecDeque::from(handed);
        while let Some(Handed { seat, offer: Offer { key, sending, task } }) = handed.pop_front() {
            let sent = match self.workers.get(&seat) {
                Some(worker) => worker.try_send(ToWorker::Perform(Box::new(task))),
                None => continue,
            };
            if let Err(TrySendError::Full(told) | TrySendError::Closed(told)) = sent
                && let ToWorker::Perform(task) = told
            {
                handed
                    .extend(self.core.not_taken(Handed { seat, offer: Offer { key, sending, task: *task } }));
            }
        }
    }
}
