//! One thread works on a partition at a time, and nobody waits for it: who comes meanwhile leaves its work, and who is
//! in does it before it goes. A partition that computes for long holds up what is for itself, and neither the journal's
//! thread nor any other partition.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// How often a thread looks whether the other one is done before it leaves its work: most turns take microseconds.
const LOOKS: usize = 100;

type Work<C, T> = Box<dyn FnOnce(&C, &mut T) + Send>;

/// A value, and the work that was left for it. `C` is what it stands in.
pub(super) struct Turns<C, T> {
    value: Mutex<T>,
    left: Mutex<VecDeque<Work<C, T>>>,
    any_left: AtomicBool,
    /// Odd while somebody is in.
    count: AtomicU64,
    /// What is done when some work has panicked: the value is not to be trusted, and who waits for it must hear so.
    broken: fn(&C, &mut T),
}

impl<C, T> Turns<C, T> {
    pub(super) fn new(value: T, broken: fn(&C, &mut T)) -> Turns<C, T> {
        let (any_left, count) = (AtomicBool::new(false), AtomicU64::new(0));
        Turns { value: Mutex::new(value), left: Mutex::default(), any_left, count, broken }
    }

    /// Which turn is being taken; nothing where none is. For who watches that each of them ends.
    pub(super) fn now(&self) -> Option<u64> {
        Some(self.count.load(Ordering::Relaxed)).filter(|count| count % 2 == 1)
    }

    /// How much work waits for its turn.
    pub(super) fn waiting(&self) -> usize {
        if self.any_left.load(Ordering::Relaxed) { lock(&self.left).len() } else { 0 }
    }

    /// Waits for a turn. For who may wait.
    pub(super) fn take<'a>(&'a self, of: &'a C) -> Turn<'a, C, T> {
        self.begin(of, lock(&self.value))
    }

    /// A turn where one can be had at once.
    pub(super) fn try_take<'a>(&'a self, of: &'a C) -> Option<Turn<'a, C, T>> {
        for _ in 0..LOOKS {
            match self.value.try_lock() {
                Ok(value) => return Some(self.begin(of, value)),
                Err(TryLockError::Poisoned(value)) => return Some(self.begin(of, value.into_inner())),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        None
    }

    /// Does the work now, or leaves it to who is in. Whether it was done by the time this returns.
    pub(super) fn run(&self, of: &C, work: impl FnOnce(&C, &mut T) + Send + 'static) -> bool {
        if let Some(mut turn) = self.try_take(of) {
            turn.try_to(work);
            return true;
        }
        lock(&self.left).push_back(Box::new(work));
        self.any_left.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // Who was in may have gone just before it could see this.
        self.value.try_lock().is_ok_and(|value| {
            drop(self.begin(of, value));
            true
        })
    }

    fn begin<'a>(&'a self, of: &'a C, value: MutexGuard<'a, T>) -> Turn<'a, C, T> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut turn = Turn { turns: self, of, value: Some(value) };
        // In the order in which it came: what was left is older than what this turn is for.
        turn.do_what_was_left();
        turn
    }
}

/// One turn. What was left meanwhile is done when it ends.
pub(super) struct Turn<'a, C, T> {
    turns: &'a Turns<C, T>,
    of: &'a C,
    value: Option<MutexGuard<'a, T>>,
}

impl<C, T> Turn<'_, C, T> {
    fn do_what_was_left(&mut self) {
        while self.turns.any_left.swap(false, Ordering::SeqCst) {
            let left = std::mem::take(&mut *lock(&self.turns.left));
            for work in left {
                self.try_to(work);
            }
        }
    }

    /// Does some work. A panic ends that work alone: neither what was left behind it, nor the thread, which may be one
    /// that everybody needs. Nothing where it panicked.
    pub(super) fn try_to<R>(&mut self, work: impl FnOnce(&C, &mut T) -> R) -> Option<R> {
        let (of, broken) = (self.of, self.turns.broken);
        let value: &mut T = self;
        if let Ok(done) = catch_unwind(AssertUnwindSafe(|| work(of, value))) {
            return Some(done);
        }
        if catch_unwind(AssertUnwindSafe(|| broken(of, value))).is_err() {
            tracing::error!("a partition panicked, and again while that was told");
        }
        None
    }
}

impl<C, T> Deref for Turn<'_, C, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is there until the turn ends")
    }
}

impl<C, T> DerefMut for Turn<'_, C, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is there until the turn ends")
    }
}

impl<C, T> Drop for Turn<'_, C, T> {
    fn drop(&mut self) {
        loop {
            self.do_what_was_left();
            self.turns.count.fetch_add(1, Ordering::Relaxed);
            self.value = None;
            fence(Ordering::SeqCst);
            if !self.turns.any_left.load(Ordering::SeqCst) {
                return;
            }
            // Left between the last look and the end of the turn. Who is in by now does it.
            let Ok(value) = self.turns.value.try_lock() else { return };
            self.value = Some(value);
            self.turns.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "threads that meet are what is tested")]
mod tests {
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    #[test]
    fn all_work_is_done_once_whoever_does_it() {
        let turns: Arc<Turns<(), u64>> = Arc::default();
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let turns = turns.clone();
                thread::spawn(move || {
                    for n in 0..2_000 {
                        if n % 10 == 0 {
                            *turns.take(&()) += 1;
                        } else {
                            turns.run(&(), |(), value| *value += 1);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        assert_eq!(*turns.take(&()), 16_000);
        assert_eq!((turns.now(), turns.waiting()), (None, 0));
    }

    #[test]
    fn nobody_waits_for_a_long_turn_and_what_was_left_is_done_at_its_end_in_order() {
        let turns: Arc<Turns<(), Vec<u8>>> = Arc::default();
        let (inside, ends) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let long = {
            let (turns, inside, ends) = (turns.clone(), inside.clone(), ends.clone());
            thread::spawn(move || {
                turns.run(&(), move |(), value| {
                    inside.wait();
                    ends.wait();
                    value.push(1);
                })
            })
        };
        inside.wait();
        let turn = turns.now();
        assert!(turn.is_some() && turns.try_take(&()).is_none());
        assert!(!turns.run(&(), |(), value| value.push(2)));
        assert!(!turns.run(&(), |(), value| value.push(3)));
        assert_eq!((turns.waiting(), turns.now()), (2, turn));
        ends.wait();
        assert!(long.join().expect("no panic"));
        assert_eq!(*turns.take(&()), [1, 2, 3]);
    }

    #[test]
    fn a_panic_ends_its_own_work_alone_and_is_told() {
        let turns: Arc<Turns<(), Vec<u8>>> = Arc::new(Turns::new(Vec::new(), |(), value| value.push(9)));
        assert!(turns.run(&(), |(), _| panic!("a fault of the test")));
        let turn = turns.take(&());
        for number in 1..4 {
            let work = move |(): &(), value: &mut Vec<u8>| match number {
                2 => panic!("a fault of the test"),
                number => value.push(number),
            };
            assert!(!turns.run(&(), work));
        }
        drop(turn);
        assert_eq!((turns.waiting(), turns.now()), (0, None));
        assert_eq!(*turns.take(&()), [9, 1, 9, 3]);
    }

    impl<T: Default> Default for Turns<(), T> {
        fn default() -> Self {
            Turns::new(T::default(), |(), _| {})
        }
    }
}
