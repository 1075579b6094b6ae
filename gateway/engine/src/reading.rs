//! Whoever reads along while models answer. For eyes alone: nothing is decided by it, nothing records it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use omium_api::views::DeltaView;
use omium_runtime::StreamKey;
use omium_schemas::{Seq, StepId};
use tokio::sync::broadcast;

/// How many parts wait for a slow reader before he misses some.
const WAITING: usize = 1_024;

/// Those who read along, by execution.
#[derive(Default)]
pub(super) struct Readers(Mutex<BTreeMap<StreamKey, broadcast::Sender<DeltaView>>>);

impl Readers {
    pub(super) fn join(&self, key: StreamKey) -> broadcast::Receiver<DeltaView> {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, sender| sender.receiver_count() > 0);
        readers.entry(key).or_insert_with(|| broadcast::Sender::new(WAITING)).subscribe()
    }

    /// Whether somebody reads along.
    pub(super) fn are_there(&self, key: &StreamKey) -> bool {
        let readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readers.get(key).is_some_and(|sender| sender.receiver_count() > 0)
    }

    fn tell(&self, key: &StreamKey, delta: DeltaView) {
        let readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = readers.get(key) {
            // Who has left in between misses nothing.
            let _ = sender.send(delta);
        }
    }
}

/// What of a step's answers has been told, so that a reader knows where a part belongs.
#[derive(Default)]
pub(super) struct Told(Mutex<BTreeMap<Seq, u64>>);

impl Told {
    /// A part of the answer to a call.
    pub(super) fn tell(&self, readers: &Readers, key: &StreamKey, step: StepId, call: Seq, text: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let so_far = told.entry(call).or_default();
        let at = *so_far;
        *so_far += text.chars().count() as u64;
        let (kind, text) = ("delta".to_owned(), text.to_owned());
        readers.tell(key, DeltaView { kind, call: call.0, step: step.0, at, text });
    }
}
