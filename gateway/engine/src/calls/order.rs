//! Answers that came while others were in flight are served in the order in which they came: some programs list results as
//! they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use omium_api::port::Failure;
use omium_execution::{Call, Outcome};
use omium_runtime::StreamKey;
use omium_schemas::Seq;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Recorder, run_of};

/// How long an answer waits for those that came before it.
const IN_ORDER: Duration = Duration::from_secs(2);

/// What attempts wait for while they are served.
#[derive(Debug)]
pub(crate) struct Order {
    /// Moves whenever a recorded answer is served.
    served: watch::Sender<u64>,
    /// Answers that an attempt was waited for in vain: no lane of it asks for them any more.
    abandoned: Mutex<BTreeMap<StreamKey, (i64, BTreeSet<Seq>)>>,
}

impl Default for Order {
    fn default() -> Order {
        Order { served: watch::Sender::new(0), abandoned: Mutex::default() }
    }
}

impl Order {
    pub(super) fn moved(&self) {
        self.served.send_modify(|count| *count += 1);
    }

    /// An execution's attempt is over.
    pub(crate) fn forget(&self, key: &StreamKey) {
        self.lock().remove(key);
    }

    fn is_abandoned(&self, key: StreamKey, attempt: i64, call: Seq) -> bool {
        self.lock().get(&key).is_some_and(|(of, calls)| *of == attempt && calls.contains(&call))
    }

    fn abandon(&self, key: StreamKey, attempt: i64, calls: impl IntoIterator<Item = Seq>) {
        let mut abandoned = self.lock();
        let entry = abandoned.entry(key).or_default();
        if entry.0 != attempt {
            *entry = (attempt, BTreeSet::new());
        }
        entry.1.extend(calls);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StreamKey, (i64, BTreeSet<Seq>)>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder<'_> {
    /// Waits until those that came before are served. Ones that no lane asks for in time are never waited for again, so
    /// that an attempt pays for them once.
    pub(super) async fn in_order(&self, found: &Call) -> Result<(), Failure> {
        let (order, owner) = (&self.engine.order, self.owner);
        let mut served = order.served.subscribe();
        let deadline = Instant::now() + IN_ORDER;
        loop {
            let state = self.seen().await?;
            let run = run_of(&state)?;
            let is_before = |other: &Call| {
                other.came_during(found)
                    && matches!(other.outcome, Outcome::Answered(_))
                    && run.may_serve(other, owner.taking)
                    && !order.is_abandoned(owner.key, owner.taking, other.at)
            };
            let before: Vec<Seq> =
                run.calls.iter().filter(|other| is_before(other)).map(|other| other.at).collect();
            if before.is_empty() {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, served.changed()).await.is_err() {
                order.abandon(owner.key, owner.taking, before);
                return Ok(());
            }
        }
    }
}
