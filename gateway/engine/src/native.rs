//! Native agents, performed inside the engine: each model and tool call stands in the log before it is made.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use omium_agents::native::{
    BegunModel, BegunTool, Calls, Earlier, EarlierCall, EarlierOutcome, ModelAnswer, ModelCall, ModelFailure,
    NativeTask, NotRecorded, Outcome as Native, Prices, Secrets, ToolCall, ToolFailure, Upstream, perform,
};
use omium_api::port::{Outcome, Sending, Task, ToWorker, WorkerInfo};
use omium_execution::{Call, CallKind, Outcome as Known, Run};
use omium_runtime::{Request, StreamKey};
use omium_schemas::catalogue::{
    Command, CompleteLlmCall, CompleteToolCall, FailLlmCall, FailToolCall, FailureClass, StartLlmCall,
    StartStep, StartToolCall, ToolErrorClass,
};
use omium_schemas::{Content, Digest, Money, Seq, TenantId};
use serde_json::Value;
use tokio::sync::mpsc;

use super::draining::Underway;
use super::reading::Told;
use super::view::{Opened, scope};
use super::{Engine, answers, contents, prices};

/// How many steps are performed at once. They wait for models most of the time.
const AT_ONCE: u32 = 256;
/// How long a step may take where its definition does not say.
const PATIENCE: Duration = Duration::from_secs(600);

/// Performs steps of native agents until the engine goes away.
///
/// Without a model's server each step fails by name.
pub fn seat(engine: &Arc<Engine>, upstream: Option<Upstream>) {
    let (steps, mut told) = mpsc::channel(AT_ONCE as usize);
    let info = WorkerInfo {
        name: "native".into(),
        frameworks: vec!["native".into()],
        capacity: AT_ONCE,
        code: None,
    };
    let id = engine.board.seat(None, info, steps);
    let weak = Arc::downgrade(engine);
    let http = client(upstream.as_ref());
    tokio::spawn(async move {
        let mut running: Vec<(String, Sending, tokio::task::AbortHandle)> = Vec::new();
        while let Some(told) = told.recv().await {
            running.retain(|(.., handle)| !handle.is_finished());
            match told {
                ToWorker::Perform(task) => {
                    let (execution, sending) = (task.execution.clone(), task.sending());
                    let (weak, upstream, http) = (weak.clone(), upstream.clone(), http.clone());
                    let step = tokio::spawn(performed(weak, id, *task, upstream, http));
                    running.push((execution, sending, step.abort_handle()));
                }
                ToWorker::Cancel { execution, step, delivery } => {
                    let this = |known: &Sending| known.step == step && known.delivery == delivery;
                    running
                        .iter()
                        .filter(|(name, known, _)| *name == execution && this(known))
                        .for_each(|(.., handle)| handle.abort());
                }
            }
        }
    });
}

/// What a model's server redirects to has not been consented to, and a proxy cannot reach this machine.
fn client(upstream: Option<&Upstream>) -> reqwest::Client {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10));
    let here = upstream.is_some_and(|upstream| omium_edge::is_loopback(&upstream.base_url));
    if here { client.no_proxy() } else { client }.build().unwrap_or_default()
}

async fn performed(
    engine: Weak<Engine>,
    seat: u64,
    task: Task,
    upstream: Option<Upstream>,
    http: reqwest::Client,
) {
    let Some(engine) = engine.upgrade() else { return };
    let sending = task.sending();
    let Some(key) = engine.board.of_seat(seat, &task.execution, sending) else { return };
    let outcome = engine.native(key, &task, upstream, &http).await;
    if let Some(outcome) = outcome
        && let Err(failure) = engine.finish(key, sending, outcome).await
    {
        tracing::info!(stream = %key.stream, detail = failure.detail, "the outcome of a native step was not taken");
    }
    engine.board.release(seat, key, sending);
}

impl Engine {
    /// Nothing where the step belongs to somebody else by now.
    async fn native(
        &self,
        key: StreamKey,
        task: &Task,
        upstream: Option<Upstream>,
        http: &reqwest::Client,
    ) -> Option<Outcome> {
        let sending = task.sending();
        let Sending { step, branch, epoch, delivery } = sending;
        let start = StartStep { step, branch, epoch, delivery, worker: "native".into(), code: None };
        answers::done(self.node().submit(Request::new(key, start)).await).ok()?;
        let Some(upstream) = upstream else { return Some(no_upstream()) };
        let stream = self.node().view(key).await.ok().flatten()?;
        let run = stream.state.0.run()?;
        let definition = self.pinned(key.tenant, &run.workflow, run.version?).await;
        let agent = definition.as_ref().and_then(|definition| definition.agent(step));
        let blobs = self.opened(key, contents(run).chain(answered(run))).await;
        let read = |content: &Content| self.read(key, &blobs, content);
        let plain = |content: &Content| self.plain(key, &blobs, content);
        let mut scope = scope(run, &Opened(&read));
        scope["input"] = task.input.clone();
        let earlier = run
            .calls
            .iter()
            .filter(|call| call.step == step && call.branch == branch)
            .map(|call| earlier(call, &plain));
        let earlier = Mutex::new(Earlier::new(earlier.collect()));
        let record =
            Record { engine: self, key, task, earlier, told: Told::default(), underway: Mutex::default() };
        let native = NativeTask {
            agent: task.agent.clone(),
            caller: format!("{}#0", task.agent),
            definition: task.definition.clone(),
            tools: definition.as_ref().map(|definition| definition.tools.clone()).unwrap_or_default(),
            scope,
            input: task.input.clone(),
            output_schema: agent.and_then(|agent| agent.output_schema.clone()),
            upstream,
            effect_key: task.effect_key.clone(),
            deadline: task.timeout_ms.map_or(PATIENCE, Duration::from_millis),
            prices: self.prices(key.tenant, run.price_list).await,
            secrets: Secrets::new(|name| std::env::var(name).ok()),
            local_programs: true,
        };
        match perform(native, &record, http).await {
            // Each call has brought its own cost into the log.
            Native::Completed { output, .. } => Some(Outcome::Completed { output, cost: Money::ZERO }),
            Native::Failed(failure) => {
                // Of an attempt whose answers are to blame, the next one must not be served any.
                let class = match failure.class {
                    _ if !failure.blames_answers => failure.class,
                    FailureClass::ModelError | FailureClass::LogicError => failure.class,
                    _ => FailureClass::Hallucination,
                };
                Some(Outcome::Failed { class, reason: failure.reason, retryable: failure.retryable })
            }
            Native::Unknown { call, reason, .. } => {
                self.ask_about(key, sending, "native", call, &reason).await;
                None
            }
            Native::NotRecorded(_) => None,
        }
    }
}

impl Engine {
    /// The price list that an execution is charged by. Where it cannot be read now, its calls count as unpriced.
    async fn prices(&self, tenant: TenantId, list: Option<Digest>) -> Prices {
        match self.control().await {
            Ok(control) => {
                Prices::new(move |model, usage| prices::cost(&control, tenant, list, model, usage))
            }
            Err(_) => Prices::none(),
        }
    }
}

fn no_upstream() -> Outcome {
    let reason =
        "this node was started without a model's server; start it with --upstream URL or OMIUM_UPSTREAM_URL";
    Outcome::Failed { class: FailureClass::ModelError, reason: reason.to_owned(), retryable: false }
}

fn answered(run: &Run) -> impl Iterator<Item = &Content> {
    run.calls.iter().filter_map(|call| match &call.outcome {
        Known::Answered(answer) => answer.as_ref(),
        Known::Failed { reason, .. } => reason.as_ref(),
        Known::Open => None,
    })
}

/// A call as it was recorded: an answer is served again byte for byte.
fn earlier(call: &Call, plain: &dyn Fn(&Content) -> Option<Bytes>) -> EarlierCall {
    let bytes = |content: &Option<Content>| content.as_ref().and_then(plain).unwrap_or_default().to_vec();
    let outcome = match &call.outcome {
        Known::Open => EarlierOutcome::Open,
        Known::Answered(answer) => EarlierOutcome::Answered(bytes(answer)),
        Known::Failed { reason, .. } => {
            let reason = String::from_utf8_lossy(&bytes(reason)).into_owned();
            EarlierOutcome::Failed(ToolFailure { class: ToolErrorClass::Other, reason })
        }
    };
    let tool = match &call.kind {
        CallKind::Model(_) => None,
        CallKind::Tool { tool, .. } => Some(tool.clone()),
    };
    EarlierCall { at: call.at, tool, caller: call.caller.clone(), request: call.request, outcome }
}

/// The record of one step's calls: the execution's own stream.
struct Record<'e> {
    engine: &'e Engine,
    key: StreamKey,
    task: &'e Task,
    earlier: Mutex<Earlier>,
    told: Told,
    /// Calls that have begun and not ended.
    underway: Mutex<Vec<Underway>>,
}

impl Record<'_> {
    fn begins(&self) -> Result<Underway, NotRecorded> {
        let begun = self.engine.native_calls.begin();
        begun.ok_or_else(|| NotRecorded("this node stops; the step goes on where it starts again".into()))
    }

    fn began(&self, call: Underway) {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// A call has its end in the log, or cannot have one here any more.
    fn ended(&self) {
        drop(self.underway.lock().unwrap_or_else(PoisonError::into_inner).pop());
    }

    async fn tell(&self, command: impl Into<Command>) -> Result<Seq, NotRecorded> {
        let answer = self.engine.node().submit(Request::new(self.key, command)).await;
        // The command takes the frame's first seq; the event that names the call follows it.
        answers::done(answer).map(|done| Seq(done.seq + 1)).map_err(|failure| NotRecorded(failure.detail))
    }

    fn digest(&self, canonical: &[u8]) -> Result<Digest, NotRecorded> {
        let key = self
            .engine
            .vault
            .sealing(&self.key)
            .ok_or_else(|| NotRecorded("the execution's key was destroyed".into()))?;
        Ok(key.digest(canonical))
    }
}

#[async_trait]
impl Calls for Record<'_> {
    async fn start_model(&self, call: ModelCall<'_>) -> Result<BegunModel, NotRecorded> {
        let request = self.digest(call.canonical)?;
        let known = self.earlier.lock().unwrap_or_else(PoisonError::into_inner).model(call.caller, request);
        if let Some(answer) = known {
            return Ok(BegunModel::Recorded(answer));
        }
        let start = StartLlmCall {
            step: self.task.step,
            branch: self.task.branch,
            agent: call.agent.into(),
            caller: call.caller.into(),
            model: call.model.into(),
            request,
            patch_set: None,
            messages: Vec::new(),
            stored: Vec::new(),
            parameters: Some(Content::open(call.request.to_string())),
            delivery: 0,
            endpoint: "chat/completions".into(),
            continues: None,
            thread: None,
            before: None,
            after: None,
            difference: None,
        };
        let call = self.begins()?;
        let begun = self.tell(start).await.map(BegunModel::New)?;
        self.began(call);
        Ok(begun)
    }

    fn reads_along(&self) -> bool {
        self.engine.readers.are_there(&self.key)
    }

    async fn delta(&self, call: Seq, text: &str) {
        self.told.tell(&self.engine.readers, &self.key, self.task.step, call, text);
    }

    async fn complete_model(&self, call: Seq, answer: ModelAnswer<'_>) -> Result<(), NotRecorded> {
        let ModelAnswer { model, usage, cost, finish, answer } = answer;
        let (model, usage, answer) = (model.to_owned(), usage.clone(), Content::open(answer.to_vec()));
        let complete = CompleteLlmCall { call, model, usage, cost, finish, answer, shown: false };
        let told = self.tell(complete).await.map(|_| ());
        self.ended();
        told
    }

    async fn fail_model(&self, call: Seq, failure: &ModelFailure) -> Result<(), NotRecorded> {
        let reason = Some(Content::open(failure.reason.clone()));
        let (class, status, retryable) = (failure.class, i32::from(failure.status), failure.retryable);
        let told = self.tell(FailLlmCall { call, class, status, reason, retryable }).await.map(|_| ());
        self.ended();
        told
    }

    async fn start_tool(&self, call: ToolCall<'_>) -> Result<BegunTool, NotRecorded> {
        let request = self.digest(call.canonical)?;
        let known = self.earlier.lock().unwrap_or_else(PoisonError::into_inner).tool(&call, request);
        if let Some(known) = known {
            return Ok(known);
        }
        let start = StartToolCall {
            step: self.task.step,
            branch: self.task.branch,
            caller: call.caller.into(),
            tool: call.tool.into(),
            effect: call.effect,
            request,
            arguments: Some(Content::open(call.arguments.to_string())),
            delivery: 0,
        };
        let call = self.begins()?;
        let begun = self.tell(start).await.map(BegunTool::New)?;
        self.began(call);
        Ok(begun)
    }

    async fn complete_tool(&self, call: Seq, result: &Value) -> Result<(), NotRecorded> {
        let result = Some(Content::open(result.to_string()));
        let told = self.tell(CompleteToolCall { call, result }).await.map(|_| ());
        self.ended();
        told
    }

    async fn fail_tool(&self, call: Seq, failure: &ToolFailure) -> Result<(), NotRecorded> {
        let reason = Some(Content::open(failure.reason.clone()));
        let told = self.tell(FailToolCall { call, class: failure.class, reason }).await.map(|_| ());
        self.ended();
        told
    }
}
