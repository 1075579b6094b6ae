//! The generator refuses, in words that help, whatever the catalogue's rules do not allow.

#[path = "../../build/generator.rs"]
mod subject;

use subject::{File, generate};

const ORIGIN: &str = r#"{"type": "record", "name": "Origin", "namespace": "omium", "doc": "From where.",
    "fields": [{"name": "control", "type": "long", "doc": "What was known."}]}"#;

fn record(id: u16, kind: &str, fields: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "ThingDone", "namespace": "omium", "doc": "A thing.",
            "omium": {{"id": {id}, "kind": "{kind}", "family": "step", "version": 1}}, "fields": [{fields}]}}"#
    )
}

fn run(files: &[(&str, &str)]) -> Result<String, String> {
    let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
    generate(&files.iter().map(file).collect::<Vec<_>>())
}

fn event(fields: &str) -> Result<String, String> {
    run(&[("avsc/step/thing_done.v1.avsc", &record(1001, "event", fields))])
}

#[track_caller]
fn refused(result: Result<String, String>, wanted: &str) {
    let why = result.expect_err("the generator must refuse this");
    assert!(why.contains(wanted), "`{why}` does not say `{wanted}`");
}

#[test]
fn a_record_becomes_a_struct_and_a_variant_with_its_docs() {
    let rust = event(r#"{"name": "at", "type": {"type": "long", "omium.type": "Seq"}, "doc": "Where."}"#)
        .expect("a record within the rules");
    for wanted in
        ["pub struct ThingDone", "/// Where.\n    pub at: Seq", "ThingDone(ThingDone)", "TypeId(1001)"]
    {
        assert!(rust.contains(wanted), "{wanted} is missing in\n{rust}");
    }
}

#[test]
fn maps_and_nested_lists_have_their_rust_types() {
    let rust = event(
        r#"{"name": "a", "type": {"type": "map", "values": "long"}, "doc": "A."},
           {"name": "b", "type": ["null", {"type": "array", "items": "string"}], "default": null, "doc": "B."}"#,
    )
    .expect("a record within the rules");
    assert!(rust.contains("pub a: std::collections::BTreeMap<String, i64>"));
    assert!(rust.contains("pub b: Option<Vec<String>>"));
}

#[test]
fn what_has_no_doc_is_refused() {
    refused(event(r#"{"name": "at", "type": "long"}"#), "field `at` has no `doc`");
    let silent = record(1001, "event", "").replace("A thing.", " ");
    refused(run(&[("avsc/step/thing_done.v1.avsc", &silent)]), "ThingDone has no `doc`");
    let symbol =
        r#"{"type": "enum", "name": "Sort", "namespace": "omium", "doc": "A sort.", "symbols": ["A"]}"#;
    refused(run(&[("avsc/types/sort.avsc", symbol)]), "symbol A of Sort has no sentence");
}

#[test]
fn types_outside_of_the_table_are_refused() {
    let typed =
        |schema: &str| event(&format!(r#"{{"name": "at", "type": {schema}, "default": null, "doc": "X."}}"#));
    refused(typed(r#""double""#), "there is no type `double`");
    refused(typed(r#"["null", "long", "string"]"#), "the only union is");
    refused(typed(r#"["long", "null"]"#), "the only union is");
    refused(typed(r#"{"type": "long", "logicalType": "timestamp-millis"}"#), "not in the table of types");
    refused(typed(r#"{"type": "int", "omium.type": "Seq"}"#), "not in the table of types");
    refused(
        typed(r#"{"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}"#),
        "not in the table of types",
    );
    refused(
        typed(r#"{"type": "record", "name": "X", "doc": "X.", "fields": []}"#),
        "a named type goes to avsc/types",
    );
}

#[test]
fn an_optional_field_must_be_absent_by_default() {
    refused(event(r#"{"name": "at", "type": ["null", "long"], "doc": "X."}"#), "its default must be null");
}

#[test]
fn names_that_rust_does_not_take_are_refused() {
    refused(event(r#"{"name": "type", "type": "long", "doc": "X."}"#), "choose another name");
    refused(event(r#"{"name": "stepId", "type": "long", "doc": "X."}"#), "choose another name");
}

#[test]
fn an_id_is_never_used_twice_and_fits_its_kind() {
    let other = record(1001, "event", "").replace("ThingDone", "OtherDone");
    let files = [
        ("avsc/step/thing_done.v1.avsc", record(1001, "event", "")),
        ("avsc/step/other_done.v1.avsc", other),
    ];
    refused(run(&files.each_ref().map(|(path, text)| (*path, text.as_str()))), "id 1001 is taken by");
    refused(run(&[("avsc/step/thing_done.v1.avsc", &record(7, "event", ""))]), "commands have 1 to 999");
    refused(run(&[("avsc/step/thing_done.v1.avsc", &record(1007, "command", ""))]), "commands have 1 to 999");
}

#[test]
fn a_file_lies_where_its_record_says() {
    let text = record(1001, "event", "");
    refused(run(&[("avsc/tool/thing_done.v1.avsc", &text)]), "belongs into avsc/step/thing_done.v1.avsc");
    refused(run(&[("avsc/step/thing_done.v2.avsc", &text)]), "belongs into avsc/step/thing_done.v1.avsc");
}

#[test]
fn a_command_begins_with_its_origin_and_its_struct_does_not_hold_it() {
    refused(run(&[("avsc/step/thing_done.v1.avsc", &record(7, "command", ""))]), "first field is `origin`");
    let field = r#"{"name": "origin", "type": "omium.Origin", "doc": "From where."}"#;
    let files =
        [("avsc/types/origin.avsc", ORIGIN), ("avsc/step/thing_done.v1.avsc", &record(7, "command", field))];
    let rust = run(&files).expect("a command within the rules");
    assert!(rust.contains("pub struct ThingDone {\n}"), "{rust}");
    assert!(rust.contains(r#"\"name\":\"Origin\""#), "the shipped schema does not hold the origin:\n{rust}");
}

#[test]
fn a_type_that_holds_itself_is_refused() {
    let node = r#"{"type": "record", "name": "Node", "namespace": "omium", "doc": "A node.", "fields": [
        {"name": "next", "type": {"type": "array", "items": "omium.Node"}, "doc": "The next."}]}"#;
    refused(run(&[("avsc/types/node.avsc", node)]), "`omium.Node` holds itself");
}

#[test]
fn a_shared_record_without_bytes_is_refused() {
    let empty = r#"{"type": "record", "name": "Nil", "namespace": "omium", "doc": "Nothing.", "fields": []}"#;
    refused(run(&[("avsc/types/nil.avsc", empty)]), "omium.Nil has no fields");
}

#[test]
fn a_later_version_is_a_struct_of_its_own_under_the_same_record_name() {
    let second = record(1002, "event", "").replace(r#""version": 1"#, r#""version": 2"#);
    let files = [
        ("avsc/step/thing_done.v1.avsc", record(1001, "event", "")),
        ("avsc/step/thing_done.v2.avsc", second),
    ];
    let rust = run(&files.each_ref().map(|(path, text)| (*path, text.as_str()))).expect("two versions");
    assert!(rust.contains("pub struct ThingDoneV2"));
    assert!(rust.contains(r#"id: TypeId(1002), name: "ThingDone", version: 2"#));
}
