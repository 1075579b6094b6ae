//! The scripted model server as an HTTP client sees it.

#![expect(clippy::unwrap_used, reason = "a test says no more about what failed than where")]

use std::time::{Duration, Instant};

use omium_agents::mock::{Script, Server, serve};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn server(yaml: &str) -> Server {
    let script = Script::parse(yaml).unwrap_or_else(|problems| panic!("{problems}"));
    serve(script, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap()
}

fn chat(user: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "system", "content": "You Are Careful"}, {"role": "user", "content": user}]})
}

fn streamed(user: &str) -> Value {
    let mut body = chat(user);
    body["stream"] = true.into();
    body
}

async fn post(server: &Server, path: &str, body: &Value) -> reqwest::Response {
    reqwest::Client::new().post(format!("{}{path}", server.url())).json(body).send().await.unwrap()
}

async fn content(server: &Server, body: &Value) -> String {
    let answer: Value = post(server, "/chat/completions", body).await.json().await.unwrap();
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The data of each event, and whether the stream ended as it should.
async fn events(server: &Server, body: &Value) -> (Vec<String>, bool) {
    let mut response = post(server, "/chat/completions", body).await;
    let mut text = String::new();
    let ended = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    (text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect(), ended)
}

#[tokio::test]
async fn the_first_rule_that_fits_answers() {
    let server = server(
        "rules:
  - {when: {model: other}, answer: {text: model}}
  - {when: {system: reckless}, answer: {text: system}}
  - {when: {user: loan, nth: 2}, answer: {text: second}}
  - {when: {user_matches: '^a \\w+ of \\d+$'}, answer: {text: regex}}
  - {when: {system: careful}, answer: {text: 'you asked {{ model }}: {{ last_user }}'}}",
    )
    .await;
    assert_eq!(content(&server, &chat("a loan of 700")).await, "regex");
    assert_eq!(content(&server, &chat("a loan of 700")).await, "second");
    assert_eq!(content(&server, &chat("hello {{ model }}")).await, "you asked m: hello {{ model }}");
    let seen = server.seen();
    assert_eq!(server.count(), 3);
    assert_eq!(seen[1].rule.as_deref(), Some("rule 3"));
    assert_eq!(seen[2].body, chat("hello {{ model }}"));
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_repeats_what_is_asked_is_bounded() {
    let echo = "{{ last_user }}".repeat(10);
    let server = server(&format!("rules:\n  - answer: {{text: '{echo}'}}")).await;
    let refused = post(&server, "/chat/completions", &chat(&"a ".repeat(1_000_000))).await;
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("longer than 4194304 bytes"));
    let long = chat(&"a ".repeat(150_000));
    let (events, ended) =
        events(&server, &json!({"model": "m", "messages": long["messages"], "stream": true})).await;
    assert!(ended && events.len() < 5_100, "{}", events.len());
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    let request = reqwest::Client::new().post(format!("{}/chat/completions", server.url())).body(deep);
    assert_eq!(request.send().await.unwrap().status(), 400);
    let many = json!({"model": "m", "input": vec!["a"; 10_000], "dimensions": 4096});
    assert_eq!(post(&server, "/embeddings", &many).await.status(), 400);
}

#[tokio::test]
async fn a_step_is_met_by_its_agent_or_by_its_loop_index() {
    let server = server(
        "rules:
  - {when: {step: 'schreiber ü#1'}, answer: {text: again}}
  - {when: {step: 'schreiber ü'}, answer: {text: agent}}
  - answer: {text: other}",
    )
    .await;
    let client = reqwest::Client::new();
    for (step, expected) in
        [("schreiber%20%C3%BC%230", "agent"), ("schreiber%20%C3%BC%231", "again"), ("x", "other")]
    {
        let request = client.post(format!("{}/chat/completions", server.url())).header("x-omium-step", step);
        let answer: Value = request.json(&chat("hi")).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], expected, "{step}");
    }
}

#[tokio::test]
async fn tool_calls_come_whole_or_in_deltas_and_end_when_a_result_is_there() {
    let server = server(
        "rules:
  - {when: {tool_result: false}, answer: {tool_calls: [{name: rate, arguments: {of: '{{ last_user }}', n: 9007199254740993}}]}}
  - {when: {tool_result: true}, answer: {text: done}}",
    )
    .await;
    let whole: Value = post(&server, "/chat/completions", &chat("x")).await.json().await.unwrap();
    let call = &whole["choices"][0]["message"]["tool_calls"][0];
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"of": "x", "n": 9_007_199_254_740_993_u64}));
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");

    let (events, ended) = events(&server, &streamed("x")).await;
    assert!(ended);
    let joined: String = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|event| {
            let delta = &event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
            delta.as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(joined, call["function"]["arguments"].as_str().unwrap());

    let mut body = chat("x");
    body["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "tool", "tool_call_id": "call_1", "content": "5"}));
    assert_eq!(content(&server, &body).await, "done");
}

#[tokio::test]
async fn a_stream_says_word_by_word_what_the_plain_answer_says_and_its_usage_when_asked() {
    let server = server("rules: [{answer: {text: one two three}}]").await;
    let mut body = streamed("four words are here");
    body["stream_options"] = json!({"include_usage": true});
    let (events, ended) = events(&server, &body).await;
    assert!(ended);
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let values: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let words: Vec<&str> =
        values.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(words, ["", "one ", "two ", "three"]);
    let usage = &values.last().unwrap()["usage"];
    assert_eq!(*usage, json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}));
}

#[tokio::test]
async fn the_standard_script_answers_a_schema_with_what_fits_it() {
    let server = serve(Script::standard(), TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap();
    let schema = json!({
        "type": "object", "required": ["apr", "kind", "tags", "who"],
        "properties": {
            "apr": {"type": "number", "minimum": 2.5, "maximum": 8.5},
            "kind": {"enum": ["fixed", "floating"]},
            "tags": {"type": "array", "minItems": 2, "items": {"type": "string", "minLength": 12}},
            "who": {"$ref": "#/$defs/who"},
        },
        "$defs": {"who": {"type": "object", "properties": {"age": {"type": "integer", "exclusiveMinimum": 17}}}},
    });
    let mut body = chat("x");
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let answer: Value = serde_json::from_str(&content(&server, &body).await).unwrap();
    assert!(jsonschema::is_valid(&schema, &answer), "{answer}");
    assert_eq!(content(&server, &chat("hello")).await, "You said: hello");
}

#[tokio::test]
async fn the_demo_has_an_answer_for_each_of_its_agents() {
    let server = serve(Script::demo(), TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap();
    let client = reqwest::Client::new();
    for (step, part) in [("apr", "5.2"), ("risk", "approve"), ("writer", "Dear customer")] {
        let request = client.post(format!("{}/chat/completions", server.url())).header("x-omium-step", step);
        let answer = request.json(&chat("x")).send().await.unwrap().text().await.unwrap();
        assert!(answer.contains(part), "{step}: {answer}");
    }
}

#[tokio::test]
async fn too_many_requests_say_when_to_come_back_and_then_it_works() {
    let server = server(
        "rules:
  - {when: {times: 1}, answer: {fault: rate_limited, retry_after: 2s}}
  - {when: {times: 1}, answer: {fault: server_error, status: 503}}
  - answer: {text: fine}",
    )
    .await;
    let refused = post(&server, "/chat/completions", &chat("x")).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"2".parse().unwrap()));
    let failed = post(&server, "/chat/completions", &chat("x")).await;
    assert_eq!(failed.status(), 503);
    assert_eq!(failed.json::<Value>().await.unwrap()["error"]["code"], "server_error");
    assert_eq!(content(&server, &chat("x")).await, "fine");
}

#[tokio::test]
async fn a_slow_answer_comes_in_pieces_with_pauses() {
    let server = server("rules: [{answer: {text: a b c d, fault: slow, chunk_delay: 20ms}}]").await;
    for body in [chat("x"), streamed("x")] {
        let begun = Instant::now();
        let text = post(&server, "/chat/completions", &body).await.text().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
        assert!(text.contains('d'));
    }
}

#[tokio::test]
async fn a_hanging_answer_hangs_until_the_server_stops() {
    let server = server("rules: [{answer: {fault: hang}}]").await;
    let asking = tokio::spawn({
        let request =
            reqwest::Client::new().post(format!("{}/chat/completions", server.url())).json(&chat("x"));
        async move { request.send().await.unwrap().status() }
    });
    server.reached(1).await;
    assert!(!asking.is_finished());
    server.stop().await;
    assert_eq!(asking.await.unwrap(), 503);
}

#[tokio::test]
async fn cut_json_ends_in_the_middle_of_a_connection_that_does_not_break() {
    let server = server("rules: [{answer: {text: one two three, fault: cut_json}}]").await;
    let text = post(&server, "/chat/completions", &chat("x")).await.text().await.unwrap();
    assert!(text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err(), "{text}");
    let (events, ended) = events(&server, &streamed("x")).await;
    let last = events.last().unwrap();
    assert!(ended && serde_json::from_str::<Value>(last).is_err(), "{last}");
    assert!(events.len() > 1);
}

#[tokio::test]
async fn a_dropped_answer_breaks_the_connection_after_its_first_half() {
    let server = server("rules: [{answer: {text: one two three, fault: drop}}]").await;
    let plain = post(&server, "/chat/completions", &chat("x")).await;
    assert_eq!(plain.status(), 200);
    assert!(plain.text().await.is_err());
    let (events, ended) = events(&server, &streamed("x")).await;
    assert!(!ended && events.iter().any(|event| event.contains("one")), "{ended} {events:?}");
}

#[tokio::test]
async fn an_empty_answer_says_nothing_and_costs_nothing_to_write() {
    let server = server("rules: [{answer: {fault: empty}}]").await;
    let answer: Value = post(&server, "/chat/completions", &chat("x")).await.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "");
    assert_eq!(answer["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn models_embeddings_completions_and_responses_are_there_too() {
    let server = server("models: [m, n]\nrules: [{answer: {text: 'hi {{ last_user }}'}}]").await;
    let client = reqwest::Client::new();
    let models: Value =
        client.get(format!("{}/models", server.url())).send().await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][1]["id"], "n");

    let ask = json!({"model": "e", "input": ["a", "b", "a"], "dimensions": 40});
    let vectors: Value = post(&server, "/embeddings", &ask).await.json().await.unwrap();
    let vector = |at: usize| vectors["data"][at]["embedding"].as_array().unwrap();
    assert_eq!((vector(0).len(), vector(0) == vector(2), vector(0) == vector(1)), (40, true, false));

    let completion: Value =
        post(&server, "/completions", &json!({"prompt": "bo"})).await.json().await.unwrap();
    assert_eq!(completion["choices"][0]["text"], "hi bo");
    let response: Value = post(&server, "/responses", &json!({"input": "bo"})).await.json().await.unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], "hi bo");
    let stream =
        post(&server, "/responses", &json!({"input": "bo", "stream": true})).await.text().await.unwrap();
    assert!(stream.contains("event: response.output_text.delta") && stream.contains("response.completed"));
}

#[tokio::test]
async fn what_no_rule_answers_is_said_with_what_was_asked() {
    let server = server("rules: [{when: {user: never}, answer: {text: x}}]").await;
    let answer = post(&server, "/chat/completions", &chat("hello")).await;
    assert_eq!(answer.status(), 404);
    let text = answer.text().await.unwrap();
    assert!(text.contains("no rule of the script fits") && text.contains("hello"), "{text}");
    assert_eq!(server.seen()[0].rule, None);
    let nonsense = reqwest::Client::new().post(format!("{}/chat/completions", server.url())).body("{");
    assert_eq!(nonsense.send().await.unwrap().status(), 400);
}

#[test]
fn everything_wrong_with_a_script_is_told_with_its_place() {
    let problems = Script::parse_named(
        "s.yaml",
        "rules:
  - when: {usr: x, nth: 0}
    answer: {text: '{{ lastuser }}'}
  - answer: {fault: explode}
  - when: {user_matches: '('}
    answer: {}
",
    )
    .expect_err("it is all wrong");
    let said = problems.to_string();
    for part in [
        "s.yaml:2:12: `when` has no `usr`",
        "did you mean `user`?",
        "`nth` is not a whole number",
        "s.yaml:3:20: `{{ lastuser }}` is not known here",
        "s.yaml:4:21: `fault` has none of the values that are known",
        "is not a regular expression",
        "this answer says nothing",
    ] {
        assert!(said.contains(part), "`{part}` is missing in\n{said}");
    }
}

#[test]
fn a_script_without_anything_in_it_says_how_one_begins() {
    let said = Script::parse(" \n").expect_err("it is empty").to_string();
    assert!(said.contains("a script begins with `rules:`"), "{said}");
}

#[tokio::test]
async fn a_server_for_people_remembers_nothing_that_it_was_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = omium_agents::serve_and_forget(Script::demo(), listener).await.unwrap();
    let body = json!({ "model": "default", "messages": [{ "role": "user", "content": "a secret" }] });
    let url = format!("{}/chat/completions", server.url());
    reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert_eq!((server.count(), server.seen().len()), (1, 0));
}
