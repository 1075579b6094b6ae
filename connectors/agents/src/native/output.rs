//! Whether an answer is what was asked for.

use serde_json::Value;

/// How many violations the model is told about at once.
const TOLD: usize = 5;

/// The output that a text says, or what is wrong with it in words that a model can mend it by.
pub(super) fn read(text: &str, schema: Option<&jsonschema::Validator>) -> Result<Value, String> {
    if text.trim().is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let Some(validator) = schema else { return Ok(text.into()) };
    let value: Value = serde_json::from_str(unfenced(text))
        .map_err(|why| format!("the answer is not JSON ({why}); answer with the JSON alone"))?;
    let wrong: Vec<String> = validator
        .iter_errors(&value)
        .take(TOLD)
        .map(|error| {
            let place = error.instance_path().to_string();
            if place.is_empty() { error.to_string() } else { format!("{place}: {error}") }
        })
        .collect();
    if wrong.is_empty() { Ok(value) } else { Err(wrong.join("; ")) }
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

    use super::read;

    #[test]
    fn json_is_found_in_a_fence_and_violations_are_named_with_their_place() {
        let schema = json!({"type": "object", "properties": {"apr": {"type": "number", "maximum": 8.5}}});
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert_eq!(read("```json\n{\"apr\": 5}\n```", Some(&validator)), Ok(json!({"apr": 5})));
        let wrong = read("{\"apr\": 9}", Some(&validator)).unwrap_err();
        assert!(wrong.starts_with("/apr: 9 is greater than"), "{wrong}");
        assert!(read("five", Some(&validator)).unwrap_err().starts_with("the answer is not JSON"));
        assert_eq!(read("five", None), Ok(json!("five")));
        assert!(read(" \n", None).is_err());
    }
}
