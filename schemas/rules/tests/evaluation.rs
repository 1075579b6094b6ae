//! Rules: the same answers as the evaluator of those who wrote the parser, and an end to what others write.
#![allow(clippy::unwrap_used, reason = "tests")]

use cel::objects::{Key, Map, Value as Cel};
use omium_limits::Fuel;
use omium_rules::{Broken, evaluate, judge};
use proptest::prelude::*;
use serde_json::{Value, json};

#[track_caller]
fn holds(rule: &str, output: &Value, expected: bool) {
    let said = judge(rule, &[("output", output)], &mut Fuel::default());
    match expected {
        true => assert_eq!(said, Ok(()), "{rule}"),
        false => assert!(matches!(said, Err(Broken::DoesNotHold { .. })), "{rule}: {said:?}"),
    }
}

#[test]
fn rules_mean_what_they_say() {
    let output = json!({"apr": 5, "note": "fine", "list": [1, 2, 3], "none": null, "ok": true});
    for rule in [
        "output.apr >= 2.5 && output.apr <= 8.5",
        "output.list.all(i, output.list.filter(j, j == i).size() == 1)",
        "output.list.map(x, x * 2.0) == [2.0, 4.0, 6.0]",
        "output.list.exists_one(x, x == 2) && 2 in output.list && !(4 in output.list)",
        "has(output.note) && !has(output.other) && 'note' in output",
        "output.note.matches('^f[a-z]+$') && matches(output.note, 'i') && output.note.size() == 4",
        "output.none == null && type(output.apr) == double && type([]) == list",
        "output.apr > 3.0 ? output.ok : false",
        "true || output.missing == 1",
        "output.missing == 1 || true",
        "output.list.exists(x, x / 0.0 > 1.0 || x.y)",
        "{'a': 1, 'b': [2]}.b[0] == 2 && {1: 2}[1.0] == 2 && output.list[0] == 1 && output['apr'] == 5",
        "string(output.apr) + 'x' == '5x' && int('3') + 2 == 5 && double(1) == 1.0 && size(b'ab') == 2",
        "output.map(k, k).size() == 5 && output.all(k, k != 'zzz')",
        "[1, 2] + [3] == [1, 2, 3] && 1u < 2 && -1 < 0u && 7 % 4 == 3",
        "output.list.filter(x, x > 1.0).map(x, x > 2.0, x)[0] == 3",
    ] {
        holds(rule, &output, true);
    }
    holds("output.apr > 5.0", &output, false);
    for rule in [
        "output.missing == 1",
        "output.note > 1",
        "output.apr + 1 == 6",
        "output.list[3] == 1",
        "output.list[-1] == 1",
        "unknown(1)",
        "output.note.all(c, true)",
        "1 / 0 == 1",
        "{'a': 1, 'a': 2}.a == 1",
        "null > 1",
        "output.note.matches('(')",
        "9223372036854775807 + 1 > 0",
        "size(1) == 1",
        "Thing{a: 1} == 1",
        "output.none.x == 1",
        "1 in 'abc'",
        "!output.apr",
    ] {
        let said = judge(rule, &[("output", &output)], &mut Fuel::default());
        assert!(matches!(said, Err(Broken::Uncheckable { .. })), "{rule}: {said:?}");
    }
    for rule in ["optional.of(1)", "output.?apr", "[?1]"] {
        assert!(judge(rule, &[("output", &output)], &mut Fuel::default()).is_err(), "{rule}");
    }
}

/// Rules and values that multiply.
fn hostile() -> Vec<(String, Value)> {
    let numbers = json!((0..30_000).collect::<Vec<_>>());
    let text = |n: usize| json!("a".repeat(n));
    let nested =
        |n: usize, of: &str| (0..n).fold(of.to_owned(), |inner, i| format!("[1,1,1,1].map(x{i}, {inner})"));
    let product = |n: usize| {
        (0..n).map(|i| format!("output.exists(x{i}, ")).collect::<String>() + "x0 < 0.0" + &")".repeat(n)
    };
    let doubling =
        (0..25).fold("'aaaaaaaaaaaaaaaa'".to_owned(), |inner, _| format!("[{inner}].map(x, x + x)[0]"));
    vec![
        ("output.all(i, output.filter(j, j == i).size() == 1)".into(), numbers.clone()),
        (product(4), numbers.clone()),
        (nested(12, "1"), json!(null)),
        (nested(12, "[[[[1]]]]"), json!(null)),
        (doubling.clone(), json!(null)),
        ("output.all(x, x in output)".into(), numbers.clone()),
        ("output.all(x, output == output)".into(), numbers.clone()),
        ("output.all(x, (output + output + output).size() > 0)".into(), numbers.clone()),
        ("output.map(x, output.map(y, [x, y])).size() > 0".into(), numbers.clone()),
        ("[1,2,3,4,5,6,7,8].all(x, output.contains('aaaaaaaaaaaaaaab'))".to_owned(), text(10 << 20)),
        ("output.matches('(a*)*(b|a){1,50}$')".into(), text(10 << 20)),
        ("output.matches('(((a{1,30}){1,30}){1,30})')".into(), text(100)),
        ("output.map(x, 'x'.matches('a{1,500}' + string(x))).size() > 0".into(), numbers.clone()),
        ("output.all(x, 'x'.matches('[a-z]{1,4000}{1,2000}' + string(x)) || true)".into(), numbers.clone()),
        ("output.all(x, 'x'.matches('(' + string(x)) || true)".into(), numbers.clone()),
        ("(output + output + output + output).size() > 0".into(), text(10 << 20)),
        (format!("{} > 0", vec!["1"; 190].join("+")), json!(null)),
        (format!("output{}", ".a".repeat(190)), json!({"a": 1})),
        (format!("{}output{}", "!".repeat(30), ""), json!(true)),
        (vec!["output"; 120].join("&&"), json!(true)),
        (format!("{}1{}", "[".repeat(31), "]".repeat(31)), json!(1)),
        (
            "output.all(a, output.all(b, output.all(c, output.all(d, a + b + c + d >= 0.0))))".into(),
            json!(vec![1; 5_000]),
        ),
        ("output.map(x, {'k': x}) == output.map(x, {'k': x})".into(), numbers),
        ("output.all(k, output[k] == output)".into(), {
            json!((0..5_000).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>())
        }),
    ]
}

#[test]
fn whatever_multiplies_comes_to_an_end() {
    for (rule, output) in hostile() {
        let mut fuel = Fuel::default();
        let said = judge(&rule, &[("output", &output)], &mut fuel);
        assert!(fuel.taken() <= 1_000_000, "{rule}");
        if let Err(why) = said {
            assert!(why.to_string().len() < 1_200, "{rule}: {why}");
        }
    }
}

#[test]
fn fuel_that_is_spent_is_never_made_up_for() {
    let numbers = json!((0..30_000).collect::<Vec<_>>());
    let long = "output.all(i, !output.exists(j, j < 0.0))";
    for rule in [
        format!("{long} || true"),
        format!("!({long}) && false"),
        format!("[1].all(x, {long})"),
        format!("[1, 2].exists(x, {long} || x == 2)"),
        format!("!{long}"),
    ] {
        let said = judge(&rule, &[("output", &numbers)], &mut Fuel::default());
        let Err(Broken::Uncheckable { why, .. }) = &said else { panic!("{rule}: {said:?}") };
        assert!(why.contains("more than 1000000 steps"), "{why}");
    }
    let small = judge("output == output", &[("output", &numbers)], &mut Fuel::new(100, 100));
    assert!(matches!(small, Err(Broken::Uncheckable { .. })));
}

fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => Cel::Float(number.as_f64().unwrap()),
        Value::String(text) => Cel::String(text.clone().into()),
        Value::Array(items) => Cel::List(items.iter().map(cel).collect::<Vec<_>>().into()),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (Key::from(key.clone()), cel(value)));
            Cel::Map(Map { map: std::sync::Arc::new(entries.collect()) })
        }
    }
}

/// As ours shows values.
fn shown(value: &Cel) -> Value {
    match value {
        Cel::Null => Value::Null,
        Cel::Bool(value) => (*value).into(),
        Cel::Int(value) => format!("int {value}").into(),
        Cel::UInt(value) => format!("uint {value}").into(),
        Cel::Float(value) => format!("double {value}").into(),
        Cel::String(text) => format!("string {text}").into(),
        Cel::Bytes(bytes) => format!("bytes {bytes:?}").into(),
        Cel::List(items) => items.iter().map(shown).collect(),
        Cel::Map(map) => map
            .map
            .iter()
            .map(|(key, value)| {
                let key = shown(&Cel::from(key));
                (key.as_str().map_or_else(|| key.to_string(), str::to_owned), shown(value))
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => format!("{other:?}").into(),
    }
}

fn literal() -> impl Strategy<Value = String> {
    prop::sample::select(
        &[
            "0",
            "1",
            "2",
            "-1",
            "3u",
            "0.0",
            "1.0",
            "2.5",
            "'a'",
            "'ab'",
            "''",
            "true",
            "false",
            "null",
            "b'a'",
            "a",
            "b",
            "n",
            "t",
            "l",
            "m",
            "9223372036854775807",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn expression() -> impl Strategy<Value = String> {
    literal().prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(
            &["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"][..],
        );
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => inner.clone().prop_map(|a| format!("(!{a})")),
            1 => inner.clone().prop_map(|a| format!("(-{a})")),
            1 => (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            2 => two.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => two.clone().prop_map(|(a, b)| format!("{{'a': {a}, 'b': {b}}}")),
            1 => two.clone().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            1 => two.clone().prop_map(|(a, b)| format!("{a}[{b}]")),
            1 => inner.clone().prop_map(|a| format!("{a}.a")),
            1 => inner.clone().prop_map(|a| format!("has({a}.a)")),
            1 => inner.clone().prop_map(|a| format!("size({a})")),
            1 => (prop::sample::select(&["int", "uint", "double", "string", "bool", "bytes", "dyn"][..]), inner.clone())
                .prop_map(|(to, a)| format!("{to}({a})")),
            1 => (inner.clone(), prop::sample::select(&["contains", "startsWith", "endsWith", "matches"][..]), inner.clone())
                .prop_map(|(a, f, b)| format!("{a}.{f}({b})")),
            3 => (inner.clone(), prop::sample::select(&["all", "exists", "exists_one", "filter", "map"][..]), inner.clone())
                .prop_map(|(a, f, b)| format!("{a}.{f}(x, ({b}) == x || {b})")),
            2 => two.prop_map(|(a, b)| format!("{a}.map(x, [x, {b}])")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("{a}.map(x, x != {b}, {c})")),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        Just(json!(2.5)),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            // One name at most: theirs goes over names in no order.
            prop::collection::btree_map("[ab]", inner, 0..2)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_answers_are_those_of_an_evaluator_that_counts_nothing(rule in expression(), values in prop::collection::vec(value(), 4)) {
        let list = json!([1, "a", values[3].clone()]);
        let map = json!({"a": values[2].clone()});
        let text = json!("ab");
        let named = [("a", &values[0]), ("b", &values[1]), ("n", &values[2]), ("t", &text), ("l", &list), ("m", &map)];
        // Order of keys of maps with several names is theirs to choose.
        prop_assume!(!(rule.contains("'b': ") && ["all(", "exists", "map(", "filter(", "+"].iter().any(|word| rule.contains(word))));
        let Ok(program) = cel::Program::compile(&rule) else { return Ok(()) };
        let mut scope = cel::Context::default();
        named.iter().for_each(|(name, value)| scope.add_variable_from_value(*name, cel(value)));
        let theirs = program.execute(&scope);
        let ours = evaluate(&rule, &named, &mut Fuel::default());
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, &shown(theirs), "{}", rule),
            (Err(_), Err(_)) => {}
            (Err(why), _) if why.contains("is not a rule") || why.contains("nested") || why.contains("bytes;") => {}
            _ => prop_assert!(false, "{rule}: ours {ours:?}, theirs {theirs:?}"),
        }
    }
}
