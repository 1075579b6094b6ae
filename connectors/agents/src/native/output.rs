//! Whether an answer, or what a worker made, is what was asked for.

use omium_limits::{Fuel, Limits, Schema, json};
use omium_schemas::catalogue::FailureClass;
use serde_json::Value;

use super::task::Failure;

/// What a check may spend: it runs beside the partitions, so it may take longer than one in a frame.
const STEPS: u64 = 10_000_000;
const MEMORY: u64 = 64 << 20;
/// How many violations the model is told about at once.
const TOLD: usize = 5;

/// The output that a text says, or what is wrong with it in words that a model can mend it by.
pub(super) fn read(text: &str, schema: Option<&Schema>) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let Some(schema) = schema else { return Ok(text.into()) };
    let value = json::parse(unfenced(text).as_bytes(), &Limits::default())
        .map_err(|why| format!("the answer cannot be used ({why}); answer with the JSON alone"))?;
    match wrong(&value, schema) {
        Ok(None) => Ok(value),
        Ok(Some(wrong)) => Err(wrong),
        Err(why) => Err(format!("the answer cannot be checked: {why}; answer shorter")),
    }
}

/// All that is wrong with an output by its schema, whoever made it; an error where nobody can tell.
fn wrong(output: &Value, schema: &Schema) -> Result<Option<String>, String> {
    let wrong = schema.violations(output, TOLD, &mut Fuel::new(STEPS, MEMORY));
    let wrong: Vec<String> = wrong.map_err(|why| why.to_string())?.iter().map(ToString::to_string).collect();
    Ok(Some(wrong.join("; ")).filter(|_| !wrong.is_empty()))
}

/// Why a step fails whose output does not fit its schema; nothing where it does.
pub fn misfit(agent: &str, output: &Value, schema: &Value) -> Option<Failure> {
    let told = |why: String| format!("the output of `{agent}` does not fit its `output_schema`: {why}");
    // What nobody can check at this price is not bought again.
    let for_good = |why: String| Failure { retryable: false, ..unusable(told(why)) };
    let schema = match Schema::read(schema) {
        Ok(schema) => schema,
        Err(why) => return Some(for_good(format!("it cannot be used: {why}"))),
    };
    match wrong(output, &schema) {
        Ok(wrong) => wrong.map(|wrong| unusable(told(wrong))),
        Err(why) => Some(for_good(format!("it cannot be checked: {why}"))),
    }
}

/// Another attempt may do better, and must not be served the same answers.
pub(super) fn unusable(reason: String) -> Failure {
    Failure { retryable: true, blames_answers: true, ..Failure::new(FailureClass::LogicError, reason) }
}

// Models like to wrap JSON in a fence whatever they are told.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return text };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_a_fence_and_violations_are_named_with_their_place() {
        let schema = json!({"type": "object", "properties": {"apr": {"type": "number", "maximum": 8.5}}});
        let validator = Schema::read(&schema).unwrap();
        assert_eq!(read("```json\n{\"apr\": 5}\n```", Some(&validator)), Ok(json!({"apr": 5})));
        let wrong = read("{\"apr\": 9}", Some(&validator)).unwrap_err();
        assert_eq!(wrong, "is greater than the maximum of 8.5 at `/apr`");
        assert!(
            read("five", Some(&validator))
                .unwrap_err()
                .starts_with("the answer cannot be used (it is not JSON")
        );
        assert_eq!(read("five", None), Ok(json!("five")));
        assert!(read(" \n", None).is_err());
    }
}
