//! Answers that are read while they come. Only the last part waits: it is sent when the whole answer is durable, so
//! that no program goes on with something that the log does not hold.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use omium_openai::{Event, Events};
use omium_schemas::Seq;
use omium_schemas::catalogue::ModelErrorClass;
use tokio::sync::mpsc;

use crate::gate::{Form, Incoming};
use crate::port::{Answered, Failed};
use crate::reply::Passed;
use crate::upstream::{LONGEST, unreached};

type Parts = mpsc::Sender<Result<Bytes, std::io::Error>>;

pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Begins to pass parts on.
pub(crate) fn begin(
    incoming: Incoming,
    call: Seq,
    form: Form,
    headers: HeaderMap,
    response: reqwest::Response,
) -> Passed {
    let (parts, body) = mpsc::channel(64);
    tokio::spawn(async move {
        if let Err(why) = pass(&incoming, call, form, response, &parts).await {
            // An end that looks like one would make half an answer a whole one.
            let _ = parts.send(Err(std::io::Error::other(why))).await;
        }
    });
    Passed::Parts(headers, body)
}

async fn pass(
    incoming: &Incoming,
    call: Seq,
    form: Form,
    mut response: reqwest::Response,
    parts: &Parts,
) -> Result<(), String> {
    let (mut events, mut all, mut last) = (Events::default(), Vec::new(), Vec::new());
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => return failed(incoming, call, unreached(&error)).await,
        };
        all.extend_from_slice(&chunk);
        if all.len() > LONGEST {
            let reason = format!("the answer is longer than {LONGEST} bytes");
            let too_long =
                Failed { class: ModelErrorClass::MalformedAnswer, status: 200, reason, retryable: false };
            return failed(incoming, call, too_long).await;
        }
        for event in events.push(&chunk) {
            if !last.is_empty() || event.is_last() {
                last.push(event);
            } else {
                // A client that has gone does not end the call: it is paid for, and the next attempt is served it.
                let _ = parts.send(Ok(event.raw.into())).await;
            }
        }
    }
    if last.is_empty() {
        let reason = "the stream ended before its end".to_owned();
        let cut = Failed { class: ModelErrorClass::MalformedAnswer, status: 200, reason, retryable: true };
        return failed(incoming, call, cut).await;
    }
    let said = omium_openai::read(incoming.endpoint, &all);
    let answer = Answered { said, body: all.into(), shown: true };
    incoming.ledger.answered(&incoming.attempt, call, answer).await.map_err(|refused| refused.detail)?;
    let shown = |event: &Event| form.usage || !event.is_usage_alone();
    let end: Vec<u8> = last.into_iter().filter(shown).flat_map(|event| event.raw).collect();
    let _ = parts.send(Ok([end.as_slice(), events.rest()].concat().into())).await;
    Ok(())
}

async fn failed(incoming: &Incoming, call: Seq, failed: Failed) -> Result<(), String> {
    let reason = failed.reason.clone();
    incoming.ledger.failed(&incoming.attempt, call, failed).await.map_err(|refused| refused.detail)?;
    Err(reason)
}
