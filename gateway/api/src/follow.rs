//! Events of an execution: a page, or a stream that goes on as they happen and can be taken up again at any seq.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use omium_schemas::Seq;
use serde::Deserialize;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

use crate::port::{Caller, Role};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Known, Shared};
use crate::views::{DeltaView, EventPage, EventView};

/// How many events are read at once.
const PART: usize = 500;
/// How often a stream asks whether its listener's key still holds.
const RECHECK: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
pub(crate) struct From {
    from: Option<u64>,
    limit: Option<usize>,
    deltas: Option<bool>,
}

/// What a stream carries.
enum Said {
    Event(EventView),
    Delta(DeltaView),
    /// The listener may not listen any longer.
    Revoked,
}

impl Said {
    fn json(&self) -> String {
        let said = match self {
            Said::Event(event) => serde_json::to_string(event),
            Said::Delta(delta) => serde_json::to_string(delta),
            Said::Revoked => return String::new(),
        };
        said.unwrap_or_default()
    }

    /// As a server-sent event. A delta has no id: whoever comes back goes on after the last event.
    fn sent(&self) -> Option<Event> {
        match self {
            Said::Event(event) => {
                let sent = Event::default().id(event.seq.to_string()).event(event.kind.clone());
                Some(sent.data(self.json()))
            }
            Said::Delta(delta) => Some(Event::default().event(delta.kind.clone()).data(self.json())),
            Said::Revoked => None,
        }
    }
}

pub(crate) async fn events(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    InQuery(From { from, limit, deltas }): InQuery<From>,
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
    let said = follow(shared, caller, id, Seq(first), deltas).await?;
    let stream = tokio_stream::StreamExt::filter_map(said, |said| said.sent().map(Ok::<_, Infallible>));
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

pub(crate) async fn socket(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    InQuery(From { from, deltas, .. }): InQuery<From>,
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
    let said = follow(shared, caller, id, Seq(from.unwrap_or(1)), deltas).await?;
    Ok(upgrade.on_upgrade(|socket| feed(socket, said)))
}

async fn feed(mut socket: WebSocket, mut stream: ReceiverStream<Said>) {
    let mut end = None;
    loop {
        tokio::select! {
            said = tokio_stream::StreamExt::next(&mut stream) => match said {
                None => break,
                Some(Said::Revoked) => {
                    let reason = "the key was revoked or is too old".into();
                    end = Some(CloseFrame { code: close_code::POLICY, reason });
                }
                Some(said) => {
                    if socket.send(Message::Text(said.json().into())).await.is_err() {
                        return;
                    }
                }
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
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
) -> Result<ReceiverStream<Said>, Problem> {
    let moved = shared.engine.follow(&caller, &id).await?;
    let deltas = match deltas {
        Some(false) => None,
        None | Some(true) => Some(shared.engine.read_along(&caller, &id).await?),
    };
    let (out, receiver) = mpsc::channel(64);
    let listener = Listener { shared, caller, id, next: first, out };
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
                _ = recheck.tick() => if !self.shared.engine.knows(&self.caller).await {
                    return self.say(Said::Revoked).await;
                },
                delta = next_of(&mut deltas) => self.tell_delta(delta, &mut moved).await?,
                changed = moved.changed() => {
                    changed.map_err(|_| Over)?;
                    self.tell_events(&mut moved).await?;
                }
            }
        }
    }

    async fn say(&self, said: Said) -> Result<(), Over> {
        self.out.send(said).await.map_err(|_| Over)
    }

    async fn tell_events(&mut self, moved: &mut watch::Receiver<Seq>) -> Result<(), Over> {
        moved.borrow_and_update();
        loop {
            let events = self.shared.engine.events(&self.caller, &self.id, self.next, PART).await;
            let events = events.map_err(|_| Over)?;
            let Some(last) = events.last() else { return Ok(()) };
            self.next = Seq(last.seq + 1);
            for event in events {
                self.say(Said::Event(event)).await?;
            }
        }
    }

    /// A part of an answer, never before the event that says that it was asked for.
    async fn tell_delta(&mut self, delta: DeltaView, moved: &mut watch::Receiver<Seq>) -> Result<(), Over> {
        if Seq(delta.call) >= self.next {
            moved.wait_for(|last| last.0 >= delta.call).await.map_err(|_| Over)?;
            self.tell_events(moved).await?;
        }
        self.say(Said::Delta(delta)).await
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
