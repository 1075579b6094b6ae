//! What a definition says, and what is said about one that is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use omium_schemas::Money;
use omium_workflow::{Definition, Order, parse};
use serde_json::json;

const LOAN: &str = r#"
name: loan-decision
inputs: {type: object, required: [amount, income]}
agents:
  - id: apr
    framework: native
    definition: {model: default, prompt: "Quote an APR for a loan of {{amount}}.", tools: []}
    output_schema: {type: object, properties: {apr: {type: number}}, required: [apr]}
    ensure: "output.apr >= 2.5 && output.apr <= 8.5"
    timeout: 60s
    budget: {usd: 0.05}
  - id: review
    framework: human
    input: {apr: "{{ outputs.apr.apr }}", note: "for {{ inputs.amount }} dollars"}
execution_order: sequential
"#;

fn loan() -> Definition {
    parse("loan.yaml", LOAN).unwrap()
}

#[track_caller]
fn wrong(text: &str, expected: &[&str]) {
    let said = parse("w.yaml", text).unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, expected, "\n{said}");
}

#[test]
fn a_definition_becomes_a_plan() {
    let loan = loan();
    assert_eq!(loan.order, Order::Sequential);
    let plan = loan.plan();
    assert_eq!(plan.iter().map(|step| step.agent.as_str()).collect::<Vec<_>>(), ["apr", "review"]);
    assert_eq!(plan[0].timeout_ms, 60_000);
    assert_eq!(plan[0].budget, Some(Money(50_000_000_000)));
    assert_eq!((plan[1].after.as_slice(), plan[1].signal.as_deref()), ([1].as_slice(), Some("review")));
}

#[test]
fn an_amount_alone_is_told_where_it_belongs() {
    wrong(
        "name: w\nbudget: 20000.0\nagents: [{id: a}]",
        &[
            "w.yaml:2:9: `budget` says no amount of money",
            "  hint: write `budget: {usd: 0.05}`, at most twelve decimals",
        ],
    );
}

#[test]
fn rules_and_schemas_that_cannot_be_used_and_what_has_no_effect_are_told_where_they_stand() {
    let text = r#"
name: w
recovery: {mode: auto}
agents:
  - {id: a, framework: human, ensure: 'output.apr >', require: 'output.apr > 1'}
  - {id: b, framework: human, ensure: 'apr > 1', output_schema: {type: string, pattern: '('}}
  - {id: c, framework: human, constraints: [{name: x, rule: y}]}
  - {id: d, framework: human, recovery: {mode: auto}}
  - {id: e, framework: human, ensure: '1 + 1'}
constraints: []
"#;
    let said = parse("w.yaml", text).unwrap_err().to_string();
    let told: Vec<&str> = said.lines().filter(|line| !line.starts_with("  hint: ")).collect();
    let expected = [
        ("w.yaml:3:1: ", "`recovery` has no effect yet"),
        ("w.yaml:5:39: ", "`ensure` cannot be used: "),
        ("w.yaml:5:64: ", "`output.apr > 1` speaks of `output`; it may speak of inputs, outputs"),
        ("w.yaml:6:39: ", "`apr > 1` speaks of `apr`; it may speak of inputs, outputs, output"),
        ("w.yaml:6:89: ", "`output_schema` cannot be used: "),
        ("w.yaml:7:31: ", "`constraints` has no effect yet"),
        ("w.yaml:8:31: ", "`recovery` has no effect yet"),
        ("w.yaml:9:39: ", "`1 + 1` is never true or false"),
        ("w.yaml:10:1: ", "`constraints` has no effect yet"),
    ];
    assert_eq!(told.len(), expected.len(), "\n{said}");
    for (line, (place, what)) in told.iter().zip(expected) {
        assert!(line.starts_with(place) && line.contains(what), "{line}\n{said}");
    }
}

#[test]
fn all_that_is_wrong_with_schemas_is_told_at_once_and_where_it_stands() {
    let text = r#"
name: w
inputs:
  type: object
  properties:
    amount: {type: nubmer, minimum: low}
    terms: {type: array, items: {minLength: -1}}
    kind: {anyOf: [{type: string}, {enum: 3}]}
agents:
  - id: a
    framework: human
    output_schema:
      $ref: '#/$defs/answer'
      $defs: {answer: {pattern: "(", maxItems: many}, other: 5}
"#;
    let said = parse("w.yaml", text).unwrap_err().to_string();
    let told: Vec<&str> = said.lines().filter(|line| !line.starts_with("  hint: ")).collect();
    let expected = [
        "w.yaml:6:20: JSON Schema has no type `nubmer`",
        "w.yaml:6:37: `inputs` cannot be used: `minimum` is not a number",
        "w.yaml:7:45: `inputs` cannot be used: `minLength` is not a whole number",
        "w.yaml:8:43: `inputs` cannot be used: `enum` is not a list",
        "w.yaml:14:33: `output_schema` cannot be used: the pattern `(` cannot be used: it is no regular expression",
        "w.yaml:14:48: `output_schema` cannot be used: `maxItems` is not a whole number",
        "w.yaml:14:62: `output_schema` cannot be used: a schema is a mapping, `true` or `false`",
    ];
    assert_eq!(told, expected, "\n{said}");
}

#[test]
fn placeholders_of_prompts_and_inputs_that_nothing_can_fill_are_told_where_they_stand() {
    wrong(
        r#"name: w
inputs:
  type: object
  additionalProperties: false
  properties: {amount: {type: number}, who: {type: object, properties: {name: {}}, additionalProperties: false}}
agents:
  - id: first
    prompt: "{{ amuont }} of {{ inputs.who.name }} and {{ outputs.second }}"
  - id: second
    definition: {system: "{{ input.x }} {{ inputs.who.nmae }}", prompt: "{{ outputs.frist"}
  - id: third
    framework: crewai
    definition: {prompt: "{{ anything"}
    input: {a: "{{ outputs.second }}", b: ["{{ outputs.zzz }}", "{{ input }}"]}
  - id: fourth
    prompt: one
    definition: {prompt: two}
"#,
        &[
            "w.yaml:8:13: `{{ inputs.amuont }}`: the schema of the inputs allows no `amuont`",
            "  hint: did you mean `amount`?",
            "w.yaml:8:13: `{{ outputs.second }}`: no agent `second` is done before",
            "  hint: no agent is done before this one",
            "w.yaml:10:26: `{{ inputs.who.nmae }}`: the schema of the inputs allows no `nmae`",
            "  hint: did you mean `name`?",
            "w.yaml:10:73: a `{{` is never closed by `}}`",
            "  hint: write `{{ inputs.name }}` or `{{ outputs.agent.field }}`",
            "w.yaml:14:44: `{{ outputs.zzz }}`: no agent `zzz` is done before",
            "  hint: these are done before: first, second",
            "w.yaml:14:65: `{{ input }}`: there is no input before this is filled in",
            "  hint: write `{{ inputs.name }}` for an input of the workflow",
            "w.yaml:16:13: `prompt` stands beside the definition and in it",
            "  hint: keep one of the two",
        ],
    );
    // What an open schema says nothing of may be there.
    let open = "name: w
inputs: {type: object, properties: {a: {}}}
agents: [{id: a, prompt: '{{ b }} {{ a.c }}'}]";
    assert!(parse("w.yaml", open).is_ok());
}

#[test]
fn an_agent_that_is_there_twice_is_named_once() {
    let text =
        "name: w\nagents: [{id: a}, {id: a}, {id: b, after: [zzzzzzzz], input: '{{ outputs.yyyyyyy }}'}]";
    let said = parse("w.yaml", text).unwrap_err().to_string();
    assert!(said.contains("  hint: there are: a, b\n"), "{said}");
}

#[test]
fn a_placeholder_alone_keeps_the_type_of_its_value() {
    let input = loan().agents[1].input.clone().unwrap();
    let scope = json!({"inputs": {"amount": 9007199254740993_u64}, "outputs": {"apr": {"apr": 5.2}}});
    assert_eq!(input.render(&scope).unwrap(), json!({"apr": 5.2, "note": "for 9007199254740993 dollars"}));
    let missing = input.render(&json!({"inputs": {}, "outputs": {"apr": {}}})).unwrap_err();
    assert_eq!(missing.to_string(), "`{{ outputs.apr.apr }}` finds nothing: there is no `apr` there");
}

#[test]
fn what_a_template_makes_is_bounded_before_it_is_copied() {
    let scope = json!({"inputs": {"x": "A".repeat(1_000_000), "list": vec![json!({}); 300_000]}});
    for text in ["{{ inputs.x }}".repeat(20_000), "{{x}} ".repeat(17), "{{ inputs }} ".repeat(17)] {
        let why = omium_workflow::Template::text(&text).unwrap().render(&scope).unwrap_err();
        assert!(why.to_string().contains("longer than 16777216 bytes"), "{why}");
    }
    // Each of a list of many is a whole, and all of them together are what is rendered.
    let definition =
        format!("name: w\nagents: [{{id: a}}]\noutput: [{}]", "\"{{ inputs.x }}\", ".repeat(400));
    let output = parse("w.yaml", &definition).unwrap().output.unwrap();
    assert!(output.render(&scope).is_err());
    let wholes = format!("name: w\nagents: [{{id: a}}]\noutput: [{}]", "\"{{ inputs.list }}\", ".repeat(3));
    assert!(parse("w.yaml", &wholes).unwrap().output.unwrap().render(&scope).is_err());
    // What nests deeper than anybody could read again is no result.
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let nested = format!(
        "name: w\nagents: [{{id: a}}]\noutput: {}'{{{{ inputs.x }}}}'{}",
        "[".repeat(40),
        "]".repeat(40)
    );
    let nested = parse("w.yaml", &nested).unwrap().output.unwrap();
    assert!(
        nested.render(&json!({"inputs": {"x": deep}})).unwrap_err().to_string().contains("nests too deep")
    );
    let small = omium_workflow::Template::text("{{ x }}{{ x }}").unwrap();
    assert_eq!(small.render(&scope).unwrap().as_str().map(str::len), Some(2_000_000));
    assert!(small.render_within(&scope, &mut omium_limits::Room::of(1_999_999)).is_err());
}

#[test]
fn a_template_says_what_it_names() {
    let text = "{{ amount }} {{ outputs.apr.apr }} {{ inputs.amount }} {{ outputs }}";
    let names = omium_workflow::Template::text(text).unwrap().names();
    let names: Vec<String> = names.iter().map(|path| path.join(".")).collect();
    assert_eq!(names, ["inputs.amount", "outputs", "outputs.apr.apr"]);
}

#[test]
fn what_is_told_of_many_mistakes_is_bounded_in_number_and_length() {
    let agents: String = (0..900)
        .map(|n| format!("  - {{id: agent-number-{n}, after: [{}]}}\n", vec!["nobody"; 90].join(", ")))
        .collect();
    let placeholders = "{{ outputs.agent-numbre }}".repeat(30_000);
    let long = "x".repeat(500_000);
    let file = "f".repeat(100_000);
    for text in [
        format!("name: w\nexecution_order: graph\nagents:\n{agents}"),
        format!("name: w\nagents: [{{id: a}}, {{id: b, input: \"{placeholders}\"}}]"),
        format!("name: w\nagents: [{{id: a, {long}: 1}}]\n{long}y: 2"),
        format!("name: w\nagents: [{{id: a, framework: {long}}}]"),
        format!("name: w\ninputs: {{type: {long}}}\nagents: [{{id: a, input: '{{{{ {long}! }}}}'}}]"),
        format!("name: w\n{long}: 1\n{long}: 1"),
        (0..90_000).map(|n| format!("k{n}: 1\n")).collect(),
        format!(
            "name: w\nagents: [{{id: a}}]\ninputs: {{properties: {{{}}}}}",
            "a: {type: objekt}, ".to_owned()
        ),
    ] {
        let problems = parse(&file, &text).unwrap_err();
        assert!(problems.problems.len() <= 101);
        assert!(problems.to_string().len() < 400_000, "{}", problems.to_string().len());
        assert!(problems.problems.iter().all(|problem| problem.text.len() + problem.hint.len() < 2_100));
    }
    let many = parse("w.yaml", &(0..90_000).map(|n| format!("k{n}: 1\n")).collect::<String>()).unwrap_err();
    assert!(many.problems.last().unwrap().text.contains("there is more that is wrong"));
}

#[test]
fn many_keys_cost_their_number() {
    let keys: String = (0..33_000).map(|n| format!("    k{n:07}: {{}}\n")).collect();
    let text = format!("name: x\nagents:\n- id: a\n  definition:\n{keys}");
    assert!(parse("w.yaml", &text).is_ok());
}

#[test]
fn names_that_the_json_library_keeps_for_itself_are_refused() {
    let said =
        parse("w.yaml", "name: w\nagents: [{id: a, definition: {$serde_json::private::RawValue: '[1]'}}]");
    assert!(said.unwrap_err().to_string().contains("reserved"));
}

#[test]
fn json_is_read_as_well() {
    let text = r#"{"name": "w", "agents": [{"id": "a", "prompt": "x \u0041"}], "timeout": "2h"}"#;
    let read = parse("w.json", text).unwrap();
    assert_eq!(read.timeout_ms, Some(7_200_000));
    assert_eq!(read.agents[0].definition, json!({"prompt": "x A"}));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_where_it_stands() {
    wrong(
        "name: w\nexecution_order: graph\ntimout: 5s\nagents:\n  - id: a\n    framework: crewia\n    after: [b]\n  - id: b\n    after: [a]\n    timeout: 60\n  - id: b\n    input: \"{{ outputs.c.x }}\"\n",
        &[
            "w.yaml:3:1: a workflow has no `timout`",
            "  hint: did you mean `timeout`?",
            "w.yaml:5:5: `a` waits for itself, by way of those that it comes after",
            "  hint: remove one `after` from the circle",
            "w.yaml:6:16: there is no framework `crewia`",
            "  hint: did you mean `crewai`?",
            "w.yaml:8:5: `b` waits for itself, by way of those that it comes after",
            "  hint: remove one `after` from the circle",
            "w.yaml:10:14: `timeout` is not a length of time",
            "  hint: write a number and a unit: 500ms, 60s, 5m, 2h, 7d",
            "w.yaml:11:5: a second agent is called `b`",
            "  hint: give each agent an id of its own",
            "w.yaml:12:12: `{{ outputs.c.x }}`: no agent `c` is done before",
            "  hint: no agent is done before this one",
        ],
    );
}

#[test]
fn a_text_that_is_no_definition_is_an_error_and_costs_little() {
    for text in [
        "",
        "\u{0}",
        "- a",
        "name: [",
        "a: &x [1]\nb: *x",
        "name: .nan\nagents: [{id: a}]",
        "name: w\nagents: 3",
        "name: w\nname: w\nagents: [{id: a}]",
        "name: w\nagents: [{id: a, budget: {usd: -1}}]",
        "name: w\nagents: [{id: a, timeout: 99999999999999999999s}]",
        "name: w\ninputs: {type: objekt}\nagents: [{id: a}]",
        "name: w\ninputs: {const: 123456789012345678901234567890}\nagents: [{id: a}]",
        "--- {name: w, agents: [{id: a}]}\n--- {}\n",
    ] {
        assert!(parse("w.yaml", text).is_err(), "{text:?}");
    }
    assert!(parse("deep.yaml", &"[".repeat(500_000)).is_err());
    assert!(parse("long.yaml", &"x".repeat(10 << 20)).is_err());
}

#[test]
fn the_schema_for_editors_names_the_same_keys() {
    let schema: serde_json::Value = serde_json::from_str(omium_workflow::JSON_SCHEMA).unwrap();
    for (keys, what) in
        [(&schema["properties"], "a workflow"), (&schema["$defs"]["agent"]["properties"], "an agent")]
    {
        let text = match what {
            "a workflow" => "name: w\nzzzzzzzzz: 1\nagents: [{id: a}]",
            _ => "name: w\nagents: [{id: a, zzzzzzzzz: 1}]",
        };
        let said = parse("w.yaml", text).unwrap_err().to_string();
        let mut known: Vec<&str> =
            said.split("knows: ").nth(1).unwrap().lines().next().unwrap().split(", ").collect();
        let mut named: Vec<&str> = keys.as_object().unwrap().keys().map(String::as_str).collect();
        known.sort_unstable();
        named.sort_unstable();
        assert_eq!(named, known, "{what}");
    }
}
