//! The `definition` of a native agent.

use std::collections::{BTreeMap, BTreeSet};

use omium_limits::told;
use omium_workflow::{Template, closest};
use serde_json::{Map, Value, json};

use super::grants::{Grants, NotGranted};
use crate::tools::Toolbox;

const DEFAULT_MODEL: &str = "default";
const DEFAULT_TURNS: u64 = 8;
const MOST_TURNS: u64 = 100;
/// How many mistakes are told at once.
const MOST_WRONG: usize = 20;
const KNOWN: &[&str] = &["model", "prompt", "system", "tools", "max_turns", "parameters"];

/// A definition that was read.
#[derive(Clone, Debug)]
pub(super) struct Native {
    pub(super) model: String,
    pub(super) prompt: Option<Template>,
    pub(super) system: Option<Template>,
    pub(super) tools: Vec<String>,
    pub(super) max_turns: u64,
    pub(super) parameters: Map<String, Value>,
}

/// Everything that is wrong with an agent's definition and the tools that it names, for whoever publishes it.
pub fn check(definition: &Value, tools: &BTreeMap<String, Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    match Native::read(definition) {
        Ok(native) => {
            if let Err(more) = Toolbox::read(&native.tools, tools) {
                wrong.extend(more);
            }
        }
        Err(more) => wrong = more,
    }
    wrong
}

/// What of a run's scope the prompts of a definition name; nothing where it has no prompt, or cannot be read: its input is
/// asked then, whatever that holds.
pub fn names(definition: &Value) -> Option<BTreeSet<Vec<String>>> {
    let native = Native::read(definition).ok()?;
    let prompt = native.prompt?;
    Some(prompt.names().into_iter().chain(native.system.iter().flat_map(Template::names)).collect())
}

/// What the tools of a workflow ask for and do not get. A tool that cannot be read asks for nothing: nobody can call it.
pub fn not_granted(tools: &BTreeMap<String, Value>, grants: &Grants) -> Vec<NotGranted> {
    let read = |name: &String| Toolbox::read(std::slice::from_ref(name), tools).ok();
    tools.keys().filter_map(read).flat_map(|toolbox| toolbox.not_granted(grants)).take(MOST_WRONG).collect()
}

impl Native {
    pub(super) fn read(definition: &Value) -> Result<Native, Vec<String>> {
        let empty = Map::new();
        let entries = match definition {
            Value::Object(entries) => entries,
            Value::Null => &empty,
            _ => return Err(vec!["the definition of a native agent is a mapping: `{prompt: …}`".to_owned()]),
        };
        let mut wrong: Vec<String> = entries.keys().filter_map(|key| unknown(key)).take(MOST_WRONG).collect();
        let mut keep = |read: Result<Option<Value>, String>| {
            read.unwrap_or_else(|why| {
                wrong.push(why);
                None
            })
        };
        let model = keep(text(entries, "model"));
        let prompt = keep(text(entries, "prompt"));
        let system = keep(text(entries, "system"));
        let mut template = |key: &str, text: Option<Value>| {
            let read = Template::text(text?.as_str()?);
            read.map_err(|why| wrong.push(format!("`{key}`: {why}"))).ok()
        };
        let (prompt, system) = (template("prompt", prompt), template("system", system));
        let max_turns = match entries.get("max_turns") {
            None => DEFAULT_TURNS,
            Some(value) => {
                value.as_u64().filter(|turns| (1..=MOST_TURNS).contains(turns)).unwrap_or_else(|| {
                    wrong.push(format!("`max_turns` is a whole number from 1 to {MOST_TURNS}"));
                    DEFAULT_TURNS
                })
            }
        };
        let tools = entries.get("tools").cloned().unwrap_or(json!([]));
        let tools = serde_json::from_value(tools).unwrap_or_else(|_| {
            wrong.push("`tools` is a list of names of the workflow's tools".to_owned());
            Vec::new()
        });
        let parameters = match entries.get("parameters") {
            None => Map::new(),
            Some(Value::Object(parameters)) => parameters.clone(),
            Some(_) => {
                wrong.push("`parameters` is a mapping: `{temperature: 0}`".to_owned());
                Map::new()
            }
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let model = model.and_then(|model| model.as_str().map(str::to_owned));
        let model = model.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
        Ok(Native { model, prompt, system, tools, max_turns, parameters })
    }
}

fn unknown(key: &str) -> Option<String> {
    if KNOWN.contains(&key) {
        return None;
    }
    Some(match closest(key, KNOWN) {
        Some(near) => format!("a native agent has no `{}`; did you mean `{near}`?", told(key)),
        None => {
            format!("a native agent has no `{}`; what the model takes belongs under `parameters`", told(key))
        }
    })
}

fn text(entries: &Map<String, Value>, key: &str) -> Result<Option<Value>, String> {
    match entries.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(text @ Value::String(_)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` is not a text; put it into quotes")),
    }
}
