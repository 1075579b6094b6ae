//! Events as they happen: taken up anywhere, by server-sent events and by WebSocket.

use axum::body::Body;
use axum::http::Request;
use omium_api::port::Role;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tower::ServiceExt as _;

use crate::client::{LONG, Server, serve};
use crate::engine::caller;
use crate::routes::router;

#[tokio::test]
async fn server_sent_events_go_on_after_the_last_one_that_was_seen() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    memory.say(&id, "Second", json!(2));
    let request = Request::get(format!("/api/v1/executions/{id}/events"))
        .header("authorization", "Bearer viewer")
        .header("accept", "text/event-stream")
        .header("last-event-id", "1")
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut seen = String::new();
    while !seen.contains("id: 2") {
        seen += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(seen.contains("event: Second") && !seen.contains("id: 1"), "{seen}");
    memory.say(&id, "Third", json!(3));
    while !seen.contains("id: 3") {
        seen += std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap();
    }
    assert!(seen.contains(r#""body":3"#), "{seen}");
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn socket(server: &Server, id: &str, query: &str, key: Option<&str>) -> Result<Socket, Error> {
    let url = format!("ws://{}/api/v1/executions/{id}/stream?{query}", server.address);
    let mut request = url.into_client_request().unwrap();
    if let Some(key) = key {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

async fn seq(socket: &mut Socket) -> u64 {
    let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("events are texts") };
    serde_json::from_str::<Value>(&text).unwrap()["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn a_websocket_goes_on_from_any_seq_and_with_what_happens() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    for at in 2..=4 {
        server.memory.say(&id, "More", json!(at));
    }
    let mut whole = socket(&server, &id, "", Some("viewer")).await.unwrap();
    for at in 1..=4 {
        assert_eq!(seq(&mut whole).await, at);
    }
    // A browser cannot set headers, so there the key stands in the address.
    let mut later = socket(&server, &id, "from=4&key=viewer", None).await.unwrap();
    assert_eq!(seq(&mut later).await, 4);
    server.memory.say(&id, "More", json!(5));
    assert_eq!((seq(&mut whole).await, seq(&mut later).await), (5, 5));
}

#[tokio::test]
async fn a_websocket_needs_a_key_and_shows_a_tenant_its_own_executions_only() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    for (key, status) in [(None, 401), (Some("nobody"), 401), (Some("foreign"), 404)] {
        let refused = socket(&server, &id, "", key).await;
        let Err(Error::Http(response)) = refused else { panic!("{key:?} is not refused: {refused:?}") };
        assert_eq!(response.status(), status, "{key:?}");
    }
}

async fn said(socket: &mut Socket) -> Value {
    let Message::Text(text) = socket.next().await.unwrap().unwrap() else { panic!("what is said are texts") };
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn parts_of_an_answer_come_after_the_event_that_asks_and_without_a_seq() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut along = socket(&server, &id, "", Some("viewer")).await.unwrap();
    let mut without = socket(&server, &id, "deltas=false", Some("viewer")).await.unwrap();
    assert_eq!((seq(&mut along).await, seq(&mut without).await), (1, 1));
    // The part is there before the event that it belongs to has been heard of.
    server.memory.part(&id, 2, 0, "Dear ");
    server.memory.say(&id, "LlmCallStarted", json!({}));
    assert_eq!(seq(&mut along).await, 2);
    let part = said(&mut along).await;
    assert_eq!(part, json!({"kind": "delta", "call": 2, "step": 1, "at": 0, "text": "Dear "}));
    server.memory.part(&id, 2, 5, "customer");
    assert_eq!(said(&mut along).await["at"], 5);
    server.memory.say(&id, "LlmCallCompleted", json!({}));
    assert_eq!((seq(&mut along).await, seq(&mut without).await), (3, 2));
    assert_eq!(seq(&mut without).await, 3);
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_key_was_revoked() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut listener = socket(&server, &id, "", Some("viewer")).await.unwrap();
    let mut other = socket(&server, &id, "", Some("developer")).await.unwrap();
    assert_eq!((seq(&mut listener).await, seq(&mut other).await), (1, 1));
    server.memory.revoked.lock().unwrap().insert("Viewer".to_owned());
    let Message::Close(Some(close)) = listener.next().await.unwrap().unwrap() else { panic!("it is closed") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "the key was revoked or is too old"));
    server.memory.say(&id, "More", json!(2));
    assert_eq!(seq(&mut other).await, 2, "another key's stream goes on");
}

#[tokio::test]
async fn server_sent_events_say_why_they_end() {
    let (memory, router) = router();
    let id = memory.started(&caller(1, Role::Developer));
    let request = Request::get(format!("/api/v1/executions/{id}/events"))
        .header("authorization", "Bearer viewer")
        .header("accept", "text/event-stream")
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    memory.revoked.lock().unwrap().insert("Viewer".to_owned());
    let whole = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&whole);
    let end = r#"{"from":null,"reason":"the key was revoked or is too old"}"#;
    assert!(text.ends_with(&format!("event: end\ndata: {end}\n\n")), "{text}");
}
