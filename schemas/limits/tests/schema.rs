//! JSON Schema: the same answers as a validator that counts nothing, and an end to what others write.
#![allow(clippy::unwrap_used, reason = "tests")]

use omium_limits::schema::Misfit;
use omium_limits::{Fuel, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};

fn check(schema: &Value, value: &Value) -> Result<(), Misfit> {
    omium_limits::schema::fits(schema, value, &mut Fuel::default())
}

#[track_caller]
fn wrong(schema: Value, value: Value, expected: &str) {
    assert_eq!(check(&schema, &value).unwrap_err().to_string(), expected);
}

#[track_caller]
fn unusable(schema: Value, part: &str) {
    let why = Schema::read(&schema).unwrap_err().to_string();
    assert!(why.contains(part) && why.len() < 600, "{why}");
}

#[test]
fn what_does_not_fit_is_told_with_its_place_and_never_with_its_value() {
    let schema = json!({
        "type": "object",
        "required": ["apr"],
        "properties": {
            "apr": {"type": "number", "minimum": 2.5, "maximum": 8.5},
            "kind": {"enum": ["a", "b"]},
            "note": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
            "list": {"type": "array", "items": {"type": "integer"}, "uniqueItems": true},
        },
        "additionalProperties": false,
    });
    assert_eq!(check(&schema, &json!({"apr": 5, "kind": "a", "note": null, "list": [1, 2]})), Ok(()));
    wrong(schema.clone(), json!({}), "lacks `apr`");
    wrong(schema.clone(), json!([]), "is not of type object");
    wrong(schema.clone(), json!({"apr": 9}), "is greater than the maximum of 8.5 at `/apr`");
    wrong(schema.clone(), json!({"apr": "secret"}), "is not of type number at `/apr`");
    wrong(
        schema.clone(),
        json!({"apr": 5, "kind": "secret"}),
        "is none of the values that are allowed at `/kind`",
    );
    wrong(
        schema.clone(),
        json!({"apr": 5, "note": "secret"}),
        "has 6 characters, 3 at most are asked for at `/note`",
    );
    wrong(
        schema.clone(),
        json!({"apr": 5, "list": [1, 1.0]}),
        "holds item 1 twice, which is not allowed at `/list`",
    );
    wrong(schema.clone(), json!({"apr": 5, "list": [1, 1.5]}), "is not of type integer at `/list/1`");
    wrong(schema.clone(), json!({"apr": 5, "x": 1}), "holds `x`, which is not asked for");
    let long = json!({"apr": 5, "x".repeat(1 << 20): 1});
    assert!(check(&schema, &long).unwrap_err().to_string().len() < 200);
    let several =
        Schema::read(&schema).unwrap().violations(&json!({"kind": 1, "note": 1}), 5, &mut Fuel::default());
    assert_eq!(several.unwrap().len(), 3);
}

#[test]
fn older_drafts_and_references_are_read() {
    let old = json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"d": {"type": "string", "format": "date"}},
        "items": [{"$ref": "#/definitions/d", "maxLength": 0}], "additionalItems": {"type": "null"}});
    assert_eq!(check(&old, &json!(["2026-01-01", null])), Ok(()));
    wrong(old.clone(), json!(["2026-13-01"]), "is no date at `/0`");
    wrong(old, json!(["2026-01-01", 1]), "is not of type null at `/1`");
    let tree = json!({"$id": "https://x/t", "$defs": {"n": {"$anchor": "n", "properties": {"next": {"$ref": "https://x/t#n"}, "v": {"$ref": "#/$defs/a~1b%20c"}}},
        "a/b c": {"type": "integer"}}, "$ref": "#n"});
    assert_eq!(check(&tree, &json!({"next": {"next": {"v": 1}}})), Ok(()));
    wrong(tree, json!({"next": {"next": {"v": "x"}}}), "is not of type integer at `/next/next/v`");
    let chain: serde_json::Map<_, _> = (0..500)
        .map(|n| (format!("d{n}"), json!({"properties": {"next": {"$ref": format!("#/$defs/d{}", (n + 1) % 500)}}, "required": ["v"]})))
        .collect();
    let chain = json!({"$defs": chain, "$ref": "#/$defs/d0"});
    wrong(chain, json!({"v": 1, "next": {"v": 1, "next": {}}}), "lacks `v` at `/next/next`");
    wrong(json!({"maximum": 5, "exclusiveMaximum": true}), json!(5), "is not less than 5");
}

#[test]
fn a_schema_that_cannot_be_used_is_refused_and_says_where() {
    unusable(json!({"$ref": "https://example.com/x"}), "outside of the schema");
    unusable(json!({"$ref": "file:///etc/passwd"}), "outside of the schema");
    unusable(json!({"$ref": "#/$defs/none"}), "refers to nothing");
    unusable(json!({"properties": {"a": {"type": "objekt"}}}), "there is no type `objekt`");
    unusable(json!({"properties": {"a": {"type": "objekt"}}}), "at `/properties/a`");
    unusable(json!({"pattern": "(?=a)"}), "cannot be used");
    unusable(json!({"properties": {"a": {"$id": "b", "$ref": "#/x"}}}), "`$id` of its own");
    unusable(json!({"required": [1]}), "not a list of names");
    unusable(json!(3), "a schema is a mapping");
    let many: serde_json::Map<_, _> = (0..30_000).map(|n| (n.to_string(), json!({}))).collect();
    unusable(json!({"properties": many}), "more than 20000 schemas");
    let large: Vec<_> = (0..2_500).map(|n| json!({"pattern": format!("^x{n}[a-z]{{1,900}}$")})).collect();
    unusable(json!({"anyOf": large}), "too large together");
    let mut deep = json!({});
    for _ in 0..300 {
        deep = json!({"not": deep});
    }
    unusable(deep.clone(), "nested more than 128 deep");
    // Dropped by hand: values nested so deep come from no text.
    while let Some(inner) = deep.get_mut("not").map(Value::take) {
        deep = inner;
    }
}

/// Schemas and values that multiply in many ways. None may take long; all have to be refused or judged.
fn hostile() -> Vec<(Value, Value)> {
    let doubling = |n: usize, kind: &str| {
        let mut defs: serde_json::Map<_, _> = (0..n)
            .map(|i| (format!("d{i}"), json!({kind: [{"$ref": format!("#/$defs/d{}", i + 1)}, {"$ref": format!("#/$defs/d{}", i + 1)}]})))
            .collect();
        defs.insert(format!("d{n}"), json!({"type": "object"}));
        json!({"$ref": "#/$defs/d0", "$defs": defs})
    };
    let mut by_value = json!({"type": "null"});
    for _ in 0..100 {
        by_value = json!({"not": {"anyOf": [by_value]}, "unevaluatedProperties": false, "if": {}});
    }
    let numbers: Vec<_> = (0..30_000).collect();
    let texts: Vec<_> = (0..20_000).map(|n| format!("{n:050}")).collect();
    vec![
        (doubling(36, "allOf"), json!({})),
        (doubling(36, "anyOf"), json!([])),
        (doubling(36, "oneOf"), json!({})),
        (by_value, json!({"a": 1})),
        (json!({"$ref": "#"}), json!(1)),
        (json!({"allOf": [{"$ref": "#"}]}), json!(1)),
        (json!({"items": {"enum": numbers}}), json!((30_000..60_000).collect::<Vec<_>>())),
        (json!({"items": {"contains": {"const": 1}}}), json!(vec![numbers; 50])),
        (json!({"uniqueItems": true}), json!(texts)),
        (json!({"items": {"pattern": "(a*)*(b{1,50}){1,50}$"}}), json!(vec!["a".repeat(10_000); 1_000])),
        (
            json!({"additionalProperties": {"$ref": "#"}, "patternProperties": {"^a": {"$ref": "#"}, "a$": {"$ref": "#"}, "a": {"$ref": "#"}}}),
            {
                let mut value = json!(1);
                for _ in 0..100 {
                    value = json!({"a": value});
                }
                value
            },
        ),
    ]
}

#[test]
fn whatever_multiplies_comes_to_an_end() {
    for (schema, value) in hostile() {
        let mut fuel = Fuel::default();
        let result = omium_limits::schema::fits(&schema, &value, &mut fuel);
        assert!(fuel.taken() <= 1_000_000);
        if let Err(why) = result {
            assert!(why.to_string().len() < 500);
        }
    }
    // A schema that is read again and again is paid for each time.
    let large = json!({"enum": (0..100_000).collect::<Vec<_>>()});
    let mut fuel = Fuel::default();
    let times =
        (0..100).take_while(|_| omium_limits::schema::fits(&large, &json!(0), &mut fuel).is_ok()).count();
    assert!(times < 10, "{times}");
    let (exponential, value) = hostile().swap_remove(0);
    assert!(matches!(check(&exponential, &value), Err(Misfit::Uncheckable(_))));
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        (-3_i64..4).prop_map(|n| json!(n as f64 / 2.0)),
        "[ab]{0,3}".prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn plain_schema() -> impl Strategy<Value = Value> {
    let kind =
        prop::sample::select(&["null", "boolean", "number", "integer", "string", "array", "object"][..]);
    prop_oneof![
        Just(json!({})),
        Just(json!(false)),
        Just(json!({"$ref": "#/$defs/d"})),
        kind.clone().prop_map(|kind| json!({"type": kind})),
        (kind.clone(), kind).prop_map(|(a, b)| if a == b {
            json!({"type": a})
        } else {
            json!({"type": [a, b]})
        }),
        prop::collection::vec(leaf(), 1..4).prop_map(|values| {
            let mut unique = Vec::new();
            values.into_iter().for_each(|value| {
                if !unique.contains(&value) {
                    unique.push(value)
                }
            });
            json!({"enum": unique})
        }),
        leaf().prop_map(|value| json!({"const": value})),
        (-2_i64..3).prop_map(|n| json!({"minimum": n, "exclusiveMaximum": n + 2})),
        (1_u32..4).prop_map(|n| json!({"multipleOf": f64::from(n) / 2.0})),
        (0_usize..3).prop_map(|n| json!({"minLength": n, "maxItems": n, "minProperties": n})),
        prop::sample::select(&["^a", "b$", "[ab]{2}", r"^\w*$"][..])
            .prop_map(|pattern| json!({"pattern": pattern})),
        prop::collection::vec("[abc]", 0..3).prop_map(|mut names| {
            names.sort();
            names.dedup();
            json!({"required": names, "uniqueItems": true})
        }),
        Just(json!({"dependentRequired": {"a": ["b"]}, "propertyNames": {"maxLength": 1}})),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    plain_schema().prop_recursive(3, 24, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            some.clone().prop_map(|all| json!({"allOf": all})),
            some.clone().prop_map(|any| json!({"anyOf": any})),
            some.clone().prop_map(|one| json!({"oneOf": one})),
            inner.clone().prop_map(|not| json!({"not": not})),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"properties": {"a": a}, "additionalProperties": b})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"patternProperties": {"^[ab]$": a}, "properties": {"b": b}})),
            (some, inner.clone()).prop_map(|(first, rest)| json!({"prefixItems": first, "items": rest})),
            (inner.clone(), 0_usize..2).prop_map(|(item, n)| json!({"contains": item, "minContains": n, "maxContains": n + 1})),
            inner.clone().prop_map(|then| json!({"dependentSchemas": {"a": then}})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"allOf": [{"properties": {"a": a}}], "unevaluatedProperties": b})),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"anyOf": [{"prefixItems": [a]}, {"contains": {"type": "null"}}], "unevaluatedItems": b})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_answers_are_those_of_a_validator_that_counts_nothing(schema in schema(), values in prop::collection::vec(value(), 1..6)) {
        let whole = json!({"$defs": {"d": {"type": ["string", "object"]}}, "allOf": [schema]});
        let oracle = jsonschema::validator_for(&whole).unwrap();
        let ours = Schema::read(&whole).unwrap();
        for value in values {
            let found = ours.violations(&value, 3, &mut Fuel::default()).unwrap();
            prop_assert_eq!(found.is_empty(), oracle.is_valid(&value), "{} against {}: {:?}", value, whole, found);
        }
    }
}
