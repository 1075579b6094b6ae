//! Events of an execution: a page, or a stream that goes on as they happen and can be taken up again at any seq.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use omium_schemas::Seq;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::port::{Caller, Role};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Known, Shared};
use crate::views::{EventPage, EventView};

/// How many events are read at once.
const PART: usize = 500;

#[derive(Deserialize)]
pub(crate) struct From {
    from: Option<u64>,
    limit: Option<usize>,
}

pub(crate) async fn events(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    InQuery(From { from, limit }): InQuery<From>,
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
    let events = follow(shared, caller, id, Seq(first)).await?;
    let stream = tokio_stream::StreamExt::map(events, |event| {
        let data = serde_json::to_string(&event).unwrap_or_default();
        Ok::<_, Infallible>(Event::default().id(event.seq.to_string()).event(event.kind.clone()).data(data))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

pub(crate) async fn socket(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    InQuery(From { from, .. }): InQuery<From>,
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
    let events = follow(shared, caller, id, Seq(from.unwrap_or(1))).await?;
    Ok(upgrade.on_upgrade(|socket| feed(socket, events)))
}

async fn feed(mut socket: WebSocket, mut events: ReceiverStream<EventView>) {
    loop {
        tokio::select! {
            event = tokio_stream::StreamExt::next(&mut events) => {
                let Some(event) = event else { break };
                let text = serde_json::to_string(&event).unwrap_or_default();
                if socket.send(Message::Text(text.into())).await.is_err() {
                    return;
                }
            }
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

/// Events from a seq on, as long as somebody listens. A slow listener slows down its own stream only.
async fn follow(
    shared: Shared,
    caller: Caller,
    id: String,
    first: Seq,
) -> Result<ReceiverStream<EventView>, Problem> {
    let mut moved = shared.engine.follow(&caller, &id).await?;
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut next = first;
        loop {
            moved.borrow_and_update();
            loop {
                let Ok(events) = shared.engine.events(&caller, &id, next, PART).await else { return };
                let Some(last) = events.last() else { break };
                next = Seq(last.seq + 1);
                for event in events {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                changed = moved.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}
