//! Attempts at programs: who may ask in their name, what they may spend, and when they are over.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;
mod gate;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use desk::Dev;
use gate::{Program, Upstream, api, post, says, served};
use serde_json::{Value, json};

const QUESTION: &str = r#"{"model":"priced","max_tokens":1000,"messages":[{"role":"user","content":"q"}]}"#;

async fn opened(dev: &Dev, more: Value) -> Program {
    let mut body = json!({ "name": "crew" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, opened) = post(dev, "/programs", body).await;
    assert_eq!(status, 201, "{opened}");
    Program::attempt(dev, opened["id"].as_str().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_in_the_path_counts_and_what_a_program_sends_as_its_own_key_is_dropped() {
    let upstream = Upstream::start(|_| says("hi")).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let foreign = Program { token: "sk-my-own-key".into(), ..program };
    assert_eq!(foreign.asks("Writer", QUESTION).await.0, 200);
    assert!(!format!("{:?}", upstream.headers(0)).contains("sk-my-own-key"));
    let (_, begun) = foreign
        .tool("/tools", json!({ "caller": "w", "tool": "t", "effect": "read", "arguments": {} }))
        .await;
    assert!(begun["call"].is_u64(), "{begun}");
    let forged = Program { base: foreign.base.replace("omx_", "omx_0"), ..foreign };
    assert_eq!(forged.asks("Writer", QUESTION).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_the_key_that_began_its_attempt() {
    let upstream = Upstream::start(|_| says("hi")).await;
    let dev = served(&upstream).await;
    let (_, issued) = post(&dev, "/keys", json!({ "role": "developer" })).await;
    let bearer = issued["bearer"].as_str().unwrap().to_owned();
    let program = Program::open(&dev, "auto").await;
    let begun: Value = reqwest::Client::new()
        .post(format!("{}/api/v1/executions/{}/attempts", dev.address().0, program.id))
        .bearer_auth(&bearer)
        .json(&json!({}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let base = format!("{}{}", dev.address().0, begun["path"].as_str().unwrap());
    let theirs = Program { base, token: begun["token"].as_str().unwrap().to_owned(), ..program };
    assert_eq!(theirs.asks("Writer", QUESTION).await.0, 200);
    let public = bearer.split('_').nth(1).unwrap().to_owned();
    let (status, _) = api(&dev, reqwest::Method::DELETE, &format!("/keys/{public}"), Value::Null).await;
    assert_eq!(status, 200);
    let (status, refused) = theirs.asks("Writer", QUESTION).await;
    assert!(status == 401 && refused.contains("revoked"), "{status} {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_begun_or_ended_twice_for_want_of_a_reply_is_begun_and_ended_once() {
    let upstream = Upstream::start(|_| says("hi")).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let call = |repeats: bool| json!({ "caller": "w", "tool": "pay", "effect": "write", "arguments": {}, "repeats": repeats });
    let (_, first) = program.tool("/tools", call(false)).await;
    assert_eq!(program.tool("/tools", call(true)).await.1, first);
    let place = format!("/tools/{}", first["call"]);
    let end = || program.tool(&place, json!({ "result": 1 }));
    assert_eq!((end().await.0, end().await.0), (200, 200));
    assert_eq!(
        program.tool("/tools", call(true)).await.1,
        json!({ "recorded": { "result": 1, "call": first["call"] } })
    );
    let (_, second) = program.tool("/tools", call(false)).await;
    assert!(second["call"].is_u64() && second != first, "a second equal call is another one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_attempt_asks_for_nothing_more_and_the_next_one_goes_on() {
    let upstream = Upstream::start(|_| says("hi")).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    program.asks("Writer", QUESTION).await;
    let (status, _) = program.tool("/fence", json!({ "reason": "the gate was away" })).await;
    assert_eq!(status, 200);
    assert_eq!(program.asks("Writer", QUESTION).await.0, 409);
    let again = Program::attempt(&dev, &program.id).await;
    assert_eq!(again.asks("Writer", QUESTION).await.0, 200);
    assert_eq!(upstream.bodies().len(), 1, "it was served what is recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_calls_that_run_at_once_with_and_without_usage() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = Upstream::start(move |_| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        let usage = if number.is_multiple_of(2) { r#","usage":{"prompt_tokens":10,"completion_tokens":1000}"# } else { "" };
        let body = r#"{"model":"priced","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]"#;
        (200, "application/json", format!("{body}{usage}}}"))
    })
    .await;
    let dev = served(&upstream).await;
    // A thousand tokens of an answer cost a dollar; the questions cost next to nothing.
    dev.says(&["prices", "set", "priced", "--input", "0", "--output", "1000"]);
    let program = Arc::new(opened(&dev, json!({ "budget_usd": "10" })).await);
    let calls = (0..1_000).map(|number| {
        let program = program.clone();
        let body = QUESTION.replace("\"q\"", &format!("\"q{number}\""));
        tokio::spawn(async move { program.asks("Writer", &body).await.0 })
    });
    let mut passed = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            200 => passed += 1,
            status => assert_eq!(status, 402),
        }
    }
    assert!((1..=10).contains(&passed) && asked.load(Ordering::SeqCst) == passed, "{passed} calls for $10");
    let spent: f64 = program.shown(&dev).await["cost_usd"].as_str().unwrap().parse().unwrap();
    assert!(spent <= 10.0, "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_waits_for_one_or_for_a_word() {
    let upstream = Upstream::start(|_| says("hi")).await;
    let dev = served(&upstream).await;
    let program = opened(&dev, json!({ "budget_usd": "10" })).await;
    let (status, refused) = program.asks("Writer", QUESTION).await;
    assert!(status == 409 && refused.contains("omium prices set"), "{status} {refused}");
    assert!(upstream.bodies().is_empty(), "it was not asked");
    assert_eq!(program.shown(&dev).await["status"], "suspended");
    dev.says(&["prices", "set", "priced", "--input", "1", "--output", "1"]);
    let second = Program::attempt(&dev, &program.id).await;
    assert_eq!(second.asks("Writer", QUESTION).await.0, 200);

    let other = opened(&dev, json!({ "budget_usd": "10" })).await;
    let unknown = QUESTION.replace("priced", "unknown");
    assert_eq!(other.asks("Writer", &unknown).await.0, 409);
    dev.says(&["approve", &other.id]);
    let second = Program::attempt(&dev, &other.id).await;
    assert_eq!(second.asks("Writer", &unknown).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hiccups_with_a_good_status_is_asked_again_and_no_person_is() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = Upstream::start(move |body| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        if number == 0 || body.contains("always") {
            return (200, "application/json", "<html>502 Bad Gateway</html>".into());
        }
        says("hi")
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    assert_eq!(program.asks("Writer", QUESTION).await.0, 200);
    let response =
        program.send("Writer", "/v1/chat/completions", &QUESTION.replace("\"q\"", "\"always\"")).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-should-retry"], "false");
    assert_eq!(asked.load(Ordering::SeqCst), 5, "twice, and three times");
    assert_eq!(program.shown(&dev).await["status"], "running");
}
