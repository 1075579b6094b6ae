//! Conditions over the state of a run, in CEL: `inputs`, `outputs` by agent, and `output` of the step that is judged.

use cel::objects::{Key, Map, Value};
use cel::{Context as Scope, Program};
use omium_processor::Context;
use omium_schemas::Content;
use serde_json::Value as Json;

use crate::state::{Phase, Run};

/// How long a rule may be.
const MAX_RULE: usize = 1_024;
/// How deep its brackets, signs and choices may nest: the parser goes down as deep.
const MAX_NESTING: usize = 32;

/// Whether the rule holds; if not, why.
pub(crate) fn holds(
    rule: &str,
    run: &Run,
    output: Option<&Content>,
    context: &Context<'_>,
) -> Result<(), String> {
    let read = |content: Option<&Content>| {
        content.and_then(|content| (context.open)(content)).map_or(Json::Null, |bytes| json(&bytes))
    };
    let outputs: serde_json::Map<String, Json> = run
        .plan
        .iter()
        .zip(&run.steps)
        .filter_map(|(plan, step)| match &step.phase {
            Phase::Done { output, .. } => Some((plan.agent.clone(), read(output.as_ref()))),
            _ => None,
        })
        .collect();
    check(
        rule,
        [("inputs", read(run.inputs.as_ref())), ("outputs", outputs.into()), ("output", read(output))],
    )
}

/// Whether a rule is one.
pub(crate) fn compiles(rule: &str) -> Result<(), String> {
    compile(rule).map(|_| ())
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

fn check(rule: &str, names: [(&str, Json); 3]) -> Result<(), String> {
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
fn json(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
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
