//! Rules in CEL over JSON values: the language of conditions, for whoever decides or detects. Pure.

use std::collections::BTreeSet;

use cel::objects::{Key, Map, Value};
use cel::{Context as Scope, Program};
use serde_json::Value as Json;

/// How long a rule may be.
const MAX_RULE: usize = 1_024;
/// How deep its brackets, signs and choices may nest: the parser goes down as deep.
const MAX_NESTING: usize = 32;

/// Whether a rule is one; if not, why.
pub fn compiles(rule: &str) -> Result<(), String> {
    compile(rule).map(|_| ())
}

/// Whether a rule is one and speaks of these names alone.
pub fn speaks_of(rule: &str, names: &[&str]) -> Result<(), String> {
    let program = compile(rule)?;
    let references = program.references();
    let strangers: BTreeSet<&str> =
        references.variables().into_iter().filter(|name| !names.contains(name)).collect();
    let Some(stranger) = strangers.first() else { return Ok(()) };
    Err(format!("`{rule}` speaks of `{stranger}`; it may speak of {}", names.join(", ")))
}

/// Whether a rule holds over these values; if not, why.
pub fn check<'a>(rule: &str, names: impl IntoIterator<Item = (&'a str, Json)>) -> Result<(), String> {
    let program = compile(rule)?;
    let mut scope = Scope::default();
    for (name, value) in names {
        scope.add_variable_from_value(name, cel(value));
    }
    match program.execute(&scope) {
        Ok(Value::Bool(true)) => Ok(()),
        Ok(Value::Bool(false)) => Err(format!("`{rule}` does not hold")),
        Ok(_) => Err(format!("`{rule}` says neither true nor false")),
        Err(error) => Err(format!("`{rule}` cannot be checked: {error}")),
    }
}

/// What is not JSON counts as a text: an agent may answer in prose.
pub fn json(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}

fn compile(rule: &str) -> Result<Program, String> {
    if rule.len() > MAX_RULE {
        return Err(format!("the rule has {} bytes; {MAX_RULE} are allowed", rule.len()));
    }
    if nesting(rule) > MAX_NESTING {
        return Err(format!("the rule is nested more than {MAX_NESTING} deep"));
    }
    Program::compile(rule).map_err(|error| format!("`{rule}` is not a rule: {error}"))
}

/// An upper bound of how deep a parser has to go. Texts inside quotes count too, which only makes it stricter.
fn nesting(rule: &str) -> usize {
    let (mut depth, mut deepest, mut signs, mut choices) = (0_usize, 0, 0, 0);
    for character in rule.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => choices += 1,
            _ => {}
        }
        signs = match character {
            '-' | '!' => signs + 1,
            character if character.is_whitespace() => signs,
            _ => 0,
        };
        deepest = deepest.max(depth + signs + choices);
    }
    deepest
}

fn cel(value: Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        // One kind of number, so that `output.apr >= 2.5` holds for 5 as it does for 5.0.
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(text.into()),
        Json::Array(items) => Value::List(items.into_iter().map(cel).collect::<Vec<_>>().into()),
        Json::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (Key::from(key), cel(value)));
            Value::Map(Map { map: std::sync::Arc::new(entries.collect()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_holds_or_says_why_not() {
        let value = |value: Json| [("value", value)];
        assert_eq!(check("value >= 2.5 && value <= 8.5", value(json!(5))), Ok(()));
        assert_eq!(check("value >= 2.5", value(json!(0))), Err("`value >= 2.5` does not hold".to_owned()));
        assert!(check("value >= 2.5", value(json!("x"))).unwrap_err().contains("cannot be checked"));
        assert!(check("value + 1.0", value(json!(1))).unwrap_err().contains("neither true nor false"));
    }

    #[test]
    fn a_rule_that_is_none_or_speaks_of_strangers_is_refused() {
        assert!(compiles("value >=").unwrap_err().contains("is not a rule"));
        assert!(compiles(&"(".repeat(40)).unwrap_err().contains("nested"));
        assert!(compiles(&"1 + ".repeat(400)).unwrap_err().contains("bytes"));
        assert_eq!(speaks_of("value > 1.0", &["value", "output"]), Ok(()));
        assert!(speaks_of("apr > 1.0", &["value", "output"]).unwrap_err().contains("`apr`"));
    }
}
