//! One request through the gate: known answers are served, others are asked for, recorded, judged, and only then read.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use omium_edge::Slot;
use omium_openai::{
    Endpoint, Place, Request, append_instruction, ask_for_usage, canonical, hold_to_schema, without_usage,
};
use omium_schemas::{Digest, Seq};

use crate::caller::{self, Name};
use crate::port::{Answered, Attempt, Change, Failed, Ledger, Looked, Question, Refused, Verdict};
use crate::reply::{Passed, Reply, held};
use crate::tail;
use crate::to_the_end::ToTheEnd;
use crate::upstream::{LONGEST, Upstream, passed_back, refused, whole};

/// How often one request is asked in all. The policy of the execution ends it long before.
const MOST_ROUNDS: usize = 20;

/// A request as it came.
#[derive(Clone)]
pub(crate) struct Incoming {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) upstream: Upstream,
    pub(crate) attempt: Attempt,
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The request's place, kept until the call has its end in the log.
    pub(crate) _slot: Option<Slot>,
}

/// How the answer is to travel.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) stream: bool,
    pub(crate) usage: bool,
}

pub(crate) async fn answer(incoming: Incoming) -> Response {
    let (form, place) = match Request::read(incoming.endpoint, &incoming.body) {
        Ok(request) => (Form { stream: request.streams(), usage: request.wants_usage() }, request.place),
        Err(bad) => {
            let hint = "the body has to be a JSON object as OpenAI's API takes it";
            return Refused::new(400, "bad-body", bad.0, hint).into_response();
        }
    };
    // What was begun is recorded to its end, whether or not the client stays.
    held(form.stream, ToTheEnd::new(incoming.run(form, place))).await
}

impl Incoming {
    async fn run(self, form: Form, place: Place) -> Passed {
        match self.passed(form, place).await {
            Ok(passed) => passed,
            Err(refused) => Passed::Whole(Err(refused)),
        }
    }

    async fn passed(&self, form: Form, place: Place) -> Result<Passed, Refused> {
        let body = std::str::from_utf8(&self.body)
            .map_err(|why| Refused::new(400, "bad-body", why.to_string(), "send a JSON object"))?;
        let request = Request { endpoint: self.endpoint, body, place };
        let digest = |bytes: &[u8]| self.ledger.digest(&self.attempt, bytes);
        let Name { agent, caller } = caller::name(&self.headers, &request, digest)?;
        let digest = digest(&canonical(self.endpoint.path(), &self.body))?;
        let count = self.headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok());
        let repeats = count.is_some_and(|count| count.trim() != "0");
        let question = Question { request: &request, agent, caller, digest, repeats };
        let mut looked = self.ledger.look(&self.attempt, &question).await?;
        for _ in 0..MOST_ROUNDS {
            let (changes, patch_set, hold) = match looked {
                Looked::Recorded(body, at) => {
                    let reply = Reply::recorded(self.endpoint, &body, form.stream, form.usage, at);
                    return Ok(Passed::Whole(Ok(reply)));
                }
                Looked::Ask { changes, patch_set, hold } => (changes, patch_set, hold),
            };
            match self.ask(form, &question, &changes, patch_set, hold).await? {
                Some(passed) => return Ok(passed),
                None => looked = self.ledger.changes(&self.attempt, &question.agent).await?,
            }
        }
        Err(Refused::new(
            502,
            "no-good-answer",
            "no answer has passed its checks",
            "`omium show` lists what was found",
        ))
    }

    /// Asks once. Nothing where another answer is to be asked for in this one's place.
    async fn ask(
        &self,
        form: Form,
        question: &Question<'_>,
        changes: &[Change],
        patch_set: Option<Digest>,
        hold: bool,
    ) -> Result<Option<Passed>, Refused> {
        self.upstream.is_there()?;
        let changed = changed(question.request, changes)?;
        let call = self.ledger.begin(&self.attempt, question, patch_set, changed.as_deref()).await?;
        let sent = self.sent(form, changed);
        let arriving = match self.upstream.send(self.endpoint.path(), &self.headers, sent).await {
            Ok(arriving) => arriving,
            Err(failed) => return self.no_answer(call, failed).await.map(Some),
        };
        let response = &arriving.response;
        let (status, headers) = (response.status(), passed_back(response.headers()));
        if form.stream && !hold && status == StatusCode::OK && tail::is_stream(&headers) {
            return Ok(Some(tail::begin(self.clone(), call, form, headers, arriving)));
        }
        let body = match whole(arriving, LONGEST).await {
            Ok(body) => body,
            Err(failed) => return self.no_answer(call, failed).await.map(Some),
        };
        if status != StatusCode::OK {
            self.ledger.failed(&self.attempt, call, refused(status.as_u16(), &body)).await?;
            return Ok(Some(Passed::Whole(Ok(Reply { status, headers, body }))));
        }
        let answer = Answered { endpoint: self.endpoint, body: body.clone(), shown: false };
        match self.ledger.answered(&self.attempt, call, answer).await? {
            Verdict::Release => {
                let extra = form.stream && !form.usage;
                let body = if extra { Bytes::from(without_usage(&body)) } else { body };
                Ok(Some(Passed::Whole(Ok(Reply { status, headers, body }))))
            }
            Verdict::AskAgain => Ok(None),
            Verdict::Suspend => Err(suspended()),
        }
    }

    /// The bytes as they go: those that came, unless something has to be changed about them.
    fn sent(&self, form: Form, changed: Option<String>) -> Bytes {
        let body = changed.map_or_else(|| self.body.clone(), Bytes::from);
        // A stream says what was used only when it is asked to, and costs are counted here.
        let asks =
            form.stream && !form.usage && matches!(self.endpoint, Endpoint::Chat | Endpoint::Completions);
        if !asks {
            return body;
        }
        Request::read(self.endpoint, &body)
            .map_or_else(|_| body.clone(), |request| ask_for_usage(&request).into())
    }

    async fn no_answer(&self, call: Seq, failed: Failed) -> Result<Passed, Refused> {
        let told = Refused::of_model(&failed);
        self.ledger.failed(&self.attempt, call, failed).await?;
        Ok(Passed::Whole(Err(told)))
    }
}

pub(crate) fn suspended() -> Refused {
    let detail = "an answer did not pass its checks, and a person has to decide what is done about it";
    let hint = "end this program; `omium show` has the finding, `omium approve` decides, `omium exec --resume` goes on";
    Refused::new(409, "suspended", detail, hint)
}

/// The request with all changes; nothing where there are none.
fn changed(request: &Request<'_>, changes: &[Change]) -> Result<Option<String>, Refused> {
    let mut body: Option<String> = None;
    for change in changes {
        let bytes = body.as_deref().unwrap_or(request.body).to_owned();
        let request = Request::read(request.endpoint, bytes.as_bytes())
            .map_err(|bad| Refused::new(500, "bad-patch", bad.0, "`omium show` has the remedy"))?;
        let next = match change {
            Change::Append(text) => append_instruction(&request, text),
            Change::Structured(schema) => serde_json::from_str(schema)
                .ok()
                .and_then(|schema| hold_to_schema(&request, "answer", &schema)),
        };
        // An operation that has no such place goes out as it is.
        body = next.or(body);
    }
    Ok(body)
}
