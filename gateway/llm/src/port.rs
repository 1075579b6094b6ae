//! What the gate needs from the engine behind it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use omium_openai::{Answer, Request};
use omium_schemas::catalogue::{EffectClass, ModelErrorClass};
use omium_schemas::{Digest, Seq, StreamId, TenantId};
use serde_json::Value;

/// One attempt at a program, as its token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whose.
    pub tenant: TenantId,
    /// The execution.
    pub stream: StreamId,
    /// Which attempt, from 1.
    pub number: i64,
}

/// Why the gate does not let something pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// A word that programs can compare.
    pub code: &'static str,
    /// What failed and what is true now.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// Whether the same request may pass later.
    pub again: bool,
}

/// A request to a model.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The body as the client sent it, with its parts.
    pub request: &'a Request<'a>,
    /// Who asks, without loop index.
    pub agent: String,
    /// Who asks, with loop index.
    pub caller: String,
    /// The name of the canonical request.
    pub digest: Digest,
    /// Its second name, by which it is found where an earlier answer has minted other ids.
    pub alias: Option<Digest>,
    /// The framework's own step number, where that survives its checkpoints.
    pub position: Option<String>,
    /// The client says that it sends this again because it got no answer.
    pub repeats: bool,
}

/// What is known about a request before it is sent.
#[derive(Clone, Debug)]
pub enum Looked {
    /// It was answered before; these are the bytes, and this is where they stand.
    Recorded(Bytes, Seq),
    /// It has to be asked.
    Ask {
        /// What is changed of the agent's requests.
        changes: Vec<Change>,
        /// The name of these changes.
        patch_set: Option<Digest>,
        /// Whether the answer is held back until it is judged, also where it comes in parts.
        hold: bool,
        /// What this rests on: handed back when the request is begun, so that nobody has to look twice.
        seen: Seen,
    },
}

/// The state that an answer of the ledger rests on. Only the ledger knows what it is.
#[derive(Clone)]
pub struct Seen(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

/// A change of an agent's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A text at the end of the last system message.
    Append(String),
    /// The answer is held to this JSON Schema.
    Structured(String),
}

/// What a model answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What it says.
    pub said: Answer,
    /// The answer as it came.
    pub body: Bytes,
    /// The client has read of it already.
    pub shown: bool,
}

/// How a model failed.
#[derive(Clone, Debug)]
pub struct Failed {
    /// How.
    pub class: ModelErrorClass,
    /// The HTTP status, or 0.
    pub status: u16,
    /// What was said.
    pub reason: String,
    /// Whether asking again may help.
    pub retryable: bool,
}

/// What the gate does with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client reads it.
    Release,
    /// Another one is asked for in its place.
    AskAgain,
    /// The client reads nothing; the program is to end.
    Suspend,
}

/// A tool that a program is about to call.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Who calls, without loop index.
    pub agent: String,
    /// Who calls, with loop index.
    pub caller: String,
    /// The framework's own step number, where that survives its checkpoints.
    pub position: Option<String>,
    /// The tool's name.
    pub tool: String,
    /// What calling it again would do.
    pub effect: EffectClass,
    /// Its arguments.
    pub arguments: Value,
    /// The program says that it sends this again because it got no answer.
    pub repeats: bool,
}

/// What a program is told about a tool that it is about to call.
#[derive(Clone, Debug, PartialEq)]
pub enum BegunTool {
    /// Call it, and report under this number.
    New(Seq),
    /// It was called before, under this number and with this result.
    Recorded(Seq, Value),
    /// It was called before, under this number, and failed.
    Failed(Seq, String),
}

/// What became of a tool call.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolEnd {
    /// It answered.
    Result(Value),
    /// It failed.
    Failed(String),
}

/// Where calls of programs are recorded. What it returns from is durable.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Whose token this is, if it is one for this execution and not too old.
    async fn attempt(&self, execution: &str, token: &str) -> Result<Attempt, Refused>;

    /// A digest under the execution's key: it confirms no guess once that is gone.
    fn digest(&self, attempt: &Attempt, bytes: &[u8]) -> Result<Digest, Refused>;

    /// A digest under the tenant's own key: the same text has the same one in each of its executions.
    fn label(&self, attempt: &Attempt, bytes: &[u8]) -> Result<Digest, Refused>;

    /// What is to be done with a request. Where an equal one is on its way, waits for its answer.
    async fn look(&self, attempt: &Attempt, question: &Question<'_>) -> Result<Looked, Refused>;

    /// What is changed of an agent's requests now.
    async fn changes(&self, attempt: &Attempt, agent: &str) -> Result<Looked, Refused>;

    /// Records that a model is about to be asked; `sent` is the body as it goes, where changes are in force.
    async fn begin(
        &self,
        attempt: &Attempt,
        question: &Question<'_>,
        patch_set: Option<Digest>,
        sent: Option<&str>,
        seen: Seen,
    ) -> Result<Seq, Refused>;

    /// Records an answer, and says what is to be done with it.
    async fn answered(&self, attempt: &Attempt, call: Seq, answer: Answered) -> Result<Verdict, Refused>;

    /// Records that there is no answer.
    async fn failed(&self, attempt: &Attempt, call: Seq, failed: Failed) -> Result<(), Refused>;

    /// Whoever was to end this call has panicked: nobody waits for its end any more.
    fn lost(&self, attempt: &Attempt, call: Seq);

    /// Records that a tool is about to be called, or says what came of it before.
    async fn begin_tool(&self, attempt: &Attempt, call: ToolCall) -> Result<BegunTool, Refused>;

    /// Ends an attempt that must not go on, whatever its program makes of that.
    async fn fence(&self, attempt: &Attempt, reason: &str) -> Result<(), Refused>;

    /// Records what became of a tool call. The same end again is taken again.
    async fn end_tool(&self, attempt: &Attempt, call: Seq, end: ToolEnd) -> Result<(), Refused>;
}
