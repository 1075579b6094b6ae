//! The part of a tool's definition that all kinds of tools share.

use std::collections::BTreeMap;
use std::time::Duration;

use omium_limits::told;
use omium_schemas::catalogue::EffectClass;
use omium_workflow::{Template, closest};
use serde_json::{Map, Value};

use super::address::Private;
use super::builtin::Builtin;

pub(super) const NO_KIND: &str = "it says not what it is: give it `http`, `mcp` or `builtin`";
const KNOWN: &[&str] = &[
    "description",
    "parameters",
    "http",
    "mcp",
    "builtin",
    "effect",
    "effects",
    "tools",
    "timeout",
    "allow_private",
    "max_bytes",
];
const MOST_BYTES: u64 = 16 << 20;
const DEFAULT_BYTES: usize = 256 << 10;

/// A definition, before its kind is looked at.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) description: Option<String>,
    pub(super) parameters: Option<Value>,
    pub(super) http: Option<Map<String, Value>>,
    pub(super) mcp: Option<Map<String, Value>>,
    pub(super) builtin: Option<Builtin>,
    pub(super) effect: Option<EffectClass>,
    /// Effect classes of single tools of a server.
    pub(super) effects: BTreeMap<String, EffectClass>,
    /// Those of a server's tools that are offered; all of them where nothing is said.
    pub(super) only: Option<Vec<String>>,
    pub(super) timeout: Option<Duration>,
    pub(super) private: Private,
    pub(super) max_bytes: usize,
}

impl Shape {
    pub(super) fn read(definition: &Value) -> Result<Shape, String> {
        let entries = definition.as_object().ok_or_else(|| NO_KIND.to_owned())?;
        known(entries, KNOWN, "a tool")?;
        let kinds = ["http", "mcp", "builtin"].iter().filter(|kind| entries.contains_key(**kind)).count();
        if kinds != 1 {
            return Err(NO_KIND.to_owned());
        }
        let builtin = match text(entries, "builtin")? {
            Some(name) => Some(Builtin::named(&name).ok_or_else(|| {
                format!(
                    "nothing called `{}` is built in; there are: {}",
                    told(&name),
                    Builtin::NAMES.join(", ")
                )
            })?),
            None => None,
        };
        Ok(Shape {
            description: text(entries, "description")?,
            parameters: entries.get("parameters").cloned(),
            http: mapping(entries, "http")?,
            mcp: mapping(entries, "mcp")?,
            builtin,
            effect: text(entries, "effect")?.map(|word| effect(&word)).transpose()?,
            effects: effects(entries)?,
            only: only(entries)?,
            timeout: timeout(entries)?,
            private: Private::read(entries.get("allow_private"))?,
            max_bytes: match entries.get("max_bytes") {
                None => DEFAULT_BYTES,
                Some(value) => value
                    .as_u64()
                    .filter(|bytes| (1..=MOST_BYTES).contains(bytes))
                    .ok_or_else(|| format!("`max_bytes` is a whole number from 1 to {MOST_BYTES}"))?
                    as usize,
            },
        })
    }
}

/// Complains about a key that nobody knows.
pub(super) fn known(entries: &Map<String, Value>, known: &[&str], what: &str) -> Result<(), String> {
    match entries.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(match closest(key, known) {
            Some(near) => format!("{what} has no `{}`; did you mean `{near}`?", told(key)),
            None => format!("{what} has no `{}`; it knows: {}", told(key), known.join(", ")),
        }),
    }
}

pub(super) fn text(entries: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match entries.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("`{key}` is not a text; put it into quotes")),
    }
}

pub(super) fn mapping(entries: &Map<String, Value>, key: &str) -> Result<Option<Map<String, Value>>, String> {
    match entries.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner.clone())),
        Some(_) => Err(format!("`{key}` is not a mapping; write it as `key: value` lines")),
    }
}

/// A template out of JSON, its texts with placeholders.
pub(super) fn template(value: &Value) -> Result<Template, String> {
    Ok(match value {
        Value::String(text) => Template::text(text)?,
        Value::Array(items) => Template::List(items.iter().map(template).collect::<Result<_, _>>()?),
        Value::Object(entries) => {
            let filled = entries.iter().map(|(key, item)| Ok((key.clone(), template(item)?)));
            Template::Map(filled.collect::<Result<_, String>>()?)
        }
        other => Template::Plain(other.clone()),
    })
}

fn effect(word: &str) -> Result<EffectClass, String> {
    match word {
        "read" => Ok(EffectClass::Read),
        "idempotent" => Ok(EffectClass::Idempotent),
        "write" => Ok(EffectClass::Write),
        "irreversible" => Ok(EffectClass::Irreversible),
        _ => Err(format!("`{}` is no effect; there are: read, idempotent, write, irreversible", told(word))),
    }
}

fn effects(entries: &Map<String, Value>) -> Result<BTreeMap<String, EffectClass>, String> {
    let written = mapping(entries, "effects")?.unwrap_or_default();
    let read =
        |(tool, word): (&String, &Value)| Ok((tool.clone(), effect(word.as_str().unwrap_or_default())?));
    written.iter().map(read).collect()
}

fn only(entries: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let names = entries.get("tools").cloned().map(serde_json::from_value).transpose();
    names.map_err(|_| "`tools` is a list of names of the server's tools".to_owned())
}

fn timeout(entries: &Map<String, Value>) -> Result<Option<Duration>, String> {
    let Some(text) = text(entries, "timeout")? else { return Ok(None) };
    let wrong =
        || format!("`timeout: {}` is not a length of time up to 1h; write 500ms, 10s or 2m", told(&text));
    let length = humantime::parse_duration(&text).map_err(|_| wrong())?;
    let fits = (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&length);
    if fits { Ok(Some(length)) } else { Err(wrong()) }
}
