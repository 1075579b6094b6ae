//! Events of an execution: a page, or a stream that goes on as they happen and can be taken up again at any seq.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use omium_schemas::Seq;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use crate::port::{Caller, Role};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Known, Shared, Waiting};
use crate::views::{DeltaView, EventPage, EventView};

/// How many events are read at once.
const PART: usize = 500;
/// How many bytes of events wait for one reader, unless one event alone has more.
const ROOM: usize = 1 << 20;
/// How often a WebSocket's client is asked whether it is there.
const PINGS: Duration = Duration::from_secs(30);
/// The longest message that a WebSocket's client may send.
const HEARD: usize = 64 << 10;
/// How much a WebSocket keeps that its client does not take. A message beyond it waits with whoever sends it.
const WRITTEN: usize = 48 << 20;
/// How often a stream asks whether its listener's key still holds.
const RECHECK: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
pub(crate) struct From {
    from: Option<u64>,
    limit: Option<usize>,
    deltas: Option<bool>,
}

/// What a stream carries, with the room that it takes until its reader has it.
struct Said {
    text: String,
    /// Its name, and the seq where it is an event.
    kind: Option<(String, Option<u64>)>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Said {
    fn event(event: &EventView) -> Said {
        let text = serde_json::to_string(event).unwrap_or_default();
        Said { text, kind: Some((event.kind.clone(), Some(event.seq))), _room: None }
    }

    fn delta(delta: &DeltaView) -> Said {
        let text = serde_json::to_string(delta).unwrap_or_default();
        Said { text, kind: Some((delta.kind.clone(), None)), _room: None }
    }

    /// The listener may not listen any longer.
    fn revoked() -> Said {
        Said { text: String::new(), kind: None, _room: None }
    }

    /// As a server-sent event. A delta has no id: whoever comes back goes on after the last event.
    fn sent(self) -> Option<Event> {
        let (kind, seq) = self.kind?;
        let event = Event::default().event(kind);
        let event = seq.map_or_else(|| event.clone(), |seq| event.clone().id(seq.to_string()));
        Some(event.data(self.text))
    }
}

pub(crate) async fn events(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    InQuery(From { from, limit, deltas }): InQuery<From>,
    waiting: Waiting,
) -> Result<Response, Problem> {
    let caller = known.may(Role::Viewer)?;
    let live =
        headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/event-stream"));
    if !live {
        let limit = limit.unwrap_or(PART).clamp(1, 10_000);
        let items = shared.engine.events(&caller, &id, Seq(from.unwrap_or(1)), limit).await?;
        let next = items.last().map(|event| event.seq + 1);
        return Ok(Json(EventPage { items, next }).into_response());
    }
    // Whoever was cut off names the last event that he has.
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    let first = last.map(|last| last + 1).or(from).unwrap_or(1);
    let said = follow(shared, caller, id, Seq(first), deltas, waiting).await?;
    let stream = tokio_stream::StreamExt::filter_map(said, |said| said.sent().map(Ok::<_, Infallible>));
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

pub(crate) async fn socket(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    InQuery(From { from, deltas, .. }): InQuery<From>,
    waiting: Waiting,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let caller = known.may(Role::Viewer)?;
    let upgrade = upgrade.map_err(|rejection| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "no-websocket",
            rejection.body_text(),
            "open this address as a WebSocket, or read /events",
        )
    })?;
    let said = follow(shared, caller, id, Seq(from.unwrap_or(1)), deltas, waiting).await?;
    // Nothing is expected from the other side, fragments included.
    let upgrade = upgrade.max_message_size(HEARD).max_frame_size(HEARD).max_write_buffer_size(WRITTEN);
    Ok(upgrade.on_upgrade(|socket| feed(socket, said)))
}

async fn feed(mut socket: WebSocket, mut stream: ReceiverStream<Said>) {
    let mut end = None;
    let mut last = Instant::now();
    let mut pings = tokio::time::interval_at(last + PINGS, PINGS);
    loop {
        tokio::select! {
            _ = pings.tick() => {
                // A client that is gone without a word answers nothing either.
                if last.elapsed() > 3 * PINGS || socket.send(Message::Ping("".into())).await.is_err() {
                    return;
                }
            }
            said = tokio_stream::StreamExt::next(&mut stream) => match said {
                None => break,
                Some(Said { kind: None, .. }) => {
                    let reason = "the key was revoked or is too old".into();
                    end = Some(CloseFrame { code: close_code::POLICY, reason });
                }
                Some(mut said) => {
                    let text = std::mem::take(&mut said.text);
                    if socket.send(Message::Text(text.into())).await.is_err() {
                        return;
                    }
                }
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => last = Instant::now(),
            },
        }
    }
    let _ = socket.send(Message::Close(end)).await;
}

/// Events from a seq on and, unless he wants none, parts of answers, as long as somebody listens. A slow listener slows
/// down its own stream only.
async fn follow(
    shared: Shared,
    caller: Caller,
    id: String,
    first: Seq,
    deltas: Option<bool>,
    waiting: Waiting,
) -> Result<ReceiverStream<Said>, Problem> {
    let moved = shared.engine.follow(&caller, &id).await?;
    let deltas = match deltas {
        Some(false) => None,
        None | Some(true) => Some(shared.engine.read_along(&caller, &id).await?),
    };
    let (out, receiver) = mpsc::channel(64);
    let room = Arc::new(Semaphore::new(ROOM));
    let listener = Listener { shared, caller, id, next: first, out, room, waiting };
    tokio::spawn(async move {
        // However it ends: whoever listened sees the stream's end and comes back if he wants more.
        let _ = listener.run(moved, deltas).await;
    });
    Ok(ReceiverStream::new(receiver))
}

/// Somebody who follows one execution.
struct Listener {
    shared: Shared,
    caller: Caller,
    id: String,
    next: Seq,
    out: mpsc::Sender<Said>,
    /// Bytes that may wait for this reader.
    room: Arc<Semaphore>,
    waiting: Waiting,
}

/// Nobody listens any more, or there is nothing more to hear.
struct Over;

impl Listener {
    async fn run(
        mut self,
        mut moved: watch::Receiver<Seq>,
        mut deltas: Option<broadcast::Receiver<DeltaView>>,
    ) -> Result<(), Over> {
        let mut recheck = tokio::time::interval(RECHECK);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        recheck.reset();
        self.tell_events(&mut moved).await?;
        let out = self.out.clone();
        loop {
            tokio::select! {
                // Parts first: what an answer consists of is heard before it counts as answered.
                biased;
                () = out.closed() => return Ok(()),
                () = self.waiting.over() => return Ok(()),
                _ = recheck.tick() => if !self.shared.engine.knows(&self.caller).await {
                    return self.say(Said::revoked()).await;
                },
                delta = next_of(&mut deltas) => self.tell_delta(delta, &mut moved).await?,
                changed = moved.changed() => {
                    changed.map_err(|_| Over)?;
                    self.tell_events(&mut moved).await?;
                }
            }
        }
    }

    /// Waits until the reader has taken what was said before, as far as it would be too much with this.
    async fn say(&self, mut said: Said) -> Result<(), Over> {
        let bytes = u32::try_from(said.text.len().min(ROOM)).map_err(|_| Over)?;
        tokio::select! {
            room = self.room.clone().acquire_many_owned(bytes) => said._room = Some(room.map_err(|_| Over)?),
            () = self.out.closed() => return Err(Over),
            () = self.waiting.over() => return Err(Over),
        }
        self.out.send(said).await.map_err(|_| Over)
    }

    async fn tell_events(&mut self, moved: &mut watch::Receiver<Seq>) -> Result<(), Over> {
        moved.borrow_and_update();
        loop {
            let events = self.shared.engine.events(&self.caller, &self.id, self.next, PART).await;
            let events = events.map_err(|_| Over)?;
            let Some(last) = events.last() else { return Ok(()) };
            self.next = Seq(last.seq + 1);
            for event in &events {
                self.say(Said::event(event)).await?;
            }
        }
    }

    /// A part of an answer, never before the event that says that it was asked for.
    async fn tell_delta(&mut self, delta: DeltaView, moved: &mut watch::Receiver<Seq>) -> Result<(), Over> {
        if Seq(delta.call) >= self.next {
            moved.wait_for(|last| last.0 >= delta.call).await.map_err(|_| Over)?;
            self.tell_events(moved).await?;
        }
        self.say(Said::delta(&delta)).await
    }
}

/// The next part. Whoever is too slow misses some, which `at` tells him.
async fn next_of(deltas: &mut Option<broadcast::Receiver<DeltaView>>) -> DeltaView {
    while let Some(receiver) = deltas {
        match receiver.recv().await {
            Ok(delta) => return delta,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => *deltas = None,
        }
    }
    std::future::pending().await
}
