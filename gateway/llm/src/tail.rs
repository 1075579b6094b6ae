//! Answers that are read while they come. Only the last part waits: it is sent when the whole answer is durable, so
//! that no program goes on with something that the log does not hold.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use omium_openai::{Event, Events};
use omium_schemas::Seq;
use omium_schemas::catalogue::ModelErrorClass;
use omium_telemetry::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;

use crate::gate::{Begun, Form, Incoming};
use crate::port::{Answered, Failed};
use crate::reply::Passed;
use crate::upstream::{Arriving, LONGEST, refused, too_long, unreached};

/// How long a client may take nothing; then the answer is read to its end without it.
const NO_ROOM: Duration = Duration::from_secs(1);
/// How long what may come after the reason to stop (usage, `[DONE]`) is waited for.
const AFTER_THE_END: Duration = Duration::from_secs(5);

pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// Whether a stream has said all, which it may do long before its connection ends.
#[derive(Default)]
pub(crate) struct Ending {
    events: Events,
    until: Option<Instant>,
    done: bool,
}

impl Ending {
    /// The next bytes; nothing at the end.
    pub(crate) async fn next(&self, response: &mut reqwest::Response) -> Result<Option<Bytes>, Failed> {
        match self.until {
            _ if self.done => Ok(None),
            Some(until) => match tokio::time::timeout_at(until, response.chunk()).await {
                Ok(Ok(chunk)) => Ok(chunk),
                // Its end was said before the connection broke, or went on in silence.
                Ok(Err(_)) | Err(_) => Ok(None),
            },
            None => response.chunk().await.map_err(|error| unreached(&error)),
        }
    }

    /// Takes note of an event.
    pub(crate) fn notes(&mut self, event: &Event) {
        if event.is_last() {
            self.until.get_or_insert_with(|| Instant::now() + AFTER_THE_END);
            self.done |= event.is_done();
        }
    }

    /// Takes note of all events in these bytes. Whether nothing more is to come.
    pub(crate) fn sees(&mut self, bytes: &[u8]) -> bool {
        for event in self.events.push(bytes) {
            self.notes(&event);
        }
        self.done
    }
}

/// The parts of an answer, as its client takes them.
pub(crate) struct Parts {
    parts: mpsc::Receiver<Result<Bytes, std::io::Error>>,
    cut: Arc<AtomicBool>,
}

impl Parts {
    /// Where the parts go in, and where they come out.
    fn new() -> (Feed, Parts) {
        let (sender, parts) = mpsc::channel(64);
        let cut = Arc::new(AtomicBool::new(false));
        (Feed { parts: Some(sender), cut: cut.clone() }, Parts { parts, cut })
    }

    /// Nothing more is wanted.
    pub(crate) fn close(&mut self) {
        self.parts.close();
    }
}

impl Stream for Parts {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = ready!(self.parts.poll_recv(context));
        // An end that looks like one would make half an answer a whole one.
        let cut = part.is_none() && self.cut.swap(false, Ordering::Relaxed);
        Poll::Ready(if cut { Some(Err(std::io::Error::other("the client took too long"))) } else { part })
    }
}

/// Gives parts to a client as long as it takes them.
struct Feed {
    parts: Option<mpsc::Sender<Result<Bytes, std::io::Error>>>,
    cut: Arc<AtomicBool>,
}

impl Feed {
    /// A client that has gone, or takes nothing, does not end the call: it is paid for, and the next attempt is served it.
    async fn give(&mut self, part: Result<Bytes, std::io::Error>) {
        let Some(parts) = &self.parts else { return };
        let given = tokio::time::timeout(NO_ROOM, parts.send(part)).await;
        if !matches!(given, Ok(Ok(()))) {
            self.cut.store(true, Ordering::Relaxed);
            self.parts = None;
        }
    }
}

/// Begins to pass parts on.
pub(crate) fn begin(
    incoming: Incoming,
    call: Seq,
    form: Form,
    headers: HeaderMap,
    arriving: Arriving,
) -> Passed {
    let (mut feed, parts) = Parts::new();
    let passing = async move {
        let _begun = Begun::new(&incoming, call);
        if let Err(why) = pass(&incoming, call, form, arriving, &mut feed).await {
            feed.give(Err(std::io::Error::other(why))).await;
        }
    };
    // A task of its own, in the same trace.
    tokio::spawn(passing.with_current_context());
    Passed::Parts(headers, parts)
}

async fn pass(
    incoming: &Incoming,
    call: Seq,
    form: Form,
    mut arriving: Arriving,
    feed: &mut Feed,
) -> Result<(), String> {
    let (mut events, mut all, mut last) = (Events::default(), Vec::new(), Vec::new());
    let (mut ending, mut complaint) = (Ending::default(), None);
    loop {
        let chunk = match ending.next(&mut arriving.response).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(why) => return failed(incoming, call, why).await,
        };
        all.extend_from_slice(&chunk);
        if all.len() > LONGEST {
            return failed(incoming, call, too_long(LONGEST)).await;
        }
        for event in events.push(&chunk) {
            ending.notes(&event);
            if !last.is_empty() || event.is_last() {
                last.push(event);
            } else {
                complaint = complains(&event).or(complaint);
                feed.give(Ok(event.raw.into())).await;
            }
        }
    }
    // Whatever the connection would say after the end is of no call.
    drop(arriving);
    if last.is_empty() {
        return failed(incoming, call, complaint.unwrap_or_else(cut)).await;
    }
    let said = omium_openai::read(incoming.endpoint, &all);
    let answer = Answered { said, body: all.into(), shown: true };
    incoming.ledger.answered(&incoming.attempt, call, answer).await.map_err(|refused| refused.detail)?;
    let shown = |event: &Event| form.usage || !event.is_usage_alone();
    let end: Vec<u8> = last.into_iter().filter(shown).flat_map(|event| event.raw).collect();
    feed.give(Ok([end.as_slice(), events.rest()].concat().into())).await;
    Ok(())
}

fn cut() -> Failed {
    let reason = "the stream ended before its end".to_owned();
    Failed { class: ModelErrorClass::MalformedAnswer, status: 200, reason, retryable: true }
}

/// What a provider says in a stream instead of its end.
fn complains(event: &Event) -> Option<Failed> {
    // Most events are none, and are not parsed again.
    let said = event.data.contains("\"error\"").then(|| event.json()).flatten()?;
    let is_error = said["error"].is_object() || said["type"] == "error";
    is_error.then(|| Failed { status: 200, ..refused(502, event.data.as_bytes()) })
}

async fn failed(incoming: &Incoming, call: Seq, failed: Failed) -> Result<(), String> {
    let reason = failed.reason.clone();
    incoming.ledger.failed(&incoming.attempt, call, failed).await.map_err(|refused| refused.detail)?;
    Err(reason)
}
