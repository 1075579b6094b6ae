//! A request that waits for the end of an execution.

use omium_api::port::{Action, Executions as _, Role};
use serde_json::{Value, json};

use crate::engine::{MISSING, Served, caller};
use crate::routes::{ask, router, text};

const START: &str = r#"{"workflow": "loan-decision"}"#;

async fn asked(router: &axum::Router, method: &str, path: &str, body: &str) -> (u16, Value) {
    let response = ask(router, method, path, "developer", body).await;
    (response.status().as_u16(), serde_json::from_str(&text(response).await).unwrap())
}

/// Cancels the first execution, once there is one.
async fn cancel(engine: &Served) -> String {
    loop {
        let first = engine.0.streams.lock().unwrap().keys().next().cloned();
        if let Some(id) = first {
            engine.act(&caller(1, Role::Developer), &id, Action::Cancel, None).await.unwrap();
            return id;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_start_that_waits_is_answered_with_the_end() {
    let (memory, router) = router();
    let engine = Served(memory);
    let waits = asked(&router, "POST", "/api/v1/executions?wait_ms=60000", START);
    let ((status, started), id) = tokio::join!(waits, cancel(&engine));
    let ended = json!({ "status": "cancelled", "failure": null, "output": null });
    assert_eq!((status, started), (201, json!({ "id": id, "repeated": false, "ended": ended })));
}

#[tokio::test]
async fn a_start_whose_time_is_over_is_answered_without_an_end() {
    let (_, router) = router();
    let (status, started) = asked(&router, "POST", "/api/v1/executions?wait_ms=1", START).await;
    assert_eq!((status, started.get("ended")), (201, None), "{started}");
    assert!(started["id"].is_string(), "{started}");
}

#[tokio::test]
async fn a_look_can_wait_for_the_end_too() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    let engine = Served(memory);
    let path = format!("/api/v1/executions/{id}?wait_ms=60000");
    let ((status, shown), _) = tokio::join!(asked(&router, "GET", &path, ""), cancel(&engine));
    assert_eq!((status, &shown["status"]), (200, &json!("cancelled")));

    let (status, shown) = asked(&router, "GET", &path, "").await;
    assert_eq!((status, &shown["status"]), (200, &json!("cancelled")), "what has ended is not waited for");
}

#[tokio::test]
async fn nobody_waits_for_ever_or_for_nothing() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    for (method, path, body) in [
        ("POST", "/api/v1/executions?wait_ms=60001".to_owned(), START),
        ("GET", format!("/api/v1/executions/{id}?wait_ms=60001"), ""),
    ] {
        let (status, problem) = asked(&router, method, &path, body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("bad-wait")));
    }
    assert_eq!(memory.streams.lock().unwrap().len(), 1, "what is refused starts nothing");
    let (status, _) = asked(&router, "GET", &format!("/api/v1/executions/{MISSING}?wait_ms=60000"), "").await;
    assert_eq!(status, 404);
}
