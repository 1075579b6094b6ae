//! A workflow: agents, the order in which they work, and what bounds them.

use std::collections::BTreeMap;

use omium_schemas::Money;
use omium_schemas::catalogue::OnFailure;
use serde_json::Value;

use crate::template::Template;

/// One version of a workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON Schema of its inputs.
    pub inputs: Option<Value>,
    /// Who does the work, in the order of the file.
    pub agents: Vec<Agent>,
    /// The order in which they work.
    pub order: Order,
    /// What becomes of the others when one has failed for good.
    pub on_failure: OnFailure,
    /// How long all of it may take.
    pub timeout_ms: Option<u64>,
    /// How long records of its executions are kept after they have ended, where the node lets go of them.
    pub keep_ms: Option<u64>,
    /// What all of it may cost.
    pub budget: Option<Money>,
    /// What it results in; the outputs of the last agents where it is not said.
    pub output: Option<Template>,
    /// Tools that native agents may use, by name.
    pub tools: BTreeMap<String, Value>,
}

/// The order in which agents work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after another, as they stand.
    Sequential,
    /// All at once.
    Parallel,
    /// Each after those that it names.
    Graph,
}

/// Somebody who does one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// Its name in this workflow.
    pub id: String,
    /// Who can perform it.
    pub framework: String,
    /// What the framework is told; Omium reads it for `native` alone.
    pub definition: Value,
    /// What it is given; the workflow's inputs and the outputs of those before it where it is not said.
    pub input: Option<Template>,
    /// The JSON Schema of its input.
    pub input_schema: Option<Value>,
    /// The JSON Schema of its output.
    pub output_schema: Option<Value>,
    /// Those that must be done before, by place in the list.
    pub after: Vec<usize>,
    /// How long an attempt may take.
    pub timeout_ms: Option<u64>,
    /// How often it is tried, and how long the first repetition waits.
    pub retry: Retry,
    /// What it may cost over all attempts.
    pub budget: Option<Money>,
    /// A rule over the state that must hold before it begins.
    pub require: Option<String>,
    /// A rule over the state and its output that must hold when it is done.
    pub ensure: Option<String>,
    /// The signal that completes it, where a human does.
    pub signal: Option<String>,
}

/// How often a step is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// All attempts together.
    pub attempts: u32,
    /// How long the first repetition waits; each further one twice as long.
    pub backoff_ms: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 3, backoff_ms: 500 }
    }
}
