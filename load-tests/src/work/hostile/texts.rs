//! Texts that cost whoever reads them more than whoever writes them.

use serde_json::{Value, json};

/// Arrays within arrays.
pub(crate) fn arrays(depth: usize, closed: bool) -> String {
    nest("[", "", "]", depth, closed)
}

/// Objects within objects.
pub(crate) fn objects(depth: usize, closed: bool) -> String {
    nest("{\"a\":", "1", "}", depth, closed)
}

/// Something within itself.
pub(crate) fn nest(open: &str, middle: &str, close: &str, depth: usize, closed: bool) -> String {
    let end = if closed { close.repeat(depth) } else { String::new() };
    format!("{}{middle}{end}", open.repeat(depth))
}

/// A schema each level of which is looked at twice: by `allOf`, `anyOf`, `oneOf`.
pub(crate) fn doubling(by: &str, levels: usize) -> Value {
    let mut all = serde_json::Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        all.insert(format!("d{level}"), json!({ by: [next, next] }));
    }
    all.insert(format!("d{levels}"), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/d0", "$defs": all })
}

/// Schemas beside those that double.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let texts: Vec<String> = (0..20_000).map(|number| format!("value-{number}")).collect();
    let patterns: serde_json::Map<String, Value> =
        (0..2_500).map(|number| (format!("^(a|b|ab)*{number}$"), json!({}))).collect();
    vec![
        ("allOf", doubling("allOf", 36)),
        ("anyOf", doubling("anyOf", 36)),
        ("oneOf", doubling("oneOf", 36)),
        ("prefixItems", doubling("prefixItems", 36)),
        ("itself", json!({ "$ref": "#" })),
        (
            "ring",
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } }),
        ),
        ("elsewhere", json!({ "$ref": "file:///etc/passwd" })),
        ("back-tracking", json!({ "properties": { "x": { "pattern": "^(a+)+$" } } })),
        (
            "huge repetition",
            json!({ "properties": { "x": { "pattern": "(((a{1,99}){1,99}){1,99}){1,99}" } } }),
        ),
        ("many patterns", json!({ "patternProperties": patterns })),
        ("large enum", json!({ "properties": { "x": { "enum": texts } } })),
        ("unique", json!({ "properties": { "x": { "uniqueItems": true } } })),
        ("deep", serde_json::from_str(&nest("{\"items\":", "{}", "}", 100, true)).unwrap_or_default()),
        ("huge numbers", json!({ "properties": { "x": { "multipleOf": 1e-300, "maximum": 1e300 } } })),
    ]
}

/// Rules that multiply, with the name of what they look at left to be put in.
pub(crate) fn rules() -> Vec<(&'static str, String)> {
    let all = "X.all(a, X.all(b, X.all(c, a + b + c >= 0.0)))".to_owned();
    let map = nest("[1,1,1,1].map(x, ", "x", ")", 12, true);
    let lists = nest("[", "1", "]", 60, true);
    let plus = vec!["X"; 400].join(" + ");
    vec![
        ("three loops", all),
        ("pairs", "X.all(i, X.filter(j, j == i).size() == 1)".to_owned()),
        ("maps that grow", format!("{map}.size() > 0")),
        ("maps of the input", "X.map(a, X.map(b, X)).size() > 0".to_owned()),
        ("sum of lists", format!("({plus}).size() > 0")),
        ("in", "X.all(a, a in X)".to_owned()),
        ("equal", "X.all(a, X == X)".to_owned()),
        ("exists one", "X.exists_one(a, X.exists_one(b, a == b))".to_owned()),
        ("text", "X.all(a, string(X).contains(string(X)))".to_owned()),
        ("pattern", "string(X).matches('^(([0-9]+,? ?)+)+$')".to_owned()),
        ("nested lists", format!("{lists} == {lists}")),
    ]
}

/// Rules that nest.
pub(crate) fn deep_rules(depth: usize) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for closed in [true, false] {
        all.push(("brackets", nest("(", "true", ")", depth, closed)));
        all.push(("lists", nest("[", "1", "]", depth, closed)));
        all.push(("objects", nest("{'a':", "1", "}", depth, closed)));
        all.push(("calls", nest("size(", "X", ")", depth, closed)));
        all.push(("loops", nest("[1].all(x, ", "true", ")", depth, closed)));
    }
    all.push(("nots", nest("!", "true", "", depth, false)));
    all.push(("minuses", nest("-", "1", "", depth, false)));
    all.push(("choices", nest("true ? 1 : ", "1", "", depth, false)));
    all.push(("ands", nest("true && ", "true", "", depth, false)));
    all.push(("members", format!("X{}", ".a".repeat(depth))));
    all.push(("indexes", format!("X{}", "[0]".repeat(depth))));
    all
}
