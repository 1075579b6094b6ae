//! Calls of programs: what the gate asks of the recorder.

use std::sync::Arc;

use async_trait::async_trait;
use omium_api::port::{Failure, FailureKind};
use omium_execution::{Call, Outcome, Run, Status};
use omium_llm::{
    Answered, Attempt, BegunTool, Change, Failed, Ledger, Looked, Question, Refused, Seen, ToolCall, ToolEnd,
    Verdict,
};
use omium_recovery::Patch;
use omium_runtime::StreamKey;
use omium_schemas::catalogue::{GateVerdict, ToolErrorClass};
use omium_schemas::{Digest, Seq};

use super::{
    Asker, Begun, BegunTool as Tool, Known, ModelCall, ModelFailed, Owner, Patched, Recorder, run_of,
};
use crate::executions::now;
use crate::{Engine, State, answers, token};

/// The exit code that stands for an attempt that was fenced: what it goes on with would not be what is recorded.
const FENCED: i32 = 75;

/// The gate's end of the engine.
pub struct Gate(Arc<Engine>);

impl Gate {
    /// The gate of an engine.
    pub fn new(engine: Arc<Engine>) -> Gate {
        Gate(engine)
    }

    fn recorder(&self, attempt: &Attempt) -> Recorder<'_> {
        Recorder::new(&self.0, owner(attempt))
    }

    /// The answer of a call as it came.
    async fn answer_of(&self, key: StreamKey, call: &Call) -> Result<Looked, Refused> {
        let Outcome::Answered(Some(content)) = &call.outcome else {
            return Err(refused(answers::unknown()));
        };
        let plain = self.0.content_bytes(key, content).await.map_err(refused)?;
        Ok(Looked::Recorded(plain, call.done.unwrap_or(call.at)))
    }
}

/// What has to be known of an agent to ask in its name.
fn asks(state: Arc<State>, agent: &str) -> Looked {
    let patches = state.state.2.patches();
    let changes = patches.map(|patches| patches.of(agent)).unwrap_or_default();
    let changes = changes.iter().map(|patch| match patch {
        Patch::Append(text) => Change::Append(text.clone()),
        Patch::Structured(schema) => Change::Structured(schema.clone()),
    });
    let patch_set = patches.and_then(|patches| patches.digest(agent));
    let (changes, hold) = (changes.collect(), state.state.1.is_guarded(agent));
    Looked::Ask { changes, patch_set, hold, seen: Seen(state) }
}

fn owner(attempt: &Attempt) -> Owner {
    Owner::attempt(StreamKey::new(attempt.tenant, attempt.stream), attempt.number)
}

fn model_call<'a>(question: &'a Question<'_>) -> ModelCall<'a> {
    ModelCall {
        asker: Asker {
            agent: &question.agent,
            caller: &question.caller,
            position: question.position.as_deref(),
        },
        request: question.request,
        digest: question.digest,
        alias: question.alias,
        repeats: question.repeats,
    }
}

/// Whether an attempt may ask for anything now. The log says so, not what the program believes.
pub(super) fn may_ask(run: &Run, owner: Owner) -> Result<(), Failure> {
    let refuse =
        |code, detail: String, hint: &str| Err(Failure::new(FailureKind::Conflict, code, detail, hint));
    let stream = owner.key.stream;
    let Some(program) = &run.program else {
        return refuse("no-program", format!("{stream} is no program"), "start it with `omium exec`");
    };
    if program.attempt != owner.taking {
        let detail =
            format!("attempt {} at {stream} is over: attempt {} runs", owner.taking, program.attempt);
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

fn refused(failure: Failure) -> Refused {
    let (status, again) = match failure.kind {
        FailureKind::NotFound => (404, false),
        FailureKind::Conflict => (409, false),
        FailureKind::Gone => (410, false),
        FailureKind::Invalid => (422, false),
        FailureKind::Exhausted => (402, false),
        FailureKind::Busy | FailureKind::Unknown => (503, true),
        // It goes on by itself: whoever asks again in a moment is answered.
        FailureKind::Full => (507, true),
    };
    Refused { status, code: failure.code, detail: failure.detail, hint: failure.hint, again }
}

#[async_trait]
impl Ledger for Gate {
    async fn attempt(&self, execution: &str, told: &str) -> Result<Attempt, Refused> {
        let unknown = || Refused {
            status: 401,
            code: "bad-token",
            detail: "this is no token for this execution, or it is too old".to_owned(),
            hint: "`omium exec` gives each attempt its own".to_owned(),
            again: false,
        };
        let claim = token::claim(told).ok_or_else(unknown)?;
        if claim.key.stream.to_string() != execution {
            return Err(unknown());
        }
        // Nobody has looked at the seal yet: a made-up token must make no key.
        let data_key = self.0.vault.known(&claim.key).ok_or_else(unknown)?;
        if !token::holds(told, &claim, now(), &data_key) {
            return Err(unknown());
        }
        if !self.0.key_is_good(claim.key.tenant, &claim.issuer).await.map_err(refused)? {
            let hint = "`omium exec --resume` with a key that is good goes on with what is recorded";
            let detail = "the key that began this attempt was revoked, or is too old".to_owned();
            let (code, hint) = ("revoked", hint.to_owned());
            return Err(Refused { status: 401, code, detail, hint, again: false });
        }
        Ok(Attempt { tenant: claim.key.tenant, stream: claim.key.stream, number: claim.attempt })
    }

    fn digest(&self, attempt: &Attempt, bytes: &[u8]) -> Result<Digest, Refused> {
        self.recorder(attempt).digest(bytes).map_err(refused)
    }

    fn label(&self, attempt: &Attempt, bytes: &[u8]) -> Result<Digest, Refused> {
        let key = self.0.vault.sealing(&crate::control_key()).ok_or_else(|| refused(answers::unknown()))?;
        Ok(key.digest(&[b"label\0".as_slice(), &attempt.tenant.0, bytes].concat()))
    }

    async fn look(&self, attempt: &Attempt, question: &Question<'_>) -> Result<Looked, Refused> {
        let known = self.recorder(attempt).model(&model_call(question)).await.map_err(refused)?;
        match known {
            Known::Nothing(state) | Known::Unknown(_, state) => Ok(asks(state, &question.agent)),
            Known::Recorded(call) => self.answer_of(owner(attempt).key, &call).await,
        }
    }

    async fn changes(&self, attempt: &Attempt, agent: &str) -> Result<Looked, Refused> {
        Ok(asks(self.recorder(attempt).seen().await.map_err(refused)?, agent))
    }

    async fn begin(
        &self,
        attempt: &Attempt,
        question: &Question<'_>,
        patch_set: Option<Digest>,
        sent: Option<&str>,
        seen: Seen,
    ) -> Result<Seq, Refused> {
        let state = seen.0.downcast::<State>().map_err(|_| refused(answers::unknown()))?;
        let patched = Patched { patch_set, sent };
        let begun = self.recorder(attempt).start_model(&state, &model_call(question), patched).await;
        match begun.map_err(refused)? {
            Begun::New(call) => Ok(call),
            Begun::Suspended => Err(refused(unpriced(attempt, question))),
        }
    }

    async fn answered(&self, attempt: &Attempt, call: Seq, answer: Answered) -> Result<Verdict, Refused> {
        let Answered { said, body, shown } = answer;
        let verdict = self.recorder(attempt).answer_model(call, said, &body, shown).await;
        Ok(match verdict.map_err(refused)? {
            GateVerdict::Release => Verdict::Release,
            GateVerdict::AskAgain => Verdict::AskAgain,
            GateVerdict::Suspend => Verdict::Suspend,
        })
    }

    async fn failed(&self, attempt: &Attempt, call: Seq, failed: Failed) -> Result<(), Refused> {
        let Failed { class, status, reason, retryable } = failed;
        let failed = ModelFailed { class, status, reason, retryable };
        self.recorder(attempt).fail_model(call, failed).await.map_err(refused)
    }

    fn lost(&self, attempt: &Attempt, call: Seq) {
        self.0.in_flight.untrack(owner(attempt).key, call);
    }

    async fn begin_tool(&self, attempt: &Attempt, call: ToolCall) -> Result<BegunTool, Refused> {
        let ToolCall { agent, caller, position, tool, effect, arguments, repeats } = call;
        let asker = Asker { agent: &agent, caller: &caller, position: position.as_deref() };
        let recorder = self.recorder(attempt);
        let call = super::ToolCall { asker, tool: &tool, effect, arguments: &arguments, repeats };
        match recorder.start_tool(&call).await.map_err(refused)? {
            Tool::New(call) => Ok(BegunTool::New(call)),
            Tool::Recorded { at, result } => Ok(BegunTool::Recorded(at, result)),
            Tool::Failed { at, reason } => Ok(BegunTool::Failed(at, reason)),
            Tool::Unknown(call, state) => {
                let run = run_of(&state).map_err(refused)?;
                Err(refused(recorder.ask_person(run, call, &tool).await))
            }
        }
    }

    async fn fence(&self, attempt: &Attempt, reason: &str) -> Result<(), Refused> {
        let fenced = self.0.end_of_attempt(owner(attempt).key, attempt.number, FENCED, reason).await;
        fenced.map(|_| ()).map_err(refused)
    }

    async fn end_tool(&self, attempt: &Attempt, call: Seq, end: ToolEnd) -> Result<(), Refused> {
        let end = match end {
            ToolEnd::Result(result) => super::ToolEnd::Answered(result),
            ToolEnd::Failed(reason) => super::ToolEnd::Failed(ToolErrorClass::Other, reason),
        };
        self.recorder(attempt).end_tool(call, end).await.map(|_| ()).map_err(refused)
    }
}

fn unpriced(attempt: &Attempt, question: &Question<'_>) -> Failure {
    let model = question.request.model().unwrap_or_default();
    let (stream, model) = (attempt.stream, super::named(&model));
    Failure::new(
        FailureKind::Conflict,
        "suspended",
        format!("`{model}` has no price, so the budget of {stream} cannot hold it: the program is suspended"),
        format!(
            "end this program; `omium prices set {model} …` or `omium approve {stream}`, then `omium exec --resume {stream}`"
        ),
    )
}
