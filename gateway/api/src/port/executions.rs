//! Executions: started, looked at, steered, forked.

use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use omium_schemas::{Money, Seq};
use serde_json::Value;

use super::{Caller, Failure};
use crate::views::{CheckpointView, Done, Ended, ExecutionSummary, ExecutionView, Page, Started};

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

/// The executions of a tenant.
#[async_trait]
pub trait Executions: Send + Sync + 'static {
    /// Starts an execution.
    async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Failure>;

    /// Executions, newest first.
    async fn list(&self, caller: &Caller, filter: Filter) -> Result<Page<ExecutionSummary>, Failure>;

    /// The seq of a checkpoint by its address: `step:NAME:before`, `step:NAME:after`, a name, or `last`.
    async fn place(&self, caller: &Caller, execution: &str, address: &str) -> Result<Seq, Failure>;

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

    /// Waits for the end of an execution, at most so long, and says how it ended; nothing where it is still open.
    async fn ended(
        &self,
        caller: &Caller,
        execution: &str,
        limit: Duration,
    ) -> Result<Option<Ended>, Failure>;
}
