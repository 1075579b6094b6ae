//! What the API needs from the engine behind it, one trait for each resource. The API never sees a processor or a
//! store.
//!
//! Every call names its caller: a tenant sees only its own, and what is another's is not there.

mod executions;
mod keys;
mod node;
mod prices;
mod programs;
mod retention;
mod streams;
mod workers;
mod workflows;

use serde_json::Value;

pub use self::executions::{Action, Answer, Executions, Filter, StartRequest};
pub use self::keys::{Caller, Keys, NewKey, Role};
pub use self::node::{Node, Reason};
pub use self::prices::Prices;
pub use self::programs::{Decision, ProgramRequest, Programs};
pub use self::retention::Retention;
pub use self::streams::Streams;
pub use self::workers::{
    Outcome, Sending, Task, ToWorker, ToolBegun, ToolCall, ToolEnd, WorkerInfo, WorkerSeat, Workers,
};
pub use self::workflows::Workflows;

/// The engine: whatever is all of these.
pub trait Engine:
    Node + Keys + Workflows + Prices + Executions + Streams + Workers + Programs + Retention
{
}

impl<T> Engine for T where
    T: Node + Keys + Workflows + Prices + Executions + Streams + Workers + Programs + Retention
{
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
