//! Tools that need nobody else.

use std::time::SystemTime;

use omium_schemas::catalogue::ToolErrorClass;
use serde_json::{Value, json};

use super::math;
use super::toolbox::Called;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    Json,
    Math,
    Clock,
}

impl Builtin {
    pub(super) const NAMES: [&'static str; 3] = ["json", "math", "clock"];

    pub(super) fn named(name: &str) -> Option<Builtin> {
        match name {
            "json" => Some(Builtin::Json),
            "math" => Some(Builtin::Math),
            "clock" => Some(Builtin::Clock),
            _ => None,
        }
    }

    pub(super) fn description(self) -> &'static str {
        match self {
            Builtin::Json => "Takes values out of JSON: at one path, or several at once.",
            Builtin::Math => {
                "Computes an expression: + - * / % ^, parentheses, sqrt abs min max round floor ceil ln exp."
            }
            Builtin::Clock => "Says what time it is.",
        }
    }

    pub(super) fn parameters(self) -> Value {
        match self {
            Builtin::Json => json!({
                "type": "object",
                "properties": {
                    "value": {"description": "JSON, or a text that holds some"},
                    "path": {"type": "string", "description": "names and indexes with dots between them: `items.0.price`"},
                    "pick": {"type": "array", "items": {"type": "string"}, "description": "several such paths"},
                },
                "required": ["value"],
            }),
            Builtin::Math => json!({
                "type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"],
            }),
            Builtin::Clock => json!({"type": "object", "properties": {}}),
        }
    }

    pub(super) fn call(self, arguments: &Value) -> Called {
        let answered = match self {
            Builtin::Json => take(arguments),
            Builtin::Math => compute(arguments),
            Builtin::Clock => Ok(now()),
        };
        match answered {
            Ok(value) => Called::Answered(value),
            Err(reason) => Called::failed(ToolErrorClass::InvalidArguments, reason),
        }
    }
}

fn compute(arguments: &Value) -> Result<Value, String> {
    let expression = arguments["expression"].as_str().ok_or("`expression` has to be a text")?;
    let result = math::compute(expression)?;
    let whole = result.fract() == 0.0 && result.abs() < 9e15;
    Ok(if whole { json!(result as i64) } else { json!(result) })
}

// The record keeps it, so that an attempt that begins again reads the same time.
fn now() -> Value {
    let now = SystemTime::now();
    let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({"now": humantime::format_rfc3339_millis(now).to_string(), "unix_ms": unix.as_millis() as u64})
}

fn take(arguments: &Value) -> Result<Value, String> {
    let parsed;
    let value = match &arguments["value"] {
        Value::String(text) => {
            parsed =
                serde_json::from_str::<Value>(text).map_err(|why| format!("`value` is not JSON: {why}"))?;
            &parsed
        }
        value => value,
    };
    if let Some(paths) = arguments["pick"].as_array() {
        let picked =
            paths.iter().filter_map(Value::as_str).map(|path| Ok((path.to_owned(), at(value, path)?)));
        return picked.collect::<Result<serde_json::Map<_, _>, String>>().map(Value::Object);
    }
    at(value, arguments["path"].as_str().unwrap_or_default())
}

fn at(value: &Value, path: &str) -> Result<Value, String> {
    let mut value = value;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let inner = match value {
            Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
            other => other.get(name),
        };
        value = inner.ok_or_else(|| format!("`{path}` finds nothing: there is no `{name}` there"))?;
    }
    Ok(value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Builtin, Called};

    #[track_caller]
    fn check(builtin: Builtin, arguments: serde_json::Value, expected: serde_json::Value) {
        assert_eq!(builtin.call(&arguments), Called::Answered(expected));
    }

    #[test]
    fn json_is_taken_at_a_path_and_picked_at_several() {
        let value = json!({"items": [{"price": 9_007_199_254_740_993_u64}], "who": "me"});
        check(
            Builtin::Json,
            json!({"value": value, "path": "items.0.price"}),
            json!(9_007_199_254_740_993_u64),
        );
        check(
            Builtin::Json,
            json!({"value": value.to_string(), "pick": ["who", "items.0"]}),
            json!({"who": "me", "items.0": {"price": 9_007_199_254_740_993_u64}}),
        );
        let missing = Builtin::Json.call(&json!({"value": value, "path": "items.1"}));
        assert!(matches!(missing, Called::Failed(failure) if failure.reason.contains("no `1` there")));
    }

    #[test]
    fn whole_results_are_whole() {
        check(Builtin::Math, json!({"expression": "2 * (3 + 4) ^ 2"}), json!(98));
        check(Builtin::Math, json!({"expression": "1 / 4"}), json!(0.25));
    }
}
