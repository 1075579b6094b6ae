//! Tools that need nobody else.

use std::time::SystemTime;

use omium_limits::{Limits, Room, json, told};
use omium_schemas::catalogue::ToolErrorClass;
use serde_json::{Map, Value, json};

use super::math;
use super::toolbox::Called;

/// How long a result may get.
const MOST_BYTES: usize = 4 << 20;
/// What a text that holds JSON may be.
const LIMITS: Limits = Limits { bytes: 16 << 20, nodes: 1_000_000, memory: 128 << 20, ..Limits::VALUES };

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
            parsed = json::parse(text.as_bytes(), &LIMITS)
                .map_err(|why| format!("`value` cannot be used: {why}"))?;
            &parsed
        }
        value => value,
    };
    // The same value may be picked many times.
    let mut room = Room::of(MOST_BYTES);
    if let Some(paths) = arguments["pick"].as_array() {
        let mut picked = Map::new();
        for path in paths.iter().filter_map(Value::as_str) {
            room.text(path.len()).map_err(|why| why.to_string())?;
            picked.insert(path.to_owned(), at(value, path, &mut room)?);
        }
        return Ok(picked.into());
    }
    at(value, arguments["path"].as_str().unwrap_or_default(), &mut room)
}

fn at(value: &Value, path: &str, room: &mut Room) -> Result<Value, String> {
    let mut value = value;
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let inner = match value {
            Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)),
            other => other.get(name),
        };
        value = inner
            .ok_or_else(|| format!("`{}` finds nothing: there is no `{}` there", told(path), told(name)))?;
    }
    room.value(value).map_err(|why| why.to_string())?;
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
    fn what_is_picked_many_times_is_bounded() {
        let value = json!({"a": "x".repeat(100_000)});
        let pick: Vec<String> = (0..10_000).map(|n| format!("{}a", ".".repeat(n))).collect();
        let refused = Builtin::Json.call(&json!({"value": value, "pick": pick}));
        assert!(matches!(refused, Called::Failed(failure) if failure.reason.contains("longer than")));
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let refused = Builtin::Json.call(&json!({"value": deep}));
        assert!(matches!(refused, Called::Failed(failure) if failure.reason.contains("nested")));
        let missing = Builtin::Json.call(&json!({"value": {}, "path": "x".repeat(1 << 20)}));
        assert!(matches!(missing, Called::Failed(failure) if failure.reason.len() < 300));
    }

    #[test]
    fn whole_results_are_whole() {
        check(Builtin::Math, json!({"expression": "2 * (3 + 4) ^ 2"}), json!(98));
        check(Builtin::Math, json!({"expression": "1 / 4"}), json!(0.25));
    }
}
