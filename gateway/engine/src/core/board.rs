//! Where steps wait for those who perform them: workers with credit on one side, tasks on the other. A queue for each
//! tenant and framework, so that the steps of one that nobody performs cost the others nothing.

use std::collections::BTreeMap;

use omium_api::port::{Sending, Task};
use omium_runtime::StreamKey;
use omium_schemas::{StepId, TenantId};

/// A step on its way to a worker.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) key: StreamKey,
    pub(crate) sending: Sending,
    pub(crate) task: Task,
}

/// A step that a worker gets.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) seat: u64,
    pub(crate) offer: Offer,
}

/// A step that a worker is to drop.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cancelled {
    pub(crate) seat: u64,
    pub(crate) execution: String,
    pub(crate) sending: Sending,
}

/// The board.
#[derive(Debug, Default)]
pub(crate) struct Board {
    next_seat: u64,
    next_offer: u64,
    seats: BTreeMap<u64, Seat>,
    queues: BTreeMap<Want, BTreeMap<u64, Offer>>,
    /// Where the one offer of a step waits.
    waiting: BTreeMap<(StreamKey, StepId), (Want, u64)>,
    /// Who holds what of an execution.
    held: BTreeMap<(StreamKey, Sending), u64>,
}

/// What a queue is for.
pub(crate) type Want = (TenantId, String);

#[derive(Debug)]
struct Seat {
    /// Whose steps it performs; everybody's where it is a part of the engine itself.
    tenant: Option<TenantId>,
    frameworks: Vec<String>,
    credit: u32,
    /// Credit that is not used until the worker has shown that it takes steps again.
    withheld: u32,
    draining: bool,
    /// Its connection is broken and it may come back.
    away: bool,
    /// By the name that the worker knows the execution by.
    held: BTreeMap<(StreamKey, Sending), String>,
}

impl Seat {
    fn takes(&self, want: &Want) -> bool {
        self.credit > 0 && !self.away && self.performs(want)
    }

    /// Whether it takes such steps as soon as it has room, and is there.
    fn performs(&self, (tenant, framework): &Want) -> bool {
        !self.draining && self.tenant.is_none_or(|own| own == *tenant) && self.frameworks.contains(framework)
    }
}

impl Board {
    pub(crate) fn seat(
        &mut self,
        tenant: Option<TenantId>,
        frameworks: Vec<String>,
        credit: u32,
    ) -> (u64, Vec<Handed>) {
        self.next_seat += 1;
        let id = self.next_seat;
        let seat = Seat {
            tenant,
            frameworks,
            credit,
            withheld: 0,
            draining: false,
            away: false,
            held: BTreeMap::new(),
        };
        self.seats.insert(id, seat);
        (id, self.hand_out_to(id))
    }

    /// Removes a worker; what it held is nobody's now.
    pub(crate) fn leave(&mut self, id: u64) -> Vec<(StreamKey, Sending)> {
        let left = self.seats.remove(&id);
        let held: Vec<_> = left.map(|seat| seat.held.into_keys().collect()).unwrap_or_default();
        for of in &held {
            self.held.remove(of);
        }
        held
    }

    /// A step is to be performed. Of two sendings of one step the newer one counts, whichever comes first.
    /// The older one is taken back from whoever performs it.
    pub(crate) fn offer(&mut self, offer: Offer) -> (Vec<Cancelled>, Vec<Handed>) {
        let step = (offer.key, offer.sending.step);
        if let Some((want, number)) = self.waiting.get(&step).cloned() {
            let queue = self.queues.get_mut(&want);
            let older = queue.as_ref().and_then(|queue| queue.get(&number)).map(|other| age(other.sending));
            if older > Some(age(offer.sending)) {
                return (Vec::new(), Vec::new());
            }
            queue.map(|queue| queue.remove(&number));
            self.waiting.remove(&step);
        }
        self.next_offer += 1;
        let want = (offer.key.tenant, offer.task.framework.clone());
        let (key, newest) = (offer.key, offer.sending);
        self.wait(want.clone(), self.next_offer, offer);
        let first = Sending { step: newest.step, ..FIRST };
        let held = self.held.range((key, first)..).map(|(of, _)| *of);
        let of_step = held.take_while(|(of, sending)| (*of, sending.step) == (key, newest.step));
        let older: Vec<Sending> =
            of_step.map(|(_, sending)| sending).filter(|sending| age(*sending) < age(newest)).collect();
        let cancelled = older.into_iter().filter_map(|sending| self.take_from_holder(key, sending)).collect();
        (cancelled, self.hand_out(&want))
    }

    fn take_from_holder(&mut self, key: StreamKey, sending: Sending) -> Option<Cancelled> {
        let seat = self.held.remove(&(key, sending))?;
        let known = self.seats.get_mut(&seat)?;
        known.credit = known.credit.saturating_add(1);
        let execution = known.held.remove(&(key, sending))?;
        Some(Cancelled { seat, execution, sending })
    }

    /// A step could not be brought to the worker that was to have it: it waits where it stood.
    pub(crate) fn not_taken(&mut self, Handed { seat, offer }: Handed) -> Vec<Handed> {
        let of = (offer.key, offer.sending);
        if let Some(seat) = self.seats.get_mut(&seat)
            && seat.held.remove(&of).is_some()
        {
            self.held.remove(&of);
            seat.withheld = seat.withheld.saturating_add(seat.credit).saturating_add(1);
            seat.credit = 0;
            let want = (offer.key.tenant, offer.task.framework.clone());
            self.next_offer += 1;
            self.wait(want.clone(), self.next_offer, offer);
            return self.hand_out(&want);
        }
        Vec::new()
    }

    pub(crate) fn grant(&mut self, id: u64, credit: u32) -> Vec<Handed> {
        if let Some(seat) = self.seats.get_mut(&id) {
            let withheld = std::mem::take(&mut seat.withheld);
            seat.credit = seat.credit.saturating_add(credit).saturating_add(withheld).min(100_000);
        }
        self.hand_out_to(id)
    }

    /// A worker's connection is broken, or back again.
    pub(crate) fn away(&mut self, id: u64, away: bool) -> Vec<Handed> {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.away = away;
        }
        self.hand_out_to(id)
    }

    pub(crate) fn drain(&mut self, id: u64) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.draining = true;
        }
    }

    /// What a worker has, by the names that it knows the executions by.
    pub(crate) fn holds(&self, id: u64) -> Vec<(String, Sending)> {
        let held = self.seats.get(&id).map(|seat| &seat.held);
        held.into_iter().flatten().map(|((_, sending), name)| (name.clone(), *sending)).collect()
    }

    /// Whether a worker has the sending.
    pub(crate) fn has(&self, id: u64, key: StreamKey, sending: Sending) -> bool {
        self.held.get(&(key, sending)) == Some(&id)
    }

    /// The stream of a sending that a worker has, whoever's it is.
    pub(crate) fn of_seat(&self, id: u64, execution: &str, sending: Sending) -> Option<StreamKey> {
        let mut held = self.seats.get(&id)?.held.iter();
        held.find(|((_, of), name)| *of == sending && *name == execution).map(|((key, _), _)| *key)
    }

    /// A sending is over: its worker may have another one.
    pub(crate) fn release(&mut self, id: u64, key: StreamKey, sending: Sending) -> Vec<Handed> {
        let Some(seat) = self.seats.get_mut(&id) else { return Vec::new() };
        if seat.held.remove(&(key, sending)).is_none() {
            return Vec::new();
        }
        let withheld = std::mem::take(&mut seat.withheld);
        seat.credit = seat.credit.saturating_add(1).saturating_add(withheld);
        self.held.remove(&(key, sending));
        self.hand_out_to(id)
    }

    /// A sending is over, and its worker may be stuck in it: it makes no room.
    pub(crate) fn forfeit(&mut self, id: u64, key: StreamKey, sending: Sending) {
        if let Some(seat) = self.seats.get_mut(&id)
            && seat.held.remove(&(key, sending)).is_some()
        {
            self.held.remove(&(key, sending));
        }
    }

    /// Everything of an execution that waits or is held, for those who find out what of it is not needed any more.
    pub(crate) fn of(&self, key: StreamKey) -> Vec<Sending> {
        let waiting = self.waiting.range((key, StepId(0))..=(key, StepId(u32::MAX)));
        let waiting =
            waiting.filter_map(|(_, (want, number))| Some(self.queues.get(want)?.get(number)?.sending));
        let held = self.held.range((key, FIRST)..).take_while(|((of, _), _)| *of == key);
        waiting.chain(held.map(|((_, sending), _)| *sending)).collect()
    }

    /// Takes a sending back, wherever it is.
    pub(crate) fn withdraw(&mut self, key: StreamKey, sending: Sending) -> (Option<Cancelled>, Vec<Handed>) {
        if let Some((want, number)) = self.waiting.get(&(key, sending.step)).cloned() {
            let queue = self.queues.entry(want).or_default();
            if queue.get(&number).is_some_and(|offer| offer.sending == sending) {
                queue.remove(&number);
                self.waiting.remove(&(key, sending.step));
            }
        }
        let Some(cancelled) = self.take_from_holder(key, sending) else { return (None, Vec::new()) };
        let handed = self.hand_out_to(cancelled.seat);
        (Some(cancelled), handed)
    }

    /// Whether a worker for such steps is registered.
    pub(crate) fn has_worker(&self, want: &Want) -> bool {
        self.seats.values().any(|seat| seat.performs(want))
    }

    /// How many steps wait though no worker for them is registered.
    pub(crate) fn unserved(&self) -> BTreeMap<Want, usize> {
        let unserved = self.waiting().filter(|(want, _)| !self.has_worker(want));
        unserved.map(|(want, count)| (want.clone(), count)).collect()
    }

    /// How many steps wait, by framework of a tenant.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&Want, usize)> {
        self.queues.iter().map(|(want, queue)| (want, queue.len())).filter(|(_, length)| *length > 0)
    }

    fn wait(&mut self, want: Want, number: u64, offer: Offer) {
        self.waiting.insert((offer.key, offer.sending.step), (want.clone(), number));
        self.queues.entry(want).or_default().insert(number, offer);
    }

    /// A worker has room: the oldest of what it performs.
    fn hand_out_to(&mut self, id: u64) -> Vec<Handed> {
        let Some(seat) = self.seats.get(&id) else { return Vec::new() };
        let wants = self.queues.iter().filter(|(want, queue)| !queue.is_empty() && seat.takes(want));
        let wants: Vec<Want> = wants.map(|(want, _)| want.clone()).collect();
        wants.iter().flat_map(|want| self.hand_out(want)).collect()
    }

    fn hand_out(&mut self, want: &Want) -> Vec<Handed> {
        let mut handed = Vec::new();
        loop {
            // Who has most credit left is the one with the least to do.
            let free = self.seats.iter_mut().filter(|(_, seat)| seat.takes(want));
            let Some((id, seat)) = free.max_by_key(|(_, seat)| seat.credit) else { break };
            let Some(queue) = self.queues.get_mut(want) else { break };
            let Some((_, offer)) = queue.pop_first() else {
                self.queues.remove(want);
                break;
            };
            seat.credit -= 1;
            let of = (offer.key, offer.sending);
            seat.held.insert(of, offer.task.execution.clone());
            self.waiting.remove(&(offer.key, offer.sending.step));
            self.held.insert(of, *id);
            handed.push(Handed { seat: *id, offer });
        }
        handed
    }
}

/// The least of all sendings.
const FIRST: Sending = Sending {
    step: StepId(0),
    branch: omium_schemas::Branch(0),
    epoch: omium_schemas::Epoch(0),
    delivery: i64::MIN,
};

/// Later sendings of a step are greater: another branch, another leader, another number.
fn age(sending: Sending) -> (omium_schemas::Branch, omium_schemas::Epoch, i64) {
    (sending.branch, sending.epoch, sending.delivery)
}

#[cfg(test)]
mod tests {
    use omium_schemas::{Branch, Epoch, ExecutionId};
    use serde_json::Value;

    use super::*;

    fn offer(tenant: u8, execution: u8, step: u32, delivery: i64) -> Offer {
        let key = StreamKey::new(TenantId([tenant; 16]), ExecutionId::new([execution; 15]).stream());
        let sending = Sending { step: StepId(step), branch: Branch(0), epoch: Epoch(1), delivery };
        let task = Task {
            execution: key.stream.to_string(),
            workflow: "w".into(),
            step: sending.step,
            agent: "a".into(),
            framework: "f".into(),
            branch: sending.branch,
            epoch: sending.epoch,
            delivery,
            attempt: 1,
            effect_key: "k".into(),
            trace: None,
            definition: Value::Null,
            input: Value::Null,
            timeout_ms: None,
        };
        Offer { key, sending, task }
    }

    fn deliveries(handed: &[Handed]) -> Vec<i64> {
        handed.iter().map(|handed| handed.offer.sending.delivery).collect()
    }

    #[test]
    fn of_two_sendings_of_one_step_the_newer_one_is_handed_out_whichever_comes_first() {
        for order in [[7, 9], [9, 7]] {
            let mut board = Board::default();
            for delivery in order {
                assert!(board.offer(offer(1, 1, 1, delivery)).1.is_empty());
            }
            let (_, handed) = board.seat(None, vec!["f".into()], 10);
            assert_eq!(deliveries(&handed), [9], "{order:?}");
        }
    }

    #[test]
    fn a_worker_gets_steps_of_its_tenant_in_order_as_far_as_its_credit_goes() {
        let mut board = Board::default();
        for step in 1..=3 {
            board.offer(offer(1, 1, step, i64::from(step)));
            board.offer(offer(2, 1, step, 10 + i64::from(step)));
        }
        let (id, handed) = board.seat(Some(TenantId([1; 16])), vec!["f".into()], 2);
        assert_eq!(deliveries(&handed), [1, 2]);
        let first = &handed[0].offer;
        assert_eq!(deliveries(&board.release(id, first.key, first.sending)), [3]);
        assert!(board.release(id, first.key, first.sending).is_empty(), "it is released once");
    }

    #[test]
    fn what_a_worker_does_not_take_waits_for_another_one() {
        let mut board = Board::default();
        let (first, _) = board.seat(None, vec!["f".into()], 1);
        let handed = board.offer(offer(1, 1, 1, 1)).1.pop().unwrap();
        assert!(board.not_taken(handed).is_empty());
        assert!(board.holds(first).is_empty());
        let (second, handed) = board.seat(None, vec!["f".into()], 1);
        assert_eq!((handed.len(), handed[0].seat), (1, second));
    }

    #[test]
    fn what_is_taken_back_is_neither_waiting_nor_held() {
        let mut board = Board::default();
        let (id, _) = board.seat(None, vec!["f".into()], 1);
        board.offer(offer(1, 1, 1, 1));
        board.offer(offer(1, 1, 2, 2));
        let key = offer(1, 1, 1, 1).key;
        assert_eq!(board.of(key).len(), 2);
        let (cancelled, handed) = board.withdraw(key, offer(1, 1, 1, 1).sending);
        assert_eq!(cancelled.map(|cancelled| cancelled.seat), Some(id));
        assert_eq!(deliveries(&handed), [2], "its place is free again");
        board.withdraw(key, offer(1, 1, 2, 2).sending);
        assert!(board.of(key).is_empty());
    }

    #[test]
    fn steps_that_nobody_performs_cost_others_nothing() {
        let mut board = Board::default();
        for execution in 0..200 {
            for step in 1..=50 {
                let mut offer = offer(1, execution, step, 1);
                offer.task.framework = "absent".into();
                board.offer(offer);
            }
        }
        let (id, _) = board.seat(Some(TenantId([2; 16])), vec!["f".into()], 1);
        let (_, handed) = board.offer(offer(2, 1, 1, 1));
        assert_eq!(deliveries(&handed), [1]);
        assert_eq!(board.waiting().map(|(_, length)| length).collect::<Vec<_>>(), [10_000]);
        assert_eq!(board.holds(id).len(), 1);
    }

    #[test]
    fn who_performs_an_older_sending_is_told_to_drop_it_when_a_newer_one_goes_out() {
        let mut board = Board::default();
        let (first, _) = board.seat(None, vec!["f".into()], 1);
        board.offer(offer(1, 1, 1, 1));
        assert!(board.has(first, offer(1, 1, 1, 1).key, offer(1, 1, 1, 1).sending));
        let (cancelled, handed) = board.offer(offer(1, 1, 1, 2));
        assert_eq!(cancelled.iter().map(|cancelled| cancelled.sending.delivery).collect::<Vec<_>>(), [1]);
        assert_eq!(deliveries(&handed), [2]);
        assert!(!board.has(first, offer(1, 1, 1, 1).key, offer(1, 1, 1, 1).sending));
    }

    #[test]
    fn credit_that_could_not_be_used_comes_back_with_the_next_release() {
        let mut board = Board::default();
        let (id, _) = board.seat(None, vec!["f".into()], 3);
        let first = board.offer(offer(1, 1, 1, 1)).1.pop().unwrap();
        let second = board.offer(offer(1, 1, 2, 2)).1.pop().unwrap();
        assert!(board.not_taken(second).is_empty(), "its channel is full");
        assert!(board.offer(offer(1, 1, 3, 3)).1.is_empty());
        assert_eq!(board.release(id, first.offer.key, first.offer.sending).len(), 2);
    }
}
