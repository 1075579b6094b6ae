//! The `definition` of a native agent.

use std::collections::{BTreeMap, BTreeSet};

use omium_limits::told;
use omium_workflow::reading::Found;
use omium_workflow::{Definition, Places, Problems, Template, closest};
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

/// Something that is wrong with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}; {hint}")]
pub(crate) struct Wrong {
    /// The key that it is about.
    key: String,
    text: String,
    hint: String,
}

impl Wrong {
    pub(crate) fn new(key: &str, text: impl Into<String>, hint: impl Into<String>) -> Wrong {
        Wrong { key: key.to_owned(), text: text.into(), hint: hint.into() }
    }
}

/// Reads a workflow for whoever publishes it, with what stands there for native agents, and says all that is wrong.
pub fn read(file: &str, text: &str) -> Result<Definition, Problems> {
    let definition = omium_workflow::parse(file, text)?;
    let (places, mut found) = (Places::of(text), Found::default());
    for (name, place) in &places.tools {
        if let Err(wrong) = Toolbox::read(std::slice::from_ref(name), &definition.tools) {
            wrong.into_iter().for_each(|wrong| found.add(*place, wrong.text, wrong.hint));
        }
    }
    for (agent, places) in definition.agents.iter().zip(&places.agents) {
        if agent.framework != "native" {
            continue;
        }
        let strangers = |native: Native| -> Vec<String> {
            native.tools.into_iter().filter(|name| !definition.tools.contains_key(name)).collect()
        };
        let native = Native::read(&agent.definition).map(strangers);
        let wrong = native.and_then(|names| Toolbox::read(&names, &definition.tools).map(|_| ()));
        for Wrong { key, text, hint } in wrong.err().into_iter().flatten() {
            found.add(places.keys.get(&key).copied().unwrap_or(places.agent), text, hint);
        }
    }
    found.end(file, Some(definition))
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
    pub(super) fn read(definition: &Value) -> Result<Native, Vec<Wrong>> {
        let empty = Map::new();
        let entries = match definition {
            Value::Object(entries) => entries,
            Value::Null => &empty,
            _ => {
                let text = "the definition of a native agent is no mapping";
                return Err(vec![Wrong::new("definition", text, "write `definition: {prompt: …}`")]);
            }
        };
        let mut wrong: Vec<Wrong> = entries.keys().filter_map(|key| unknown(key)).take(MOST_WRONG).collect();
        let mut keep = |read: Result<Option<Value>, Wrong>| {
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
            let hint = "write `{{ inputs.name }}` or `{{ outputs.agent.field }}`";
            read.map_err(|why| wrong.push(Wrong::new(key, format!("`{key}`: {why}"), hint))).ok()
        };
        let (prompt, system) = (template("prompt", prompt), template("system", system));
        let max_turns = match entries.get("max_turns") {
            None => DEFAULT_TURNS,
            Some(value) => {
                value.as_u64().filter(|turns| (1..=MOST_TURNS).contains(turns)).unwrap_or_else(|| {
                    let text = format!("`max_turns` is not a whole number from 1 to {MOST_TURNS}");
                    wrong.push(Wrong::new(
                        "max_turns",
                        text,
                        format!("for example `max_turns: {DEFAULT_TURNS}`"),
                    ));
                    DEFAULT_TURNS
                })
            }
        };
        let tools = entries.get("tools").cloned().unwrap_or(json!([]));
        let tools = serde_json::from_value(tools).unwrap_or_else(|_| {
            let text = "`tools` of an agent is not a list of names of the workflow's tools";
            wrong.push(Wrong::new("tools", text, "write `tools: [name]`"));
            Vec::new()
        });
        let parameters = match entries.get("parameters") {
            None => Map::new(),
            Some(Value::Object(parameters)) => parameters.clone(),
            Some(_) => {
                let text = "`parameters` is not a mapping";
                wrong.push(Wrong::new("parameters", text, "write `parameters: {temperature: 0}`"));
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

fn unknown(key: &str) -> Option<Wrong> {
    if KNOWN.contains(&key) {
        return None;
    }
    let hint = match closest(key, KNOWN) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "what the model takes belongs under `parameters`".to_owned(),
    };
    Some(Wrong::new(key, format!("a native agent has no `{}`", told(key)), hint))
}

fn text(entries: &Map<String, Value>, key: &str) -> Result<Option<Value>, Wrong> {
    match entries.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(text @ Value::String(_)) => Ok(Some(text.clone())),
        Some(_) => Err(Wrong::new(key, format!("`{key}` is not a text"), "put it into quotes")),
    }
}
