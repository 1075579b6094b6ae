//! Random bodies from grammars: JSON, YAML, CEL, JSON Schema, templates and prose, small and much too large. Whatever they
//! are, there is an answer, soon, and no panic. `OMIUM_BODIES=100000` makes many, `OMIUM_BODIES_FROM` begins at a seed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use omium_detector::Extraction;
use omium_limits::{Fuel, Limits, Schema, json};
use omium_openai::Endpoint;
use omium_workflow::Template;
use serde_json::{Value, json};

/// How long one answer may take: much longer than it does, since tests run beside others.
const SOON: Duration = Duration::from_secs(10);

/// Numbers that follow from a seed alone.
struct Luck(u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Mostly few, at times very many.
    fn many(&mut self) -> usize {
        [0, 1, 2, 3, 5, 40, 129, 3_000, 40_000][self.below(9)]
    }

    fn few(&mut self) -> usize {
        self.below(4)
    }
}

const TEXTS: &[&str] = &[
    "a",
    "",
    "inputs",
    "outputs",
    "output",
    "$ref",
    "#",
    "#/$defs/a",
    "$defs",
    "ä\u{301}",
    "\\u0000",
    "\\ud800",
    "{{ inputs.a }}",
    "{{",
    "}}",
    "{{ outputs }}",
    "(a*)*b",
    "[a-z]{1,900}",
    "(?=a)",
    "\\\\d+",
    "$serde_json::private::RawValue",
    "type",
    "object",
    "APR 5,2 %",
    "x-omium",
    "null",
    "~",
    "&a",
    "*a",
    "!t",
    "1e400",
    "18446744073709551616",
    "choices",
    "message",
    "tool_calls",
    "data: {}",
];
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "1",
    "2.5",
    "1e15",
    "1e400",
    "-1e-300",
    "18446744073709551616",
    "01",
    "9007199254740993",
    "1e",
    "NaN",
];

/// How long what is repeated gets at most, in bytes: making bodies is not what is tested.
const LONGEST: usize = 1 << 20;

fn repeated(text: &str, times: usize) -> String {
    text.repeat(times.min(LONGEST / text.len().max(1)))
}

/// A JSON text, not always a sound one.
fn json_text(luck: &mut Luck, depth: usize) -> String {
    match luck.below(if depth == 0 { 4 } else { 9 }) {
        0 => luck.one(NUMBERS).to_owned(),
        1 => luck.one(&["null", "true", "false", "nul", ""]).to_owned(),
        2 => format!("\"{}\"", luck.one(TEXTS)),
        3 => format!("\"{}\"", repeated(luck.one(TEXTS), luck.many())),
        4 => {
            format!("[{}]", (0..luck.few()).map(|_| json_text(luck, depth - 1)).collect::<Vec<_>>().join(","))
        }
        5 => {
            let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]"), ("[", "")][luck.below(4)];
            let times = luck.many();
            format!("{}{}{}", open.repeat(times), json_text(luck, 0), close.repeat(times))
        }
        6 => format!("[{}1]", repeated(&format!("{},", json_text(luck, 1)), luck.many())),
        _ => {
            let member = |luck: &mut Luck| format!("\"{}\":{}", luck.one(TEXTS), json_text(luck, depth - 1));
            format!("{{{}}}", (0..luck.few()).map(|_| member(luck)).collect::<Vec<_>>().join(","))
        }
    }
}

fn value(luck: &mut Luck) -> Value {
    for _ in 0..10 {
        if let Ok(value) = json::parse(json_text(luck, 3).as_bytes(), &Limits::VALUES) {
            return value;
        }
    }
    json!((0..luck.many()).collect::<Vec<_>>())
}

fn expression(luck: &mut Luck, depth: usize) -> String {
    if depth == 0 {
        return luck
            .one(&[
                "output",
                "value",
                "x",
                "y",
                "1",
                "2.5",
                "'aaaaaaaa'",
                "[1,1,1,1]",
                "null",
                "true",
                "{'a': 1}",
                "'(a*)*b'",
            ])
            .to_owned();
    }
    let part = |luck: &mut Luck| expression(luck, depth - 1);
    match luck.below(8) {
        0 => format!(
            "({} {} {})",
            part(luck),
            luck.one(&["+", "==", "in", "<", "&&", "||", "*", "/"]),
            part(luck)
        ),
        1 => format!(
            "{}.{}(x, {})",
            part(luck),
            luck.one(&["all", "exists", "map", "filter", "exists_one"]),
            part(luck)
        ),
        2 => format!("{}.{}(y, {})", part(luck), luck.one(&["all", "map"]), part(luck)),
        3 => format!("{}.{}({})", part(luck), luck.one(&["contains", "matches", "startsWith"]), part(luck)),
        4 => format!("[{}, {}]", part(luck), part(luck)),
        5 => format!("size({})", part(luck)),
        6 => vec![part(luck); luck.few() + 1].join(luck.one(&["+", "&&", "==", "?", " "])),
        _ => luck.one(&["(", "[", "!", "-", "a."]).repeat(luck.many().min(2_000)) + &part(luck),
    }
}

fn schema(luck: &mut Luck, depth: usize) -> Value {
    if depth == 0 {
        let numbers: Vec<usize> = (0..luck.many().min(5_000)).collect();
        return [
            json!({}),
            json!(false),
            json!({"type": "object"}),
            json!({"$ref": "#/$defs/a"}),
            json!({"$ref": "#/$defs/b"}),
            json!({"$ref": "#"}),
            json!({"enum": numbers}),
            json!({"pattern": luck.one(TEXTS)}),
            json!({"uniqueItems": true}),
            json!({"const": value(luck)}),
        ][luck.below(10)]
        .clone();
    }
    let inner = |luck: &mut Luck| schema(luck, depth - 1);
    match luck.below(9) {
        0 => {
            json!({luck.one(&["allOf", "anyOf", "oneOf", "prefixItems"]): vec![inner(luck); luck.few() + 1]})
        }
        1 => {
            json!({luck.one(&["not", "items", "contains", "additionalProperties", "propertyNames", "unevaluatedProperties", "if"]): inner(luck)})
        }
        2 => json!({"properties": {"a": inner(luck), luck.one(TEXTS): inner(luck)}, "required": ["a"]}),
        3 => {
            json!({"patternProperties": {luck.one(TEXTS): inner(luck)}, "dependentSchemas": {"a": inner(luck)}})
        }
        4 => {
            json!({"if": inner(luck), "then": inner(luck), "else": inner(luck), "unevaluatedItems": inner(luck)})
        }
        5 => (0..luck.below(100)).fold(inner(luck), |of, _| json!({"not": {"anyOf": [of]}})),
        6 => {
            let twice = |to: &str| json!([{"$ref": to}, {"$ref": to}]);
            json!({"$defs": {"a": {"allOf": twice("#/$defs/b")}, "b": {"anyOf": twice("#/$defs/c")}, "c": inner(luck)}, "$ref": "#/$defs/a"})
        }
        7 => {
            json!({luck.one(&["type", "required", "minimum", "pattern", "$ref", "enum", "properties"]): value(luck)})
        }
        _ => inner(luck),
    }
}

fn yaml(luck: &mut Luck) -> String {
    let line = |luck: &mut Luck| match luck.below(8) {
        0 => format!("{}: {}\n", luck.one(TEXTS), luck.one(TEXTS)),
        1 => format!(
            "agents: [{{id: a, input: \"{}\"}}, {{id: b, after: [a]}}]\n",
            luck.one(TEXTS).repeat(luck.many())
        ),
        2 => format!("inputs: {}\n", json_text(luck, 2)),
        3 => format!("output: {}\n", json_text(luck, 2)),
        4 => format!(
            "x{}: {}\n",
            luck.below(9),
            luck.one(&["[", "{a: ", "- ", "\"", "? "]).repeat(luck.many())
        ),
        5 => (0..luck.many()).map(|n| format!("k{n}: {n}\n")).collect(),
        6 => format!(
            "agents:\n{}",
            "  - {id: a, after: [b, c], framework: crewia}\n".repeat(luck.many().min(3_000))
        ),
        _ => {
            luck.one(&["---\n", "\t\n", "agents: [{id: a}]\n", "timeout: 5x\n", "\u{0}\n", "'\n"]).to_owned()
        }
    };
    "name: w\n".to_owned() + &(0..luck.few() + 1).map(|_| line(luck)).collect::<String>()
}

fn prose(luck: &mut Luck) -> String {
    let words = [
        "APR",
        "is",
        "5,2",
        ".5%",
        "−",
        "to",
        "1 250",
        "1.250,75",
        "between",
        "(",
        "36 months",
        "，",
        "５",
        "'",
        "e-1",
        "\u{a0}",
    ];
    let times = luck.many().min(3_000);
    let said: Vec<&str> = (0..luck.few() * 5 + 1).map(|_| luck.one(&words)).collect();
    repeated(&said.join(luck.one(&["", " "])), times.max(1))
}

/// Everything that others may hand us, once.
fn body(seed: u64) {
    let mut luck = Luck(seed);
    let text = json_text(&mut luck, 4);
    let checked = json::check(text.as_bytes(), &Limits::VALUES);
    let parsed = json::parse(text.as_bytes(), &Limits::VALUES);
    assert!(parsed.is_err() || checked.is_ok());
    if let (Ok(counted), Ok(value)) = (checked, &parsed) {
        assert!(json::nodes(value) <= counted.nodes && value.to_string().len() <= counted.written);
    }
    for endpoint in Endpoint::ALL {
        let _ = omium_openai::canonical(endpoint.path(), text.as_bytes());
        let stream = format!("data: {text}\n\ndata: {text}\n\ndata: [DONE]\n\n");
        let _ = omium_openai::read(endpoint, stream.as_bytes());
        let _ = omium_openai::as_events(endpoint, text.as_bytes(), true);
        if let Ok(request) = omium_openai::Request::read(endpoint, text.as_bytes()) {
            let _ =
                (request.messages(), request.parameters(), omium_openai::append_instruction(&request, "x"));
            let _ = omium_openai::ask_for_usage(&request);
        }
    }
    let (output, rule) = (value(&mut luck), expression(&mut luck, 4));
    let mut fuel = Fuel::default();
    let _ = omium_rules::judge(&rule, &[("output", &output), ("value", &output)], &mut fuel);
    let _ = omium_rules::speaks_of(&rule, &["output"]);
    let schema = schema(&mut luck, 4);
    if let Ok(schema) = Schema::read(&schema) {
        let _ = schema.violations(&output, 5, &mut Fuel::default());
    }
    let scope = json!({"inputs": {"a": output}, "outputs": {"a": value(&mut luck)}});
    if let Ok(definition) = omium_workflow::parse("w", &yaml(&mut luck)) {
        let inputs = definition.agents.iter().filter_map(|agent| agent.input.as_ref());
        inputs.chain(&definition.output).for_each(|template| drop(template.render(&scope)));
    }
    if let Ok(template) = Template::text(&luck.one(TEXTS).repeat(luck.many())) {
        let _ = (template.render(&scope), template.names());
    }
    let extraction: Extraction = "apr: number near \"APR\"".parse().unwrap();
    let _ = extraction.find(&prose(&mut luck), &mut Fuel::default());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock and be told how much to do")]
fn whatever_comes_there_is_an_answer_soon() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let from = number("OMIUM_BODIES_FROM").unwrap_or(0);
    for seed in from..from + number("OMIUM_BODIES").unwrap_or(100) {
        // On a failure the seed is what has to be known.
        let begun = Instant::now();
        let panicked = std::panic::catch_unwind(|| body(seed)).is_err();
        assert!(!panicked, "seed {seed} panics: OMIUM_BODIES=1 OMIUM_BODIES_FROM={seed}");
        let took = begun.elapsed();
        assert!(took < SOON, "seed {seed} takes {took:?}: OMIUM_BODIES=1 OMIUM_BODIES_FROM={seed}");
    }
}
