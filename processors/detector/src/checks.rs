//! The checks: each takes what an answer says and tells what is wrong with it. Linear in the answer.

use omium_openai::{CalledTool, Wanted};
use omium_schemas::catalogue::{FindingKind, Guard};
use serde_json::Value;

use crate::extract::Extraction;
use crate::verdict::Seen;

/// How much of a value is told.
const TOLD: usize = 200;

/// The arguments of called tools against the tools' own schemas.
pub(crate) fn tool_calls(called: &[CalledTool], known: &[(String, Value)]) -> Vec<Seen> {
    let check = |(at, call): (usize, &CalledTool)| {
        let pointer = format!("/tool_calls/{at}");
        let named = format!("`{}`", told(&call.name));
        let Some(schema) = offered(&call.name, known) else {
            let text = format!("the tool {named} is called, which the request does not offer");
            return Some(Seen::fail(FindingKind::Schema, "tool-call", text).at(pointer));
        };
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let Ok(arguments) = serde_json::from_str::<Value>(text) else {
            let text = format!("the arguments of {named} are no JSON");
            return Some(Seen::fail(FindingKind::Unusable, "tool-call", text).at(pointer));
        };
        let wrong = fits(schema, &arguments).err()?;
        let text = format!("the arguments of {named} do not fit its schema: {wrong}");
        Some(Seen::fail(FindingKind::Schema, "tool-call", text).at(pointer))
    };
    // A request that offers no tools is one whose tools we do not know.
    if known.is_empty() { Vec::new() } else { called.iter().enumerate().filter_map(check).collect() }
}

/// The schema of a tool by its name. Frameworks put the name of a plugin or server before a tool's own, and most models
/// leave it out at times: `rate` is `Bank-rate` to the program, so it is to us, where no other tool is called so.
fn offered<'k>(name: &str, known: &'k [(String, Value)]) -> Option<&'k Value> {
    if let Some((_, schema)) = known.iter().find(|(known, _)| known == name) {
        return Some(schema);
    }
    let is_qualified = |known: &str| {
        let before = known.strip_suffix(name).unwrap_or_default();
        !name.is_empty() && (before.ends_with(['-', '.', '/', ':']) || before.ends_with("__"))
    };
    let mut fitting = known.iter().filter(|(known, _)| is_qualified(known));
    match (fitting.next(), fitting.next()) {
        (Some((_, schema)), None) => Some(schema),
        _ => None,
    }
}

/// The form that the request asks for.
pub(crate) fn format(text: &str, wanted: &Wanted) -> Option<Seen> {
    if !wanted.json {
        return None;
    }
    let Some(value) = json(text) else {
        return Some(Seen::fail(FindingKind::Unusable, "format", "the answer has to be JSON and is none"));
    };
    let wrong = wanted.schema.as_ref().and_then(|schema| fits(schema, &value).err())?;
    Some(Seen::fail(FindingKind::Schema, "format", format!("the answer does not fit its schema: {wrong}")))
}

/// A check that somebody has put on the agent.
pub(crate) fn guard(guard: &Guard, text: &str) -> Vec<Seen> {
    let name = format!("guard:{}", guard.name);
    let output = json(text);
    if let Some(schema) = guard.schema.as_ref().and_then(|schema| serde_json::from_str::<Value>(schema).ok())
    {
        let Some(output) = &output else {
            return vec![Seen::fail(FindingKind::Unusable, name, "the answer has to be JSON and is none")];
        };
        if let Err(wrong) = fits(&schema, output) {
            return vec![Seen::fail(
                FindingKind::Schema,
                name,
                format!("the answer does not fit the schema: {wrong}"),
            )];
        }
    }
    let value = match value_of(guard, text, output.as_ref()) {
        Ok(value) => value,
        Err(why) => return vec![Seen::fail(FindingKind::Uncheckable, name, why)],
    };
    let Some(rule) = &guard.rule else { return Vec::new() };
    let whole = output.unwrap_or_else(|| text.into());
    let Err(why) = omium_rules::check(rule, [("value", value.clone()), ("output", whole)]) else {
        return Vec::new();
    };
    let pointer = guard.field.as_ref().map(|field| format!("/{}", field.replace('.', "/")));
    let seen = Seen::fail(
        FindingKind::Rule,
        name,
        format!("{} is {}: {why}", subject(guard), told(&value.to_string())),
    );
    vec![Seen { pointer, ..seen }]
}

/// What the check is about. Not to find it is a finding, never a pass.
fn value_of(guard: &Guard, text: &str, output: Option<&Value>) -> Result<Value, String> {
    if let Some(field) = &guard.field {
        let output = output.ok_or_else(|| format!("the answer is no JSON, so it has no `{field}`"))?;
        let found = field.split('.').try_fold(output, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            other => other.get(name),
        });
        return found.cloned().ok_or_else(|| format!("the answer has no `{field}`"));
    }
    if let Some(extract) = &guard.extract {
        let extraction: Extraction =
            extract.parse().map_err(|why| format!("the guard cannot be used: {why}"))?;
        return extraction.find(text).ok_or_else(|| extraction.not_found());
    }
    Ok(output.cloned().unwrap_or_else(|| text.into()))
}

fn subject(guard: &Guard) -> String {
    match (&guard.field, &guard.extract) {
        (Some(field), _) => format!("`{field}`"),
        (None, Some(extract)) => format!("`{}`", extract.split(':').next().unwrap_or(extract).trim()),
        (None, None) => "the answer".to_owned(),
    }
}

/// Models like to wrap JSON into a fence.
fn json(text: &str) -> Option<Value> {
    let text = text.trim();
    let bare = text
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"))
        .map(|inner| inner.strip_prefix("json").unwrap_or(inner));
    serde_json::from_str(bare.unwrap_or(text).trim()).ok()
}

pub(crate) fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    if !schema.is_object() {
        return Ok(());
    }
    let validator = jsonschema::validator_for(schema).map_err(|why| format!("the schema is none: {why}"))?;
    validator
        .validate(value)
        .map_err(|why| format!("{} at `{}`", told(&why.to_string()), why.instance_path()))
}

fn told(text: &str) -> String {
    let short: String = text.chars().take(TOLD).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn found(known: &[&str], name: &str, arguments: &str) -> Vec<String> {
        let schema = json!({ "type": "object", "required": ["currency"] });
        let known: Vec<_> = known.iter().map(|name| ((*name).to_owned(), schema.clone())).collect();
        let called = CalledTool { name: name.to_owned(), arguments: arguments.to_owned() };
        tool_calls(&[called], &known).into_iter().map(|seen| seen.detail).collect()
    }

    #[test]
    fn a_tool_may_be_called_without_the_name_of_its_plugin() {
        let fits = r#"{"currency":"EUR"}"#;
        for known in ["rate", "Bank-rate", "bank.rate", "mcp__bank__rate"] {
            assert_eq!(found(&[known], "rate", fits), [""; 0], "{known}");
            assert!(found(&[known], "rate", "{}")[0].contains("do not fit"), "{known}");
        }
        for known in [&["market_rate"][..], &["Bank-rates"], &["Bank-rate", "Shop-rate"]] {
            assert!(found(known, "rate", fits)[0].contains("does not offer"), "{known:?}");
        }
        assert!(found(&["Bank-"], "", fits)[0].contains("does not offer"));
    }
}
