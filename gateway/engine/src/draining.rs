//! Calls of native agents that are on their way: a node that stops begins none, and lets these end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The calls.
#[derive(Clone)]
pub(super) struct Calls {
    count: Arc<watch::Sender<usize>>,
    draining: Arc<AtomicBool>,
}

impl Default for Calls {
    fn default() -> Calls {
        Calls { count: Arc::new(watch::Sender::new(0)), draining: Arc::default() }
    }
}

/// One call, until it is dropped.
pub(super) struct Underway(Arc<watch::Sender<usize>>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Calls {
    /// Nothing where no call begins any more.
    pub(super) fn begin(&self) -> Option<Underway> {
        // Counted first: whoever drains sees this call, or this call sees that.
        self.count.send_modify(|count| *count += 1);
        let call = Underway(self.count.clone());
        (!self.draining.load(Ordering::SeqCst)).then_some(call)
    }

    /// Lets no call begin, and returns when none is on its way.
    pub(super) async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_on_its_way_is_waited_for_and_nothing_new_begins() {
        let calls = Calls::default();
        let call = calls.begin().expect("nothing drains");
        let drained = tokio::spawn({
            let calls = calls.clone();
            async move { calls.drain().await }
        });
        while calls.begin().is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!drained.is_finished());
        drop(call);
        drained.await.unwrap();
    }
}
