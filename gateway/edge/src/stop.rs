//! The end of a listener: first nothing new is taken, then nothing is waited for.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Stopping,
    Now,
}

/// Tells a listener, and all who follow something through it, to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<Phase>);

impl Default for Stop {
    fn default() -> Stop {
        Stop(watch::Sender::new(Phase::Open))
    }
}

impl Stop {
    /// Nothing new is taken from now on; what is in flight may end.
    pub fn begin(&self) {
        self.reach(Phase::Stopping);
    }

    /// Nothing is waited for any more.
    pub fn now(&self) {
        self.reach(Phase::Now);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() >= Phase::Stopping
    }

    /// Resolves when it has begun.
    pub async fn begun(&self) {
        self.reached(Phase::Stopping).await;
    }

    /// Resolves when nothing is waited for any more.
    pub async fn over(&self) {
        self.reached(Phase::Now).await;
    }

    async fn reached(&self, wanted: Phase) {
        // The sender is this one's own.
        let _ = self.0.subscribe().wait_for(|phase| *phase >= wanted).await;
    }

    fn reach(&self, wanted: Phase) {
        self.0.send_if_modified(|phase| {
            let further = *phase < wanted;
            *phase = wanted.max(*phase);
            further
        });
    }
}
