//! Checks that somebody has put on an agent.

use std::borrow::Cow;

use omium_limits::{Fuel, clipped, json, told};
use omium_openai::End;
use omium_schemas::catalogue::{FindingKind, Guard};
use serde_json::Value;

use super::{LIMITS, Rule, Said, TOLD, misfit, weighed};
use crate::extract::Extraction;
use crate::verdict::Seen;

pub(super) const RULE: Rule = Rule {
    id: "guard",
    kinds: &[
        FindingKind::Rule,
        FindingKind::Schema,
        FindingKind::Unusable,
        FindingKind::Uncheckable,
        FindingKind::Other,
    ],
    text: "The answer keeps the guards of its agent.",
    decides: false,
    check: |looked, fuel| {
        if looked.answer.end == End::Refused {
            return looked.guards.iter().map(|guard| refused(guard)).collect();
        }
        let Some(said) = &looked.said else { return Vec::new() };
        let mut judge = |guard: &&Guard| weighed(fuel, |fuel| judged(guard, said, fuel));
        looked.guards.iter().flat_map(&mut judge).collect()
    },
};

/// Asking again brings the same: whoever relies on the answer has to decide.
fn refused(guard: &Guard) -> Seen {
    Seen::fail(FindingKind::Other, name_of(guard), "the model refuses to answer this")
}

fn name_of(guard: &Guard) -> String {
    format!("{}:{}", RULE.id, guard.name)
}

/// What is wrong by a check that somebody has put on the agent.
fn judged(guard: &Guard, said: &Said<'_>, fuel: &mut Fuel) -> Vec<Seen> {
    let name = name_of(guard);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        let seen = judged(&guard, &Said::read(answer), &mut Fuel::default());
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
}
