//! The three texts of a schema: self-contained, parsing canonical form, fingerprint.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Keys that a reader wants first. All others follow by name, whatever order serde_json was built to keep.
const FIRST: [&str; 8] = ["type", "name", "namespace", "doc", "logicalType", "omium", "items", "values"];
/// The order of the specification's canonical form.
const CANONICAL: [&str; 7] = ["name", "type", "fields", "symbols", "items", "values", "size"];

/// The schema with each shared type written out where it is first used.
pub(crate) fn self_contained(schema: &Value, shared: &BTreeMap<String, Value>) -> Value {
    inline(schema, shared, &mut BTreeSet::new())
}

fn inline(schema: &Value, shared: &BTreeMap<String, Value>, seen: &mut BTreeSet<String>) -> Value {
    match schema {
        Value::String(name) => match shared.get(name) {
            Some(definition) if seen.insert(name.clone()) => inline(definition, shared, seen),
            _ => schema.clone(),
        },
        Value::Array(branches) => branches.iter().map(|branch| inline(branch, shared, seen)).collect(),
        Value::Object(object) => Value::Object(inline_object(object, shared, seen)),
        other => other.clone(),
    }
}

fn inline_object(
    object: &Map<String, Value>,
    shared: &BTreeMap<String, Value>,
    seen: &mut BTreeSet<String>,
) -> Map<String, Value> {
    let mut inlined = object.clone();
    for key in ["type", "items", "values"] {
        if let Some(inner) = object.get(key) {
            inlined.insert(key.to_owned(), inline(inner, shared, seen));
        }
    }
    if let Some(Value::Array(fields)) = object.get("fields") {
        inlined.insert("fields".to_owned(), fields.iter().map(|field| inline(field, shared, seen)).collect());
    }
    inlined
}

/// JSON on one line, in an order of keys that depends on nothing but the keys.
pub(crate) fn print(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", join(items.iter().map(print))),
        Value::Object(object) => {
            let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_by_key(|key| (rank(key), *key));
            let entry = |key: &String| format!("{}:{}", Value::String(key.clone()), print(&object[key]));
            format!("{{{}}}", join(keys.into_iter().map(entry)))
        }
        scalar => scalar.to_string(),
    }
}

/// Avro's "Parsing Canonical Form" of a self-contained schema.
pub(crate) fn parsing_canonical_form(schema: &Value) -> String {
    match schema {
        Value::Array(branches) => format!("[{}]", join(branches.iter().map(parsing_canonical_form))),
        Value::Object(object) => canonical_object(object),
        scalar => scalar.to_string(),
    }
}

fn canonical_object(object: &Map<String, Value>) -> String {
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    if !object.contains_key("name") && kind != "array" && kind != "map" {
        return format!("\"{kind}\"");
    }
    let full_name = |name: &Value| match object.get("namespace").and_then(Value::as_str) {
        Some(namespace) => format!("\"{namespace}.{}\"", name.as_str().unwrap_or_default()),
        None => name.to_string(),
    };
    let entry = |key: &str| {
        let value = object.get(key)?;
        let text = match key {
            "name" => full_name(value),
            "symbols" | "size" => value.to_string(),
            _ => parsing_canonical_form(value),
        };
        Some(format!("\"{key}\":{text}"))
    };
    format!("{{{}}}", join(CANONICAL.into_iter().filter_map(entry)))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}

/// CRC-64-AVRO, the fingerprint that the Avro specification names for schemas.
pub(crate) fn rabin(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    bytes.iter().fold(EMPTY, |mut fingerprint, byte| {
        fingerprint ^= u64::from(*byte);
        for _ in 0..8 {
            let carry = (fingerprint & 1).wrapping_neg();
            fingerprint = (fingerprint >> 1) ^ (EMPTY & carry);
        }
        fingerprint
    })
}
