//! The engine as the gate asks for it: calls of programs, each in the log before it is made and again before its answer
//! is read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use omium_agents::native::canonical;
use omium_api::port::{self, Failure, FailureKind};
use omium_execution::{Call, CallKind, Outcome, Run, Status};
use omium_llm::{
    Answered, Attempt, BegunTool, Change, Failed, Ledger, Looked, Question, Refused, ToolCall, ToolEnd,
    Verdict,
};
use omium_recovery::Patch;
use omium_runtime::{DataKey, Request, StreamKey};
use omium_schemas::catalogue::{
    ApprovalSubject, AskApproval, Command, CompleteLlmCall, FailLlmCall, GateVerdict, ServeAnswer,
    StartLlmCall, StartToolCall,
};
use omium_schemas::{Content, Digest, Seq, StepId};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::conversation::Stored;
use super::executions::now;
use super::{Engine, State, answers, prices, token};

/// The key under which the end of a call is told. Keys that rise are known to be new without a look into the store.
fn rising(call: Seq) -> String {
    format!("{:020}", call.0)
}

/// The one step of a program.
const STEP: StepId = StepId(1);
/// How long a recorded answer waits for those that came before it.
const IN_ORDER: Duration = Duration::from_secs(3);
/// How often something is told to the log when nobody knows whether it arrived.
const TELLS: u32 = 8;

/// The gate's own end of the engine.
pub struct Books {
    engine: Arc<Engine>,
    /// Calls that are on their way in this process. What is open in the log and not here was lost with another process.
    on_the_way: Mutex<BTreeMap<(StreamKey, Seq), OnTheWay>>,
    /// Moves whenever a recorded answer is served.
    served: watch::Sender<u64>,
}

/// A call that is on its way, with what its cost depends on.
struct OnTheWay {
    ends: watch::Sender<()>,
    model: String,
    price_list: Option<Digest>,
}

impl Books {
    /// Books of an engine.
    pub fn new(engine: Arc<Engine>) -> Books {
        Books { engine, on_the_way: Mutex::default(), served: watch::Sender::new(0) }
    }

    /// A call that is on its way here: the receiver ends when it does.
    fn joins(&self, key: StreamKey, call: Seq) -> Option<watch::Receiver<()>> {
        let known = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(key, call)).map(|call| call.ends.subscribe())
    }

    fn sets_out(&self, key: StreamKey, call: Seq, model: String, price_list: Option<Digest>) {
        let mut known = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((key, call), OnTheWay { ends: watch::Sender::new(()), model, price_list });
    }

    fn arrives(&self, key: StreamKey, call: Seq) {
        self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&(key, call));
    }

    fn data_key(&self, key: StreamKey) -> Result<DataKey, Refused> {
        self.engine.vault.sealing(&key).ok_or_else(|| refused(super::tools::erased()))
    }

    /// What the streams of a program hold now, where this attempt may still do something.
    async fn seen(&self, attempt: &Attempt) -> Result<Arc<State>, Refused> {
        let stream = self.engine.stream(key(attempt)).await.map_err(refused)?;
        match stream.state.0.run() {
            Some(run) => may_ask(run, attempt).map(|()| stream),
            None => Err(refused(answers::unknown())),
        }
    }

    async fn tell(&self, key: StreamKey, command: impl Into<Command>) -> Result<Seq, Failure> {
        let answer = self.engine.node().submit(Request::new(key, command)).await;
        // The command takes the frame's first seq; the event that matters follows it.
        answers::done(answer).map(|done| Seq(done.seq + 1))
    }

    /// Tells something that was paid for: a reply that is lost is asked for again under the same key.
    async fn insists(&self, key: StreamKey, name: String, command: Command) -> Result<Seq, Failure> {
        let mut wait = Duration::from_millis(20);
        for round in 1.. {
            let request = Request::new(key, command.clone()).with_key(Bytes::from(name.clone()));
            match answers::done(self.engine.node().submit(request).await) {
                Err(failure)
                    if round < TELLS && matches!(failure.kind, FailureKind::Busy | FailureKind::Unknown) =>
                {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                told => return told.map(|done| Seq(done.seq + 1)),
            }
        }
        Err(answers::unknown())
    }

    /// The answer of a call as it came.
    async fn answer_of(&self, key: StreamKey, call: &Call) -> Result<Bytes, Refused> {
        let Outcome::Answered(Some(content)) = &call.outcome else {
            return Err(refused(answers::unknown()));
        };
        let blobs = self.engine.opened(key, std::iter::once(content)).await;
        let plain = self.engine.plain(key, &blobs, content).ok_or_else(|| refused(super::tools::erased()))?;
        omium_openai::unpack(&plain).map(Bytes::from).map_err(|why| {
            refused(answers::broken(&anyhow::anyhow!("the answer of seq {} cannot be read: {why}", call.at)))
        })
    }

    /// Serves what an equal call was answered, if there is such a one.
    async fn recorded(
        &self,
        attempt: &Attempt,
        caller: &str,
        request: Digest,
    ) -> Result<Option<Call>, Refused> {
        let key = key(attempt);
        let state = self.seen(attempt).await?;
        let run = run_of(&state);
        let Some(found) = run.recorded(caller, request, attempt.number).cloned() else { return Ok(None) };
        self.in_order(attempt, &found).await?;
        let (branch, patch_set, delivery) = (run.branch, found.patch_set, attempt.number);
        let ask = ServeAnswer { step: STEP, branch, caller: caller.to_owned(), request, patch_set, delivery };
        let at = match self.tell(key, ask).await {
            Ok(at) => at,
            // Somebody else who asks the same has taken the last one meanwhile.
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(None),
            Err(failure) => return Err(refused(failure)),
        };
        self.served.send_modify(|count| *count += 1);
        let state = self.seen(attempt).await?;
        Ok(run_of(&state).calls.iter().find(|call| call.served == Some(at)).map(|call| (**call).clone()))
    }

    /// Answers that came while others were on their way are given in the order in which they came: some programs list
    /// results as they arrive. One that nobody asks for any more is not waited for long.
    async fn in_order(&self, attempt: &Attempt, found: &Call) -> Result<(), Refused> {
        let mut served = self.served.subscribe();
        let deadline = tokio::time::Instant::now() + IN_ORDER;
        loop {
            let state = self.seen(attempt).await?;
            let before = |other: &Call| {
                other.done < found.done
                    && other.done > Some(found.at)
                    && other.taken < attempt.number
                    && !other.condemned
                    && matches!(other.outcome, Outcome::Answered(_))
            };
            if !run_of(&state).calls.iter().any(|other| before(other)) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, served.changed()).await.is_err() {
                return Ok(());
            }
        }
    }

    /// A client that repeats a request whose answer it never got is given that answer.
    async fn repeated(&self, attempt: &Attempt, question: &Question<'_>) -> Result<Option<Looked>, Refused> {
        let key = key(attempt);
        loop {
            let state = self.seen(attempt).await?;
            let same = |call: &&Arc<Call>| call.caller == question.caller && call.request == question.digest;
            let Some(last) = run_of(&state).calls.iter().rfind(same) else { return Ok(None) };
            let of_attempt = last.taken == attempt.number;
            match (&last.outcome, self.joins(key, last.at)) {
                (Outcome::Open, Some(mut on_the_way)) if of_attempt && question.repeats => {
                    let _ = on_the_way.changed().await;
                }
                // What an earlier attempt has asked is on its way still: it need not be asked twice.
                (Outcome::Open, Some(mut on_the_way)) if !of_attempt => {
                    let _ = on_the_way.changed().await;
                }
                (Outcome::Answered(Some(_)), _) if of_attempt && question.repeats && !last.condemned => {
                    let body = self.answer_of(key, last).await?;
                    return Ok(Some(Looked::Recorded(body, last.done.unwrap_or(last.at))));
                }
                _ => return Ok(None),
            }
        }
    }

    fn asks(&self, state: &State, agent: &str) -> Looked {
        let patches = state.state.2.patches();
        let changes = patches.map(|patches| patches.of(agent)).unwrap_or_default();
        let changes = changes.iter().map(|patch| match patch {
            Patch::Append(text) => Change::Append(text.clone()),
            Patch::Structured(schema) => Change::Structured(schema.clone()),
        });
        let patch_set = patches.and_then(|patches| patches.digest(agent));
        Looked::Ask { changes: changes.collect(), patch_set, hold: state.state.1.is_guarded(agent) }
    }
}

fn key(attempt: &Attempt) -> StreamKey {
    StreamKey::new(attempt.tenant, attempt.stream)
}

fn run_of(state: &State) -> &Run {
    state.state.0.run().expect("it was seen to be a run")
}

/// Whether an attempt may ask for anything now. The log says so, not what the program believes.
fn may_ask(run: &Run, attempt: &Attempt) -> Result<(), Refused> {
    let refuse = |code, detail: String, hint: &str| {
        Err(Refused { status: 409, code, detail, hint: hint.to_owned(), again: false })
    };
    let stream = attempt.stream;
    let Some(program) = &run.program else {
        return refuse("no-program", format!("{stream} is no program"), "start it with `omium exec`");
    };
    if program.attempt != attempt.number {
        let detail =
            format!("attempt {} at {stream} is over: attempt {} runs", attempt.number, program.attempt);
        return refuse("stale-attempt", detail, "end this process");
    }
    match run.status {
        Status::Running => Ok(()),
        Status::Paused if run.suspended.is_some() => {
            let detail = format!("{stream} is suspended: a person has to decide about what was found");
            refuse(
                "suspended",
                detail,
                "end this program; `omium show` has the finding, `omium approve` decides, `omium exec --resume` goes on",
            )
        }
        Status::Paused => {
            let hint = "end this program; `omium resume` and then `omium exec --resume` go on with it";
            refuse("paused", format!("{stream} is paused"), hint)
        }
        Status::Completed | Status::Failed(_) | Status::Cancelled => refuse(
            "ended",
            format!("{stream} has ended"),
            "end this process; `omium exec --resume` begins a new attempt",
        ),
    }
}

pub(super) fn refused(failure: Failure) -> Refused {
    let (status, again) = match failure.kind {
        FailureKind::NotFound => (404, false),
        FailureKind::Conflict => (409, false),
        FailureKind::Invalid => (422, false),
        FailureKind::Exhausted => (402, false),
        FailureKind::Busy | FailureKind::Unknown => (503, true),
        FailureKind::Full => (507, false),
    };
    Refused { status, code: failure.code, detail: failure.detail, hint: failure.hint, again }
}

#[async_trait]
impl Ledger for Books {
    async fn attempt(&self, execution: &str, told: &str) -> Result<Attempt, Refused> {
        let unknown = || Refused {
            status: 401,
            code: "bad-token",
            detail: "this is no token for this execution, or it is too old".to_owned(),
            hint: "`omium exec` gives each attempt its own".to_owned(),
            again: false,
        };
        let claim = token::claim(told).ok_or_else(unknown)?;
        // Nobody has looked at the seal yet: a made-up token must make no key.
        let data_key = self.engine.vault.known(&claim.key).ok_or_else(unknown)?;
        if !token::holds(told, &claim, now(), &data_key) || claim.key.stream.to_string() != execution {
            return Err(unknown());
        }
        Ok(Attempt { tenant: claim.key.tenant, stream: claim.key.stream, number: claim.attempt })
    }

    fn digest(&self, attempt: &Attempt, bytes: &[u8]) -> Result<Digest, Refused> {
        Ok(self.data_key(key(attempt))?.digest(bytes))
    }

    async fn look(&self, attempt: &Attempt, question: &Question<'_>) -> Result<Looked, Refused> {
        let state = self.seen(attempt).await?;
        let same = |call: &Call| call.request == question.digest && call.caller == question.caller;
        // Most requests are new: one look says so.
        if !run_of(&state).calls.iter().any(|call| same(call)) {
            return Ok(self.asks(&state, &question.agent));
        }
        if let Some(looked) = self.repeated(attempt, question).await? {
            return Ok(looked);
        }
        if let Some(call) = self.recorded(attempt, &question.caller, question.digest).await? {
            let body = self.answer_of(key(attempt), &call).await?;
            return Ok(Looked::Recorded(body, call.done.unwrap_or(call.at)));
        }
        self.changes(attempt, &question.agent).await
    }

    async fn changes(&self, attempt: &Attempt, agent: &str) -> Result<Looked, Refused> {
        Ok(self.asks(&*self.seen(attempt).await?, agent))
    }

    async fn begin(
        &self,
        attempt: &Attempt,
        question: &Question<'_>,
        patch_set: Option<Digest>,
        sent: Option<&str>,
    ) -> Result<Seq, Refused> {
        let key = key(attempt);
        let state = self.seen(attempt).await?;
        let data_key = self.data_key(key)?;
        let run = run_of(&state);
        let stored = Stored::of(&self.engine, key, run, question.request, &data_key).await;
        let difference = self.engine.difference(key, run, attempt.number, question).await;
        let start = StartLlmCall {
            step: STEP,
            branch: run.branch,
            agent: question.agent.clone(),
            caller: question.caller.clone(),
            model: question.request.model().unwrap_or_default().chars().take(256).collect(),
            request: question.digest,
            patch_set,
            messages: stored.messages,
            stored: stored.new,
            parameters: Some(Content::open(omium_openai::pack(
                question.request.parameters().as_bytes(),
                None,
            ))),
            delivery: attempt.number,
            endpoint: question.request.endpoint.path().to_owned(),
            continues: stored.continues,
            thread: Some(stored.thread),
            before: sent.map(|_| data_key.digest(question.request.body.as_bytes())),
            after: sent.map(|sent| data_key.digest(sent.as_bytes())),
            difference: difference.map(Content::open),
        };
        let call = self.tell(key, start).await.map_err(refused)?;
        self.sets_out(key, call, question.request.model().unwrap_or_default(), run.price_list);
        Ok(call)
    }

    async fn answered(&self, attempt: &Attempt, call: Seq, answer: Answered) -> Result<Verdict, Refused> {
        let key = key(attempt);
        let said = omium_openai::read(answer.endpoint, &answer.body);
        let cost = self.cost(key, call, &said).await;
        let complete = CompleteLlmCall {
            call,
            model: said.model.chars().take(256).collect(),
            usage: said.usage,
            cost,
            finish: said.finish,
            answer: Content::open(omium_openai::pack(&answer.body, None)),
            shown: answer.shown,
        };
        let told = self.insists(key, rising(call), complete.into()).await;
        self.arrives(key, call);
        told.map_err(refused)?;
        let stream = self.engine.stream(key).await.map_err(refused)?;
        let verdict =
            run_of(&stream).calls.iter().find(|known| known.at == call).and_then(|call| call.verdict);
        Ok(match verdict {
            None | Some(GateVerdict::Release) => Verdict::Release,
            Some(GateVerdict::AskAgain) => Verdict::AskAgain,
            Some(GateVerdict::Suspend) => Verdict::Suspend,
        })
    }

    async fn failed(&self, attempt: &Attempt, call: Seq, failed: Failed) -> Result<(), Refused> {
        let key = key(attempt);
        let Failed { class, status, reason, retryable } = failed;
        let (status, reason) = (i32::from(status), Some(Content::open(reason)));
        let fail = FailLlmCall { call, class, status, reason, retryable };
        let told = self.insists(key, rising(call), fail.into()).await;
        self.arrives(key, call);
        told.map(|_| ()).map_err(refused)
    }

    async fn begin_tool(&self, attempt: &Attempt, call: ToolCall) -> Result<BegunTool, Refused> {
        let key = key(attempt);
        let ToolCall { caller, tool, effect, arguments } = call;
        let request = self.digest(attempt, &canonical(&json!({ "tool": tool, "arguments": arguments })))?;
        if let Some(call) = self.recorded(attempt, &caller, request).await? {
            return Ok(match &call.outcome {
                Outcome::Failed { reason, .. } => BegunTool::Failed(self.words(key, reason.as_ref()).await),
                _ => BegunTool::Recorded(self.result_of(key, &call).await?),
            });
        }
        let state = self.seen(attempt).await?;
        let run = run_of(&state);
        if let Some(call) = unknown_write(run, attempt, &caller, request) {
            return Err(self.ask_about(key, run, call, &tool).await);
        }
        let branch = run.branch;
        let arguments = Some(Content::open(arguments.to_string()));
        let delivery = attempt.number;
        let start = StartToolCall { step: STEP, branch, caller, tool, effect, request, arguments, delivery };
        self.tell(key, start).await.map(BegunTool::New).map_err(refused)
    }

    async fn end_tool(&self, attempt: &Attempt, call: Seq, end: ToolEnd) -> Result<(), Refused> {
        let key = key(attempt);
        // What a tool has done is done, also where its program may call nothing more: not to know it would stop the
        // next attempt, or call the tool twice.
        let state = self.engine.stream(key).await.map_err(refused)?;
        let calls = state.state.0.run().map(|run| run.calls.as_slice()).unwrap_or_default();
        let is_open_tool = |known: &Call| {
            known.at == call && matches!(known.kind, CallKind::Tool { .. }) && known.outcome == Outcome::Open
        };
        if !calls.iter().any(|call| is_open_tool(call)) {
            return Err(refused(super::tools::not_open()));
        }
        let end = match end {
            ToolEnd::Result(result) => port::ToolEnd::Answered { result },
            ToolEnd::Failed(reason) => port::ToolEnd::Failed { reason },
        };
        self.insists(key, rising(call), super::tools::ended(call, end)).await.map(|_| ()).map_err(refused)
    }
}

impl Books {
    async fn cost(
        &self,
        key: StreamKey,
        call: Seq,
        said: &omium_openai::Answer,
    ) -> Option<omium_schemas::Money> {
        let (asked, list) = {
            let known = self.on_the_way.lock().unwrap_or_else(PoisonError::into_inner);
            let call = known.get(&(key, call))?;
            (call.model.clone(), call.price_list?)
        };
        let control = self.engine.control().await.ok()?;
        let of = |model: &str| prices::cost(&control, key.tenant, Some(list), model, &said.usage);
        // Providers answer with a dated name of the model that was asked for.
        of(&said.model).or_else(|| of(&asked))
    }

    /// It is not called in silence: a person is asked, and the program waits for the word.
    async fn ask_about(&self, key: StreamKey, run: &Run, call: Seq, tool: &str) -> Refused {
        let detail =
            format!("`{tool}` was called before, at seq {call}, and nobody knows whether it did its work");
        if !run.questions.iter().any(|question| question.call == call) {
            let question = Some(Content::open(json!(detail).to_string()));
            let (subject, about) = (ApprovalSubject::ToolCall, Some(call));
            let ask = AskApproval { subject, about, question, expires_at: None };
            if let Err(failure) = self.tell(key, ask).await {
                return refused(failure);
            }
        }
        let hint = format!(
            "find out; `omium answer {} happened --result JSON` or `repeat` says it, and `omium exec --resume` goes on",
            key.stream
        );
        Refused { status: 409, code: "outcome-unknown", detail, hint, again: false }
    }

    async fn words(&self, key: StreamKey, content: Option<&Content>) -> String {
        let Some(content) = content else { return String::new() };
        let blobs = self.engine.opened(key, std::iter::once(content)).await;
        match self.engine.read(key, &blobs, content) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    async fn result_of(&self, key: StreamKey, call: &Call) -> Result<Value, Refused> {
        let Outcome::Answered(Some(content)) = &call.outcome else { return Ok(Value::Null) };
        let blobs = self.engine.opened(key, std::iter::once(content)).await;
        let plain = self.engine.plain(key, &blobs, content).ok_or_else(|| refused(super::tools::erased()))?;
        serde_json::from_slice(&plain).map_err(|_| refused(answers::unknown()))
    }
}

/// A tool that changes something, was begun before, and nobody knows whether it did.
fn unknown_write(run: &Run, attempt: &Attempt, caller: &str, request: Digest) -> Option<Seq> {
    let unknown = run.calls.iter().find(|call| {
        call.caller == caller
            && call.request == request
            && call.taken < attempt.number
            && call.outcome == Outcome::Open
            && matches!(call.kind, CallKind::Tool { repeatable: false, .. })
    });
    unknown.map(|call| call.at)
}
