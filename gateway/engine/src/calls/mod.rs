//! The one recorder of calls. Programs behind the gate, workers and native agents ask it before they call a model or a tool,
//! and tell it what came of it: what is served, waited for, asked about or made is decided in one place. The adapters
//! only translate: `gate`, `worker`, `native`.

mod asking;
mod conclude;
mod conversation;
mod cost;
mod gate;
mod in_flight;
mod native;
mod order;
mod worker;

use std::sync::Arc;
use std::time::Instant;

use omium_api::port::{Failure, FailureKind, Sending};
use omium_execution::{Call, CallKind, Found, Outcome, Run, Wanted};
use omium_openai::{Answer, Request as Body};
use omium_runtime::{Request, StreamKey};
use omium_schemas::catalogue::{
    Command, CompleteLlmCall, CompleteToolCall, EffectClass, Event, FailLlmCall, FailToolCall, GateVerdict,
    LlmCallStarted, ModelErrorClass, ServeAnswer, StartLlmCall, StartToolCall, ToolCallStarted,
    ToolErrorClass,
};
use omium_schemas::{Content, Digest, Seq, StepId};
use serde_json::{Value, json};

use super::{Engine, State, answers};
use conversation::Stored;
use cost::Size;

pub(super) use asking::answer_command;
pub(super) use conclude::Room;
pub use gate::Gate;
pub(super) use in_flight::InFlight;
pub(super) use native::NativeRecord;
pub(super) use order::Order;

/// The one step of a program.
const PROGRAM_STEP: StepId = StepId(1);
/// How many messages one request may have: their digests have to fit into one frame.
const MESSAGES: usize = 12_000;
/// The longest name of a model that is kept.
const MODEL_NAME: usize = 256;

/// Whose calls are recorded: one attempt of a program, or one sending of a workflow's step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) key: StreamKey,
    step: StepId,
    /// The number by which calls know who made or was served them.
    taking: i64,
    is_program: bool,
}

impl Owner {
    pub(super) fn attempt(key: StreamKey, number: i64) -> Owner {
        Owner { key, step: PROGRAM_STEP, taking: number, is_program: true }
    }

    pub(super) fn sending(key: StreamKey, sending: Sending) -> Owner {
        let taking = omium_schemas::taking(sending.epoch, sending.delivery);
        Owner { key, step: sending.step, taking, is_program: false }
    }
}

/// Who asks, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// Without loop index: what an answer is known by.
    agent: &'a str,
    /// With loop index.
    caller: &'a str,
    /// The framework's own step number.
    position: Option<&'a str>,
}

/// A model that is about to be asked.
#[derive(Clone, Copy)]
pub(super) struct ModelCall<'a> {
    asker: Asker<'a>,
    request: &'a Body<'a>,
    digest: Digest,
    alias: Option<Digest>,
    /// The client says that it sends this again because it got no answer.
    repeats: bool,
}

/// The changes that are in force for a request, and the body that they make of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Patched<'a> {
    patch_set: Option<Digest>,
    sent: Option<&'a str>,
}

/// A tool that is about to be called.
#[derive(Clone, Copy)]
pub(super) struct ToolCall<'a> {
    asker: Asker<'a>,
    tool: &'a str,
    effect: EffectClass,
    arguments: &'a Value,
    /// The client says that it sends this again because it got no answer.
    repeats: bool,
}

/// What the record says about a call that is about to be made.
pub(super) enum Known {
    /// It has to be made. The state that says so saves those who begin it another look.
    Nothing(Arc<State>),
    /// This came of it before.
    Recorded(Box<Call>),
    /// It changes something and its outcome is unknown.
    Unknown(Seq, Arc<State>),
}

/// What became of a call that was to be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// It is recorded under this seq, and may be made.
    New(Seq),
    /// The run waits for a person instead.
    Suspended,
}

/// Records the calls of one owner.
#[derive(Clone, Copy)]
pub(super) struct Recorder<'e> {
    engine: &'e Arc<Engine>,
    owner: Owner,
}

impl<'e> Recorder<'e> {
    pub(super) fn new(engine: &'e Arc<Engine>, owner: Owner) -> Recorder<'e> {
        Recorder { engine, owner }
    }

    /// A digest under the execution's key: it confirms no guess once that is gone.
    fn digest(&self, bytes: &[u8]) -> Result<Digest, Failure> {
        Ok(self.engine.vault.sealing(&self.owner.key).ok_or_else(answers::erased)?.digest(bytes))
    }

    /// The run as it is now, where this owner may still do something.
    async fn seen(&self) -> Result<Arc<State>, Failure> {
        let state = self.engine.stream(self.owner.key).await?;
        if self.owner.is_program {
            gate::may_ask(run_of(&state)?, self.owner)?;
        }
        Ok(state)
    }

    /// What is known of a model call. Where an equal one is in flight, waits for its end.
    async fn model(&self, call: &ModelCall<'_>) -> Result<Known, Failure> {
        self.find(&Wanted {
            step: self.owner.step,
            agent: call.asker.agent,
            tool: None,
            request: call.digest,
            alias: call.alias,
            position: call.asker.position,
            taking: self.owner.taking,
            repeats: call.repeats,
        })
        .await
    }

    async fn find(&self, wanted: &Wanted<'_>) -> Result<Known, Failure> {
        let key = self.owner.key;
        loop {
            let state = self.seen().await?;
            let run = run_of(&state)?;
            // A client that was told to come back, since the log took nothing, is given what it has paid for.
            if let Some(call) = run.own(wanted).find(|call| self.engine.in_flight.is_to_be_told(key, call.at))
            {
                self.engine.in_flight.ended(key, call.at).await?;
                return self.told_at_last(call.at).await;
            }
            let in_flight = |call: Seq| self.engine.in_flight.has(key, call);
            match run.find(wanted, &in_flight) {
                Found::Nothing => return Ok(Known::Nothing(state)),
                Found::Unknown(call) => return Ok(Known::Unknown(call.at, state.clone())),
                Found::Again(call) | Found::Begun(call) => {
                    return Ok(Known::Recorded(Box::new(call.clone())));
                }
                Found::InFlight(call) => self.engine.in_flight.ended(key, call.at).await?,
                Found::Serve(call) => {
                    if self.owner.is_program {
                        self.in_order(call).await?;
                    }
                    match self.serve(run, call.at).await {
                        Ok(()) => return Ok(Known::Recorded(Box::new(call.clone()))),
                        // Somebody else who asks the same has taken it meanwhile: another one may be left.
                        Err(failure) if failure.kind == FailureKind::NotFound => {}
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
    }

    async fn told_at_last(&self, call: Seq) -> Result<Known, Failure> {
        let state = self.seen().await?;
        self.engine.in_flight.told(self.owner.key, call);
        let known = run_of(&state)?.calls.iter().find(|known| known.at == call);
        match known.filter(|known| known.has_outcome_to_serve()) {
            Some(known) => Ok(Known::Recorded(Box::new((**known).clone()))),
            None => Ok(Known::Nothing(state)),
        }
    }

    async fn serve(&self, run: &Run, call: Seq) -> Result<(), Failure> {
        let (step, branch, delivery) = (self.owner.step, run.branch, self.owner.taking);
        self.submit(ServeAnswer { step, branch, call, delivery }).await?;
        self.engine.order.moved();
        Ok(())
    }

    async fn submit(&self, command: impl Into<Command>) -> Result<omium_runtime::Done, Failure> {
        answers::decided(self.engine.node().submit(Request::new(self.owner.key, command)).await)
    }

    /// Records that a model is about to be asked.
    async fn start_model(
        &self,
        state: &State,
        call: &ModelCall<'_>,
        patched: Patched<'_>,
    ) -> Result<Begun, Failure> {
        let (key, run) = (self.owner.key, run_of(state)?);
        let data_key = self.engine.vault.sealing(&key).ok_or_else(answers::erased)?;
        let messages = call.request.messages().len();
        if messages > MESSAGES {
            let detail =
                format!("the request has {messages} messages, and {MESSAGES} are the most that are recorded");
            return Err(Failure::new(
                FailureKind::Invalid,
                "too-many-messages",
                detail,
                "send fewer, or shorten the conversation",
            ));
        }
        let stored = Stored::of(self.engine, key, run, call.request, &data_key).await;
        let difference = self.difference(run, call).await;
        let model = call.request.model().unwrap_or_default();
        let size = Size::of(call.request);
        let reserve = self.engine.reserve(key, run, self.owner.step, &model, size).await?;
        let before = patched.sent.map(|_| data_key.digest(call.request.body.as_bytes()));
        let start = StartLlmCall {
            step: self.owner.step,
            branch: run.branch,
            agent: call.asker.agent.to_owned(),
            caller: call.asker.caller.to_owned(),
            model: named(&model),
            request: call.digest,
            patch_set: patched.patch_set,
            messages: stored.messages,
            stored: stored.new,
            parameters: Some(Content::open(omium_openai::pack(call.request.parameters().as_bytes(), None))),
            delivery: self.owner.taking,
            endpoint: call.request.endpoint.path().to_owned(),
            continues: stored.continues,
            thread: Some(stored.thread),
            before,
            after: patched.sent.map(|sent| data_key.digest(sent.as_bytes())),
            difference: difference.map(Content::open),
            position: call.asker.position.map(str::to_owned),
            alias: call.alias,
            reserve,
        };
        let done = self.submit(start).await?;
        let started =
            done.decided().find(|(_, event)| matches!(event, Event::LlmCallStarted(LlmCallStarted { .. })));
        let Some((seq, _)) = started else { return Ok(Begun::Suspended) };
        self.engine.in_flight.track(
            key,
            seq,
            in_flight::Asked {
                model,
                size,
                price_list: run.price_list,
                under_budget: cost::is_under_budget(run, self.owner.step),
                since: Instant::now(),
            },
        );
        Ok(Begun::New(seq))
    }

    /// Records a model's answer, and says what is to be done with it.
    async fn answer_model(
        &self,
        call: Seq,
        said: Answer,
        body: &[u8],
        shown: bool,
    ) -> Result<GateVerdict, Failure> {
        let took = self.engine.in_flight.seconds(self.owner.key, call);
        let cost = self.engine.cost(self.owner.key, call, &said).await;
        let usage = said.usage;
        let complete = CompleteLlmCall {
            call,
            model: named(&said.model),
            usage: usage.clone(),
            cost: cost.amount,
            finish: said.finish,
            answer: Content::open(omium_openai::pack(body, None)),
            shown,
            estimated: cost.estimated,
        };
        let done = self.engine.conclude(self.owner.key, call, complete.into(), None).await?;
        if done.repeated {
            return self.verdict_of(call).await;
        }
        self.engine.metrics.answered(took, &usage, cost.amount);
        Ok(verdict(done.events.iter(), call))
    }

    /// The same from the state: a repeated answer does not hold what was decided.
    async fn verdict_of(&self, call: Seq) -> Result<GateVerdict, Failure> {
        let state = self.engine.stream(self.owner.key).await?;
        let known = run_of(&state)?.calls.iter().find(|known| known.at == call);
        Ok(known.and_then(|call| call.verdict).unwrap_or(GateVerdict::Release))
    }

    async fn fail_model(&self, call: Seq, failed: ModelFailed) -> Result<(), Failure> {
        let ModelFailed { class, status, reason, retryable } = failed;
        let (status, reason) = (i32::from(status), Some(Content::open(reason)));
        let fail = FailLlmCall { call, class, status, reason, retryable };
        let took = self.engine.in_flight.seconds(self.owner.key, call);
        let done = self.engine.conclude(self.owner.key, call, fail.into(), None).await?;
        if !done.repeated {
            self.engine.metrics.not_answered(took);
        }
        Ok(())
    }

    /// What is known of a tool call; where nothing is, records that it is about to be made.
    async fn start_tool(&self, call: &ToolCall<'_>) -> Result<BegunTool, Failure> {
        let request = self.digest(&omium_openai::canonical_tool(call.tool, call.arguments))?;
        let known = self
            .find(&Wanted {
                step: self.owner.step,
                agent: call.asker.agent,
                tool: Some(call.tool),
                request,
                alias: None,
                position: call.asker.position,
                taking: self.owner.taking,
                repeats: call.repeats,
            })
            .await?;
        let state = match known {
            Known::Nothing(state) => state,
            Known::Unknown(at, state) => return Ok(BegunTool::Unknown(at, state)),
            Known::Recorded(call) if call.outcome == Outcome::Open => return Ok(BegunTool::New(call.at)),
            Known::Recorded(call) => return self.tool_outcome(&call).await,
        };
        let start = StartToolCall {
            step: self.owner.step,
            branch: run_of(&state)?.branch,
            agent: call.asker.agent.to_owned(),
            caller: call.asker.caller.to_owned(),
            tool: call.tool.to_owned(),
            effect: call.effect,
            request,
            arguments: Some(Content::open(call.arguments.to_string())),
            delivery: self.owner.taking,
            position: call.asker.position.map(str::to_owned),
            alias: None,
        };
        let done = self.submit(start).await?;
        let started =
            done.decided().find(|(_, event)| matches!(event, Event::ToolCallStarted(ToolCallStarted { .. })));
        started.map(|(seq, _)| BegunTool::New(seq)).ok_or_else(answers::unknown)
    }

    async fn tool_outcome(&self, call: &Call) -> Result<BegunTool, Failure> {
        let at = call.at;
        Ok(match &call.outcome {
            Outcome::Failed { reason, .. } => {
                let words = match reason {
                    Some(reason) => self.engine.content_bytes(self.owner.key, reason).await?,
                    None => bytes::Bytes::new(),
                };
                BegunTool::Failed { at, reason: words_of(&words) }
            }
            Outcome::Answered(Some(result)) => {
                let bytes = self.engine.content_bytes(self.owner.key, result).await?;
                let result = serde_json::from_slice(&bytes).map_err(|why| {
                    answers::broken(&anyhow::anyhow!(
                        "the result of the call at seq {at} cannot be read: {why}"
                    ))
                })?;
                BegunTool::Recorded { at, result }
            }
            Outcome::Answered(None) | Outcome::Open => BegunTool::Recorded { at, result: Value::Null },
        })
    }

    /// Records what became of a tool call of this very owner's step. What a tool has done is done, also where its caller
    /// may call nothing more: not to know it would stop the next attempt, or call the tool twice.
    async fn end_tool(&self, call: Seq, end: ToolEnd) -> Result<omium_runtime::Done, Failure> {
        let state = self.engine.stream(self.owner.key).await?;
        // One that has ended is told again where its reply was lost: the log knows whether it is the same end.
        let is_ours = |known: &Call| {
            (known.at, known.step) == (call, self.owner.step) && matches!(known.kind, CallKind::Tool { .. })
        };
        if !run_of(&state)?.calls.iter().any(|known| is_ours(known)) {
            return Err(answers::no_open_call());
        }
        let (command, said): (Command, String) = match end {
            ToolEnd::Answered(result) => {
                let result = result.to_string();
                let packed = omium_openai::pack(result.as_bytes(), None);
                (CompleteToolCall { call, result: Some(Content::open(packed)) }.into(), result)
            }
            ToolEnd::Failed(class, reason) => {
                let reason = json!(reason).to_string();
                let said = format!("failed {reason}");
                (FailToolCall { call, class, reason: Some(Content::open(reason)) }.into(), said)
            }
        };
        let digest = self.digest(said.as_bytes())?;
        self.engine.conclude(self.owner.key, call, command, Some(digest)).await
    }
}

/// How a model failed.
pub(super) struct ModelFailed {
    class: ModelErrorClass,
    status: u16,
    reason: String,
    retryable: bool,
}

/// What became of a tool call.
pub(super) enum ToolEnd {
    Answered(Value),
    Failed(ToolErrorClass, String),
}

/// What a caller is told about a tool that it is about to call.
pub(super) enum BegunTool {
    /// Call it, and report under this seq.
    New(Seq),
    /// It was called before, with this result.
    Recorded { at: Seq, result: Value },
    /// It was called before and failed: that is part of what the caller has seen.
    Failed { at: Seq, reason: String },
    /// It changes something, was called before, and its outcome is unknown.
    Unknown(Seq, Arc<State>),
}

fn run_of(state: &State) -> Result<&Run, Failure> {
    state.state.0.run().ok_or_else(answers::unknown)
}

/// Of several verdicts about one answer the strictest one stands.
fn verdict<'e>(events: impl Iterator<Item = &'e Event>, call: Seq) -> GateVerdict {
    let judged = events.filter_map(|event| match event {
        Event::LlmAnswerJudged(judged) if judged.call == call => Some(judged.verdict),
        _ => None,
    });
    judged.fold(GateVerdict::Release, |strictest, next| match (strictest, next) {
        (GateVerdict::Suspend, _) | (_, GateVerdict::Suspend) => GateVerdict::Suspend,
        (GateVerdict::AskAgain, _) | (_, GateVerdict::AskAgain) => GateVerdict::AskAgain,
        _ => GateVerdict::Release,
    })
}

/// A model's name as it is kept. Providers have put whole texts there.
fn named(model: &str) -> String {
    model.chars().take(MODEL_NAME).collect()
}

fn words_of(bytes: &[u8]) -> String {
    match serde_json::from_slice(bytes) {
        Ok(Value::String(text)) => text,
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}
