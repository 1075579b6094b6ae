//! Templates: `{{ }}` in texts, filled from inputs and earlier outputs. A text that is one placeholder alone takes the
//! value as it is; inside a longer text a value is written as JSON, texts without their quotes.

use std::collections::BTreeSet;

use omium_limits::{Room, TooLarge, clipped, json, told};
use serde_json::Value;

use crate::problem::{Found, Place};
use crate::source::{Node, Value as Source};

/// A JSON value with placeholders in its texts.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// Nothing to fill in.
    Plain(Value),
    /// A text made of parts.
    Text(Vec<Part>),
    /// A list.
    List(Vec<Template>),
    /// A mapping.
    Map(Vec<(String, Template)>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// As it stands.
    Literal(String),
    /// What stands at a path.
    Path(Vec<String>),
}

/// A placeholder that points at nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{{{{ {path} }}}}` finds nothing: there is no `{missing}` there")]
pub struct Missing {
    /// The whole path.
    pub path: String,
    /// The part of it that is not there.
    pub missing: String,
}

/// Why a template is not filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFilled {
    /// A placeholder points at nothing.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It would get too large: a value that is named many times is there many times.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// How much of a path is told, in bytes.
const PATH: usize = 200;

impl Template {
    /// A text that came without a place in a file.
    pub fn text(text: &str) -> Result<Template, String> {
        parse_text(text)
    }

    /// Fills it in. What comes of it is bounded.
    pub fn render(&self, scope: &Value) -> Result<Value, NotFilled> {
        self.render_within(scope, &mut Room::default())
    }

    /// Fills it in where there is room for it, which is looked at before anything is copied.
    pub fn render_within(&self, scope: &Value, room: &mut Room) -> Result<Value, NotFilled> {
        self.render_at(scope, room, 0)
    }

    fn render_at(&self, scope: &Value, room: &mut Room, depth: usize) -> Result<Value, NotFilled> {
        Ok(match self {
            Template::Plain(value) => copied(value, room, depth)?,
            Template::List(items) => {
                items.iter().map(|item| item.render_at(scope, room, depth + 1)).collect::<Result<_, _>>()?
            }
            Template::Map(entries) => {
                let mut filled = serde_json::Map::new();
                for (key, item) in entries {
                    room.text(key.len())?;
                    filled.insert(key.clone(), item.render_at(scope, room, depth + 1)?);
                }
                filled.into()
            }
            Template::Text(parts) => match parts.as_slice() {
                [Part::Path(path)] => copied(find(path, scope)?, room, depth)?,
                parts => {
                    let mut text = String::new();
                    for part in parts {
                        add(&mut text, part, scope, room)?;
                    }
                    text.into()
                }
            },
        })
    }

    /// The values that it names, each once: what has to be at hand to fill it in.
    pub fn names(&self) -> BTreeSet<Vec<String>> {
        self.paths().into_iter().map(<[String]>::to_vec).collect()
    }

    /// All paths that it reads.
    pub fn paths(&self) -> Vec<&[String]> {
        match self {
            Template::Plain(_) => Vec::new(),
            Template::Text(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Path(path) => Some(path.as_slice()),
                    Part::Literal(_) => None,
                })
                .collect(),
            Template::List(items) => items.iter().flat_map(Template::paths).collect(),
            Template::Map(entries) => entries.iter().flat_map(|(_, item)| item.paths()).collect(),
        }
    }
}

fn copied(value: &Value, room: &mut Room, depth: usize) -> Result<Value, NotFilled> {
    room.value_at(value, depth)?;
    Ok(value.clone())
}

fn add(text: &mut String, part: &Part, scope: &Value, room: &mut Room) -> Result<(), NotFilled> {
    match part {
        Part::Literal(literal) => {
            room.text(literal.len())?;
            text.push_str(literal);
        }
        Part::Path(path) => match find(path, scope)? {
            Value::String(value) => {
                room.text(value.len())?;
                text.push_str(value);
            }
            value => {
                // Written twice, the first time into nothing: how long it gets is known before there is any of it.
                let mut most = *room;
                most.value(value)?;
                let length = json::written_within(value, usize::MAX).unwrap_or(usize::MAX);
                room.text(length)?;
                text.push_str(&value.to_string());
            }
        },
    }
    Ok(())
}

pub(crate) fn read(node: &Node, found: &mut Found) -> Template {
    match &node.value {
        Source::Text(text) => parse_text(text).unwrap_or_else(|why| {
            found.add(node.place, why, "write `{{ inputs.name }}` or `{{ outputs.agent.field }}`");
            Template::Plain(Value::Null)
        }),
        Source::List(items) => Template::List(items.iter().map(|item| read(item, found)).collect()),
        Source::Map(entries) => {
            Template::Map(entries.iter().map(|(_, key, item)| (key.clone(), read(item, found))).collect())
        }
        _ => Template::Plain(node.json()),
    }
}

/// What placeholders may name.
pub(crate) struct Sources<'a> {
    /// Agents that are done before.
    pub(crate) done: &'a [&'a str],
    /// The JSON Schema of the workflow's inputs.
    pub(crate) inputs: Option<&'a Value>,
    /// Whether there is an input of the step's own.
    pub(crate) own: bool,
}

/// Every placeholder of every text must begin with something that there is.
pub(crate) fn check(node: &Node, sources: &Sources<'_>, found: &mut Found) {
    let known: BTreeSet<&str> = sources.done.iter().copied().collect();
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        match &node.value {
            Source::List(items) => open.extend(items),
            Source::Map(entries) => open.extend(entries.iter().map(|(.., item)| item)),
            Source::Text(text) => {
                let template = parse_text(text).unwrap_or(Template::Plain(Value::Null));
                for path in template.paths() {
                    if found.is_full() {
                        return found.more();
                    }
                    check_path(path, node.place, sources, &known, found);
                }
            }
            _ => {}
        }
    }
}

fn check_path(
    path: &[String],
    place: Place,
    sources: &Sources<'_>,
    known: &BTreeSet<&str>,
    found: &mut Found,
) {
    let shown = || clipped(&path.join("."), PATH);
    match (path.first().map(String::as_str), path.get(1).map(String::as_str)) {
        (Some("outputs"), Some(agent)) if !known.contains(agent) => {
            let known: Vec<&str> = known.iter().copied().collect();
            let hint = match crate::fields::closest(agent, &known) {
                Some(near) => format!("did you mean `{}`?", told(near)),
                None if known.is_empty() => "no agent is done before this one".to_owned(),
                None => format!("these are done before: {}", crate::fields::listed(&known)),
            };
            let text = format!("`{{{{ {} }}}}`: no agent `{}` is done before", shown(), told(agent));
            found.add(place, text, hint);
        }
        (Some("input"), _) if !sources.own => {
            let text = format!("`{{{{ {} }}}}`: there is no input before this is filled in", shown());
            found.add(place, text, "write `{{ inputs.name }}` for an input of the workflow");
        }
        (Some("inputs"), Some(_)) => {
            let Some((name, known)) = sources.inputs.and_then(|schema| missing(&path[1..], schema)) else {
                return;
            };
            let hint = match crate::fields::closest(name, &known) {
                Some(near) => format!("did you mean `{}`?", told(near)),
                None => format!("the schema has: {}", crate::fields::listed(&known)),
            };
            let text =
                format!("`{{{{ {} }}}}`: the schema of the inputs allows no `{}`", shown(), told(name));
            found.add(place, text, hint);
        }
        _ => {}
    }
}

/// The name of a path that nothing can stand at, and those that may stand there, as far as a schema says so.
fn missing<'p, 's>(path: &'p [String], schema: &'s Value) -> Option<(&'p str, Vec<&'s str>)> {
    let mut schema = schema;
    for name in path {
        if schema.get("type").and_then(Value::as_str) != Some("object") || schema.get("$ref").is_some() {
            return None;
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
            && schema.get("patternProperties").is_none();
        schema = match properties.and_then(|properties| properties.get(name)) {
            Some(inner) => inner,
            None if is_closed => {
                let known = properties.into_iter().flat_map(|properties| properties.keys());
                return Some((name, known.map(String::as_str).collect()));
            }
            None => return None,
        };
    }
    None
}

// A bare `{{ amount }}` means an input: it is what people write first.
fn parse_text(text: &str) -> Result<Template, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        if begin > 0 {
            parts.push(Part::Literal(rest[..begin].to_owned()));
        }
        let Some(length) = rest[begin..].find("}}") else {
            return Err("a `{{` is never closed by `}}`".to_owned());
        };
        parts.push(Part::Path(parse_path(rest[begin + 2..begin + length].trim())?));
        rest = &rest[begin + length + 2..];
    }
    if parts.is_empty() {
        return Ok(Template::Plain(text.into()));
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(Template::Text(parts))
}

fn parse_path(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = text.split('.').map(|name| name.trim().to_owned()).collect();
    let fine =
        |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    if !names.iter().all(fine) {
        return Err(format!(
            "`{{{{ {} }}}}` is not a path of names with dots between them",
            clipped(text, PATH)
        ));
    }
    Ok(match names[0].as_str() {
        "inputs" | "outputs" | "input" => names,
        _ => std::iter::once("inputs".to_owned()).chain(names).collect(),
    })
}

fn find<'s>(path: &[String], scope: &'s Value) -> Result<&'s Value, Missing> {
    let mut value = scope;
    for name in path {
        let inner = match value {
            Value::Array(items) => name.parse::<usize>().ok().and_then(|at| items.get(at)),
            value => value.get(name),
        };
        value = inner.ok_or_else(|| Missing { path: clipped(&path.join("."), PATH), missing: told(name) })?;
    }
    Ok(value)
}
