//! Reads a script from YAML, with the place of every mistake.

use std::time::Duration;

use omium_workflow::Problems;
use omium_workflow::reading::{Fields, Found, Node, Value, parse};
use regex::Regex;

use super::answer::PLACEHOLDERS;
use super::script::{Answer, Fault, Rule, Script, When};

const DEFAULT_MODEL: &str = "default";

pub(super) fn script(file: &str, yaml: &str) -> Result<Script, Problems> {
    let mut found = Found::default();
    let read = match parse(yaml) {
        Err(problem) if yaml.trim().is_empty() => {
            found.add(problem.place, problem.text, "a script begins with `rules:`");
            None
        }
        Ok(root) => whole(&root, &mut found),
        Err(problem) => {
            found.add(problem.place, problem.text, problem.hint);
            None
        }
    };
    found.end(file, read)
}

fn whole(root: &Node, found: &mut Found) -> Option<Script> {
    let mut fields = Fields::of(root, "a script", found)?;
    let models = match fields.get("models") {
        Some(node) => texts(node, "models", found),
        None => vec![DEFAULT_MODEL.to_owned()],
    };
    let rules = match fields.get("rules").map(|node| (node, &node.value)) {
        Some((_, Value::List(items))) => {
            items.iter().enumerate().filter_map(|(index, item)| rule(item, index, found)).collect()
        }
        Some((node, _)) => {
            found.add(
                node.place,
                format!("`rules` is {}", node.kind()),
                "write a list: `- answer: {text: …}`",
            );
            Vec::new()
        }
        None => {
            found.add(
                fields.place,
                "a script without `rules` answers nothing",
                "add `rules:` with at least one",
            );
            Vec::new()
        }
    };
    fields.end(found);
    Some(Script { models, rules })
}

fn rule(node: &Node, index: usize, found: &mut Found) -> Option<Rule> {
    let mut fields = Fields::of(node, "a rule", found)?;
    let name = fields.text("name", found).unwrap_or_else(|| format!("rule {}", index + 1));
    let when = fields.get("when").and_then(|node| when(node, found)).unwrap_or_default();
    let answer = match fields.get("answer") {
        Some(node) => answer(node, found),
        None => {
            found.add(node.place, format!("`{name}` has no `answer`"), "write `answer: {text: \"…\"}`");
            None
        }
    };
    fields.end(found);
    Some(Rule { name, when, answer: answer? })
}

fn when(node: &Node, found: &mut Found) -> Option<When> {
    let mut fields = Fields::of(node, "`when`", found)?;
    let user_matches = pattern(&mut fields, found);
    let when = When {
        model: fields.text("model", found),
        system: fields.text("system", found),
        user: fields.text("user", found),
        user_matches,
        step: fields.text("step", found),
        tool_result: flag(&mut fields, "tool_result", found),
        nth: fields.whole("nth", 1, 1_000_000, found),
        times: fields.whole("times", 1, 1_000_000, found),
    };
    fields.end(found);
    Some(when)
}

fn pattern(fields: &mut Fields<'_>, found: &mut Found) -> Option<Regex> {
    let node = fields.get("user_matches")?;
    let text = fields.text("user_matches", found)?;
    match Regex::new(&text) {
        Ok(regex) => Some(regex),
        Err(why) => {
            found.add(
                node.place,
                format!("`user_matches` is not a regular expression: {}", last_line(&why.to_string())),
                "put it into single quotes, so that backslashes stay",
            );
            None
        }
    }
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ").to_owned()
}

fn answer(node: &Node, found: &mut Found) -> Option<Answer> {
    let mut fields = Fields::of(node, "an answer", found)?;
    let answer = Answer {
        text: fields.text("text", found),
        json: fields.get("json").map(Node::json),
        tool_calls: fields.get("tool_calls").map(|node| tool_calls(node, found)).unwrap_or_default(),
        sample: flag(&mut fields, "sample", found).unwrap_or(false),
        finish: fields.text("finish", found),
        usage: fields.get("usage").and_then(|node| usage(node, found)),
        delay: fields.duration("delay", found).map(Duration::from_millis).unwrap_or_default(),
        fault: fault(&mut fields, found),
    };
    if let Some(text) = fields.get("text") {
        placeholders(text, found);
    }
    if let Some(json) = fields.get("json") {
        placeholders(json, found);
    }
    let says_something =
        answer.text.is_some() || answer.json.is_some() || !answer.tool_calls.is_empty() || answer.sample;
    if !says_something && answer.fault.is_none() {
        found.add(
            fields.place,
            "this answer says nothing",
            "give it `text`, `json`, `tool_calls`, `sample: true` or `fault`",
        );
    }
    fields.end(found);
    Some(answer)
}

fn tool_calls(node: &Node, found: &mut Found) -> Vec<(String, serde_json::Value)> {
    let Value::List(items) = &node.value else {
        found.add(
            node.place,
            format!("`tool_calls` is {}", node.kind()),
            "write a list: `- {name: …, arguments: {…}}`",
        );
        return Vec::new();
    };
    items.iter().filter_map(|item| tool_call(item, found)).collect()
}

fn tool_call(node: &Node, found: &mut Found) -> Option<(String, serde_json::Value)> {
    let mut fields = Fields::of(node, "a tool call", found)?;
    let name = fields.text("name", found);
    if name.is_none() {
        found.add(node.place, "a tool call without a `name`", "write `- {name: …, arguments: {…}}`");
    }
    let arguments = fields.get("arguments");
    if let Some(node) = arguments {
        placeholders(node, found);
    }
    fields.end(found);
    Some((name?, arguments.map_or_else(|| serde_json::json!({}), Node::json)))
}

fn usage(node: &Node, found: &mut Found) -> Option<(u64, u64)> {
    let mut fields = Fields::of(node, "`usage`", found)?;
    let input = fields.whole("input", 0, u64::from(u32::MAX), found);
    let output = fields.whole("output", 0, u64::from(u32::MAX), found);
    fields.end(found);
    Some((input.unwrap_or(0), output.unwrap_or(0)))
}

fn fault(fields: &mut Fields<'_>, found: &mut Found) -> Option<Fault> {
    let retry_after_s = fields.duration("retry_after", found).map_or(1, |ms| ms.div_ceil(1000));
    let between =
        fields.duration("chunk_delay", found).map_or(Duration::from_millis(200), Duration::from_millis);
    let status = fields.whole("status", 400, 599, found).unwrap_or(500) as u16;
    fields.choice(
        "fault",
        &[
            ("rate_limited", Fault::RateLimited { retry_after_s }),
            ("server_error", Fault::Status(status)),
            ("slow", Fault::Slow(between)),
            ("hang", Fault::Hang),
            ("cut_json", Fault::CutJson),
            ("drop", Fault::Drop),
            ("empty", Fault::Empty),
        ],
        found,
    )
}

fn flag(fields: &mut Fields<'_>, key: &'static str, found: &mut Found) -> Option<bool> {
    let node = fields.get(key)?;
    match node.value {
        Value::Bool(value) => Some(value),
        _ => {
            found.add(node.place, format!("`{key}` is {}", node.kind()), "write `true` or `false`");
            None
        }
    }
}

fn texts(node: &Node, key: &str, found: &mut Found) -> Vec<String> {
    let Value::List(items) = &node.value else {
        found.add(node.place, format!("`{key}` is {}", node.kind()), "write a list: [gpt-4o, default]");
        return Vec::new();
    };
    let mut texts = Vec::new();
    for item in items {
        match &item.value {
            Value::Text(text) => texts.push(text.clone()),
            _ => found.add(item.place, format!("this is {}, not a text", item.kind()), "put it into quotes"),
        }
    }
    texts
}

/// A placeholder with a slip in its name would be answered as it stands, which nobody would look for.
fn placeholders(node: &Node, found: &mut Found) {
    match &node.value {
        Value::Text(text) => {
            for part in text.split("{{").skip(1) {
                let name = part.split("}}").next().unwrap_or(part).trim();
                if !PLACEHOLDERS.contains(&name) {
                    found.add(
                        node.place,
                        format!("`{{{{ {name} }}}}` is not known here"),
                        format!("there are: {}", PLACEHOLDERS.join(", ")),
                    );
                }
            }
        }
        Value::List(items) => items.iter().for_each(|item| placeholders(item, found)),
        Value::Map(entries) => entries.iter().for_each(|(_, _, item)| placeholders(item, found)),
        _ => {}
    }
}
