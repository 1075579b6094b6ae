//! What waits for one reader of a stream: bounded by itself, and together with what waits for all others.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::sse::Event;
use omium_edge::Taken;
use omium_schemas::Seq;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Stream;

use crate::request::Waiting;
use crate::views::{DeltaView, EventView};

/// How many things wait for one reader.
const LENGTH: usize = 64;
/// How many bytes of events wait for one reader, unless one event alone has more.
const ROOM: usize = 1 << 20;
/// How often a reader that is behind is looked at.
const LOOKS: Duration = Duration::from_millis(250);
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
    end: OnceLock<End>,
}

impl Line {
    fn said(&self) -> MutexGuard<'_, mpsc::Receiver<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side that speaks.
pub(super) struct Speaker {
    out: mpsc::Sender<Said>,
    line: Arc<Line>,
    room: Arc<Semaphore>,
}

pub(super) fn queue() -> (Speaker, Reader) {
    let (out, said) = mpsc::channel(LENGTH);
    let line = Arc::new(Line { said: Mutex::new(said), end: OnceLock::new() });
    let reader = Reader { line: line.clone(), taken: None, is_over: false };
    (Speaker { out, line, room: Arc::new(Semaphore::new(ROOM)) }, reader)
}

impl Speaker {
    /// Resolves when nobody listens any more.
    pub(super) async fn closed(&self) {
        self.out.closed().await;
    }

    /// Waits until there is room: the reader may have to take what was said before, and others what was said to them. One
    /// that is behind while others lack room is let go.
    pub(super) async fn say(&self, mut said: Said, next: Seq, waiting: &Waiting) -> Result<(), Over> {
        let bytes = said.text.len();
        let fits = async {
            let shared = match &waiting.0 {
                Some(slot) => slot.follows(bytes).await,
                None => Taken::default(),
            };
            let own = self.room.clone().acquire_many_owned(bytes.min(ROOM) as u32).await.ok()?;
            let place = self.out.reserve().await.ok()?;
            Some((shared, own, place))
        };
        tokio::pin!(fits);
        let mut crowded = 0;
        loop {
            tokio::select! {
                biased;
                fits = &mut fits => {
                    let Some((shared, own, place)) = fits else { return Err(Over) };
                    said.room = Some(Room { _shared: shared, _own: own });
                    place.send(said);
                    return Ok(());
                }
                () = self.closed() => return Err(Over),
                () = waiting.over() => return Err(Over),
                () = tokio::time::sleep(LOOKS) => {}
            }
            let crowds = waiting.0.as_ref().is_some_and(|slot| slot.is_crowded());
            crowded = if crowds && self.is_behind() { crowded + 1 } else { 0 };
            if crowded == PATIENCE {
                self.let_go(said.seq.unwrap_or(next));
                return Err(Over);
            }
        }
    }

    /// Something waits for the reader.
    fn is_behind(&self) -> bool {
        self.room.available_permits() < ROOM || self.out.capacity() < LENGTH
    }

    /// Ends the stream before something that was not said, or before what has not been taken.
    fn let_go(&self, unsaid: Seq) {
        let mut from = unsaid;
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
