//! One request through the gate: known answers are served, others are asked for, recorded, judged, and only then read.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use omium_edge::Slot;
use omium_openai::{
    Endpoint, Place, Request, append_instruction, ask_for_usage, hold_to_schema, second_key, without_usage,
};
use omium_schemas::catalogue::ModelErrorClass;
use omium_schemas::{Digest, Seq};

use crate::caller::{self, Name};
use crate::port::{Answered, Attempt, Change, Failed, Ledger, Looked, Question, Refused, Seen, Verdict};
use crate::reply::{Passed, Reply, held};
use crate::rounds::Rounds;
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
    pub(crate) rounds: Rounds,
    /// The request's place, kept until the call has its end in the log.
    pub(crate) _slot: Option<Slot>,
}

/// How the answer is to travel.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) stream: bool,
    pub(crate) usage: bool,
}

/// A call that was begun, held by whoever brings its end. Equal ones wait for that, and must not where a panic has taken
/// it: the call is open in the log then, and is asked again.
pub(crate) struct Begun<'a> {
    incoming: &'a Incoming,
    call: Seq,
}

impl<'a> Begun<'a> {
    pub(crate) fn new(incoming: &'a Incoming, call: Seq) -> Begun<'a> {
        Begun { incoming, call }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // One that has its end, or waits for a log that takes nothing, is let go of by who records it.
        if std::thread::panicking() {
            let Incoming { ledger, attempt, .. } = self.incoming;
            ledger.lost(attempt, self.call);
        }
    }
}

/// What is changed of a request, and how its answer travels.
struct Patch<'a> {
    changes: &'a [Change],
    patch_set: Option<Digest>,
    hold: bool,
    seen: Seen,
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
        let label = |bytes: &[u8]| self.ledger.label(&self.attempt, bytes);
        let Name { agent, caller } = caller::name(&self.headers, &request, label)?;
        let alias = second_key(&request).map(|key| digest(&key)).transpose()?;
        let digest = digest(&request.canonical())?;
        let position = caller::position(&self.headers);
        let count = self.headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok());
        let repeats = count.is_some_and(|count| count.trim() != "0");
        let question = Question { request: &request, agent, caller, digest, alias, position, repeats };
        let key = (self.attempt.tenant, self.attempt.stream, self.attempt.number, question.digest);
        let _round = self.rounds.enter(key, question.repeats).await;
        let mut hiccups = PAUSES.into_iter();
        let mut looked = self.ledger.look(&self.attempt, &question).await?;
        for _ in 0..MOST_ROUNDS {
            let (changes, patch_set, hold, seen) = match looked {
                Looked::Recorded(body, at) => {
                    let reply = Reply::recorded(self.endpoint, &body, form.stream, form.usage, at);
                    return Ok(Passed::Whole(Ok(reply)));
                }
                Looked::Ask { changes, patch_set, hold, seen } => (changes, patch_set, hold, seen),
            };
            let patch = Patch { changes: &changes, patch_set, hold, seen };
            match self.ask(form, &question, patch).await? {
                Asked::Passed(passed) => return Ok(passed),
                Asked::Again => {}
                Asked::Hiccup(reason) => match hiccups.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(no_answer_at_all(&reason)),
                },
            }
            looked = self.ledger.changes(&self.attempt, &question.agent).await?;
        }
        Err(Refused::new(
            502,
            "no-good-answer",
            "no answer has passed its checks",
            "`omium show` lists what was found",
        ))
    }

    /// Asks once.
    async fn ask(&self, form: Form, question: &Question<'_>, patch: Patch<'_>) -> Result<Asked, Refused> {
        self.upstream.is_there()?;
        let Patch { changes, patch_set, hold, seen } = patch;
        let changed = changed(question.request, changes)?;
        let call = self.ledger.begin(&self.attempt, question, patch_set, changed.as_deref(), seen).await?;
        let _begun = Begun::new(self, call);
        let sent = self.sent(form, changed);
        let arriving = match self.upstream.send(self.endpoint.path(), &self.headers, sent).await {
            Ok(arriving) => arriving,
            Err(failed) => return self.no_answer(call, failed).await.map(Asked::Passed),
        };
        let response = &arriving.response;
        let (status, headers) = (response.status(), passed_back(response.headers()));
        if form.stream && !hold && status == StatusCode::OK && tail::is_stream(&headers) {
            return Ok(Asked::Passed(tail::begin(self.clone(), call, form, headers, arriving)));
        }
        let body = match whole(arriving, LONGEST).await {
            Ok(body) => body,
            Err(failed) => return self.no_answer(call, failed).await.map(Asked::Passed),
        };
        if status != StatusCode::OK {
            self.ledger.failed(&self.attempt, call, refused(status.as_u16(), &body)).await?;
            return Ok(Asked::Passed(Passed::Whole(Ok(Reply { status, headers, body }))));
        }
        let said = omium_openai::read(self.endpoint, &body);
        if let Some(reason) = said.fault {
            let class = ModelErrorClass::MalformedAnswer;
            let failed = Failed { class, status: status.as_u16(), reason: reason.clone(), retryable: true };
            self.ledger.failed(&self.attempt, call, failed).await?;
            return Ok(Asked::Hiccup(reason));
        }
        let answer = Answered { said, body: body.clone(), shown: false };
        match self.ledger.answered(&self.attempt, call, answer).await? {
            Verdict::Release => {
                let extra = form.stream && !form.usage;
                let body = if extra { Bytes::from(without_usage(&body)) } else { body };
                Ok(Asked::Passed(Passed::Whole(Ok(Reply { status, headers, body }))))
            }
            Verdict::AskAgain => Ok(Asked::Again),
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

/// What came of asking once.
enum Asked {
    Passed(Passed),
    /// Another answer is to be asked for in this one's place.
    Again,
    /// The provider answered with a good status and no answer: for this reason.
    Hiccup(String),
}

/// A provider that hiccups is left alone for so long before it is asked again; after that the client is told. Clients do not
/// retry what came with a good status, and people have nothing to decide about it.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(1_000)];

fn no_answer_at_all(reason: &str) -> Refused {
    let detail = format!("{reason}; it was asked {} times", PAUSES.len() + 1);
    Refused::new(
        502,
        "malformed-answer",
        detail,
        "see what the model's server answers; `omium show` lists the calls",
    )
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use omium_schemas::{ExecutionId, TenantId};

    use super::*;
    use crate::port::{BegunTool, ToolCall, ToolEnd};

    /// Keeps the calls that it was told are lost.
    #[derive(Default)]
    struct Lost(Mutex<Vec<Seq>>);

    /// What the test asks for is told as lost; nothing else is there.
    fn not_asked<T>() -> Result<T, Refused> {
        let (code, detail, hint) = ("not-asked", "this test asks for nothing else".to_owned(), String::new());
        Err(Refused { status: 500, code, detail, hint, again: false })
    }

    #[async_trait]
    impl Ledger for Lost {
        async fn attempt(&self, _: &str, _: &str) -> Result<Attempt, Refused> {
            not_asked()
        }

        fn digest(&self, _: &Attempt, _: &[u8]) -> Result<Digest, Refused> {
            not_asked()
        }

        fn label(&self, _: &Attempt, _: &[u8]) -> Result<Digest, Refused> {
            not_asked()
        }

        async fn look(&self, _: &Attempt, _: &Question<'_>) -> Result<Looked, Refused> {
            not_asked()
        }

        async fn changes(&self, _: &Attempt, _: &str) -> Result<Looked, Refused> {
            not_asked()
        }

        async fn begin(
            &self,
            _: &Attempt,
            _: &Question<'_>,
            _: Option<Digest>,
            _: Option<&str>,
            _: Seen,
        ) -> Result<Seq, Refused> {
            not_asked()
        }

        async fn answered(&self, _: &Attempt, _: Seq, _: Answered) -> Result<Verdict, Refused> {
            not_asked()
        }

        async fn failed(&self, _: &Attempt, _: Seq, _: Failed) -> Result<(), Refused> {
            not_asked()
        }

        fn lost(&self, _: &Attempt, call: Seq) {
            self.0.lock().unwrap().push(call);
        }

        async fn begin_tool(&self, _: &Attempt, _: ToolCall) -> Result<BegunTool, Refused> {
            not_asked()
        }

        async fn fence(&self, _: &Attempt, _: &str) -> Result<(), Refused> {
            not_asked()
        }

        async fn end_tool(&self, _: &Attempt, _: Seq, _: ToolEnd) -> Result<(), Refused> {
            not_asked()
        }
    }

    #[tokio::test]
    async fn a_call_whose_work_panics_is_let_go_of_and_one_that_ends_is_not() {
        let ledger = Arc::new(Lost::default());
        for panics in [false, true] {
            let incoming = Incoming {
                ledger: ledger.clone(),
                upstream: Upstream::none(),
                attempt: Attempt {
                    tenant: TenantId([1; 16]),
                    stream: ExecutionId::new([2; 15]).stream(),
                    number: 1,
                },
                endpoint: Endpoint::Chat,
                headers: HeaderMap::new(),
                body: Bytes::new(),
                rounds: Rounds::default(),
                _slot: None,
            };
            let work = ToTheEnd::new(async move {
                let _begun = Begun::new(&incoming, Seq(5));
                tokio::task::yield_now().await;
                assert!(!panics, "a fault of the test");
            });
            assert_eq!(work.await.is_none(), panics);
            assert_eq!(ledger.0.lock().unwrap().len(), usize::from(panics));
        }
    }
}
