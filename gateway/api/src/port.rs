//! What the API needs from the engine behind it. The binary implements it; the API never sees a processor or a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use omium_schemas::catalogue::{EffectClass, FailureClass, LossReason};
use omium_schemas::{Branch, Epoch, Money, Price, Seq, StepId, TenantId};
use omium_telemetry::{Meters, SpanContext};
use omium_workflow::{Definition, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, watch};

pub use crate::programs::{Decision, ProgramRequest, Programs};
use crate::views::{
    CheckpointView, DeltaView, Done, Ended, EventView, ExecutionSummary, ExecutionView, IssuedKey, KeyView,
    LetGo, Page, PriceView, PricesView, Published, Started, WorkflowView,
};

/// Who asks, as his key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For whom.
    pub tenant: TenantId,
    /// The tenant's name.
    pub label: String,
    /// What he may do.
    pub role: Role,
    /// The public part of his key: the actor in the log.
    pub key: String,
}

/// Why a node is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kind of it, for everybody: it names no file, no log and no stream.
    pub kind: &'static str,
    /// One sentence with all there is to say, for who has a key.
    pub text: String,
}

impl Reason {
    /// A reason.
    pub fn new(kind: &'static str, text: impl Into<String>) -> Reason {
        Reason { kind, text: text.into() }
    }
}

/// What a key may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Performs steps.
    Worker,
    /// Publishes, starts and steers.
    Developer,
    /// Manages keys.
    Admin,
}

/// Why the engine does not do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its class.
    pub kind: FailureKind,
    /// A word that programs can compare: `not-found`, `still-running`, …
    pub code: &'static str,
    /// What failed and what is true now.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// All that is wrong with a definition: file, line, column, text, hint of each.
    pub problems: Value,
}

/// The class of a failure, for the status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// 404: what it speaks of is not there, or is another tenant's.
    NotFound,
    /// 409: it does not fit the present state.
    Conflict,
    /// 410: it was there and was erased.
    Gone,
    /// 422: it makes no sense in any state.
    Invalid,
    /// 429: a limit of the execution or tenant is reached.
    Exhausted,
    /// 503: more than can be taken now; send it again later.
    Busy,
    /// 507: the disk is full; reads go on.
    Full,
    /// 503 with "outcome unknown": send it again with the same key.
    Unknown,
}

impl Failure {
    /// A failure without a list of problems.
    pub fn new(
        kind: FailureKind,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Failure {
        Failure { kind, code, detail: detail.into(), hint: hint.into(), problems: Value::Null }
    }
}

/// What an execution is started with.
#[derive(Clone, Debug, PartialEq)]
pub struct StartRequest {
    /// `name` or `name@3`.
    pub workflow: String,
    /// Its inputs.
    pub inputs: Value,
    /// The same key with the same request starts one execution only.
    pub idempotency: Option<String>,
    /// The most it may cost, where that is less than the definition says.
    pub budget: Option<Money>,
}

/// What is done to an execution.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Begins nothing new.
    Pause,
    /// Goes on.
    Resume,
    /// Ends it.
    Cancel,
    /// Tries the failed step again.
    Retry,
    /// Takes it out of quarantine.
    Release,
    /// Tells it something.
    Signal {
        /// The signal's name.
        name: String,
        /// What comes with it.
        body: Value,
    },
    /// Answers what it asks.
    Answer {
        /// The seq of the question.
        question: Seq,
        /// What is known.
        answer: Answer,
        /// What whoever answers adds.
        note: Option<String>,
    },
    /// Takes a checkpoint under this name.
    Checkpoint {
        /// Its name.
        name: String,
    },
    /// Goes back.
    RollBack {
        /// A seq, `step:NAME:before`, `step:NAME:after`, a checkpoint's name, or `last`.
        to: String,
        /// Whether running steps are cancelled.
        cancel_running: bool,
        /// Whether to go back although tools have changed something since.
        over_writes: bool,
    },
}

/// What a person knows about a call of a tool whose outcome nobody has recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It happened, with this result: it is not called again.
    Happened {
        /// What it answered.
        result: Value,
    },
    /// It did not happen, or may happen twice: it is called again.
    Repeat,
    /// The step fails.
    GiveUp,
}

/// Which executions are listed, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those that stand so: running, paused, suspended, completed, failed, cancelled.
    pub status: Option<String>,
    /// Goes on after this page.
    pub cursor: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: usize,
}

/// Who performs steps.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerInfo {
    /// Its name.
    pub name: String,
    /// The frameworks it can perform.
    pub frameworks: Vec<String>,
    /// How many steps at once.
    pub capacity: u32,
    /// Distribution and hash of what it runs.
    pub code: Option<String>,
}

/// A step that a worker is to perform.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The execution's id.
    pub execution: String,
    /// The workflow's name.
    pub workflow: String,
    /// Which step.
    pub step: StepId,
    /// The agent that does it.
    pub agent: String,
    /// Who can perform it.
    pub framework: String,
    /// With `epoch` and `delivery`: names this sending. All three come back with the outcome.
    pub branch: Branch,
    /// The leader's epoch.
    pub epoch: Epoch,
    /// Which sending.
    pub delivery: i64,
    /// Which attempt, from 1.
    pub attempt: i32,
    /// The same for every sending of the attempt's generation: what the world may deduplicate by.
    pub effect_key: String,
    /// What the agent is told, as the definition says.
    pub definition: Value,
    /// What it is given, templates filled in.
    pub input: Value,
    /// How long it may take.
    pub timeout_ms: Option<u64>,
    /// The trace that its execution belongs to, where whoever started it named one.
    pub trace: Option<SpanContext>,
}

impl Task {
    /// What this sending is named by.
    pub fn sending(&self) -> Sending {
        Sending { step: self.step, branch: self.branch, epoch: self.epoch, delivery: self.delivery }
    }
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// Perform this.
    Perform(Box<Task>),
    /// Stop performing this; its outcome is not needed.
    Cancel {
        /// The execution's id.
        execution: String,
        /// Which step.
        step: StepId,
        /// Which sending.
        delivery: i64,
    },
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done.
    Completed {
        /// Its result.
        output: Value,
        /// What it cost beyond recorded model calls.
        cost: Money,
    },
    /// It failed.
    Failed {
        /// Why.
        class: FailureClass,
        /// In words.
        reason: String,
        /// Whether trying again could help.
        retryable: bool,
        /// How long trying again is to wait at least, where somebody said so.
        retry_after: Option<Duration>,
    },
}

/// A tool that a worker is about to call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The tool's name.
    pub tool: String,
    /// What calling it again would do.
    pub effect: EffectClass,
    /// Its arguments.
    pub arguments: Value,
}

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolEnd {
    /// It answered.
    Answered {
        /// Its result.
        result: Value,
    },
    /// It failed.
    Failed {
        /// In words.
        reason: String,
    },
}

/// A tool call that may be made now, or that was made before.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolBegun {
    /// Where it stands; its seq names the call.
    pub done: Done,
    /// What came of it when an earlier sending of the step made it: its result, or why it failed. It is not made again.
    pub recorded: Option<Result<Value, String>>,
}

fn unrecorded() -> Failure {
    Failure::new(
        FailureKind::Invalid,
        "tools-not-recorded",
        "this engine does not record tool calls of workers",
        "call the tool without saying so; its effect is not deduplicated",
    )
}

/// A worker's own end of the engine.
#[async_trait]
pub trait WorkerSeat: Send + Sync {
    /// Says what became of a step. An outcome that comes too late is refused and changes nothing.
    async fn finish(&self, execution: &str, sending: Sending, outcome: Outcome) -> Result<Done, Failure>;

    /// Says that a step has begun.
    async fn begin(&self, execution: &str, sending: Sending) -> Result<Done, Failure>;

    /// A step is no longer performed here: it goes to another worker. One that was lost for idleness may be stuck in it:
    /// it makes no room for another step before that is granted.
    async fn lose(&self, execution: &str, sending: Sending, reason: LossReason) -> Result<Done, Failure>;

    /// Records that a tool is about to be called, or gives what came of it when it was called before.
    async fn call_tool(
        &self,
        execution: &str,
        sending: Sending,
        call: ToolCall,
    ) -> Result<ToolBegun, Failure> {
        let _ = (execution, sending, call);
        Err(unrecorded())
    }

    /// Records what became of a tool call.
    async fn end_tool(
        &self,
        execution: &str,
        sending: Sending,
        call: Seq,
        end: ToolEnd,
    ) -> Result<Done, Failure> {
        let _ = (execution, sending, call, end);
        Err(unrecorded())
    }

    /// The steps that the engine says are with this worker: whoever comes back after a broken connection compares.
    fn holds(&self) -> Vec<(String, Sending)>;

    /// How many more steps may be sent.
    fn grant(&self, credit: u32);

    /// Its connection is broken, or back again. Nothing new is sent in between; what it has stays with it.
    fn away(&self, away: bool) {
        let _ = away;
    }

    /// No new steps are sent any more.
    fn drain(&self);
}

/// Names one sending of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sending {
    /// The step.
    pub step: StepId,
    /// The branch.
    pub branch: Branch,
    /// The leader's epoch.
    pub epoch: Epoch,
    /// Which sending.
    pub delivery: i64,
}

/// A key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// What it may do.
    pub role: Role,
    /// How many days it lasts; until it is revoked where none are named.
    pub days: Option<u32>,
    /// What people call it.
    pub name: Option<String>,
}

/// The engine. Every call names its caller: a tenant sees only its own, and what is another's is not there.
#[async_trait]
pub trait Engine: Programs {
    /// Whose key this is; nothing where it is unknown, revoked or too old.
    async fn authenticate(&self, key: &str) -> Result<Option<Caller>, Failure>;

    /// Whether a caller's key is still what it was when he was let in: what goes on for long asks again and again.
    async fn knows(&self, caller: &Caller) -> bool {
        let _ = caller;
        true
    }

    /// Whether all partitions are led.
    fn ready(&self) -> bool;

    /// Why it is not ready.
    fn wholeness(&self) -> Vec<Reason> {
        Vec::new()
    }

    /// Whether what is there can be read, also while not all can be written.
    fn readable(&self) -> bool {
        self.ready()
    }

    /// Its parts and whether each is well.
    fn health(&self) -> Vec<(String, bool)> {
        vec![("engine".to_owned(), self.ready())]
    }

    /// What `/metrics` reads.
    fn meters(&self) -> Arc<Meters>;

    /// How many executions are open, by framework.
    fn active(&self) -> Vec<(String, u64)>;

    /// Reads a definition as it is read before it is published: all that is wrong with it is told.
    fn read(&self, file: &str, text: &str) -> Result<Definition, Problems> {
        omium_workflow::parse(file, text)
    }

    /// Publishes a version. The same text again is the same version.
    async fn publish(&self, caller: &Caller, file: &str, text: &str) -> Result<Published, Failure>;

    /// All workflows, newest versions.
    async fn workflows(&self, caller: &Caller) -> Result<Vec<WorkflowView>, Failure>;

    /// One workflow, `name` or `name@3`, with its text.
    async fn workflow(&self, caller: &Caller, name: &str) -> Result<WorkflowView, Failure>;

    /// The keys of the tenant.
    async fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, Failure>;

    /// Lets a new key in.
    async fn issue_key(&self, caller: &Caller, wanted: NewKey) -> Result<IssuedKey, Failure>;

    /// Shuts a key out, and says what it was.
    async fn revoke_key(&self, caller: &Caller, key: &str) -> Result<KeyView, Failure>;

    /// What models cost.
    async fn prices(&self, caller: &Caller) -> Result<PricesView, Failure>;

    /// Sets what a token of a model costs, for executions that begin from now on.
    async fn set_price(&self, caller: &Caller, model: String, price: Price) -> Result<PriceView, Failure>;

    /// Lets go at once of what was kept long enough.
    async fn trim(&self, caller: &Caller) -> Result<LetGo, Failure>;

    /// Starts an execution.
    async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Failure>;

    /// Executions, newest first.
    async fn list(&self, caller: &Caller, filter: Filter) -> Result<Page<ExecutionSummary>, Failure>;

    /// The seq of a checkpoint by its address: `step:NAME:before`, `step:NAME:after`, a name, or `last`.
    async fn place(&self, caller: &Caller, execution: &str, address: &str) -> Result<Seq, Failure> {
        let _ = caller;
        let detail = format!("{execution} has no checkpoint `{address}`");
        let hint = format!("`omium checkpoints list {execution}` shows them");
        Err(Failure::new(FailureKind::NotFound, "no-such-checkpoint", detail, hint))
    }

    /// One execution; at a seq, as it was there.
    async fn show(&self, caller: &Caller, execution: &str, at: Option<Seq>)
    -> Result<ExecutionView, Failure>;

    /// One content of an execution, whole: its inputs, or what a view leaves out because it is too long, under the name
    /// that the view gives. One that is not there any more is looked for as it was at the seq.
    async fn content(
        &self,
        caller: &Caller,
        execution: &str,
        name: &str,
        at: Option<Seq>,
    ) -> Result<Bytes, Failure>;

    /// Does something to an execution.
    async fn act(
        &self,
        caller: &Caller,
        execution: &str,
        action: Action,
        idempotency: Option<String>,
    ) -> Result<Done, Failure>;

    /// Starts another execution from a checkpoint of this one.
    async fn fork(
        &self,
        caller: &Caller,
        execution: &str,
        at: &str,
        inputs: Option<Value>,
        idempotency: Option<String>,
    ) -> Result<Started, Failure>;

    /// Its checkpoints, in order.
    async fn checkpoints(&self, caller: &Caller, execution: &str) -> Result<Vec<CheckpointView>, Failure>;

    /// Its events from a seq on, at most so many.
    async fn events(
        &self,
        caller: &Caller,
        execution: &str,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<EventView>, Failure>;

    /// The last seq of an execution, as it grows. Whoever follows reads events whenever it moves.
    async fn follow(&self, caller: &Caller, execution: &str) -> Result<watch::Receiver<Seq>, Failure>;

    /// Parts of models' answers from now on. As long as somebody holds this, models are asked to stream.
    async fn read_along(
        &self,
        caller: &Caller,
        execution: &str,
    ) -> Result<broadcast::Receiver<DeltaView>, Failure> {
        let _ = (caller, execution);
        Ok(broadcast::channel(1).1)
    }

    /// Waits for the end of an execution, at most so long, and says how it ended; nothing where it is still open.
    async fn ended(
        &self,
        caller: &Caller,
        execution: &str,
        limit: Duration,
    ) -> Result<Option<Ended>, Failure> {
        let mut moved = self.follow(caller, execution).await?;
        let over = tokio::time::sleep(limit);
        tokio::pin!(over);
        loop {
            moved.borrow_and_update();
            let ExecutionView { ended_at, status, failure, output, .. } =
                self.show(caller, execution, None).await?;
            if ended_at.is_some() {
                return Ok(Some(Ended { status, failure, output }));
            }
            tokio::select! {
                changed = moved.changed() => if changed.is_err() { return Ok(None) },
                () = &mut over => return Ok(None),
            }
        }
    }

    /// Seats a worker. Steps arrive on the channel as far as its credit goes.
    async fn seat(
        &self,
        caller: &Caller,
        worker: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Result<Box<dyn WorkerSeat>, Failure>;
}
