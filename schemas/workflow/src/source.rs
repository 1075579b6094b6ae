//! A YAML (or JSON) text as a tree that knows where each value stands. It is bounded in size, depth and aliases, so
//! that no definition costs more than its length.

use std::collections::BTreeSet;

use omium_limits::json::RESERVED;
use omium_limits::told;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::{Place, Problem};

/// How long a definition may be.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A value. Numbers stay as they were written, so that 64 bits survive.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, with the places of its keys.
    Map(Vec<(Place, String, Node)>),
}

impl Node {
    /// The value of a key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(_, known, _)| known == key).map(|(.., node)| node)
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(self.value, Value::Text(_))
    }

    /// What stands at a path, or the last thing on the way there.
    pub(crate) fn at(&self, path: &[String]) -> &Node {
        let mut node = self;
        for step in path {
            let inner = match &node.value {
                Value::List(items) => step.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => node.entry(step),
            };
            let Some(inner) = inner else { break };
            node = inner;
        }
        node
    }

    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The same without places.
    pub fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Node::json).collect(),
            Value::Map(entries) => entries
                .iter()
                .map(|(_, key, node)| (key.clone(), node.json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// Reads a text.
pub fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        let said = format!("the definition has {} bytes; {MAX_BYTES} are allowed", text.len());
        return Err(problem(
            Place { line: 1, column: 1 },
            said,
            "keep long texts in files that the agents read",
        ));
    }
    let mut reader = Reader { parser: Parser::new_from_str(text), nodes: 0 };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, span) => {
                return Err(problem(at(&span), "there is nothing in it", "a definition begins with `name:`"));
            }
            (event, span) => {
                let node = reader.node(event, &span, 0)?;
                return reader.end().map(|()| node);
            }
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
                Err(problem(
                    place,
                    format!("this is not YAML: {}", error.info()),
                    "look for a missing quote, colon or blank in this line or the one before",
                ))
            }
            None => {
                Err(problem(Place::default(), "the text ends too early", "add what is missing at its end"))
            }
        }
    }

    fn end(&mut self) -> Result<(), Problem> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    return Err(problem(
                        at(&span),
                        "a second document begins here",
                        "one file holds one workflow; remove the `---`",
                    ));
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Problem> {
        let place = at(span);
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(problem(place, format!("this is nested more than {MAX_DEPTH} deep"), "flatten it"));
        }
        if self.nodes > MAX_NODES {
            return Err(problem(
                place,
                format!("there are more than {MAX_NODES} values"),
                "split the workflow",
            ));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.no_anchor(anchor, tag.is_some(), place)?;
                scalar(&text, style, place)?
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_anchor(anchor, tag.is_some(), place)?;
                self.list(depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.no_anchor(anchor, tag.is_some(), place)?;
                self.map(depth)?
            }
            Event::Alias(_) => return Err(no_alias(place)),
            _ => return Err(problem(place, "a value is missing here", "write one, or remove the key")),
        };
        Ok(Node { place, value })
    }

    // Aliases make a tree of any size out of a few lines, and hide from a reader what an agent is told.
    fn no_anchor(&self, anchor: usize, tag: bool, place: Place) -> Result<(), Problem> {
        if tag {
            return Err(problem(place, "tags (`!…`) have no meaning here", "write the plain value"));
        }
        if anchor == 0 { Ok(()) } else { Err(no_alias(place)) }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<(Place, String, Node)> = Vec::new();
        let mut known = BTreeSet::new();
        loop {
            let (event, span) = self.next()?;
            let place = at(&span);
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                Event::Alias(_) => return Err(no_alias(place)),
                _ => return Err(problem(place, "a key must be a text", "write `key: value`")),
            };
            if !known.insert(key.clone()) {
                return Err(problem(
                    place,
                    format!("`{}` stands here twice", told(&key)),
                    "keep one of the two",
                ));
            }
            if RESERVED.iter().any(|reserved| *reserved == key) {
                return Err(problem(place, format!("the name `{key}` is reserved"), "choose another one"));
            }
            let (event, span) = self.next()?;
            entries.push((place, key, self.node(event, &span, depth + 1)?));
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, place: Place) -> Result<Value, Problem> {
    if style != ScalarStyle::Plain {
        return Ok(Value::Text(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | "-.Inf" | "-.INF" => {
            return Err(problem(
                place,
                format!("`{text}` is not a number that can be written in JSON"),
                "quote it if a text is meant",
            ));
        }
        _ => match number(text, place)? {
            Some(number) => Value::Number(number),
            None => Value::Text(text.to_owned()),
        },
    })
}

fn number(text: &str, place: Place) -> Result<Option<serde_json::Number>, Problem> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit())
        || !digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
    {
        return Ok(None);
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let plain = text.strip_prefix('+').unwrap_or(text);
        let whole = plain.parse::<i64>().map(Into::into).or_else(|_| plain.parse::<u64>().map(Into::into));
        return whole.map(Some).map_err(|_| {
            problem(
                place,
                format!("{} does not fit into 64 bits", told(text)),
                "quote it: as a text it survives as it is",
            )
        });
    }
    match text.parse::<f64>() {
        Ok(value) => serde_json::Number::from_f64(value).map(Some).ok_or_else(|| {
            problem(place, format!("{} is too large for a number", told(text)), "quote it if a text is meant")
        }),
        Err(_) => Ok(None),
    }
}

fn no_alias(place: Place) -> Problem {
    problem(place, "anchors and aliases (`&`, `*`) are not allowed", "write the value out where it is used")
}

fn at(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn problem(place: Place, text: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { place, text: text.into(), hint: hint.into() }
}
