//! A later version of a record reads and is read by every earlier one (FULL_TRANSITIVE).

use std::collections::BTreeMap;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use omium_schemas::{SCHEMAS, Schema};

use crate::arbitrary::{Dice, Fill, value};
use crate::oracle::{reduced, written};

/// All versions of each record, oldest first.
fn histories() -> BTreeMap<&'static str, Vec<&'static Schema>> {
    let mut histories: BTreeMap<&str, Vec<&Schema>> = BTreeMap::new();
    for schema in SCHEMAS {
        histories.entry(schema.name).or_default().push(schema);
    }
    histories.values_mut().for_each(|versions| versions.sort_by_key(|schema| schema.version));
    histories
}

/// What is wrong with the last of these versions, if anything.
fn refusal(versions: &[&str]) -> Option<String> {
    let parsed: Vec<apache_avro::Schema> = versions
        .iter()
        .map(|json| apache_avro::Schema::parse_str(json).expect("a version is an Avro schema"))
        .collect();
    let (latest, earlier) = parsed.split_last()?;
    for (index, old) in earlier.iter().enumerate() {
        for (writer, reader) in [(index, versions.len() - 1), (versions.len() - 1, index)] {
            if let Err(why) = resolves(versions[writer], versions[reader]) {
                return Some(format!("v{} cannot be read as v{}: {why}", writer + 1, reader + 1));
            }
        }
        match SchemaCompatibility::mutual_read(old, latest) {
            Ok(Compatibility::Full) => {}
            Ok(Compatibility::Partial) => {
                return Some(format!("not every value of v{} has a counterpart", index + 1));
            }
            Err(why) => return Some(format!("v{} does not match: {why}", index + 1)),
        }
    }
    None
}

/// Reads real values of the writer's schema with the reader's. By values: reading into Rust types with a reader's
/// schema panics in apache-avro 0.22. And without logical types: its resolution refuses every decimal(38) of fewer than
/// sixteen bytes, although these are what decimals usually have.
fn resolves(writer: &str, reader: &str) -> Result<(), String> {
    let [writer, reader] =
        [writer, reader].map(|json| reduced(&serde_json::from_str(json).expect("a version is JSON")));
    let [from, to] =
        [&writer, &reader].map(|json| apache_avro::Schema::parse(json).expect("a version is an Avro schema"));
    for (seed, fill) in [(1, Fill::Full), (2, Fill::Least), (3, Fill::Any)] {
        let bytes = written(&from, value(&writer.to_string(), fill, &mut Dice(seed)));
        let resolving = GenericDatumReader::builder(&from).reader_schema(&to).build();
        let resolving = resolving.map_err(|why| why.to_string())?;
        resolving.read_value(&mut &bytes[..]).map_err(|why| why.to_string())?;
    }
    Ok(())
}

#[test]
fn every_version_in_the_catalogue_resolves_with_every_earlier_one() {
    for (name, versions) in histories() {
        for (index, schema) in versions.iter().enumerate() {
            assert_eq!(
                usize::from(schema.version),
                index + 1,
                "{name}: versions are 1, 2, 3 … without a gap"
            );
            assert_eq!((schema.kind, schema.family), (versions[0].kind, versions[0].family), "{name}");
        }
        for count in 2..=versions.len() {
            let history: Vec<&str> = versions[..count].iter().map(|schema| schema.json).collect();
            assert_eq!(refusal(&history), None, "{name} v{count} is not FULL_TRANSITIVE");
        }
    }
}

fn json_of(name: &str) -> &'static str {
    SCHEMAS
        .iter()
        .find(|schema| schema.name == name && schema.version == 1)
        .expect("it is in the catalogue")
        .json
}

/// A copy of the schema with one more field at its end.
fn with_field(json: &str, field: &str) -> String {
    let end = json.rfind("]}").expect("a record ends with its fields");
    let comma = if json[..end].ends_with('[') { "" } else { "," };
    format!("{}{comma}{field}]}}", &json[..end])
}

const OPTIONAL: &str = r#"{"name":"lane","type":["null","int"],"default":null,"doc":"A lane."}"#;

#[test]
fn a_planted_successor_with_one_more_optional_field_is_taken() {
    for name in ["StepScheduled", "ExecutionPaused", "MessageSent", "StartExecution"] {
        let first = json_of(name);
        let second = with_field(first, OPTIONAL);
        let third = with_field(&second, &OPTIONAL.replace("lane", "worker"));
        assert_eq!(refusal(&[first, &second, &third]), None, "{name}");
    }
}

#[test]
fn a_planted_successor_that_only_says_more_about_itself_is_taken() {
    let first = json_of("StepScheduled");
    let second = first.replace("When it may begin.", "The earliest moment at which it may begin.");
    assert_ne!(first, second);
    assert_eq!(refusal(&[first, &second]), None);
}

#[test]
fn planted_successors_that_lose_something_are_refused() {
    let first = json_of("StepScheduled");
    let plant = |from: &str, to: &str| {
        let second = first.replace(from, to);
        assert_ne!(first, second, "`{from}` does not occur");
        second
    };
    let required = with_field(first, &OPTIONAL.replace(r#""default":null,"#, ""));
    let renamed = plant(r#""name":"attempt""#, r#""name":"try_number""#);
    let widened = plant(r#""type":"int""#, r#""type":"long""#);
    let text = plant(r#""type":"int""#, r#""type":"string""#);
    let other_record = plant("StepScheduled", "StepPlanned");
    for second in [&required, &renamed, &widened, &text, &other_record] {
        assert!(refusal(&[first, second]).is_some(), "{second}");
    }
}

#[test]
fn a_planted_successor_must_resolve_with_all_versions_and_not_only_the_last() {
    let first = json_of("StepScheduled");
    let second = with_field(first, OPTIONAL);
    // Reads as v2 in both directions, but v1 has no `lane` and v3 has no default for it.
    let third = with_field(first, r#"{"name":"lane","type":["null","int"],"doc":"A lane."}"#);
    assert_eq!(refusal(&[&second, &third]), None);
    assert!(refusal(&[first, &second, &third]).is_some());
}

#[test]
fn a_planted_enum_that_loses_a_symbol_is_refused_unless_it_has_a_default() {
    let first = json_of("ExecutionFailed");
    let no_default = first.replace(r#""default":"OTHER","#, "");
    assert_ne!(first, no_default);
    let fewer = |json: &str| json.replace(r#""CRASHED","#, "");
    assert_ne!(fewer(first), first);
    assert_eq!(refusal(&[first, &fewer(first)]), None);
    assert!(refusal(&[&no_default, &fewer(&no_default)]).is_some());
}
