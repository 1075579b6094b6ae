//! What the API shows: plain values, the same in every language.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::port::Role;

/// A version of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowView {
    /// Its name.
    pub name: String,
    /// Which version, from 1.
    pub version: u32,
    /// SHA-256 of its text, in hex.
    pub hash: String,
    /// When it was published, RFC 3339.
    pub published_at: String,
    /// Its agents, in order.
    pub agents: Vec<String>,
    /// Its text, where one workflow was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// What became of a definition that was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// The version.
    #[serde(flatten)]
    pub workflow: WorkflowView,
    /// Whether the newest version had this text before.
    pub repeated: bool,
    /// What will keep its executions from going on as things are.
    pub warnings: Vec<String>,
}

/// An execution that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// Its id.
    pub id: String,
    /// Whether the same request had started it before.
    pub repeated: bool,
    /// How it ended, where the request waited for that and it has ended by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ended {
    /// completed, failed, cancelled.
    pub status: String,
    /// Why it failed, where it has.
    pub failure: Option<String>,
    /// What it resulted in, where it is completed.
    pub output: Value,
}

/// Where a command stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// The seq of the command.
    pub seq: u64,
    /// The seq of its last event.
    pub last: u64,
    /// Whether this is the answer to an earlier one with the same key.
    pub repeated: bool,
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutionSummary {
    /// Its id.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// running, paused, suspended, completed, failed, cancelled.
    pub status: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; nothing while it is open.
    pub ended_at: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask with for the next part; nothing at the end.
    pub next: Option<String>,
}

/// An execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecutionView {
    /// Its id.
    pub id: String,
    /// The workflow's name.
    pub workflow: String,
    /// Which version, in hex.
    pub version: Option<String>,
    /// running, paused, suspended, completed, failed, cancelled.
    pub status: String,
    /// Why it failed, where it has.
    pub failure: Option<String>,
    /// The generation of its effects.
    pub branch: u64,
    /// The last seq of its stream.
    pub seq: u64,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; nothing while it is open.
    pub ended_at: Option<String>,
    /// What it was given.
    pub inputs: Value,
    /// What it resulted in, where it is completed.
    pub output: Value,
    /// What it has cost, in dollars, exactly.
    pub cost_usd: String,
    /// How many answered model calls had no price. What these cost is not in `cost_usd`.
    pub unpriced_calls: u32,
    /// Its steps, in the plan's order.
    pub steps: Vec<StepView>,
    /// What a person is asked; the steps in question wait until somebody answers.
    pub questions: Vec<QuestionView>,
    /// What was found in answers of a program.
    #[serde(default)]
    pub findings: Vec<FindingView>,
    /// The attempt of a program that runs or ran last.
    #[serde(default)]
    pub attempt: Option<i64>,
    /// How often a resumed program asked for something else than before.
    #[serde(default)]
    pub drifts: u32,
    /// The execution and seq that it was forked from.
    pub forked_from: Option<(String, u64)>,
    /// SHA-256 of the canonical state, in hex.
    pub state_hash: String,
}

/// Something that only a person can say: a tool that changes something was called, and nobody knows whether it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuestionView {
    /// The seq that names it.
    pub seq: u64,
    /// The step that waits for the answer.
    pub step: u32,
    /// The agent whose step it is.
    pub agent: String,
    /// The seq that names the call.
    pub call: u64,
    /// The tool that was called.
    pub tool: String,
    /// What it was called with.
    pub arguments: Value,
    /// The question, in words.
    pub text: String,
    /// RFC 3339.
    pub asked_at: String,
    /// RFC 3339: when no answer counts as giving up.
    pub expires_at: Option<String>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// Its number, from 1.
    pub step: u32,
    /// The agent that does it.
    pub agent: String,
    /// Who can perform it.
    pub framework: String,
    /// blocked, waiting, running, done, failed, skipped, cancelled, asking (it waits for a signal, or for an answer to a
    /// question).
    pub status: String,
    /// Attempts so far on this branch.
    pub attempts: i32,
    /// RFC 3339.
    pub since: Option<String>,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// Its result, where it is done.
    pub output: Value,
    /// Why its last attempt failed.
    pub failure: Option<String>,
    /// In words.
    pub reason: Option<String>,
    /// What it has cost, in dollars, exactly.
    pub cost_usd: String,
    /// How many answered model calls had no price. What these cost is not in `cost_usd`.
    pub unpriced_calls: u32,
    /// The signal that it waits for.
    pub signal: Option<String>,
    /// Model and tool calls of a step that runs.
    pub calls: Vec<CallView>,
}

/// A model or tool call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallView {
    /// The seq that names it.
    pub seq: u64,
    /// model or tool.
    pub kind: String,
    /// The model's or the tool's name.
    pub name: String,
    /// open, answered, failed.
    pub status: String,
    /// Who asks: the agent's name with its loop index.
    pub caller: String,
    /// Tokens of a model's request and of its answer.
    pub tokens: Option<(i64, i64)>,
    /// What the gate did with the answer, where it did not just let it pass: ask-again, suspend.
    pub verdict: Option<String>,
    /// Whether the request was changed by remedies.
    pub patched: bool,
    /// Whether the answer is never served again.
    pub condemned: bool,
    /// Whether the last attempt was served what an earlier one was answered.
    pub served: bool,
    /// What a model's answer cost, in dollars, exactly; `unpriced` where the model has no price.
    pub cost_usd: Option<String>,
    /// Why it has failed, where that is known.
    pub reason: Option<String>,
}

/// Something that a detector has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindingView {
    /// Its place.
    pub seq: u64,
    /// The call whose answer it is about.
    pub call: Option<u64>,
    /// Who gave that answer.
    pub caller: Option<String>,
    /// rule, schema, unusable, uncheckable, …
    pub kind: String,
    /// note, warn, fail.
    pub severity: String,
    /// Who saw it.
    pub detector: String,
    /// In words.
    pub detail: String,
    /// What can be done about it, the best first.
    pub remedies: Vec<RemedyView>,
    /// The number of what was chosen.
    pub chosen: Option<i32>,
    /// Whether it helped, once that is known.
    pub helped: Option<bool>,
    /// Somebody said that it is none.
    pub dismissed: bool,
}

/// Something that can be done about a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RemedyView {
    /// Which suggestion, from 1.
    pub number: i32,
    /// append-constraint, ask-again, structured-output, ask-human, …
    pub kind: String,
    /// How confident recovery is that it helps, 0 to 1.
    pub confidence: f64,
    /// What would be added to the agent's instructions.
    pub text: Option<String>,
}

/// An attempt at a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// Which, from 1.
    pub number: i64,
    /// The key that the program gets for its calls of models and tools.
    pub token: String,
    /// Where it sends them, below this server's address: `/v1` behind it speaks OpenAI's API.
    pub path: String,
}

/// A check on the answers of an agent of programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardView {
    /// Its name.
    pub name: String,
    /// The program that it is for; all of them where none is named.
    #[serde(default)]
    pub program: Option<String>,
    /// The agent.
    pub agent: String,
    /// The field of a JSON answer that is checked, with dots between names.
    #[serde(default)]
    pub field: Option<String>,
    /// How the value is found in prose: `apr: number near "APR"`.
    #[serde(default)]
    pub extract: Option<String>,
    /// The rule, in CEL, over `value` and `output`.
    #[serde(default)]
    pub rule: Option<String>,
    /// The JSON Schema that the answer has to fit.
    #[serde(default)]
    pub schema: Option<Value>,
    /// What the agent is told when the check does not hold.
    #[serde(default)]
    pub hint: Option<String>,
}

/// A key, without what makes it open anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// Its public part, by which it is named, here and as the actor of events.
    pub key: String,
    /// What people call it.
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// When it ends, RFC 3339; nothing where it lasts until it is revoked.
    pub expires_at: Option<String>,
}

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuedKey {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub view: KeyView,
    /// The whole key, as requests carry it. It is said this once and kept nowhere.
    pub bearer: String,
}

/// What a model costs: dollars for a million tokens, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceView {
    /// The model.
    pub model: String,
    /// Of requests.
    pub input_usd: String,
    /// Of requests, where the provider had them cached.
    pub cached_usd: String,
    /// Of answers.
    pub output_usd: String,
}

/// A price list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricesView {
    /// The models that have a price, by name.
    pub items: Vec<PriceView>,
    /// SHA-256 of the list, in hex, which names its version; nothing where no price was ever set. Executions are charged
    /// to their end by the version that was in force when they began.
    pub list: Option<String>,
}

/// What was let go of, because it was kept long enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetGo {
    /// How long what has ended is kept, in milliseconds, where its workflow does not say it.
    pub keep_ms: u64,
    /// What became of each partition of the log.
    pub partitions: Vec<LetGoPartition>,
    /// How many long values were removed that nothing names any more.
    pub blobs_removed: u64,
    /// How many bytes that gave back.
    pub blob_bytes: u64,
}

/// What became of a partition of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LetGoPartition {
    /// Its number.
    pub partition: u16,
    /// The offset that it starts at now.
    pub starts_at: u64,
    /// How many records were dropped.
    pub dropped: u64,
    /// Why nothing could be dropped, where that was tried.
    pub kept_because: Option<String>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointView {
    /// Its position.
    pub seq: u64,
    /// How somebody named it.
    pub name: Option<String>,
    /// RFC 3339.
    pub taken_at: String,
    /// The agents whose steps were done there.
    pub done: Vec<String>,
    /// SHA-256 of the state there, in hex.
    pub state_hash: String,
}

/// One event of an execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Its seq.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    /// Its type.
    pub kind: String,
    /// Whether it is the command that the events after it come from.
    pub command: bool,
    /// Who issued the command.
    pub actor: Option<String>,
    /// What it says; content opened for who may read it.
    pub body: Value,
}

/// A part of a model's answer that is on its way. It has no seq, is not kept and cannot be asked for again; what counts is
/// the answer as a whole, which stands in the event that ends the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeltaView {
    /// `delta`.
    pub kind: String,
    /// The seq that names the call.
    pub call: u64,
    /// The step that asked.
    pub step: u32,
    /// How many characters of the answer came before this part; more than were heard where some were missed.
    pub at: u64,
    /// The part.
    pub text: String,
}

/// All there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Items<T> {
    /// The items.
    pub items: Vec<T>,
}

/// A part of an execution's events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events, in order.
    pub items: Vec<EventView>,
    /// The seq to go on from; nothing where there was no event.
    pub next: Option<u64>,
}

/// Whether a definition is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validated {
    /// Whether it is sound. What it asks of the server's machine is looked at when it is published.
    pub valid: bool,
    /// The workflow's name, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All that is wrong: file, line, column, text, hint of each.
    pub problems: Value,
}

/// Whether the process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Which version it is.
    pub version: String,
}

/// Whether it takes work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// `ready`.
    pub status: String,
}

/// An error, RFC 9457.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemView {
    /// Names the kind of problem.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// A word that programs can compare.
    pub code: String,
    /// What failed and what is true now.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// All that is wrong with a definition: file, line, column, text, hint of each.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub problems: Value,
}
