//! Every route with every key, and what wrong requests are told.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use omium_api::port::{Reason, Role};
use omium_telemetry::LABELS;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::engine::{MISSING, Memory, Served, caller};

/// A route, as the document has it.
struct Row {
    method: String,
    path: String,
    /// What a key must be at least; nothing where none is asked for.
    least: Option<Role>,
    /// The example of its body.
    body: String,
    success: u16,
}

fn rows() -> Vec<Row> {
    let document = omium_api::openapi();
    let mut rows = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let role = &operation["x-omium-role"];
            let least = (!role.is_null()).then(|| serde_json::from_value(role.clone()).unwrap());
            assert_eq!(least.is_none(), operation["security"] == json!([]), "{method} {path}");
            let bodies = operation["requestBody"]["content"].as_object();
            let body =
                bodies.map_or(String::new(), |bodies| match &bodies.values().next().unwrap()["example"] {
                    Value::String(text) => text.clone(),
                    example => example.to_string(),
                });
            let mut answers = operation["responses"].as_object().unwrap().keys();
            let success = match operation["operationId"].as_str().unwrap() {
                // Nothing is paused.
                "resumeExecution" => 409,
                // Without an upgrade this is a wrong request, for whoever may ask at all.
                "streamEvents" => 400,
                _ => answers.find_map(|status| status.parse().ok()).unwrap(),
            };
            rows.push(Row { method: method.to_uppercase(), path: path.clone(), least, body, success });
        }
    }
    rows
}

fn filled(path: &str, id: &str) -> String {
    let path = path.replace("{id}", id).replace("{name}", "loan-decision");
    path.replace("{key}", "other").replace("{content}", "inputs")
}

pub(crate) fn router() -> (Arc<Memory>, Router) {
    let memory = Arc::new(Memory::default());
    (memory.clone(), omium_api::router(Arc::new(Served(memory))))
}

pub(crate) async fn ask(router: &Router, method: &str, path: &str, key: &str, body: &str) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The code of a problem, after looking whether it is a whole one.
async fn problem(response: Response<Body>) -> String {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(body["status"], status);
    for field in ["type", "title", "code", "detail", "hint"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {body}");
    }
    body["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_route_answers_every_key_as_its_row_says() {
    let keys = [
        ("", None),
        ("nobody", None),
        ("viewer", Some(Role::Viewer)),
        ("worker", Some(Role::Worker)),
        ("developer", Some(Role::Developer)),
        ("admin", Some(Role::Admin)),
    ];
    for Row { method, path, least, body, success } in rows() {
        for (key, role) in keys {
            let (memory, router) = router();
            let own = memory.started(&caller(1, Role::Developer));
            let expected = match least {
                Some(_) if role.is_none() => 401,
                Some(least) if role < Some(least) => 403,
                _ => success,
            };
            let path = filled(&path, &own);
            let response = ask(&router, &method, &path, key, &body).await;
            assert_eq!(response.status().as_u16(), expected, "{method} {path} with the key `{key}`");
            if expected >= 400 {
                problem(response).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_another_tenants_is_as_missing_as_what_never_was() {
    for Row { method, path, body, .. } in rows().into_iter().filter(|row| row.path.contains('{')) {
        let (memory, router) = router();
        let own = memory.started(&caller(1, Role::Developer));
        // A WebSocket is only looked up once there is one: `follow` covers it.
        if path.ends_with("/stream") {
            continue;
        }
        let name = |of: &str| filled(&path, of);
        let mut answers = Vec::new();
        for (of, key) in [(own.as_str(), "foreign"), (MISSING, "foreign"), (MISSING, "admin")] {
            if !path.contains("{id}") && key == "admin" {
                continue;
            }
            let response = ask(&router, &method, &name(of), key, &body).await;
            assert_eq!(response.status(), 404, "{method} {path} of {of} with the key `{key}`");
            answers.push(text(response).await.replace(of, "ID"));
        }
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "the answers give nothing away: {answers:?}");
    }
}

#[tokio::test]
async fn what_is_served_is_what_the_document_describes() {
    let (_, router) = router();
    let mut served = BTreeSet::new();
    for path in omium_api::paths() {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let response = ask(&router, method.as_str(), path, "", "").await;
            if response.status() != 405 {
                served.insert((method.to_string(), path.to_owned()));
            } else {
                assert_eq!(problem(response).await, "wrong-method");
            }
        }
    }
    let described: BTreeSet<_> = rows().into_iter().map(|row| (row.method, row.path)).collect();
    assert_eq!(served, described);
}

/// Bodies are read late: a key that may not do it is told so, whatever it sends.
#[tokio::test]
async fn who_may_not_do_it_is_told_so_before_his_body_is_looked_at() {
    let (_, router) = router();
    for (key, status) in [("", 401), ("viewer", 403), ("developer", 400)] {
        let response = ask(&router, "POST", "/api/v1/programs", key, "{").await;
        assert_eq!(response.status(), status, "{key}");
    }
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong_with_them() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    let deep =
        format!(r#"{{"workflow": "loan-decision", "inputs": {}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let wide = format!(r#"{{"workflow": "loan-decision", "inputs": [{}1]}}"#, r#"{"a":{}},"#.repeat(250_000));
    let reserved = r#"{"workflow": "loan-decision", "inputs": {"$serde_json::private::RawValue": "[1]"}}"#;
    let large = r#"{"workflow": "loan-decision", "inputs": [18446744073709551616]}"#;
    let of = |action: &str| format!("/api/v1/executions/{id}/{action}");
    let wrong = [
        ("POST", "/api/v1/executions".to_owned(), wide.as_str(), 400, "bad-body"),
        ("POST", "/api/v1/executions".to_owned(), reserved, 400, "bad-body"),
        ("POST", "/api/v1/executions".to_owned(), large, 400, "bad-body"),
        ("POST", "/api/v1/executions".to_owned(), "{", 400, "bad-body"),
        ("POST", "/api/v1/executions".to_owned(), "[]", 400, "bad-body"),
        ("POST", "/api/v1/executions".to_owned(), "", 400, "bad-body"),
        ("POST", "/api/v1/executions".to_owned(), deep.as_str(), 400, "bad-body"),
        (
            "POST",
            "/api/v1/executions".to_owned(),
            r#"{"workflow": "loan-decision", "inptus": 1}"#,
            400,
            "bad-body",
        ),
        (
            "POST",
            "/api/v1/executions".to_owned(),
            r#"{"workflow": "loan-decision", "inputs": NaN}"#,
            400,
            "bad-body",
        ),
        (
            "POST",
            "/api/v1/executions".to_owned(),
            r#"{"workflow": "loan-decision", "budget_usd": "much"}"#,
            422,
            "bad-money",
        ),
        ("POST", "/api/v1/executions".to_owned(), r#"{"workflow": "nobody"}"#, 404, "no-such-workflow"),
        ("POST", of("rollback"), r#"{"to": 1.5}"#, 422, "bad-address"),
        ("POST", of("rollback"), r#"{"to": -1}"#, 422, "bad-address"),
        ("POST", of("resume"), "", 409, "not-paused"),
        ("POST", "/api/v1/programs".to_owned(), r#"{"name": 1}"#, 400, "bad-body"),
        ("POST", "/api/v1/programs".to_owned(), r#"{"name": "x", "recovery": "pray"}"#, 422, "bad-recovery"),
        ("POST", of("attempts/end"), r#"{"number": "one", "code": 0}"#, 400, "bad-body"),
        ("POST", of("attempts/end"), r#"{"number": 1.5, "code": 0}"#, 400, "bad-body"),
        ("POST", of("answer"), r#"{"question": -7.0, "answer": "repeat"}"#, 400, "bad-body"),
        ("POST", of("decision"), r#"{"decision": "maybe"}"#, 422, "bad-decision"),
        ("DELETE", "/api/v1/guards/nobody".to_owned(), "", 404, "not-found"),
        ("POST", "/api/v1/workflows".to_owned(), "nonsense", 422, "bad-definition"),
        ("GET", "/api/v1/executions?limit=0".to_owned(), "", 422, "bad-limit"),
        ("GET", "/api/v1/executions?limit=x".to_owned(), "", 400, "bad-query"),
        ("GET", of("events?from=-1"), "", 400, "bad-query"),
        ("GET", "/api/v1/executions/%ff".to_owned(), "", 400, "bad-path"),
        ("GET", of("stream"), "", 400, "no-websocket"),
        ("GET", "/nowhere".to_owned(), "", 404, "no-such-route"),
        ("DELETE", "/api/v1/executions".to_owned(), "", 405, "wrong-method"),
    ];
    for (method, path, body, status, code) in wrong {
        let response = ask(&router, method, &path, "developer", body).await;
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(problem(response).await, code, "{method} {path}");
    }
}

#[tokio::test]
async fn an_integer_may_be_written_with_a_fraction_of_zero() {
    for (path, body) in [
        ("rollback", r#"{"to": 1.0}"#),
        ("attempts/end", r#"{"number": 1.0, "code": 0e3}"#),
        ("answer", r#"{"question": 7.0, "answer": "repeat"}"#),
    ] {
        let (memory, router) = router();
        let id = memory.started(&caller(1, Role::Developer));
        let path = format!("/api/v1/executions/{id}/{path}");
        assert_eq!(ask(&router, "POST", &path, "developer", body).await.status(), 200, "{path} {body}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_text_or_too_long_is_refused() {
    let (_, router) = router();
    let send = |body: Vec<u8>| {
        let request = Request::post("/api/v1/workflows").header("authorization", "Bearer developer");
        router.clone().oneshot(request.body(Body::from(body)).unwrap())
    };
    let response = send(vec![b'a', 0xff]).await.unwrap();
    assert_eq!((response.status().as_u16(), problem(response).await.as_str()), (400, "bad-text"));
    let response = send(vec![b'a'; (16 << 20) + 1]).await.unwrap();
    assert_eq!((response.status().as_u16(), problem(response).await.as_str()), (413, "too-large"));
}

#[tokio::test]
async fn an_idempotency_key_is_a_text_of_some_length() {
    let (_, router) = router();
    for (key, status) in [("k", 201), ("", 400), (&*"k".repeat(257), 400)] {
        let request = Request::post("/api/v1/executions")
            .header("authorization", "Bearer developer")
            .header("idempotency-key", key)
            .body(Body::from(r#"{"workflow": "loan-decision"}"#))
            .unwrap();
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "`{key}`");
    }
}

#[tokio::test]
async fn numbers_of_64_bits_come_back_as_they_are() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    let body = text(ask(&router, "GET", &format!("/api/v1/executions/{id}"), "viewer", "").await).await;
    assert!(body.contains(&json!({ "big": u64::MAX }).to_string()), "{body}");
}

#[tokio::test]
async fn metrics_have_the_names_labels_and_buckets_that_dashboards_know() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    let instruments = memory.meters.instruments();
    instruments.watch_started(|| vec![("native".to_owned(), "t1".to_owned(), 3)]);
    instruments.watch_unserved(|| vec![("crewai".to_owned(), "t1".to_owned(), 2)]);
    [0.25, 1.0].into_iter().for_each(|seconds| instruments.ended("native", "completed", seconds));
    let rollback = format!("/api/v1/executions/{id}/rollback");
    ask(&router, "POST", &rollback, "developer", r#"{"to": 1}"#).await;
    for key in ["", "nobody", "developer", "away"] {
        let body = text(ask(&router, "GET", "/metrics", key, "").await).await;
        assert!(body.lines().any(|line| line == r#"omium_executions_started_total{framework="native"} 3"#));
        assert!(!body.contains("t1"), "only an admin is told names of tenants: {body}");
    }
    let body = text(ask(&router, "GET", "/metrics", "admin", "").await).await;
    let labels = body.lines().filter_map(|line| line.split_once('{')?.1.rsplit_once('}'));
    for label in labels.flat_map(|(labels, _)| labels.split(',')).filter_map(|label| label.split_once('=')) {
        assert!(label.0 == "le" || LABELS.contains(&label.0), "{label:?} is no label of ours");
    }
    for line in [
        r#"omium_executions_started_total{framework="native",tenant_id="t1"} 3"#,
        r#"omium_active_executions{framework="native"} 1"#,
        r#"omium_steps_without_worker{framework="crewai",tenant_id="t1"} 2"#,
        r#"omium_execution_duration_seconds_bucket{framework="native",status="completed",le="0.5"} 1"#,
        r#"omium_execution_duration_seconds_bucket{framework="native",status="completed",le="+Inf"} 2"#,
        r#"omium_execution_duration_seconds_sum{framework="native",status="completed"} 1.25"#,
        r#"omium_health_check_status{service="engine"} 1"#,
        r#"omium_checkpoint_duration_seconds_count 0"#,
        r#"omium_rollback_duration_seconds_bucket{le="60"} 1"#,
        r#"omium_rollback_duration_seconds_count 1"#,
    ] {
        assert!(body.lines().any(|there| there == line), "{line} is not in\n{body}");
    }
}

#[tokio::test]
async fn a_price_is_exact_or_refused() {
    let (_, router) = router();
    let price = |input: &str| format!(r#"{{"model": "m", "input_usd": "{input}", "output_usd": "0"}}"#);
    for (input, pico) in
        [("2.50", "2500000"), ("0.000001", "1"), ("0", "0"), ("999999999", "999999999000000")]
    {
        let answer = ask(&router, "PUT", "/api/v1/prices", "admin", &price(input)).await;
        assert_eq!(answer.status(), 200, "{input}");
        let answer: Value = serde_json::from_str(&text(answer).await).unwrap();
        let shown = format!("{pico} pico-dollars a token");
        assert_eq!((&answer["input_usd"], &answer["cached_usd"]), (&json!(shown), &json!(shown)));
    }
    for wrong in ["0.0000001", "-1", "1e3", "", "NaN", "1,5", "9999999999999"] {
        let answer = ask(&router, "PUT", "/api/v1/prices", "admin", &price(wrong)).await;
        assert_eq!(
            (answer.status().as_u16(), problem(answer).await),
            (422, "bad-price".to_owned()),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn an_answer_says_one_thing() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    let path = format!("/api/v1/executions/{id}/answer");
    let answer = async |body: &str| ask(&router, "POST", &path, "developer", body).await;
    let taken =
        answer(r#"{"question": 7, "answer": "happened", "result": {"paid": 9007199254740993}}"#).await;
    assert_eq!(taken.status(), 200);
    let heard = memory.told(&id, "Acted").await;
    assert!(heard.as_str().unwrap().contains("9007199254740993"), "{heard}");
    for (wrong, code) in [
        (r#"{"question": 7, "answer": "give-up", "result": 1}"#, "result-of-nothing"),
        (r#"{"question": 7, "answer": "perhaps"}"#, "bad-body"),
        (r#"{"answer": "repeat"}"#, "bad-body"),
    ] {
        assert_eq!(problem(answer(wrong).await).await, code, "{wrong}");
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_looked_up_now_is_not_called_a_wrong_one() {
    let (_, router) = router();
    let answer = ask(&router, "GET", "/api/v1/workflows", "away", "").await;
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (axum::http::StatusCode::SERVICE_UNAVAILABLE, &"1".parse::<axum::http::HeaderValue>().unwrap())
    );
    assert_eq!(problem(answer).await, "not-leading");
}

#[tokio::test]
async fn readiness_is_told_for_reading_and_for_writing() {
    let (_, router) = router();
    for (path, status) in
        [("/ready", 200), ("/ready?for=read", 200), ("/ready?for=write", 200), ("/ready?for=luck", 400)]
    {
        assert_eq!(ask(&router, "GET", path, "", "").await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn why_a_node_is_not_ready_is_told_by_its_kind_alone_to_who_has_no_key() {
    let (memory, router) = router();
    let reasons = ["/data/blobs is gone", "/data/index is gone"].map(|text| Reason::new("a folder", text));
    memory.reasons.lock().unwrap().extend(reasons);
    for (key, told) in [
        ("", "not whole: a folder"),
        ("unknown", "not whole: a folder"),
        ("away", "not whole: a folder"),
        ("viewer", "/data/blobs is gone; /data/index is gone"),
    ] {
        let answer = ask(&router, "GET", "/ready", key, "").await;
        assert_eq!(answer.status(), 503);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["detail"], told, "{key}");
    }
}
