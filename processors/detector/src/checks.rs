//! The checks: each takes what an answer says and tells what is wrong with it. All checks of one answer share its fuel.

use std::borrow::Cow;

use omium_limits::schema::{Misfit, fits};
use omium_limits::{Fuel, Limits, clipped, json, told};
use omium_openai::{CalledTool, Wanted};
use omium_schemas::catalogue::{FindingKind, Guard};
use serde_json::Value;

use crate::extract::Extraction;
use crate::verdict::Seen;

/// How much of what is wrong is told, in bytes.
const TOLD: usize = 600;
/// How many calls of tools are looked at, and how many findings they bring: beyond that one more says no more.
const CALLS: usize = 1_000;
const FINDINGS: usize = 20;

/// What arguments and answers may be, to be looked at inside: no longer than answers that are checked at all.
const LIMITS: Limits = Limits { bytes: 1 << 20, nodes: 200_000, memory: 64 << 20, ..Limits::BYTES };

/// What a request may be, without its messages: schemas of many tools.
pub(crate) const ASKED: Limits = Limits { bytes: 4 << 20, nodes: 400_000, memory: 128 << 20, ..LIMITS };

/// The arguments of called tools against the tools' own schemas.
pub(crate) fn tool_calls(called: &[CalledTool], known: &[(String, Value)], fuel: &mut Fuel) -> Vec<Seen> {
    let mut check = |(at, call): (usize, &CalledTool)| {
        let pointer = format!("/tool_calls/{at}");
        let named = format!("`{}`", told(&call.name));
        if fuel.take(known.len()).is_err() || at >= CALLS {
            let text = "there are too many calls of tools, or too many tools, to look at each";
            return Some(Seen::fail(FindingKind::Uncheckable, "tool-call", text).at(pointer));
        }
        let Some(schema) = offered(&call.name, known) else {
            let text = format!("the tool {named} is called, which the request does not offer");
            return Some(Seen::fail(FindingKind::Schema, "tool-call", text).at(pointer));
        };
        let text = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let arguments = match json::parse(text.as_bytes(), &LIMITS) {
            Ok(arguments) => arguments,
            Err(why) => {
                let text = format!("the arguments of {named} cannot be used: {why}");
                return Some(Seen::fail(FindingKind::Unusable, "tool-call", text).at(pointer));
            }
        };
        let seen = misfit(
            schema,
            &arguments,
            "tool-call",
            &format!("the arguments of {named} do not fit its schema"),
            fuel,
        );
        seen.map(|seen| seen.at(pointer))
    };
    // A request that offers no tools is one whose tools we do not know.
    if known.is_empty() {
        return Vec::new();
    }
    called.iter().take(CALLS + 1).enumerate().filter_map(&mut check).take(FINDINGS).collect()
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
pub(crate) fn format(said: &Said<'_>, wanted: &Wanted, fuel: &mut Fuel) -> Option<Seen> {
    if !wanted.json {
        return None;
    }
    let value = match &said.value {
        Ok(value) => value,
        Err(why) => {
            let text = format!("the answer has to be JSON that can be read: {why}");
            return Some(Seen::fail(FindingKind::Unusable, "format", text));
        }
    };
    misfit(wanted.schema.as_ref()?, value, "format", "the answer does not fit its schema", fuel)
}

/// What is wrong with a value by a schema. One that cannot be used, or that costs too much, is a finding, never a pass.
fn misfit(schema: &Value, value: &Value, detector: &str, what: &str, fuel: &mut Fuel) -> Option<Seen> {
    // A request may say nothing in the place of a schema.
    if !schema.is_object() {
        return None;
    }
    let why = fits(schema, value, fuel).err()?;
    Some(match why {
        Misfit::Wrong(wrong) => {
            Seen::fail(FindingKind::Schema, detector, clipped(&format!("{what}: {wrong}"), TOLD))
        }
        why => Seen::fail(
            FindingKind::Uncheckable,
            detector,
            clipped(&format!("{what}, or nobody can tell: {why}"), TOLD),
        ),
    })
}

/// A check that somebody has put on the agent.
pub(crate) fn guard(guard: &Guard, said: &Said<'_>, fuel: &mut Fuel) -> Vec<Seen> {
    let name = format!("guard:{}", guard.name);
    // What cannot be read as JSON is a text; what is JSON but too large to look inside is told as that.
    let output = match &said.value {
        Ok(output) => Some(output),
        Err(json::Refused::NotJson { .. }) => None,
        Err(why) => {
            return vec![Seen::fail(
                FindingKind::Uncheckable,
                name,
                format!("the answer cannot be read: {why}"),
            )];
        }
    };
    if let Some(schema) = &guard.schema {
        let Some(output) = output else {
            return vec![Seen::fail(FindingKind::Unusable, name, "the answer has to be JSON and is none")];
        };
        if let Some(seen) = guard_schema(schema, output, &name, fuel) {
            return vec![seen];
        }
    }
    let value = match value_of(guard, said, output, fuel) {
        Ok(value) => value,
        Err(why) => return vec![Seen::fail(FindingKind::Uncheckable, name, clipped(&why, TOLD))],
    };
    let Some(rule) = &guard.rule else { return Vec::new() };
    let whole = output.unwrap_or(&said.whole);
    let Err(why) = omium_rules::judge(rule, &[("value", &value), ("output", whole)], fuel) else {
        return Vec::new();
    };
    let kind = match why {
        omium_rules::Broken::Uncheckable { .. } => FindingKind::Uncheckable,
        _ => FindingKind::Rule,
    };
    let pointer = guard.field.as_ref().map(|field| format!("/{}", field.replace('.', "/")));
    let seen =
        Seen::fail(kind, name, clipped(&format!("{} is {}: {why}", subject(guard), shown(&value)), TOLD));
    vec![Seen { pointer, ..seen }]
}

fn guard_schema(schema: &str, output: &Value, name: &str, fuel: &mut Fuel) -> Option<Seen> {
    // Reading it costs about as much as a step for each byte.
    let read = fuel.take(schema.len()).map_err(|spent| spent.to_string());
    let schema = read.and_then(|()| json::parse(schema.as_bytes(), &LIMITS).map_err(|why| why.to_string()));
    match schema {
        Ok(schema) => misfit(&schema, output, name, "the answer does not fit the schema", fuel),
        Err(why) => Some(Seen::fail(
            FindingKind::Uncheckable,
            name,
            format!("the guard's schema cannot be used: {why}"),
        )),
    }
}

/// A value as a finding names it; nobody needs more than its beginning.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(entries) => format!("an object of {} names", entries.len()),
        Value::String(text) => format!("\"{}\"", told(text)),
        other => other.to_string(),
    }
}

/// What the check is about. Not to find it is a finding, never a pass.
fn value_of<'a>(
    guard: &Guard,
    said: &'a Said<'_>,
    output: Option<&'a Value>,
    fuel: &mut Fuel,
) -> Result<Cow<'a, Value>, String> {
    if let Some(field) = &guard.field {
        let output =
            output.ok_or_else(|| format!("the answer is no JSON, so it has no `{}`", told(field)))?;
        let found = field.split('.').try_fold(output, |value, name| match value {
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            other => other.get(name),
        });
        return found.map(Cow::Borrowed).ok_or_else(|| format!("the answer has no `{}`", told(field)));
    }
    if let Some(extract) = &guard.extract {
        let extraction: Extraction =
            extract.parse().map_err(|why| format!("the guard cannot be used: {why}"))?;
        return extraction.find(said.text, fuel).map(Cow::Owned);
    }
    Ok(Cow::Borrowed(output.unwrap_or(&said.whole)))
}

fn subject(guard: &Guard) -> String {
    match (&guard.field, &guard.extract) {
        (Some(field), _) => format!("`{field}`"),
        (None, Some(extract)) => format!("`{}`", extract.split(':').next().unwrap_or(extract).trim()),
        (None, None) => "the answer".to_owned(),
    }
}

/// What an answer says: its text, and the value that the text is.
pub(crate) struct Said<'t> {
    text: &'t str,
    value: Result<Value, json::Refused>,
    /// The text as a value, where it is no JSON.
    whole: Value,
}

impl<'t> Said<'t> {
    /// Reads a text once for all checks. Models like to wrap JSON into a fence.
    pub(crate) fn read(text: &'t str) -> Said<'t> {
        let trimmed = text.trim();
        let bare = trimmed
            .strip_prefix("```")
            .and_then(|rest| rest.strip_suffix("```"))
            .map(|inner| inner.strip_prefix("json").unwrap_or(inner));
        let value = json::parse(bare.unwrap_or(trimmed).trim().as_bytes(), &LIMITS);
        let whole = if value.is_ok() { Value::Null } else { text.into() };
        Said { text, value, whole }
    }
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
        tool_calls(&[called], &known, &mut Fuel::default()).into_iter().map(|seen| seen.detail).collect()
    }

    #[track_caller]
    fn guarded(
        rule: Option<&str>,
        schema: Option<&Value>,
        extract: Option<&str>,
        answer: &str,
    ) -> Vec<(FindingKind, String)> {
        let guard = Guard {
            name: "g".into(),
            agent: "a".into(),
            field: None,
            extract: extract.map(str::to_owned),
            rule: rule.map(str::to_owned),
            schema: schema.map(Value::to_string),
            hint: None,
        };
        let seen = super::guard(&guard, &Said::read(answer), &mut Fuel::default());
        seen.into_iter().map(|seen| (seen.kind, seen.detail)).collect()
    }

    #[test]
    fn what_cannot_be_checked_is_a_finding_of_its_own_and_never_a_pass() {
        let numbers = json!((0..30_000).collect::<Vec<_>>()).to_string();
        let found =
            guarded(Some("output.all(i, output.filter(j, j == i).size() == 1)"), None, None, &numbers);
        assert_eq!(found[0].0, FindingKind::Uncheckable, "{found:?}");
        assert!(found[0].1.contains("cannot be checked: it takes more than"), "{found:?}");
        let exponential: serde_json::Map<_, _> = (0..40)
            .map(|i| (format!("d{i}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", (i + 1) % 41)}, {"$ref": format!("#/$defs/d{}", (i + 1) % 41)}]})))
            .chain([("d40".to_owned(), json!({}))])
            .collect();
        let schema = json!({"$defs": exponential, "$ref": "#/$defs/d0"});
        assert_eq!(guarded(None, Some(&schema), None, "{}")[0].0, FindingKind::Uncheckable);
        let found =
            guarded(Some("value < 8.5"), None, Some("apr: number near \"APR\""), "APR (Section 4): 0%");
        assert_eq!(found[0].0, FindingKind::Uncheckable);
        assert!(
            found[0].1.contains("several numbers stand near it, so `apr` cannot be checked"),
            "{found:?}"
        );
        assert_eq!(guarded(Some("value < 8.5"), None, Some("apr: number near \"APR\""), "APR: 0,5 %"), []);
    }

    #[test]
    fn no_finding_repeats_what_was_answered() {
        let secret = format!("{{\"a\": \"{}\"}}", "secret".repeat(10_000));
        for found in [
            guarded(None, Some(&json!({"properties": {"a": {"type": "number"}}})), None, &secret),
            guarded(Some("output.a == 'x'"), None, None, &secret),
        ] {
            assert!(found[0].1.len() < 700 && !found[0].1.contains("secretsecretsecret"), "{found:?}");
        }
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
