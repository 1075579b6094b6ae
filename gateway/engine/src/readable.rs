//! Avro values as JSON for people.

use std::collections::BTreeMap;

use apache_avro::types::Value as Avro;
use serde_json::{Map, Value, json as to_json};

/// Avro as JSON that people read: bytes in hexadecimal, a union as what it holds. `open` is asked about each sealed
/// content in order, and may give what it says.
pub fn json(value: Avro, open: &mut dyn FnMut(&Value) -> Option<Value>) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => to_json!(value),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => to_json!(value),
        Avro::Long(value)
        | Avro::TimeMicros(value)
        | Avro::TimestampMillis(value)
        | Avro::TimestampMicros(value)
        | Avro::TimestampNanos(value)
        | Avro::LocalTimestampMillis(value)
        | Avro::LocalTimestampMicros(value)
        | Avro::LocalTimestampNanos(value) => to_json!(value),
        Avro::Float(value) => to_json!(value),
        Avro::Double(value) => to_json!(value),
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => to_json!(hex(&bytes)),
        Avro::String(text) | Avro::Enum(_, text) => to_json!(text),
        Avro::Union(_, inner) => json(*inner, open),
        Avro::Array(items) => items.into_iter().map(|item| json(item, open)).collect(),
        Avro::Map(entries) => {
            let entries: BTreeMap<String, Value> =
                entries.into_iter().map(|(key, value)| (key, json(value, open))).collect();
            to_json!(entries)
        }
        Avro::Record(fields) => {
            let fields: Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name, json(value, open))).collect();
            let sealed =
                fields.keys().eq(["blob", "bytes", "key"]) || fields.keys().eq(["key", "bytes", "blob"]);
            let whole = Value::Object(fields);
            if sealed { open(&whole).unwrap_or(whole) } else { whole }
        }
        Avro::Decimal(decimal) => {
            Vec::<u8>::try_from(decimal).map_or(Value::Null, |bytes| to_json!(integer(&bytes)))
        }
        other => to_json!(format!("{other:?}")),
    }
}

/// A big-endian two's complement number in decimal digits; JSON numbers would lose some.
fn integer(bytes: &[u8]) -> String {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    match bytes.len() {
        0..=16 => bytes.iter().fold(start, |sum: i128, byte| (sum << 8) | i128::from(*byte)).to_string(),
        _ => hex(bytes),
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
