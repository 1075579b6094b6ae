//! Requests that are being answered: asked, judged, asked again. A client that sends one again because it got no answer waits
//! for the end of the first, or both would be asked and paid.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omium_schemas::{Digest, StreamId, TenantId};
use tokio::sync::watch;

/// How long the first one is waited for. A model's server has less time than that.
const PATIENCE: Duration = Duration::from_secs(700);

/// One request of one attempt.
pub(crate) type Key = (TenantId, StreamId, i64, Digest);

/// The requests that are being answered.
#[derive(Clone, Default)]
pub(crate) struct Rounds(Arc<Mutex<BTreeMap<Key, Vec<watch::Receiver<()>>>>>);

/// A request that is being answered, as long as this lives.
pub(crate) struct Round {
    rounds: Rounds,
    key: Key,
    /// Goes with this, and so tells those who wait.
    _ends: watch::Sender<()>,
}

impl Rounds {
    /// A request begins to be answered. One that is sent again begins when those before it have ended.
    pub(crate) async fn enter(&self, key: Key, repeats: bool) -> Round {
        if repeats {
            let before = self.lock().get(&key).cloned().unwrap_or_default();
            for mut round in before {
                // An error says that its sender is gone: that is the end.
                let _ = tokio::time::timeout(PATIENCE, round.changed()).await;
            }
        }
        let (ends, end) = watch::channel(());
        self.lock().entry(key).or_default().push(end);
        Round { rounds: self.clone(), key, _ends: ends }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Vec<watch::Receiver<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let mut rounds = self.rounds.lock();
        if let Some(known) = rounds.get_mut(&self.key) {
            let own = self._ends.subscribe();
            known.retain(|round| !round.same_channel(&own));
            if known.is_empty() {
                rounds.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use omium_schemas::ExecutionId;

    use super::*;

    #[tokio::test]
    async fn a_request_that_is_sent_again_begins_when_the_first_has_ended() {
        let rounds = Rounds::default();
        let key = (TenantId([1; 16]), ExecutionId::new([1; 15]).stream(), 1, Digest::of(b"q"));
        let first = rounds.enter(key, false).await;
        // One that is meant as a second one does not wait.
        drop(rounds.enter(key, false).await);
        let again = tokio::spawn({
            let rounds = rounds.clone();
            async move { drop(rounds.enter(key, true).await) }
        });
        tokio::task::yield_now().await;
        assert!(!again.is_finished());
        drop(first);
        again.await.unwrap();
        assert!(rounds.lock().is_empty(), "nothing is kept of what is over");
    }
}
