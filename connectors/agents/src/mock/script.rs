//! What a script says: rules, each with what it answers to and what it answers.

use std::time::Duration;

use omium_workflow::Problems;
use regex::Regex;
use serde_json::Value;

use super::read;

/// The rules by which the server answers. The first that fits a request answers it.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) models: Vec<String>,
    pub(super) rules: Vec<Rule>,
}

impl Script {
    /// Reads a script. What is wrong with it is told in one go, each with its place.
    pub fn parse(yaml: &str) -> Result<Script, Problems> {
        read::script("script", yaml)
    }

    /// The same; `file` is named in what is said about it.
    pub fn parse_named(file: &str, yaml: &str) -> Result<Script, Problems> {
        read::script(file, yaml)
    }

    /// Answers whatever it is asked.
    pub fn standard() -> Script {
        Script::parse(super::DEFAULT_SCRIPT).expect("the script that is built in is read by a test")
    }

    /// Three agents decide about a loan.
    pub fn demo() -> Script {
        Script::parse(super::DEMO_SCRIPT).expect("the script that is built in is read by a test")
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) when: When,
    pub(super) answer: Answer,
}

/// What a rule answers to: everything that it names must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct When {
    pub(super) model: Option<String>,
    pub(super) system: Option<String>,
    pub(super) user: Option<String>,
    pub(super) user_matches: Option<Regex>,
    pub(super) step: Option<String>,
    pub(super) tool_result: Option<bool>,
    /// The how-manyth request for which all the others hold, from 1.
    pub(super) nth: Option<u64>,
    /// Only the first so many of these.
    pub(super) times: Option<u64>,
}

/// What a rule answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) text: Option<String>,
    pub(super) json: Option<Value>,
    pub(super) tool_calls: Vec<(String, Value)>,
    /// Where the request asks for a schema, a sample of it is answered instead of the text.
    pub(super) sample: bool,
    pub(super) finish: Option<String>,
    pub(super) usage: Option<(u64, u64)>,
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 429 with `Retry-After`.
    RateLimited { retry_after_s: u64 },
    /// 500, or what else the script names.
    Status(u16),
    /// Each piece waits so long.
    Slow(Duration),
    /// The answer never comes.
    Hang,
    /// The JSON ends in the middle, the connection does not.
    CutJson,
    /// The connection breaks in the middle.
    Drop,
    /// An answer with nothing in it.
    Empty,
}
