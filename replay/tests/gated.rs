//! The gate over real HTTP: bytes that pass untouched, answers that are served again, and bad ones that nobody reads.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;
mod gate;

use desk::Dev;
use gate::{Program, Upstream, post, says, served};
use serde_json::{Value, json};

fn quote(who: &str) -> String {
    format!(
        r#"{{"model":"m","seed":9007199254740993,  "messages":[{{"role":"system","content":"You are {who}."}},{{"role":"user","content":"Quote."}}],"unknown":1.0}}"#
    )
}

async fn guarded(dev: &Dev) {
    let guard =
        json!({ "name": "apr", "agent": "Writer", "field": "apr", "rule": "value >= 2.5 && value <= 8.5" });
    assert_eq!(post(dev, "/guards", guard).await.0, 201);
}

fn writer(body: &str) -> (u16, &'static str, String) {
    let corrected = body.contains("8.5");
    let of_writer = body.contains("You are Writer");
    says(match (of_writer, corrected) {
        (true, true) => r#"{"apr": 5.2}"#,
        (true, false) => r#"{"apr": 0}"#,
        _ => "fine",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_headers_pass_byte_for_byte_in_both_directions() {
    let upstream = Upstream::start(|body| {
        if body.contains("broken") {
            (429, "application/json", "{ \"error\":{\"code\":\"slow\"} }".into())
        } else if body.contains("\"input\"") {
            (200, "application/json", "{\"data\":[{\"embedding\":[0.5]}],\"model\":\"e\"}".into())
        } else {
            says("hi")
        }
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let response = program.send("Writer#0", "/v1/chat/completions", &quote("Writer")).await;
    assert_eq!(response.headers()["x-ratelimit-remaining"], "41");
    assert_eq!(response.headers()["x-request-id"], "req_7");
    assert_eq!(response.text().await.unwrap(), says("hi").2);
    assert_eq!(upstream.bodies(), [quote("Writer")]);
    assert!(!upstream.headers(0).contains_key("x-omium-step"), "what is ours stays here");
    assert_eq!(
        program.asks("Writer", r#"{"x":"broken"}"#).await,
        (429, "{ \"error\":{\"code\":\"slow\"} }".to_owned())
    );
    let embedded = program.send("Writer", "/v1/embeddings", r#"{"model":"e","input":["a"]}"#).await;
    assert_eq!(embedded.status(), 200);
    assert_eq!(upstream.paths()[2], "/v1/embeddings");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_is_served_what_was_answered_also_after_a_kill_of_the_server() {
    let upstream = Upstream::start(writer).await;
    let mut dev = served(&upstream).await;
    let first = Program::open(&dev, "auto").await;
    let answers =
        [first.asks("Writer", &quote("Writer")).await, first.asks("Reviewer", &quote("Reviewer")).await];
    // The same question once more is another question.
    first.asks("Reviewer", &quote("Reviewer")).await;
    assert_eq!(upstream.bodies().len(), 3);
    dev.kill_and_start();
    let second = Program::attempt(&dev, &first.id).await;
    let first = Program { base: second.base.replace(&second.token, &first.token), ..first };
    let stale = first.send("Writer", "/v1/chat/completions", &quote("Writer")).await;
    assert_eq!(
        (stale.status().as_u16(), stale.headers()["x-should-retry"].to_str().unwrap()),
        (409, "false")
    );
    assert_eq!(second.asks("Reviewer", &quote("Reviewer")).await, answers[1]);
    assert_eq!(second.asks("Writer", &quote("Writer")).await, answers[0]);
    second.asks("Reviewer", &quote("Reviewer")).await;
    assert_eq!(upstream.bodies().len(), 3, "nothing was asked again");
    second.asks("Reviewer", &quote("Reviewer")).await;
    assert_eq!(upstream.bodies().len(), 4, "each answer is served once");
    second.ends(&dev, 0).await;
    let view = second.shown(&dev).await;
    assert_eq!(
        (&view["status"], &view["output"], &view["attempt"]),
        (&json!("completed"), &json!("done"), &json!(2))
    );
    let over = second.asks("Writer", &quote("Writer")).await;
    assert_eq!(over.0, 409, "{}", over.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_is_asked_again_before_anybody_reads_it_and_only_that_one() {
    let upstream = Upstream::start(writer).await;
    let dev = served(&upstream).await;
    guarded(&dev).await;
    let program = Program::open(&dev, "auto").await;
    program.asks("Reviewer", &quote("Reviewer")).await;
    let (status, body) = program.asks("Writer", &quote("Writer")).await;
    assert_eq!((status, body), (200, says(r#"{"apr": 5.2}"#).2));
    program.asks("Reviewer", &quote("Reviewer")).await;
    let bodies = upstream.bodies();
    assert_eq!((bodies.len(), &bodies[1]), (4, &quote("Writer")));
    let (before, after) = bodies[2].split_once(r"\n\n").unwrap();
    let end = after.split_once("\"}").unwrap().1;
    assert_eq!(
        format!("{before}\"}}{end}"),
        quote("Writer"),
        "the text stands at the end of the system message alone"
    );
    assert_eq!([&bodies[0], &bodies[3]], [&quote("Reviewer"); 2]);
    let view = program.shown(&dev).await;
    let finding = &view["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["helped"], &finding["caller"]),
        (&json!("rule"), &json!(true), &json!("Writer#0"))
    );
    let events =
        gate::api(&dev, reqwest::Method::GET, &format!("/executions/{}/events", program.id), Value::Null)
            .await
            .1;
    let patched =
        events["items"].as_array().unwrap().iter().find(|event| event["kind"] == "LlmCallPatched").unwrap();
    assert_ne!(patched["body"]["before"], patched["body"]["after"]);
}

/// What is no result yet is not asked for twice, and no finding; who relies on an answer that is refused is told.
#[tokio::test(flavor = "multi_thread")]
async fn ends_that_are_no_failures_are_passed_on_and_a_refusal_is_for_a_person() {
    let upstream = Upstream::start(|body| {
        let said = match body {
            _ if body.contains("q1") => r#"{"id":"r","status":"queued","output":[]}"#,
            _ if body.contains("q2") => r#"{"status":"completed","output":[{"type":"compaction"}]}"#,
            _ if body.contains("q3") => r#"{"status":"completed","output":[]}"#,
            _ => r#"{"status":"completed","output":[{"type":"message","content":[{"type":"refusal","refusal":"no"}]}]}"#,
        };
        (200, "application/json", said.to_owned())
    })
    .await;
    let dev = served(&upstream).await;
    guarded(&dev).await;
    let program = Program::open(&dev, "auto").await;
    let asked = async |agent: &str, text: &str, more: &str| {
        let body = format!(r#"{{"model":"m","input":"{text}"{more}}}"#);
        program.send(agent, "/v1/responses", &body).await.status().as_u16()
    };
    for (text, more) in
        [("q1", ""), ("q2", ""), ("q3", r#","generate":false"#), ("q3", r#","max_output_tokens":0"#)]
    {
        assert_eq!(asked("Writer", text, more).await, 200, "{text}{more}");
    }
    assert_eq!(asked("Reviewer", "q4", "").await, 200, "nobody relies on it");
    assert_eq!(upstream.bodies().len(), 5, "each was asked once");
    let count = r#"{"model":"m","input":"q1"}"#;
    assert_eq!(program.send("Writer", "/v1/responses/input_tokens", count).await.status(), 200);
    assert_eq!(upstream.paths().last().map(String::as_str), Some("/v1/responses/input_tokens"));
    let view = program.shown(&dev).await;
    assert_eq!(view["findings"], json!([]));
    assert_eq!(
        view["steps"][0]["calls"].as_array().map(Vec::len),
        Some(5),
        "what is only counted is no call"
    );
    assert_eq!(asked("Writer", "q4", "").await, 409);
    assert_eq!(upstream.bodies().len(), 7, "it is not asked again");
    assert_eq!(program.shown(&dev).await["findings"][0]["kind"], "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_program_is_refused_and_goes_on_a_week_and_two_restarts_later() {
    let upstream = Upstream::start(writer).await;
    let mut dev = served(&upstream).await;
    guarded(&dev).await;
    let program = Program::open(&dev, "approve").await;
    program.asks("Reviewer", &quote("Reviewer")).await;
    for _ in 0..2 {
        let refused = program.send("Writer", "/v1/chat/completions", &quote("Writer")).await;
        assert_eq!(refused.status(), 409);
        assert_eq!(refused.headers()["x-should-retry"], "false");
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["code"], "suspended");
    }
    program.ends(&dev, 0).await;
    assert_eq!(
        program.shown(&dev).await["status"],
        "suspended",
        "the log decides, not how the process ended"
    );
    assert_eq!(post(&dev, &format!("/executions/{}/attempts", program.id), json!({})).await.0, 409);
    let shifted = dev.kill_and_start_a_week_later();
    if shifted.is_none() {
        dev.kill_and_start();
    }
    assert_eq!(
        post(&dev, &format!("/executions/{}/decision", program.id), json!({ "decision": "apply" })).await.0,
        200
    );
    if shifted.is_none() {
        skipped("faketime: libfaketime is not installed, so the week between could not be had");
    }
    dev.kill_and_start_a_week_later().unwrap_or_else(|| dev.kill_and_start());
    let again = Program::attempt(&dev, &program.id).await;
    again.asks("Reviewer", &quote("Reviewer")).await;
    assert_eq!(again.asks("Writer", &quote("Writer")).await.1, says(r#"{"apr": 5.2}"#).2);
    assert_eq!(upstream.bodies().len(), 3);
}

/// Counted by whoever runs all tests.
fn skipped(why: &str) {
    use std::io::Write as _;
    let Some(place) = std::env::var_os("OMIUM_SKIPS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(place).unwrap();
    writeln!(file, "{why}").unwrap();
}

fn events(content: &str) -> String {
    let chunk = |delta: Value, finish: Value| json!({ "id": "c", "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    let usage = json!({ "id": "c", "model": "m", "choices": [], "usage": { "prompt_tokens": 10, "completion_tokens": 2 } });
    let parts = [
        chunk(json!({ "role": "assistant", "content": content }), Value::Null),
        chunk(json!({}), json!("stop")),
        usage,
    ];
    let parts: String = parts.iter().map(|part| format!("data: {part}\n\n")).collect();
    format!("{parts}data: [DONE]\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_held_where_guarded_and_served_again_in_the_form_that_is_asked_for() {
    let upstream = Upstream::start(|body| {
        let answer: Value = serde_json::from_str(&writer(body).2).unwrap();
        (200, "text/event-stream", events(answer["choices"][0]["message"]["content"].as_str().unwrap()))
    })
    .await;
    let dev = served(&upstream).await;
    guarded(&dev).await;
    let program = Program::open(&dev, "auto").await;
    let streamed = |who: &str| quote(who).replacen('{', r#"{"stream":true,"#, 1);
    let without_usage = |content: &str| {
        let all = events(content);
        let usage =
            all.split_inclusive("\n\n").find(|part| part.contains("prompt_tokens")).unwrap().to_owned();
        all.replace(&usage, "")
    };
    assert_eq!(program.asks("Reviewer", &streamed("Reviewer")).await.1, without_usage("fine"));
    assert!(upstream.bodies()[0].ends_with(r#""unknown":1.0,"stream_options":{"include_usage":true}}"#));
    assert_eq!(program.asks("Writer", &streamed("Writer")).await.1, without_usage(r#"{"apr": 5.2}"#));
    let calls = program.shown(&dev).await["steps"][0]["calls"].clone();
    assert!(calls.as_array().unwrap().iter().all(|call| call["tokens"] == json!([10, 2])), "{calls}");
    let again = Program::attempt(&dev, &program.id).await;
    assert_eq!(again.asks("Reviewer", &streamed("Reviewer")).await.1, without_usage("fine"));
    let whole: Value = serde_json::from_str(&again.asks("Writer", &quote("Writer")).await.1).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], r#"{"apr": 5.2}"#);
    assert_eq!(upstream.bodies().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_served_again_and_an_open_write_is_asked_about() {
    let upstream = Upstream::start(writer).await;
    let mut dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let call = |tool: &str, effect: &str| json!({ "caller": "Writer#0", "tool": tool, "effect": effect, "arguments": { "a": 1 } });
    let (_, begun) = program.tool("/tools", call("rates", "read")).await;
    let ended =
        program.tool(&format!("/tools/{}", begun["call"]), json!({ "result": { "b": 2, "a": 1.5 } })).await;
    assert_eq!(ended.0, 200);
    let (_, failed) = program.tool("/tools", call("flaky", "read")).await;
    program.tool(&format!("/tools/{}", failed["call"]), json!({ "failed": "no such rate" })).await;
    let (_, open) = program.tool("/tools", call("pay", "write")).await;
    assert!(open["call"].is_u64());
    dev.kill_and_start();
    let again = Program::attempt(&dev, &program.id).await;
    assert_eq!(
        again.tool("/tools", call("rates", "read")).await.1,
        json!({ "recorded": { "result": { "a": 1.5, "b": 2 }, "call": begun["call"] } })
    );
    assert_eq!(
        again.tool("/tools", call("flaky", "read")).await.1,
        json!({ "failed": { "reason": "no such rate", "call": failed["call"] } })
    );
    let (status, refused) = again.tool("/tools", call("pay", "write")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("outcome-unknown")));
    let view = again.shown(&dev).await;
    assert_eq!((&view["status"], &view["questions"][0]["tool"]), (&json!("suspended"), &json!("pay")));
    dev.says(&["answer", &program.id, "happened", "--result", "{\"paid\": true}"]);
    let third = Program::attempt(&dev, &program.id).await;
    assert_eq!(
        third.tool("/tools", call("pay", "write")).await.1,
        json!({ "recorded": { "result": { "paid": true }, "call": open["call"] } })
    );
}

/// How many bytes a log has in which a tool has this result, which is whole wherever it is looked at.
async fn weight_with(result: &str) -> u64 {
    let upstream = Upstream::start(writer).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let call = json!({ "caller": "Writer#0", "tool": "read", "effect": "read" });
    let (_, begun) = program.tool("/tools", call.clone()).await;
    let path = format!("/tools/{}", begun["call"]);
    // The reply may be lost: the same result again is no other one.
    for _ in 0..2 {
        assert_eq!(program.tool(&path, json!({ "result": result })).await.0, 200);
    }
    let again = Program::attempt(&dev, &program.id).await;
    let recorded = json!({ "recorded": { "result": result, "call": begun["call"] } });
    assert_eq!(again.tool("/tools", call).await.1, recorded);
    let events = format!("/executions/{}/events", program.id);
    let (_, events) = gate::api(&dev, reqwest::Method::GET, &events, Value::Null).await;
    assert!(events.to_string().contains(result), "{events}");
    dev.stop_and_weigh()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_result_of_a_tool_is_packed_in_the_log() {
    let long = "the same words on every page; ".repeat(1_000);
    let mut more = Vec::new();
    // How often partitions are told of control depends on time, so a log weighs now a little more and now a little less.
    for _ in 0..3 {
        let (least, most) = (weight_with("short").await, weight_with(&long).await);
        more.push(most.saturating_sub(least));
        if more.last().is_some_and(|more| *more < 3_000) {
            return;
        }
    }
    panic!("{more:?} bytes for a result of {}", long.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_told_what_is_wrong_with_it() {
    let upstream = Upstream::start(writer).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    // Closed nesting is sound JSON: nothing but a limit of depth ends it.
    let closed = format!("{{\"x\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for (path, body, status, code) in [
        ("/v1/chat/completions", "{", 400, "bad-body"),
        ("/v1/chat/completions", "[]", 400, "bad-body"),
        ("/v1/chat/completions", &*"[".repeat(100_000), 400, "bad-body"),
        ("/v1/chat/completions", &*closed, 400, "bad-body"),
        ("/v1/completions", &*closed, 400, "bad-body"),
        ("/v1/embeddings", &*closed, 400, "bad-body"),
        ("/v1/responses", &*objects, 400, "bad-body"),
        ("/v1/images/generations", "{}", 404, "unknown-operation"),
        ("/tools", "{}", 400, "bad-body"),
        ("/tools", r#"{"caller":"a","tool":"t","effect":"nice"}"#, 400, "bad-body"),
        ("/tools", r#"{"caller":"","tool":"t","effect":"read"}"#, 400, "bad-body"),
        ("/tools/999", r#"{"result":1}"#, 409, "no-open-call"),
        ("/tools/x", r#"{"result":1}"#, 400, "bad-body"),
    ] {
        let response = program.send("Writer", path, body).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], code, "{path}");
    }
    let other = Program::open(&dev, "auto").await;
    // Without the token in the path the header's counts.
    let [base, others] = [&program, &other].map(|of| of.base.replace(&format!("/{}", of.token), ""));
    for (base, token) in [(&base, "sk-123"), (&base, &*other.token), (&others, &*program.token)] {
        let request = reqwest::Client::new().post(format!("{base}/v1/chat/completions")).bearer_auth(token);
        assert_eq!(request.body(quote("Writer")).send().await.unwrap().status(), 401);
    }
    let bare = reqwest::Client::new().post(format!("{base}/v1/chat/completions"));
    assert_eq!(bare.body("{}").send().await.unwrap().status(), 401);
    assert!(upstream.bodies().is_empty(), "nothing of it has reached the model");
    let (status, wrong) =
        post(&dev, "/guards", json!({ "name": "g", "agent": "A", "rule": "apr > 1" })).await;
    assert_eq!((status, &wrong["code"]), (422, &json!("bad-guard")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_has_done_is_recorded_also_when_its_program_may_do_nothing_more() {
    let upstream = Upstream::start(writer).await;
    let dev = served(&upstream).await;
    let call = |tool: &str| json!({ "caller": "Writer#0", "tool": tool, "effect": "write" });
    let first = Program::open(&dev, "auto").await;
    let (_, paid) = first.tool("/tools", call("pay")).await;
    let (_, sent) = first.tool("/tools", call("send")).await;
    post(&dev, &format!("/executions/{}/pause", first.id), json!({})).await;
    let (status, refused) = first.tool("/tools", call("order")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("paused")));
    assert_eq!(first.tool(&format!("/tools/{}", paid["call"]), json!({ "result": "paid" })).await.0, 200);
    post(&dev, &format!("/executions/{}/resume", first.id), json!({})).await;

    let second = Program::attempt(&dev, &first.id).await;
    let recorded =
        |result: &str, call: &Value| json!({ "recorded": { "result": result, "call": call["call"] } });
    assert_eq!(second.tool("/tools", call("pay")).await.1, recorded("paid", &paid));
    let (status, refused) = second.tool("/tools", call("send")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("outcome-unknown")));
    // The process of the first attempt lives on, and knows what nobody else does.
    assert_eq!(first.tool(&format!("/tools/{}", sent["call"]), json!({ "result": "sent" })).await.0, 200);
    assert_eq!(second.shown(&dev).await["questions"], json!([]));
    let third = Program::attempt(&dev, &first.id).await;
    assert_eq!(third.tool("/tools", call("pay")).await.1, recorded("paid", &paid));
    assert_eq!(third.tool("/tools", call("send")).await.1, recorded("sent", &sent));
}

/// How many bytes a conversation of so many turns has, and how many its log.
async fn talked(turns: usize) -> (usize, u64) {
    // Words that do not repeat: what a compressor cannot take out is what has to be paid for.
    let text = |seed: usize| -> String {
        let word = |at: usize| (seed * 7_919 + at * 104_729 + 1) as u64 * 2_654_435_761 % 0xffff_ffff;
        (0..110).map(|at| format!("{:x} ", word(at))).collect()
    };
    let upstream =
        Upstream::start(move |body| says(&text(1_000 + body.matches("\"role\":\"assistant\"").count())))
            .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let mut messages = vec![json!({ "role": "system", "content": "You talk." })];
    let mut distinct = 0;
    for turn in 0..turns {
        messages.push(json!({ "role": "user", "content": text(turn) }));
        let body = json!({ "model": "m", "messages": messages }).to_string();
        let answer: Value = serde_json::from_str(&program.asks("Talker", &body).await.1).unwrap();
        messages.push(answer["choices"][0]["message"].clone());
        distinct +=
            messages[messages.len() - 2..].iter().map(|message| message.to_string().len()).sum::<usize>();
    }
    (distinct, dev.stop_and_weigh())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_conversation_costs_its_growth() {
    // What a log holds besides, such as its schemas, is in both.
    let ((few, least), (distinct, most)) = (talked(1).await, talked(51).await);
    let (grown, used) = ((distinct - few) as f64, (most - least) as f64);
    assert!(grown > 100_000.0 && used <= 1.3 * grown, "{used} bytes for {grown} distinct ones");
}
