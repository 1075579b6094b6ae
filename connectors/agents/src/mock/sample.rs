//! The smallest value that a schema is likely to accept.

use std::cell::{Cell, RefCell};

use omium_limits::Room;
use serde_json::{Map, Value, json};

const DEEPEST: usize = 16;
/// How many values a sample may hold: schemas may refer to themselves in many places.
const MOST: usize = 2_000;

pub(super) fn sample(schema: &Value) -> Value {
    at(schema, schema, 0, &Cell::new(MOST), &RefCell::new(Room::of(1 << 20)))
}

fn at(schema: &Value, root: &Value, depth: usize, left: &Cell<usize>, room: &RefCell<Room>) -> Value {
    if depth > DEEPEST || left.get() == 0 {
        return Value::Null;
    }
    left.set(left.get() - 1);
    let next = |schema: &Value| at(schema, root, depth + 1, left, room);
    let copied = |value: &Value| room.borrow_mut().value(value).map_or(Value::Null, |()| value.clone());
    if let Some(target) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
        return root.pointer(target).map_or(Value::Null, next);
    }
    for key in ["const", "default"] {
        if let Some(value) = schema.get(key) {
            return copied(value);
        }
    }
    for key in ["enum", "examples"] {
        if let Some(value) = schema[key].get(0) {
            return copied(value);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(inner) = schema[key].get(0) {
            return next(inner);
        }
    }
    match kind(schema) {
        "object" => object(schema, next),
        "array" => {
            let least = schema["minItems"].as_u64().unwrap_or(1).min(100);
            (0..least).map(|_| next(&schema["items"])).collect()
        }
        "integer" => json!(number(schema, 1.0).ceil() as i64),
        "number" => json!(number(schema, 0.5)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => {
            let least = schema["minLength"].as_u64().unwrap_or(0).min(10_000) as usize;
            let most = schema["maxLength"].as_u64().unwrap_or(u64::MAX) as usize;
            let padded = format!("{:.<least$}", "sample");
            json!(padded.chars().take(most).collect::<String>())
        }
    }
}

fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap_or("string"),
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

fn object(schema: &Value, next: impl Fn(&Value) -> Value) -> Value {
    let mut object = Map::new();
    if let Some(properties) = schema["properties"].as_object() {
        object.extend(properties.iter().map(|(key, inner)| (key.clone(), next(inner))));
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        object.entry(key).or_insert_with(|| json!("sample"));
    }
    object.into()
}

fn number(schema: &Value, step: f64) -> f64 {
    let least =
        schema["minimum"].as_f64().or_else(|| schema["exclusiveMinimum"].as_f64().map(|low| low + step));
    let most =
        schema["maximum"].as_f64().or_else(|| schema["exclusiveMaximum"].as_f64().map(|high| high - step));
    let start = least.unwrap_or(1.0);
    most.map_or(start, |most| start.min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_what_refers_to_itself_in_many_places_is_small() {
        let names: Map<String, Value> = (0..30).map(|n| (format!("n{n}"), json!({"$ref": "#"}))).collect();
        assert!(sample(&json!({"properties": names})).to_string().len() < 1_000_000);
        let large = json!({"properties": {"a": {"default": "x".repeat(2 << 20)}}});
        assert_eq!(sample(&large), json!({"a": null}));
    }
}
