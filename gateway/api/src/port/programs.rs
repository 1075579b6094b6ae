//! Programs that decide their own steps, and the checks on their agents.

use async_trait::async_trait;
use omium_schemas::Money;
use serde_json::Value;

use super::{Caller, Failure};
use crate::views::{AttemptView, Done, GuardView, Started};

/// A program that is about to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramRequest {
    /// Its name.
    pub name: String,
    /// How it is called.
    pub arguments: Value,
    /// auto, approve or off; auto where nothing is said.
    pub recovery: Option<String>,
    /// The most it may cost.
    pub budget: Option<Money>,
    /// The same key with the same request opens one execution only.
    pub idempotency: Option<String>,
}

/// What a person decides about the finding that a program waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A remedy is applied: this suggestion, or the best one.
    Apply(Option<i32>),
    /// The finding is none: the answer is taken as it is.
    Dismiss,
    /// The program does not go on.
    Refuse,
}

/// Programs, and the checks on their agents.
#[async_trait]
pub trait Programs: Send + Sync + 'static {
    /// Opens an execution for a program that decides its own steps.
    async fn open_program(&self, caller: &Caller, request: ProgramRequest) -> Result<Started, Failure>;

    /// Begins the next attempt at a program; earlier ones are over.
    async fn begin_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        code: Option<String>,
    ) -> Result<AttemptView, Failure>;

    /// Says that an attempt has ended, how, and with what result.
    async fn end_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        number: i64,
        code: i32,
        output: Value,
    ) -> Result<Done, Failure>;

    /// Decides about the finding that a program waits for.
    async fn decide(
        &self,
        caller: &Caller,
        execution: &str,
        decision: Decision,
        note: Option<String>,
    ) -> Result<Done, Failure>;

    /// The checks on agents of programs.
    async fn guards(&self, caller: &Caller) -> Result<Vec<GuardView>, Failure>;

    /// Puts a check on an agent; one of the same name is replaced.
    async fn set_guard(&self, caller: &Caller, guard: GuardView) -> Result<GuardView, Failure>;

    /// Takes a check away, and says what it was.
    async fn drop_guard(&self, caller: &Caller, name: &str) -> Result<GuardView, Failure>;
}
