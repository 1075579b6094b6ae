//! Which rule answers, and what it says once its placeholders are filled in.

use std::sync::Mutex;

use omium_limits::{Room, TooLarge};
use serde_json::Value;

use super::question::{Question, words};
use super::sample::sample;
use super::script::{Rule, Script};

/// What may stand between `{{` and `}}`.
pub(super) const PLACEHOLDERS: &[&str] = &["last_user", "model", "system", "step", "n"];

/// A script that remembers how often its rules were met.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) script: Script,
    met: Mutex<Vec<u64>>,
}

/// What is said, before it is cut into pieces.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) text: Option<String>,
    pub(super) tool_calls: Vec<(String, String)>,
    pub(super) finish: String,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Actor {
    pub(super) fn new(script: Script) -> Actor {
        let met = Mutex::new(vec![0; script.rules.len()]);
        Actor { script, met }
    }

    /// The first rule that fits, and how often it did.
    pub(super) fn choose(&self, question: &Question) -> Option<(&Rule, u64)> {
        let mut met = self.met.lock().expect("nobody panics while counting");
        for (rule, count) in self.script.rules.iter().zip(met.iter_mut()) {
            if !question.fits(&rule.when) {
                continue;
            }
            *count += 1;
            let this_time = rule.when.nth.is_none_or(|nth| nth == *count);
            if this_time && rule.when.times.is_none_or(|times| *count <= times) {
                return Some((rule, *count));
            }
        }
        None
    }
}

/// How long an answer may get: what is asked may be repeated in it, and asked again.
const LONGEST: usize = 4 << 20;

/// What a rule says to a question, where that is not too long.
pub(super) fn said(rule: &Rule, question: &Question, n: u64) -> Result<Said, TooLarge> {
    let answer = &rule.answer;
    let room = &mut Room::of(LONGEST);
    let text = match (&answer.json, &question.schema) {
        (Some(json), schema) if schema.is_some() || answer.text.is_none() => {
            Some(fill_value(json, question, n, room)?.to_string())
        }
        (_, Some(schema)) if answer.sample => {
            let sample = sample(schema);
            room.value(&sample)?;
            Some(sample.to_string())
        }
        _ => answer.text.as_ref().map(|text| fill(text, question, n, room)).transpose()?,
    };
    let mut tool_calls = Vec::new();
    for (name, arguments) in &answer.tool_calls {
        tool_calls.push((name.clone(), fill_value(arguments, question, n, room)?.to_string()));
    }
    let finish = if tool_calls.is_empty() { "stop" } else { "tool_calls" };
    let spoken =
        text.as_deref().map_or(0, words) + tool_calls.iter().map(|(_, text)| words(text)).sum::<u64>();
    let (input_tokens, output_tokens) = answer.usage.unwrap_or((question.words, spoken));
    Ok(Said {
        text,
        tool_calls,
        finish: answer.finish.clone().unwrap_or_else(|| finish.to_owned()),
        input_tokens,
        output_tokens,
    })
}

fn fill_value(value: &Value, question: &Question, n: u64, room: &mut Room) -> Result<Value, TooLarge> {
    Ok(match value {
        Value::String(text) => fill(text, question, n, room)?.into(),
        Value::Array(items) => {
            items.iter().map(|item| fill_value(item, question, n, room)).collect::<Result<_, _>>()?
        }
        Value::Object(entries) => {
            let mut filled = serde_json::Map::new();
            for (key, item) in entries {
                filled.insert(key.clone(), fill_value(item, question, n, room)?);
            }
            filled.into()
        }
        other => other.clone(),
    })
}

// One pass from left to right, so that braces in what is filled in stay what they are.
fn fill(text: &str, question: &Question, n: u64, room: &mut Room) -> Result<String, TooLarge> {
    let mut filled = String::with_capacity(text.len());
    let mut add = |part: &str| {
        room.text(part.len())?;
        filled.push_str(part);
        Ok::<_, TooLarge>(())
    };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        add(before)?;
        let Some((name, after)) = after.split_once("}}") else {
            rest = after;
            break;
        };
        match name.trim() {
            "last_user" => add(&question.last_user)?,
            "model" => add(&question.model)?,
            "system" => add(&question.system)?,
            "step" => add(&question.step)?,
            _ => add(&n.to_string())?,
        }
        rest = after;
    }
    add(rest)?;
    Ok(filled)
}
