//! The streams that are in memory. What is not saved must stay; the rest goes when there are too many.

use std::collections::VecDeque;
use std::sync::Arc;

use omium_processor::Effect;
use omium_schemas::{BlockNo, Seq, Time};

use crate::key::{Lookup, StreamKey, WindowKey};
use crate::stream::{LastFrame, StreamState};

/// A stream in memory.
pub(super) struct Slot<S> {
    pub(super) value: Arc<StreamState<S>>,
    /// The block that holds its last frame.
    pub(super) changed: BlockNo,
    pub(super) last: LastFrame,
    /// Effects that are out, with the number of their sending.
    pub(super) sent: Vec<(Effect, i64)>,
    /// The entry it has among the timers.
    pub(super) timer: Option<Time>,
    /// Whether it waits for something.
    pub(super) waits: bool,
    /// The time of its last frame.
    pub(super) time: Time,
    /// By how many microseconds its own time is ahead of the believed one: see [`super::Shell::time_of`].
    pub(super) ahead: u64,
    /// The highest idempotency key that it was ever given, where all of them were seen here; empty for none.
    highest: Option<Vec<u8>>,
    dirty: bool,
    saving: bool,
    /// Whether it stands in line to be let go. It must stand there once only, or the line grows for ever.
    in_line: bool,
}

impl<S: Clone> Slot<S> {
    /// The state with the hash of its last frame, which is made now where it was put off.
    pub(super) fn value(&self) -> Arc<StreamState<S>> {
        let hash = self.last.hash();
        if self.value.hash == hash {
            return self.value.clone();
        }
        Arc::new(StreamState { hash, ..(*self.value).clone() })
    }
}

/// The streams in memory.
pub(super) struct Residents<S> {
    slots: Lookup<StreamKey, Slot<S>>,
    dirty: Vec<StreamKey>,
    saving: Vec<StreamKey>,
    clean: VecDeque<StreamKey>,
    limit: usize,
}

impl<S: Clone + Default> Residents<S> {
    pub(super) fn new(limit: usize) -> Self {
        let (dirty, saving, clean) = (Vec::new(), Vec::new(), VecDeque::new());
        Residents { slots: Lookup::default(), dirty, saving, clean, limit }
    }

    pub(super) fn get(&self, key: &StreamKey) -> Option<&Slot<S>> {
        self.slots.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &StreamKey) -> Option<&mut Slot<S>> {
        self.slots.get_mut(key)
    }

    pub(super) fn has(&self, key: &StreamKey) -> bool {
        self.slots.contains_key(key)
    }

    /// All streams in memory, in order.
    pub(super) fn keys(&self) -> Vec<StreamKey> {
        let mut keys: Vec<StreamKey> = self.slots.keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// Takes in a stream as the store has it. One that is here already is newer and stays: false.
    pub(super) fn load(&mut self, key: StreamKey, value: StreamState<S>, time: Time) -> bool {
        if self.slots.contains_key(&key) {
            return false;
        }
        let last = LastFrame::Hashed(value.hash);
        let (sent, timer, waits) = (Vec::new(), None, false);
        let highest = (value.seq == Seq(0)).then(Vec::new);
        self.slots.insert(
            key,
            Slot {
                value: Arc::new(value),
                changed: BlockNo::default(),
                last,
                sent,
                timer,
                waits,
                time,
                ahead: 0,
                highest,
                dirty: false,
                saving: false,
                in_line: true,
            },
        );
        self.clean.push_back(key);
        true
    }

    /// Whether an idempotency key is above all that its stream was ever given, and so is new for certain. That is how
    /// keys come that count up or begin with the time; nobody has to look for those.
    pub(super) fn is_above_all(&self, stream: &StreamKey, key: &[u8]) -> bool {
        let highest = self.slots.get(stream).and_then(|slot| slot.highest.as_deref());
        highest.is_some_and(|highest| key > highest)
    }

    /// A stream was given an idempotency key.
    pub(super) fn note_key(&mut self, key: &WindowKey) {
        let highest = self.slots.get_mut(&key.stream).and_then(|slot| slot.highest.as_mut());
        if let Some(highest) = highest.filter(|highest| key.key > **highest) {
            highest.clone_from(&key.key);
        }
    }

    /// Gives a stream its next state, which this block holds.
    pub(super) fn change(
        &mut self,
        key: &StreamKey,
        value: StreamState<S>,
        (last, time): (LastFrame, Time),
        no: BlockNo,
    ) {
        let slot = self.slots.get_mut(key).expect("a stream is loaded before it is changed");
        match Arc::get_mut(&mut slot.value) {
            Some(place) => *place = value,
            None => slot.value = Arc::new(value),
        }
        (slot.last, slot.time) = (last, time);
        slot.changed = no;
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(*key);
        }
    }

    /// Takes a state out of its slot, to be given back by [`Residents::change`]: a fold does not need the old one.
    pub(super) fn take(&mut self, key: &StreamKey) -> StreamState<S> {
        let slot = self.slots.get_mut(key).expect("a stream is loaded before it is changed");
        match Arc::get_mut(&mut slot.value) {
            Some(value) => std::mem::take(value),
            None => (*slot.value).clone(),
        }
    }

    /// The streams that changed since the last call. They stay until [`Residents::saved`].
    pub(super) fn take_dirty(&mut self) -> Vec<StreamKey> {
        let keys = std::mem::take(&mut self.dirty);
        for key in &keys {
            let slot = self.slots.get_mut(key).expect("what is dirty is never let go");
            slot.dirty = false;
            slot.saving = true;
        }
        self.saving.clone_from(&keys);
        keys
    }

    /// What was taken is in the store.
    pub(super) fn saved(&mut self) {
        for key in std::mem::take(&mut self.saving) {
            let slot = self.slots.get_mut(&key).expect("what is being saved is never let go");
            slot.saving = false;
            if !slot.dirty && !std::mem::replace(&mut slot.in_line, true) {
                self.clean.push_back(key);
            }
        }
    }

    /// Lets go of what there is too much of. Never while something is loaded for a purpose: what waits for two streams
    /// would wait for ever if the second one drove out the first.
    pub(super) fn evict(&mut self) {
        for _ in 0..self.clean.len() {
            if self.slots.len() <= self.limit {
                return;
            }
            let Some(key) = self.clean.pop_front() else { return };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            if slot.dirty || slot.saving {
                slot.in_line = false;
                continue;
            }
            if slot.waits {
                self.clean.push_back(key);
            } else {
                self.slots.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use omium_schemas::{StreamId, TenantId};

    use super::*;

    #[test]
    fn a_key_above_all_is_new_only_where_the_whole_stream_was_seen() {
        let stream = |tenant| StreamKey::new(TenantId([tenant; 16]), StreamId::account());
        let mut residents: Residents<u8> = Residents::new(10);
        residents.load(stream(1), StreamState::default(), Time(0));
        residents.load(stream(2), StreamState { seq: Seq(3), ..StreamState::default() }, Time(0));
        assert!(residents.is_above_all(&stream(1), b"4"));
        for tenant in [1, 2] {
            residents.note_key(&WindowKey { stream: stream(tenant), key: b"5".to_vec() });
            residents.note_key(&WindowKey { stream: stream(tenant), key: b"3".to_vec() });
        }
        let new = |tenant, key: &[u8]| residents.is_above_all(&stream(tenant), key);
        assert_eq!([b"4", b"5", b"6"].map(|key| new(1, key)), [false, false, true]);
        assert!(!new(2, b"6"), "what it was given before it was loaded is not known");
        assert!(!new(3, b"6"), "it is not here");
    }
}
