//! What the listener and the API bound together: bodies of strangers, readers that do not read, the end of a node.

use std::time::Duration;

use omium_api::port::Role;
use omium_edge::Limits;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;
use tonic::Code;

use crate::client::{LONG, Server, serve, serve_within};
use crate::engine::caller;

async fn told(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    heard(&mut stream).await
}

async fn heard(stream: &mut TcpStream) -> String {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut part)).await
    {
        text.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_strangers_body_is_not_asked_for_on_any_route() {
    let server = serve(LONG).await;
    for path in
        ["/api/v1/executions", "/api/v1/workflows", "/api/v1/programs", "/api/v1/executions/ex_1/signal"]
    {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer nobody\r\nexpect: 100-continue\r\n\
             content-length: 15000000\r\n\r\n"
        );
        let said = told(&server, head.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 401"), "{path}: {said}");
    }
    // The same over gRPC, where what decodes messages comes before our own code.
    for path in ["/omium.v1.Checkpoints/Create", "/omium.v1.Workers/Work"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\nexpect: 100-continue\r\n\
             content-length: 15000000\r\n\r\n"
        );
        let said = told(&server, head.as_bytes()).await;
        let unauthenticated = format!("grpc-status: {}", Code::Unauthenticated as i32);
        assert!(said.contains(&unauthenticated) && !said.contains("100 Continue"), "{path}: {said}");
    }
}

#[tokio::test]
async fn a_socket_takes_nothing_long_from_its_client() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let head = format!(
        "GET /api/v1/executions/{id}/stream?key=viewer HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // Fragments of one message without an end: a first one, and then continuations.
    let fragment = |first: bool| {
        let mut bytes = vec![u8::from(first), 0x80 | 126, 0x3f, 0xff, 0, 0, 0, 0];
        bytes.resize(8 + 0x3fff, b'x');
        bytes
    };
    let mut sent = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) && stream.write_all(&fragment(sent == 0)).await.is_ok() {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(sent < 200, "{sent} fragments of 16 KiB were taken");
}

#[tokio::test]
async fn what_waits_for_a_reader_has_a_bound_in_bytes() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    for _ in 0..60 {
        server.memory.say(&id, "More", json!("x".repeat(200_000)));
    }
    let url = format!("ws://{}/api/v1/executions/{id}/stream?key=viewer", server.address);
    let (mut reader, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut count = 0;
    while let Ok(Some(Ok(Message::Text(_)))) =
        tokio::time::timeout(Duration::from_secs(2), reader.next()).await
    {
        count += 1;
    }
    assert_eq!(count, 61, "whoever reads gets all of it");
}

#[tokio::test]
async fn who_does_not_read_makes_room_for_who_does_and_is_told_where_to_go_on() {
    let limits = Limits { following_of_tenant: 900 << 10, ..Limits::default() };
    let server = serve_within(LONG, limits).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    for _ in 0..60 {
        server.memory.say(&id, "More", json!("x".repeat(200_000)));
    }
    let url = format!("ws://{}/api/v1/executions/{id}/stream?key=viewer", server.address);
    let (mut lazy, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    // It has taken nothing for a while, so that it is behind when somebody else wants room.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut reader, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for at in 1..=61 {
        let said = tokio::time::timeout(Duration::from_secs(20), reader.next()).await.unwrap();
        assert!(matches!(said, Some(Ok(Message::Text(_)))), "{at}: {said:?}");
    }
    let mut count = 0;
    let close = loop {
        match tokio::time::timeout(Duration::from_secs(5), lazy.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(_) => count += 1,
            Message::Close(close) => break close.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(count < 61, "what waited for it was let go");
    assert_eq!(u16::from(close.code), 1013);
    assert!(close.reason.ends_with(&format!("go on from {}", count + 1)), "{close} after {count}");
}

#[tokio::test]
async fn followers_are_told_at_once_when_the_node_stops() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let get = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer viewer\r\n{more}\r\n")
            .into_bytes()
    };
    let events = get(&format!("/api/v1/executions/{id}/events"), "accept: text/event-stream\r\n");
    let waits = get(&format!("/api/v1/executions/{id}?wait_ms=60000"), "");
    let mut streams = Vec::new();
    for request in [events, waits] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&request).await.unwrap();
        streams.push(stream);
    }
    let other = serve(LONG).await;
    let mut worker = other.worker("s").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    server.stop.begin();
    other.stop.begin();
    let (mut waits, mut follows) = (streams.pop().unwrap(), streams.pop().unwrap());
    let (follows, waited) = tokio::join!(heard(&mut follows), heard(&mut waits));
    assert!(follows.starts_with("HTTP/1.1 200") && waited.starts_with("HTTP/1.1 200"));
    assert_eq!(worker.heard().await.unwrap_err().code(), Code::Unavailable);
    server.ended().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
