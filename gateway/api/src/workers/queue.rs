//! What waits for one worker: bounded by itself, and together with what waits for all others that follow something.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use omium_edge::{Following, Taken};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::Status;

use crate::grpc::proto::EngineMessage;

/// How many messages wait for a worker that does not read. Each has about 1 MiB at most.
const UNREAD: usize = 4;

type Told = Result<EngineMessage, Status>;
type Waiting = Arc<Mutex<mpsc::Receiver<(Told, Taken)>>>;

/// The side that speaks.
#[derive(Clone)]
pub(super) struct Speaker {
    out: mpsc::Sender<(Told, Taken)>,
    waiting: Waiting,
    shared: Option<Following>,
}

/// Speaks where somebody else still does.
pub(super) struct WeakSpeaker {
    out: mpsc::WeakSender<(Told, Taken)>,
    waiting: Waiting,
    shared: Option<Following>,
}

/// What a worker is told, as long as it listens.
pub(crate) struct Leaving {
    waiting: Waiting,
    /// The room of what was taken last: who asks for more has sent it.
    taken: Taken,
    /// Ends with the stream.
    _beside: JoinSet<()>,
}

/// The worker takes nothing.
pub(super) struct Unread;

pub(super) fn queue(shared: Option<Following>) -> (Speaker, Leaving) {
    let (out, told) = mpsc::channel(UNREAD);
    let waiting = Arc::new(Mutex::new(told));
    let leaving = Leaving { waiting: waiting.clone(), taken: Taken::default(), _beside: JoinSet::new() };
    (Speaker { out, waiting, shared }, leaving)
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, mpsc::Receiver<(Told, Taken)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Speaker {
    /// Says something as soon as there is room. Where there is none in time what waits for the worker is let go: it
    /// hears all of it again when it comes back.
    pub(super) async fn say(&self, message: EngineMessage, patience: Duration) -> Result<(), Unread> {
        let says = async {
            let place = self.out.reserve().await.ok()?;
            let taken = match &self.shared {
                Some(shared) => shared.take(prost::Message::encoded_len(&message)).await,
                None => Taken::default(),
            };
            place.send((Ok(message), taken));
            Some(())
        };
        if let Ok(Some(())) = timeout(patience, says).await {
            return Ok(());
        }
        let mut waiting = lock(&self.waiting);
        while waiting.try_recv().is_ok() {}
        Err(Unread)
    }

    /// Ends the stream behind what was said.
    pub(super) async fn hang_up(&self, status: Status) {
        // Where this cannot be sent the worker is gone already.
        let _ = self.out.send((Err(status), Taken::default())).await;
    }

    /// The same, unless too much waits already.
    pub(super) fn try_hang_up(&self, status: Status) {
        let _ = self.out.try_send((Err(status), Taken::default()));
    }

    pub(super) fn downgrade(&self) -> WeakSpeaker {
        let Speaker { out, waiting, shared } = self;
        WeakSpeaker { out: out.downgrade(), waiting: waiting.clone(), shared: shared.clone() }
    }
}

impl WeakSpeaker {
    pub(super) fn upgrade(self) -> Option<Speaker> {
        let WeakSpeaker { out, waiting, shared } = self;
        Some(Speaker { out: out.upgrade()?, waiting, shared })
    }
}

impl Leaving {
    /// Ends tasks with the stream.
    pub(super) fn with(self, beside: JoinSet<()>) -> Leaving {
        Leaving { _beside: beside, ..self }
    }
}

impl Stream for Leaving {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Told>> {
        self.taken = Taken::default();
        let polled = lock(&self.waiting).poll_recv(context);
        polled.map(|told| {
            let (told, taken) = told?;
            self.taken = taken;
            Some(told)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::grpc::proto::{EngineItem, Perform, engine_item};

    fn message(bytes: usize) -> EngineMessage {
        let perform = Perform { input_json: "x".repeat(bytes), ..Perform::default() };
        EngineMessage { items: vec![EngineItem { kind: Some(engine_item::Kind::Perform(perform)) }] }
    }

    #[tokio::test]
    async fn what_waits_for_workers_takes_room_that_all_share() {
        let (shared, patience) = (Following::with_room(1 << 20), Duration::from_millis(50));
        let (first, mut reads) = queue(Some(shared.clone()));
        let (second, _reads_not) = queue(Some(shared.clone()));
        assert!(first.say(message(600 << 10), patience).await.is_ok());
        assert!(second.say(message(600 << 10), patience).await.is_err(), "no room for both");
        // What was taken and sent makes room, and so does what is let go because it was not read.
        assert!(reads.next().await.unwrap().is_ok());
        let _ = tokio::time::timeout(Duration::ZERO, reads.next()).await;
        assert!(second.say(message(600 << 10), patience).await.is_ok());
        assert!(second.say(message(600 << 10), patience).await.is_err());
        assert!(!shared.is_crowded());
        assert!(first.say(message(600 << 10), patience).await.is_ok());
    }
}
