//! Keys of new streams, made before the first command that needs them: all that are wanted at a moment with one sync,
//! by one thread. A thread for each would be more threads than cores, each with its own share of memory, that wait for
//! each other's sync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::key::StreamKey;
use crate::sealing::Vault;

type Made = Result<(), String>;

/// How often a vault that could make no keys is asked whether it can again.
const LOOKS: Duration = Duration::from_secs(1);

/// Who wants keys, and whether somebody makes them.
#[derive(Default)]
struct Queue {
    wanted: Vec<(StreamKey, oneshot::Sender<Made>)>,
    busy: bool,
    /// Why the last ones could not be made, until some can.
    refused: Option<String>,
}

impl Queue {
    /// Whether somebody has to begin making keys.
    fn want(&mut self, stream: StreamKey, tell: oneshot::Sender<Made>) -> bool {
        self.wanted.push((stream, tell));
        !std::mem::replace(&mut self.busy, true)
    }
}

/// The way to the vault where the disk is waited for.
pub(super) struct Keys {
    vault: Arc<dyn Vault>,
    queue: Arc<Mutex<Queue>>,
}

impl Keys {
    pub(super) fn new(vault: Arc<dyn Vault>) -> Keys {
        Keys { vault, queue: Arc::default() }
    }

    /// Why no keys can be made for now, where that is so. Waits for nobody.
    pub(super) fn refused(&self) -> Option<String> {
        lock(&self.queue).refused.clone()
    }

    /// Returns when the stream has a key, for good.
    pub(super) async fn provide(&self, stream: StreamKey) -> Made {
        if self.vault.has(&stream) {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        let begins = lock(&self.queue).want(stream, tell);
        if begins {
            let (vault, queue) = (self.vault.clone(), self.queue.clone());
            tokio::task::spawn_blocking(move || make(&vault, &queue));
        }
        told.await.unwrap_or_else(|_| Err("making a key was cut short; try again".to_owned()))
    }
}

/// Makes keys until nobody wants any: while one sync is waited for, the next ones gather.
fn make(vault: &Arc<dyn Vault>, queue: &Arc<Mutex<Queue>>) {
    loop {
        let mut waiting = lock(queue);
        let wanted = std::mem::take(&mut waiting.wanted);
        waiting.busy = !wanted.is_empty();
        drop(waiting);
        if wanted.is_empty() {
            return;
        }
        let streams: Vec<StreamKey> = wanted.iter().map(|(stream, _)| *stream).collect();
        // Whoever comes later must not wait for a thread that is gone.
        let made = catch_unwind(AssertUnwindSafe(|| vault.provide(&streams)));
        let made = made.unwrap_or_else(|_| Err("making keys ended in a panic".to_owned()));
        let refused = std::mem::replace(&mut lock(queue).refused, made.clone().err());
        if made.is_err() && refused.is_none() {
            tokio::spawn(look(Arc::downgrade(vault), Arc::downgrade(queue)));
        }
        for (_, tell) in wanted {
            // Who has stopped waiting does not want to know.
            let _ = tell.send(made.clone());
        }
    }
}

/// Looks until keys can be made again: where nobody sends a node anything that says it is not ready, nobody would ask.
async fn look(vault: Weak<dyn Vault>, queue: Weak<Mutex<Queue>>) {
    loop {
        tokio::time::sleep(LOOKS).await;
        let Some(vault) = vault.upgrade() else { return };
        let has_room = tokio::task::spawn_blocking(move || vault.has_room()).await.unwrap_or(false);
        let Some(queue) = queue.upgrade() else { return };
        let refused = &mut lock(&queue).refused;
        if has_room {
            *refused = None;
        }
        if refused.is_none() {
            return;
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use omium_schemas::{KeyId, StreamId, StreamKind, TenantId};

    use super::*;
    use crate::sealing::DataKey;

    /// Says how many keys each call asked for, and goes on when it is told to.
    struct Slow {
        asked: mpsc::Sender<usize>,
        go: Mutex<mpsc::Receiver<Option<Made>>>,
    }

    impl Vault for Slow {
        fn sealing(&self, _: &StreamKey) -> Option<DataKey> {
            None
        }

        fn opening(&self, _: &StreamKey, _: KeyId) -> Option<DataKey> {
            None
        }

        fn has(&self, _: &StreamKey) -> bool {
            false
        }

        fn provide(&self, streams: &[StreamKey]) -> Made {
            self.asked.send(streams.len()).expect("the test listens");
            let go = self.go.lock().expect("nobody panics while holding it").recv();
            go.expect("the test says how it ends").expect("the planned panic")
        }
    }

    fn stream(n: usize) -> StreamKey {
        StreamKey::new(TenantId([1; 16]), StreamId::named(StreamKind::Account, &n.to_string()))
    }

    #[tokio::test]
    async fn what_is_wanted_during_one_sync_is_made_with_the_next() {
        let ((asks, asked), (goes, go)) = (mpsc::channel(), mpsc::channel());
        let keys = Arc::new(Keys::new(Arc::new(Slow { asked: asks, go: Mutex::new(go) })));
        let want = |n| {
            let keys = keys.clone();
            tokio::spawn(async move { keys.provide(stream(n)).await })
        };
        let first = want(0);
        tokio::task::yield_now().await;
        assert_eq!(asked.recv(), Ok(1));
        let others: Vec<_> = (1..=5).map(want).collect();
        tokio::task::yield_now().await;
        goes.send(Some(Ok(()))).expect("the vault waits");
        assert_eq!(asked.recv(), Ok(5));
        goes.send(Some(Err("full".to_owned()))).expect("the vault waits");
        assert_eq!(first.await.expect("no panic"), Ok(()));
        for other in others {
            assert_eq!(other.await.expect("no panic"), Err("full".to_owned()));
        }
        assert_eq!(keys.refused().as_deref(), Some("full"));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_does_not_stop_the_next_one() {
        let ((asks, _asked), (goes, go)) = (mpsc::channel(), mpsc::channel());
        let keys = Keys::new(Arc::new(Slow { asked: asks, go: Mutex::new(go) }));
        goes.send(None).expect("the vault is there");
        assert_eq!(keys.provide(stream(0)).await, Err("making keys ended in a panic".to_owned()));
        goes.send(Some(Ok(()))).expect("the vault is there");
        assert!(keys.refused().is_some());
        assert_eq!(keys.provide(stream(1)).await, Ok(()));
        assert_eq!(keys.refused(), None);
    }
}
