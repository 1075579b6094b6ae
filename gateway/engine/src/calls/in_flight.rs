//! Calls that this process waits for. What is open in the log and not here was lost with another process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use omium_api::port::Failure;
use omium_runtime::StreamKey;
use omium_schemas::{Digest, Seq};
use tokio::sync::watch;

use super::cost::Size;
use crate::answers;

/// How long an equal call that is in flight is waited for. A model's server has less time than that.
const PATIENCE: Duration = Duration::from_secs(700);

/// What is asked, as far as its cost depends on it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) size: Size,
    pub(super) price_list: Option<Digest>,
    pub(super) under_budget: bool,
    pub(super) since: Instant,
}

#[derive(Debug)]
struct Entry {
    asked: Asked,
    ends: watch::Sender<()>,
}

/// The calls in flight.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    entries: Mutex<BTreeMap<(StreamKey, Seq), Entry>>,
    /// Calls whose client was told to come back, since the log took nothing: it has not had what it paid for.
    untold: Mutex<BTreeSet<(StreamKey, Seq)>>,
}

/// How many calls are remembered whose client is to come back.
const UNTOLD: usize = 10_000;

impl InFlight {
    pub(super) fn track(&self, key: StreamKey, call: Seq, asked: Asked) {
        self.lock().insert((key, call), Entry { asked, ends: watch::Sender::new(()) });
    }

    /// Its end is in the log, or never will be.
    pub(super) fn untrack(&self, key: StreamKey, call: Seq) {
        self.lock().remove(&(key, call));
    }

    pub(super) fn has(&self, key: StreamKey, call: Seq) -> bool {
        self.lock().contains_key(&(key, call))
    }

    pub(super) fn asked(&self, key: StreamKey, call: Seq) -> Option<Asked> {
        self.lock().get(&(key, call)).map(|entry| entry.asked.clone())
    }

    /// How long it has been in flight, in seconds.
    pub(super) fn seconds(&self, key: StreamKey, call: Seq) -> Option<f64> {
        self.lock().get(&(key, call)).map(|entry| entry.asked.since.elapsed().as_secs_f64())
    }

    /// Returns when the call is not in flight any more.
    pub(super) async fn ended(&self, key: StreamKey, call: Seq) -> Result<(), Failure> {
        let Some(mut ends) = self.lock().get(&(key, call)).map(|entry| entry.ends.subscribe()) else {
            return Ok(());
        };
        // The sender goes with the entry.
        match tokio::time::timeout(PATIENCE, ends.changed()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(answers::busy("an equal call has been in flight for too long")),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(StreamKey, Seq), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, BTreeSet<(StreamKey, Seq)>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn told_to_wait(&self, key: StreamKey, call: Seq) {
        let mut untold = self.untold();
        if untold.len() >= UNTOLD {
            untold.pop_first();
        }
        untold.insert((key, call));
    }

    pub(super) fn is_to_be_told(&self, key: StreamKey, call: Seq) -> bool {
        self.untold().contains(&(key, call))
    }

    pub(super) fn told(&self, key: StreamKey, call: Seq) {
        self.untold().remove(&(key, call));
    }
}
