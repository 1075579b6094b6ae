//! Who performs steps.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use omium_schemas::catalogue::{EffectClass, FailureClass, LossReason};
use omium_schemas::{Branch, Epoch, Money, Seq, StepId};
use omium_telemetry::SpanContext;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Caller, Failure};
use crate::views::Done;

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
    ) -> Result<ToolBegun, Failure>;

    /// Records what became of a tool call.
    async fn end_tool(
        &self,
        execution: &str,
        sending: Sending,
        call: Seq,
        end: ToolEnd,
    ) -> Result<Done, Failure>;

    /// The steps that the engine says are with this worker: whoever comes back after a broken connection compares.
    fn holds(&self) -> Vec<(String, Sending)>;

    /// How many more steps may be sent.
    fn grant(&self, credit: u32);

    /// Its connection is broken, or back again. Nothing new is sent in between; what it has stays with it.
    fn away(&self, away: bool);

    /// No new steps are sent any more.
    fn drain(&self);
}

/// Where workers get steps.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
    /// Seats a worker. Steps arrive on the channel as far as its credit goes.
    async fn seat(
        self: Arc<Self>,
        caller: &Caller,
        worker: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Result<Box<dyn WorkerSeat>, Failure>;
}
