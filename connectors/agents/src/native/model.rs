//! Asks a model over HTTP and says what came of it.

use std::time::Duration;

use omium_openai::{Endpoint, Event, Events, Refused, as_body};
use omium_schemas::Seq;
use omium_schemas::catalogue::{FinishReason, ModelErrorClass, Usage};
use omium_telemetry::Work;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::{Value, json};

use super::calls::{Calls, ModelFailure};
use super::task::Upstream;

/// The longest answer that is read.
const LONGEST: usize = 16 << 20;

/// An answer, as far as a turn looks at it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// The assistant's message, which goes back with the next turn as it came.
    pub(super) message: Value,
    pub(super) usage: Usage,
    pub(super) finish: FinishReason,
}

/// A question on its way to a model.
pub(super) struct Question<'a> {
    pub(super) http: &'a reqwest::Client,
    pub(super) upstream: &'a Upstream,
    pub(super) caller: &'a str,
    pub(super) request: &'a Value,
    pub(super) within: Duration,
}

impl Question<'_> {
    /// Sends it and reads the bytes of a successful answer; `read_along` is told its text as it comes, where given.
    pub(super) async fn ask(&self, read_along: Option<(&dyn Calls, Seq)>) -> Result<Vec<u8>, ModelFailure> {
        let work = Work::call("omium.llm");
        let answer = self.answer(read_along, &work).await;
        if answer.is_err() {
            work.failed("there was no answer");
        }
        answer
    }

    async fn answer(
        &self,
        read_along: Option<(&dyn Calls, Seq)>,
        work: &Work,
    ) -> Result<Vec<u8>, ModelFailure> {
        let mut response = self.send(read_along.is_some(), work).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let streams =
            headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let mut bytes = Vec::new();
        let mut events = Events::default();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreached(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                return Err(malformed(status, format!("the answer is longer than {LONGEST} bytes")));
            }
            if let Some((calls, seq)) = read_along.filter(|_| streams) {
                let words: String = events.push(&chunk).iter().filter_map(Event::words).collect();
                if !words.is_empty() {
                    calls.delta(seq, &words).await;
                }
            }
        }
        match (status, read_along) {
            // What is recorded does not depend on how it came.
            (200, Some(_)) if streams => match omium_openai::read(Endpoint::Chat, &bytes).fault {
                None => Ok(as_body(Endpoint::Chat, &bytes).unwrap_or(bytes)),
                Some(fault) => Err(malformed(status, fault)),
            },
            (200, _) => Ok(bytes),
            _ => Err(refused(status, &headers, &bytes)),
        }
    }

    async fn send(&self, stream: bool, work: &Work) -> Result<reqwest::Response, ModelFailure> {
        let url = format!("{}/chat/completions", self.upstream.base_url.trim_end_matches('/'));
        let builder = self.http.post(url).timeout(self.within).header("x-omium-step", escape(self.caller));
        let mut builder = if stream {
            let mut request = self.request.clone();
            request["stream"] = true.into();
            request["stream_options"] = json!({"include_usage": true});
            builder.json(&request)
        } else {
            builder.json(self.request)
        };
        if let Some(key) = &self.upstream.key {
            builder = builder.bearer_auth(key);
        }
        for (name, value) in &self.upstream.headers {
            builder = builder.header(name, value);
        }
        let mut on = HeaderMap::new();
        work.hand_on(&mut on);
        builder.headers(on).send().await.map_err(|error| unreached(&error))
    }
}

/// Understands an answer, one that just came or one that was recorded.
pub(super) fn understand(bytes: &[u8]) -> Result<Answer, ModelFailure> {
    let (said, message) = omium_openai::read_message(bytes);
    match said.fault {
        None => Ok(Answer { message, usage: said.usage, finish: said.finish }),
        Some(fault) => Err(malformed(200, fault)),
    }
}

fn malformed(status: u16, reason: String) -> ModelFailure {
    ModelFailure {
        class: ModelErrorClass::MalformedAnswer,
        status,
        reason,
        retryable: true,
        retry_after: None,
    }
}

fn unreached(error: &reqwest::Error) -> ModelFailure {
    let (class, what) = if error.is_timeout() {
        (ModelErrorClass::Timeout, "the model did not answer in time")
    } else if error.is_connect() {
        (ModelErrorClass::Connection, "the model's server cannot be reached")
    } else {
        (ModelErrorClass::Connection, "the connection broke in the middle of the model's answer")
    };
    let host = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let retryable = !error.is_builder();
    ModelFailure { class, status: 0, reason: format!("{what} ({host})"), retryable, retry_after: None }
}

fn refused(status: u16, headers: &HeaderMap, bytes: &[u8]) -> ModelFailure {
    let Refused { class, reason, retryable } = omium_openai::refused(status, bytes);
    let told_not_to = headers.get("x-should-retry").is_some_and(|value| value == "false");
    ModelFailure {
        class,
        status,
        reason,
        retryable: retryable && !told_not_to,
        retry_after: headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(seconds),
    }
}

// Dates are allowed too; without a clock to compare with, the record's own backoff serves as well.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|wait| *wait <= Duration::from_secs(86_400))
}

/// Percent-encoded: headers hold no letters beyond ASCII.
pub(crate) fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~#".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
