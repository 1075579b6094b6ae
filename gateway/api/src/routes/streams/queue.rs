//! What waits for one reader of a stream: bounded by itself, and together with what waits for all others.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::sse::Event;
use omium_edge::{Following, Taken};
use omium_schemas::Seq;
use serde_json::json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;

use crate::views::{DeltaView, EventView};

/// How many things wait for one reader.
const LENGTH: usize = 64;
/// How many bytes of events wait for one reader, unless one event alone has more.
const ROOM: usize = 1 << 20;
/// How often a reader that is behind is looked at.
const LOOKS: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 250 });
/// After so many looks in a row at which others lacked room because of it, it is let go.
const PATIENCE: u32 = 8;

/// What a stream carries.
pub(super) struct Said {
    pub(super) text: String,
    kind: String,
    /// Where it is an event.
    seq: Option<Seq>,
    room: Option<Room>,
}

/// What it takes up until its reader has it: of the node's room, and of the reader's own.
struct Room {
    _shared: Taken,
    _own: OwnedSemaphorePermit,
}

/// Why a stream ends that could have gone on.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The listener may not listen any longer.
    Revoked,
    /// Others lacked room because of what waited for this reader. It goes on from here when it comes back.
    Behind(Seq),
}

/// One more thing for a reader.
pub(super) enum Next {
    Said(Said),
    End(End),
}

/// Nobody listens any more, or there is nothing more to hear.
pub(super) struct Over;

impl Said {
    pub(super) fn event(event: &EventView) -> Said {
        let text = serde_json::to_string(event).unwrap_or_default();
        Said { text, kind: event.kind.clone(), seq: Some(Seq(event.seq)), room: None }
    }

    pub(super) fn delta(delta: &DeltaView) -> Said {
        let text = serde_json::to_string(delta).unwrap_or_default();
        Said { text, kind: delta.kind.clone(), seq: None, room: None }
    }
}

impl End {
    pub(super) fn reason(self) -> String {
        match self {
            End::Revoked => "the key was revoked or is too old".to_owned(),
            End::Behind(seq) => {
                format!("this reader is too far behind and others lack room; go on from {}", seq.0)
            }
        }
    }
}

impl Next {
    /// As a server-sent event. A delta has no id: whoever comes back goes on after the last event.
    pub(super) fn sent(self) -> Event {
        match self {
            Next::Said(Said { text, kind, seq, .. }) => {
                let event = Event::default().event(kind).data(text);
                match seq {
                    Some(seq) => event.id(seq.0.to_string()),
                    None => event,
                }
            }
            Next::End(end) => {
                let from = if let End::Behind(seq) = end { Some(seq.0) } else { None };
                Event::default()
                    .event("end")
                    .data(json!({ "reason": end.reason(), "from": from }).to_string())
            }
        }
    }
}

/// Both sides have it, so that what waits can be let go while its reader takes nothing.
struct Line {
    said: Mutex<mpsc::Receiver<Said>>,
    /// The first event that was not said yet.
    unsaid: AtomicU64,
    more: Notify,
    end: OnceLock<End>,
}

impl Line {
    fn said(&self) -> MutexGuard<'_, mpsc::Receiver<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side that speaks.
#[derive(Clone)]
pub(super) struct Speaker {
    out: mpsc::Sender<Said>,
    line: Arc<Line>,
    own: Arc<Semaphore>,
    shared: Option<Following>,
}

/// A stream from an event on, and the room that it shares with others.
pub(super) fn queue(first: Seq, shared: Option<Following>) -> (Speaker, Reader) {
    let (out, said) = mpsc::channel(LENGTH);
    let unsaid = AtomicU64::new(first.0);
    let line = Arc::new(Line { said: Mutex::new(said), unsaid, more: Notify::new(), end: OnceLock::new() });
    let reader = Reader { line: line.clone(), taken: None, is_over: false };
    (Speaker { out, line, own: Arc::new(Semaphore::new(ROOM)), shared }, reader)
}

impl Speaker {
    /// Waits until there is room: the reader may have to take what was said before, and others what was said to them.
    pub(super) async fn say(&self, mut said: Said) -> Result<(), Over> {
        let bytes = said.text.len();
        let shared = match &self.shared {
            Some(shared) => shared.take(bytes).await,
            None => Taken::default(),
        };
        let own = self.own.clone().acquire_many_owned(bytes.min(ROOM) as u32).await.map_err(|_| Over)?;
        let place = self.out.reserve().await.map_err(|_| Over)?;
        said.room = Some(Room { _shared: shared, _own: own });
        if let Some(Seq(seq)) = said.seq {
            self.line.unsaid.store(seq + 1, Ordering::Relaxed);
        }
        place.send(said);
        self.line.more.notify_one();
        Ok(())
    }

    /// Lets somebody speak until nobody listens any more, or the node stops. A reader that is behind while others lack
    /// room is let go, also where all was said to it long ago.
    pub(super) async fn lead(self, speaks: impl Future, stops: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = self.out.closed() => {}
            () = stops => {}
            () = self.crowds_others() => self.let_go(),
            _ = speaks => {}
        }
    }

    async fn crowds_others(&self) {
        let Some(shared) = &self.shared else { return std::future::pending().await };
        let mut looks = 0;
        while looks < PATIENCE {
            if !self.is_behind() {
                looks = 0;
                self.line.more.notified().await;
                continue;
            }
            tokio::time::sleep(LOOKS).await;
            looks = if self.is_behind() && shared.is_crowded() { looks + 1 } else { 0 };
        }
    }

    /// Something waits for the reader.
    fn is_behind(&self) -> bool {
        self.own.available_permits() < ROOM || self.out.capacity() < LENGTH
    }

    /// Ends the stream before what has not been taken.
    fn let_go(&self) {
        let mut from = Seq(self.line.unsaid.load(Ordering::Relaxed));
        let mut waiting = self.line.said();
        while let Ok(said) = waiting.try_recv() {
            from = from.min(said.seq.unwrap_or(from));
        }
        self.line.end.get_or_init(|| End::Behind(from));
    }

    /// Ends the stream behind what was said.
    pub(super) fn revoked(&self) {
        self.line.end.get_or_init(|| End::Revoked);
    }
}

/// The side that listens.
pub(super) struct Reader {
    line: Arc<Line>,
    /// The room of what was taken last: who asks for more has sent it.
    taken: Option<Room>,
    is_over: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The other side has it too.
        self.line.said().close();
    }
}

impl Stream for Reader {
    type Item = Next;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Next>> {
        self.taken = None;
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.line.said().poll_recv(context);
        Poll::Ready(match ready!(polled) {
            Some(mut said) => {
                self.taken = said.room.take();
                Some(Next::Said(said))
            }
            // The other side is gone.
            None => {
                self.is_over = true;
                self.line.end.get().copied().map(Next::End)
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use std::future::pending;

    use tokio_stream::StreamExt as _;

    use super::*;

    fn said(seq: u64, bytes: usize) -> Said {
        Said { text: "x".repeat(bytes), kind: "More".to_owned(), seq: Some(Seq(seq)), room: None }
    }

    async fn next(reader: &mut Reader) -> Option<Result<u64, End>> {
        Some(match reader.next().await? {
            Next::Said(said) => Ok(said.seq.unwrap().0),
            Next::End(end) => Err(end),
        })
    }

    #[tokio::test]
    async fn a_reader_to_whom_all_was_said_makes_room_too() {
        let shared = Following::with_room(1 << 20);
        let (lazy, mut reads_nothing) = queue(Seq(7), Some(shared.clone()));
        for seq in 7..=10 {
            assert!(lazy.say(said(seq, 240 << 10)).await.is_ok());
        }
        let idle = tokio::spawn(lazy.lead(pending::<()>(), pending()));
        let (other, mut reads) = queue(Seq(1), Some(shared));
        let speaker = other.clone();
        let speaks =
            tokio::spawn(other.lead(async move { speaker.say(said(1, 240 << 10)).await }, pending()));
        assert!(matches!(next(&mut reads).await, Some(Ok(1))));
        idle.await.unwrap();
        speaks.await.unwrap();
        assert!(matches!(next(&mut reads_nothing).await, Some(Err(End::Behind(Seq(7))))));
        assert!(next(&mut reads_nothing).await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_is_not_let_go_however_crowded_it_is() {
        let shared = Following::with_room(1 << 20);
        let _crowd = shared.take(1000 << 10).await;
        let (speaker, mut reader) = queue(Seq(1), Some(shared));
        let speaks = speaker.clone();
        tokio::spawn(speaker.lead(
            async move {
                for seq in 1..=20 {
                    tokio::time::sleep(LOOKS).await;
                    if speaks.say(said(seq, 1 << 10)).await.is_err() {
                        return;
                    }
                }
            },
            pending(),
        ));
        for seq in 1..=20 {
            assert!(matches!(next(&mut reader).await, Some(Ok(at)) if at == seq));
        }
    }
}
