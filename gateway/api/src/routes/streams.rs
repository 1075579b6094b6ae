//! Events of an execution: a page, or a stream that goes on as they happen and can be taken up again at any seq.

mod queue;

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use omium_edge::Slot;
use omium_schemas::Seq;
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior};

use self::queue::{End, Next, Over, Reader, Said, Speaker, queue};
use super::{Answer, Body, Parameter, Route, examples, json_of};
use crate::port::Caller;
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Shared, Waiting};
use crate::views::{DeltaView, EventPage};

/// How many events are read at once.
const PART: usize = 500;
/// How often a WebSocket's client is asked whether it is there.
const PINGS: Duration = Duration::from_secs(30);
/// The longest message that a WebSocket's client may send.
const HEARD: usize = 64 << 10;
/// How much a WebSocket keeps that its client does not take. A message beyond it waits with whoever sends it.
const WRITTEN: usize = 48 << 20;
/// How often a stream asks whether its listener's key still holds.
const RECHECK: Duration = Duration::from_secs(2);

const FROM: Parameter = ("from", "integer", "The first seq that is wanted; else 1.", "1");

const DELTAS: Parameter = (
    "deltas",
    "boolean",
    "Whether a stream also carries parts of models' answers that are on their way; models stream as long as somebody wants them. Else true.",
    "true",
);

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    // Streams carry it beside events.
    schemas.subschema_for::<DeltaView>();
    let page = json_of::<EventPage>(schemas, json!({ "items": [examples::event()], "next": 2 }));
    vec![
        Route::get(
            "/api/v1/executions/{id}/events",
            "listEvents",
            "Its events; with `Accept: text/event-stream` also those to come, resumable by `Last-Event-ID`, and `delta`s of running model calls (`DeltaView`); `end` says why a stream was ended",
            page,
            events,
        )
        .query(&[FROM, ("limit", "integer", "At most so many, 1 to 10000; else 500.", "500"), DELTAS]),
        Route::get(
            "/api/v1/executions/{id}/stream",
            "streamEvents",
            "Its events on a WebSocket, from a seq on and as they happen, one JSON text each; between them `delta`s of running model calls (`DeltaView`: no seq, not resumable)",
            Body::Nothing,
            socket,
        )
        .query(&[FROM, ("key", "string", "The key, where a browser cannot set headers.", ""), DELTAS])
        .status(101),
    ]
}

#[derive(Deserialize)]
struct From {
    from: Option<u64>,
    limit: Option<usize>,
    deltas: Option<bool>,
}

async fn events(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    headers: HeaderMap,
    InQuery(From { from, limit, deltas }): InQuery<From>,
    waiting: Waiting,
) -> Answer<Response> {
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
    let stream = tokio_stream::StreamExt::map(said, |next| Ok::<_, Infallible>(next.sent()));
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

async fn socket(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    InQuery(From { from, deltas, .. }): InQuery<From>,
    waiting: Waiting,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Answer<Response> {
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

async fn feed(mut socket: WebSocket, mut stream: Reader) {
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
                Some(Next::End(why)) => {
                    let code = match why {
                        End::Revoked => close_code::POLICY,
                        End::Behind(_) => close_code::AGAIN,
                    };
                    end = Some(CloseFrame { code, reason: why.reason().into() });
                    break;
                }
                Some(Next::Said(said)) => {
                    if socket.send(Message::Text(said.text.into())).await.is_err() {
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
) -> Result<Reader, Problem> {
    let moved = shared.engine.follow(&caller, &id).await?;
    let deltas = match deltas {
        Some(false) => None,
        None | Some(true) => Some(shared.engine.read_along(&caller, &id).await?),
    };
    let (out, reader) = queue(first, waiting.0.as_ref().map(Slot::following));
    let speaker = out.clone();
    let listener = Listener { shared, caller, id, next: first, out };
    // However it ends: whoever listened sees the stream's end and comes back if he wants more.
    tokio::spawn(async move { speaker.lead(listener.run(moved, deltas), waiting.over()).await });
    Ok(reader)
}

/// Somebody who follows one execution.
struct Listener {
    shared: Shared,
    caller: Caller,
    id: String,
    next: Seq,
    out: Speaker,
}

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
        loop {
            tokio::select! {
                // Parts first: what an answer consists of is heard before it counts as answered.
                biased;
                _ = recheck.tick() => if !self.shared.engine.knows(&self.caller).await {
                    self.out.revoked();
                    return Ok(());
                },
                delta = next_of(&mut deltas) => self.tell_delta(delta, &mut moved).await?,
                changed = moved.changed() => {
                    changed.map_err(|_| Over)?;
                    self.tell_events(&mut moved).await?;
                }
            }
        }
    }

    async fn tell_events(&mut self, moved: &mut watch::Receiver<Seq>) -> Result<(), Over> {
        moved.borrow_and_update();
        loop {
            let events = self.shared.engine.events(&self.caller, &self.id, self.next, PART).await;
            let events = events.map_err(|_| Over)?;
            let Some(last) = events.last() else { return Ok(()) };
            let next = Seq(last.seq + 1);
            for event in &events {
                self.out.say(Said::event(event)).await?;
            }
            self.next = next;
        }
    }

    /// A part of an answer, never before the event that says that it was asked for.
    async fn tell_delta(&mut self, delta: DeltaView, moved: &mut watch::Receiver<Seq>) -> Result<(), Over> {
        if Seq(delta.call) >= self.next {
            moved.wait_for(|last| last.0 >= delta.call).await.map_err(|_| Over)?;
            self.tell_events(moved).await?;
        }
        self.out.say(Said::delta(&delta)).await
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
