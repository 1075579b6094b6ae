//! The loop of turns.

use std::time::Duration;

use omium_agents::native::{Outcome, read};
use omium_schemas::catalogue::FailureClass;
use serde_json::json;

use crate::record::Record;
use crate::world::{failure, models, output, run, task};

#[tokio::test]
async fn a_prompt_is_filled_in_asked_and_answered() {
    let models = models("  - answer: {text: 'heard: {{ last_user }}', usage: {input: 7, output: 3}}").await;
    let definition = json!({
        "model": "m", "system": "Be brief.", "parameters": {"temperature": 0},
        "prompt": "A loan of {{ amount }}, mood {{ outputs.before.mood }}",
    });
    let record = Record::default();
    let outcome = run(&task(&models, definition, json!({})), &record).await;
    let Outcome::Completed { output, usage } = outcome else { panic!("{outcome:?}") };
    assert_eq!(output, "heard: A loan of 700, mood fine");
    assert_eq!((usage.input, usage.output), (7, 3));
    assert_eq!(record.said(), ["ask m", "answered Stop 7+3 1"]);
    let seen = &models.seen()[0];
    assert_eq!((seen.step.as_str(), &seen.body["temperature"]), ("clerk#0", &json!(0)));
    assert_eq!(seen.body["messages"][0], json!({"role": "system", "content": "Be brief."}));
}

#[tokio::test]
async fn without_a_prompt_the_input_is_asked() {
    let models = models("  - answer: {text: '{{ last_user }}'}").await;
    let outcome = run(&task(&models, json!({}), json!({})), &Record::default()).await;
    assert_eq!(output(outcome), "{\"amount\":700}");
}

#[tokio::test]
async fn tools_are_called_until_the_model_answers_and_each_call_is_recorded() {
    let models = models(
        "  - {when: {tool_result: false}, answer: {tool_calls: [{name: math, arguments: {expression: 700 * 0.052}}, {name: nope}]}}
  - {when: {tool_result: true}, answer: {text: done}}",
    )
    .await;
    let record = Record::default();
    let task = task(&models, json!({"prompt": "compute", "tools": ["math", "clock"]}), json!({}));
    assert_eq!(output(run(&task, &record).await), "done");
    let said = record.said();
    assert_eq!(said[2..4], [r#"call math Read {"expression":"700 * 0.052"}"#, "result 36.4 2"], "{said:?}");
    let seen = models.seen();
    let offered: Vec<_> =
        seen[0].body["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(offered, ["math", "clock"]);
    let messages = seen[1].body["messages"].as_array().unwrap();
    assert_eq!(messages[2], json!({"role": "tool", "tool_call_id": "call_1", "content": "36.4"}));
    assert!(messages[3]["content"].as_str().unwrap().contains("there is no tool `nope`"), "{messages:?}");
}

#[tokio::test]
async fn an_output_that_breaks_its_schema_is_sent_back_with_what_is_wrong() {
    let models = models(
        "  - {when: {times: 1}, answer: {text: five percent}}
  - {when: {user: not JSON}, answer: {json: {apr: 99}}}
  - {when: {user: maximum}, answer: {json: {apr: 5.2}}}",
    )
    .await;
    let mut task = task(&models, json!({"prompt": "Quote"}), json!({}));
    let schema = json!({"type": "object", "properties": {"apr": {"type": "number", "maximum": 8.5}}, "required": ["apr"]});
    task.output_schema = Some(schema.clone());
    assert_eq!(output(run(&task, &Record::default()).await), json!({"apr": 5.2}));
    let seen = models.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].body["response_format"]["json_schema"]["schema"], schema);

    task.definition = json!({"prompt": "Quote", "max_turns": 1});
    let models = crate::world::models("  - answer: {text: five percent}").await;
    task.upstream.base_url = models.url();
    let failure = failure(run(&task, &Record::default()).await);
    assert_eq!((failure.class, failure.blames_answers), (FailureClass::LogicError, true));
    assert!(failure.reason.contains("after 1 turns") && failure.reason.contains("not JSON"), "{failure}");
}

#[tokio::test]
async fn each_fault_of_a_model_is_a_recorded_failure_of_its_class() {
    for (fault, class, retryable) in [
        ("{fault: rate_limited, retry_after: 3s}", "RateLimited", true),
        ("{fault: server_error}", "Overloaded", true),
        ("{fault: server_error, status: 401}", "Unauthenticated", false),
        ("{fault: server_error, status: 400}", "InvalidRequest", false),
        ("{text: some words, fault: cut_json}", "MalformedAnswer", true),
        ("{text: some words, fault: drop}", "Connection", true),
        ("{fault: hang}", "Timeout", true),
    ] {
        let models = models(&format!("  - answer: {fault}")).await;
        let mut task = task(&models, json!({"prompt": "x"}), json!({}));
        if class == "Timeout" {
            task.deadline = Duration::from_millis(700);
        }
        let record = Record::default();
        let failure = failure(run(&task, &record).await);
        assert_eq!(record.said()[1], format!("model failed {class} 1"), "{fault}");
        assert_eq!(failure.retryable, retryable, "{fault}");
        let wait = (class == "RateLimited").then_some(Duration::from_secs(3));
        assert_eq!(failure.retry_after, wait);
        let expected = if class == "Timeout" { FailureClass::Timeout } else { FailureClass::ModelError };
        assert_eq!(failure.class, expected);
    }
}

#[tokio::test]
async fn who_reads_along_sees_the_text_come_and_the_record_is_the_same() {
    let models = models(
        "  - {when: {tool_result: false}, answer: {text: 'let me see ü', tool_calls: [{name: math, arguments: {expression: 1 + 1}}], usage: {input: 5, output: 4}, fault: slow, chunk_delay: 2ms}}
  - {when: {tool_result: true}, answer: {text: it is two}}",
    )
    .await;
    let task = task(&models, json!({"prompt": "x", "tools": ["math"]}), json!({}));
    let (streamed, plain) = (Record::reading_along(), Record::default());
    assert_eq!(output(run(&task, &streamed).await), "it is two");
    assert_eq!(output(run(&task, &plain).await), "it is two");
    assert_eq!(streamed.said(), plain.said());
    let along = streamed.read_along();
    assert!(along.len() > 3 && along.concat() == "let me see üit is two", "{along:?}");
    let requests: Vec<_> = streamed.calls().iter().map(|call| call.request).collect();
    assert_eq!(requests, plain.calls().iter().map(|call| call.request).collect::<Vec<_>>());
    let mut again = task.clone();
    again.upstream.base_url = "http://127.0.0.1:1".to_owned();
    assert_eq!(output(run(&again, &streamed.next()).await), "it is two");
}

#[tokio::test]
async fn faults_of_a_stream_are_failures_of_their_class_too() {
    for (fault, class) in [
        ("{fault: rate_limited}", "RateLimited"),
        ("{text: some words, fault: cut_json}", "MalformedAnswer"),
        ("{text: some words, fault: drop}", "Connection"),
    ] {
        let models = models(&format!("  - answer: {fault}")).await;
        let record = Record::reading_along();
        failure(run(&task(&models, json!({"prompt": "x"}), json!({})), &record).await);
        assert_eq!(record.said()[1], format!("model failed {class} 1"), "{fault}");
    }
}

#[tokio::test]
async fn an_unreachable_model_and_an_empty_answer_are_told_apart() {
    let models = models("  - answer: {fault: empty}").await;
    let mut task = task(&models, json!({"prompt": "x", "max_turns": 2}), json!({}));
    let empty = failure(run(&task, &Record::default()).await);
    assert!(empty.reason.contains("the answer is empty"), "{empty}");
    task.upstream.base_url = "http://127.0.0.1:1/v1".to_owned();
    let unreachable = failure(run(&task, &Record::default()).await);
    assert!(unreachable.reason.contains("cannot be reached (http://127.0.0.1:1)"), "{unreachable}");
}

#[tokio::test]
async fn a_definition_that_cannot_be_performed_says_everything_that_is_wrong() {
    let models = models("  - answer: {text: x}").await;
    let definition = json!({"promt": "x", "max_turns": 0, "system": "{{ open"});
    let failure = failure(run(&task(&models, definition.clone(), json!({})), &Record::default()).await);
    assert_eq!((failure.class, failure.retryable), (FailureClass::InvalidInput, false));
    for part in ["did you mean `prompt`?", "`max_turns`", "never closed"] {
        assert!(failure.reason.contains(part), "{failure}");
    }
    assert_eq!(models.count(), 0);
}

#[test]
fn what_is_wrong_with_a_native_agent_is_told_where_it_stands() {
    let text = r#"name: w
tools:
  rates: {http: {url: "https://{{ host }}/"}}
agents:
  - {id: a, definition: {promt: x, max_turns: 0}}
  - {id: b, prompt: x, tools: [rates, clok]}
  - {id: c, definition: 5}
  - {id: d, framework: crewai, definition: {promt: x}, tools: [anything]}
"#;
    let said = read("w.yaml", text).unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        ("w.yaml:3:3: tool `rates`: ", "placeholder in its host"),
        ("  hint: ", "correct it, or remove it"),
        ("w.yaml:5:26: a native agent has no `promt`", ""),
        ("  hint: ", "did you mean `prompt`?"),
        ("w.yaml:5:36: `max_turns` is not a whole number", ""),
        ("  hint: ", "`max_turns: 8`"),
        ("w.yaml:6:24: there is no tool `clok`", ""),
        ("  hint: ", "did you mean `clock`?"),
        ("w.yaml:7:13: the definition of a native agent is no mapping", ""),
        ("  hint: ", "write `definition: {prompt: …}`"),
    ];
    assert_eq!(lines.len(), expected.len(), "\n{said}");
    for (line, (place, what)) in lines.iter().zip(expected) {
        assert!(line.starts_with(place) && line.contains(what), "{line}\n{said}");
    }
}
