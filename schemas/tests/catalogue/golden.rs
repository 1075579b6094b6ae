//! Samples of every version of every record, which must stay readable for ever. `OMIUM_BLESS=1` writes those that are
//! missing; a sample of a shipped schema is never written again.

use std::fs;
use std::path::PathBuf;

use apache_avro::types::Value;
use omium_schemas::{SCHEMAS, Schema};
use serde_json::{Value as Json, json};

use crate::arbitrary::{Dice, Fill, value};
use crate::oracle::{parsed, read, through_ours, written};

/// Where the samples lie.
pub(crate) fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Whether missing samples are to be written.
#[expect(clippy::disallowed_methods, reason = "a switch for whoever changes a schema, not for the program")]
pub(crate) fn blessing() -> bool {
    std::env::var("OMIUM_BLESS").is_ok_and(|value| value == "1")
}

#[expect(clippy::disallowed_methods, reason = "tests read files")]
pub(crate) fn load(path: &PathBuf) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[expect(clippy::disallowed_methods, reason = "blessing writes files")]
pub(crate) fn store(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn path(schema: &Schema) -> PathBuf {
    let mut snake = String::new();
    for c in schema.name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    directory().join(format!("{snake}.v{}.json", schema.version))
}

/// A value as a person reads it: bytes in hexadecimal, an absent option as null.
fn readable(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Long(value) | Value::TimestampMicros(value) => json!(value),
        Value::String(value) => json!(value),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => json!(hex(bytes)),
        Value::Enum(_, symbol) => json!(symbol),
        Value::Union(_, inner) => readable(inner),
        Value::Array(items) => items.iter().map(readable).collect(),
        Value::Record(fields) => fields.iter().map(|(name, value)| (name.clone(), readable(value))).collect(),
        Value::Decimal(amount) => {
            let bytes: Vec<u8> = amount.try_into().expect("a decimal has its bytes");
            json!(hex(&bytes))
        }
        other => panic!("{other:?} is not in the table of types"),
    }
}

fn sample(schema: &Schema) -> String {
    let avro = parsed(schema);
    let samples = [("full", Fill::Full), ("least", Fill::Least)].map(|(name, fill)| {
        let made = value(schema.json, fill, &mut Dice(u64::from(schema.id.0)));
        let shown = readable(&made);
        json!({ "sample": name, "bytes": hex(&written(&avro, made)), "value": shown })
    });
    let whole = json!({
        "name": schema.name, "version": schema.version, "id": schema.id.0,
        "fingerprint": format!("{:016x}", schema.fingerprint), "samples": samples,
    });
    serde_json::to_string_pretty(&whole).expect("JSON of JSON") + "\n"
}

fn check(schema: &Schema, text: &str) {
    let golden: Json = serde_json::from_str(text).expect("a golden file is JSON");
    assert_eq!(
        golden["fingerprint"],
        format!("{:016x}", schema.fingerprint),
        "{} v{} was edited after its sample was written; if it has not shipped, run these tests once with \
         OMIUM_BLESS=1 and commit the new sample",
        schema.name,
        schema.version
    );
    assert_eq!(golden["id"], schema.id.0, "{}", schema.name);
    let samples = golden["samples"].as_array().expect("a golden file has samples");
    assert!(!samples.is_empty(), "{} has no sample", schema.name);
    for sample in samples {
        let bytes = unhex(sample["bytes"].as_str().expect("a sample has bytes"));
        let ours = through_ours(schema, &bytes).unwrap_or_else(|why| {
            panic!("a sample of {} v{} is not readable any more: {why}", schema.name, schema.version)
        });
        assert_eq!(ours, bytes, "{}", schema.name);
        assert_eq!(readable(&read(&parsed(schema), &bytes)), sample["value"], "{}", schema.name);
    }
}

#[test]
fn every_version_of_every_record_has_samples_that_still_decode() {
    let shipped = crate::shipped::names();
    for schema in SCHEMAS {
        let path = path(schema);
        let current = load(&path);
        let frozen = shipped.contains(&(schema.name.to_owned(), schema.version));
        if blessing() && !(frozen && current.is_some()) {
            store(&path, &sample(schema));
        }
        let text = load(&path).unwrap_or_else(|| {
            panic!("{} is missing; run these tests once with OMIUM_BLESS=1 and commit it", path.display())
        });
        check(schema, &text);
    }
}

#[test]
fn no_sample_is_left_over_from_a_record_that_is_gone() {
    let wanted: std::collections::BTreeSet<PathBuf> = SCHEMAS.iter().map(path).collect();
    for entry in fs::read_dir(directory()).expect("the directory of samples") {
        let path = entry.expect("an entry of the directory of samples").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.contains(".v") {
            assert!(
                wanted.contains(&path),
                "{} belongs to no record: delete it, or bring the record back if it has shipped",
                path.display()
            );
        }
    }
}

#[test]
#[should_panic(expected = "is not readable any more")]
fn a_sample_that_does_not_decode_is_noticed() {
    let schema =
        SCHEMAS.iter().find(|schema| schema.name == "StepScheduled").expect("it is in the catalogue");
    let text = sample(schema);
    let golden: Json = serde_json::from_str(&text).expect("JSON");
    let bytes = golden["samples"][0]["bytes"].as_str().expect("bytes").to_owned();
    check(schema, &text.replace(&bytes, &bytes[..bytes.len() - 2]));
}
