//! A listener as strangers and callers meet it, over real sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use bytes::Bytes;
use omium_edge::{Limits, Server, Slot, Stop, Unread, read_body};
use omium_schemas::TenantId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const GOOD: &str = "Bearer good";

/// Answers how long the body is, to those who have the key.
async fn counted(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let slot = parts.extensions.get::<Slot>();
    if parts.headers.get(header::AUTHORIZATION).is_none_or(|key| key != GOOD) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let tenant = TenantId([if parts.uri.query() == Some("other") { 2 } else { 1 }; 16]);
    if let Err(refusal) = slot.expect("the listener gives one").belongs_to(tenant) {
        return (refusal.status, refusal.code).into_response();
    }
    match read_body(slot, body, 1 << 20).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(Unread::TooLong) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(Unread::TooSlow) => StatusCode::REQUEST_TIMEOUT.into_response(),
        Err(Unread::NoRoom) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(Unread::Broken(_)) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(300)).await;
    "done"
}

async fn long() -> Response {
    Body::from(Bytes::from(vec![b'x'; 8 << 20])).into_response()
}

struct Node {
    address: SocketAddr,
    stop: Stop,
    serving: tokio::task::JoinHandle<usize>,
}

async fn node(limits: Limits) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router =
        Router::new().route("/counted", any(counted)).route("/slow", any(slow)).route("/long", any(long));
    let stop = Stop::default();
    let server = Server::new(listener, router, limits, stop.clone()).unwrap();
    Node { address, stop, serving: tokio::spawn(server.run()) }
}

fn limits() -> Limits {
    Limits {
        connections: 40,
        head: Duration::from_millis(300),
        idle: Duration::from_secs(60),
        stall: Duration::from_millis(300),
        body: Duration::from_millis(200),
        ..Limits::default()
    }
}

impl Node {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the other side closes or says nothing for a while.
    async fn told(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        heard(&mut stream).await
    }
}

async fn heard(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut part)).await
    {
        text.extend_from_slice(&part[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Asks on a connection that is kept, as a caller does.
async fn asks(stream: &mut TcpStream, key: &str) -> String {
    let request = format!(
        "POST /counted HTTP/1.1\r\nhost: localhost\r\nauthorization: {key}\r\ncontent-length: 2\r\n\r\nhi"
    );
    if stream.write_all(request.as_bytes()).await.is_err() {
        return String::new();
    }
    let mut part = [0; 1024];
    let count = stream.read(&mut part).await.unwrap_or(0);
    String::from_utf8_lossy(&part[..count]).into_owned()
}

/// Whether the other side has closed within some time.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut part = [0; 65536];
    let read = async {
        loop {
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(within, read).await.is_ok()
}

#[tokio::test]
async fn callers_are_served_whatever_strangers_open() {
    let node = node(Limits { head: Duration::from_secs(10), ..limits() }).await;
    let mut old = node.connect().await;
    assert!(asks(&mut old, GOOD).await.starts_with("HTTP/1.1 200"));
    let mut strangers = Vec::new();
    for count in 0..200 {
        let mut stranger = node.connect().await;
        if count % 2 == 0 {
            let _ = stranger.write_all(b"POST /counted HTTP/1.1\r\nhost: local").await;
        }
        strangers.push(stranger);
    }
    let began = Instant::now();
    assert!(asks(&mut old, GOOD).await.starts_with("HTTP/1.1 200"));
    assert!(asks(&mut node.connect().await, GOOD).await.starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(is_closed(&mut strangers[0], Duration::from_secs(2)).await, "the oldest stranger yields");
}

#[tokio::test]
async fn where_all_are_callers_another_one_is_told_to_come_back() {
    let node = node(Limits { connections: 5, ..limits() }).await;
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut caller = node.connect().await;
        assert!(asks(&mut caller, GOOD).await.starts_with("HTTP/1.1 200"));
        callers.push(caller);
    }
    let refused = heard(&mut node.connect().await).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    for caller in &mut callers {
        assert!(asks(caller, GOOD).await.starts_with("HTTP/1.1 200"));
    }
    drop(callers);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(asks(&mut node.connect().await, GOOD).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_tenant_cannot_hold_all_connections() {
    let node = node(Limits { connections_of_tenant: 3, ..limits() }).await;
    let other = format!("POST /counted?other HTTP/1.1\r\nhost: localhost\r\nauthorization: {GOOD}\r\n\r\n");
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = node.connect().await;
        assert!(asks(&mut caller, GOOD).await.starts_with("HTTP/1.1 200"));
        callers.push(caller);
    }
    let mut more = node.connect().await;
    let refused = asks(&mut more, GOOD).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.ends_with("too-many-connections"), "{refused}");
    assert!(is_closed(&mut more, Duration::from_millis(200)).await, "and is closed at once");
    assert!(asks(&mut callers[0], GOOD).await.starts_with("HTTP/1.1 200"), "those that it has go on");
    assert!(node.told(other.as_bytes()).await.starts_with("HTTP/1.1 200"), "others have room");
    drop(callers.pop());
    let began = Instant::now();
    while !asks(&mut node.connect().await, GOOD).await.starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < Duration::from_secs(5), "one that is gone leaves its place");
    }
}

#[tokio::test]
async fn who_says_nothing_or_half_a_head_is_closed() {
    let node = node(limits()).await;
    let (mut silent, mut half, mut caller) =
        (node.connect().await, node.connect().await, node.connect().await);
    half.write_all(b"GET /counted HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    let mut refused = node.connect().await;
    assert!(asks(&mut refused, "Bearer bad").await.starts_with("HTTP/1.1 401"));
    assert!(asks(&mut caller, GOOD).await.starts_with("HTTP/1.1 200"));
    for stranger in [&mut silent, &mut half, &mut refused] {
        assert!(is_closed(stranger, Duration::from_secs(2)).await);
    }
    assert!(asks(&mut caller, GOOD).await.starts_with("HTTP/1.1 200"), "a caller may rest");
    caller.write_all(b"GET /counted HTTP/1.1\r\n").await.unwrap();
    assert!(is_closed(&mut caller, Duration::from_secs(2)).await, "and has to end what it begins");
}

#[tokio::test]
async fn a_body_is_asked_for_only_of_those_with_a_key() {
    let node = node(limits()).await;
    let head =
        "POST /counted HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 900000\r\n";
    let stranger = node.told(format!("{head}\r\n").as_bytes()).await;
    assert!(stranger.starts_with("HTTP/1.1 401"), "{stranger}");
    let caller = node.told(format!("{head}authorization: {GOOD}\r\n\r\n").as_bytes()).await;
    assert!(caller.starts_with("HTTP/1.1 100") && caller.contains("HTTP/1.1 408"), "{caller}");
}

#[tokio::test]
async fn bodies_have_room_together_and_give_it_back() {
    let node = node(Limits { incoming: 256 << 10, rate: 1 << 20, ..limits() }).await;
    let head = |length: usize| {
        format!(
            "POST /counted HTTP/1.1\r\nhost: localhost\r\nauthorization: {GOOD}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut first = node.connect().await;
    first.write_all(head(240 << 10).as_bytes()).await.unwrap();
    first.write_all(&vec![b'x'; 200 << 10]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let whole = [head(100 << 10).as_bytes(), &vec![b'x'; 100 << 10]].concat();
    assert!(node.told(&whole).await.starts_with("HTTP/1.1 503"));
    assert!(heard(&mut first).await.starts_with("HTTP/1.1 408"), "what comes too slowly is let go of");
    assert!(node.told(&whole).await.starts_with("HTTP/1.1 200"));
    assert!(node.told(head(2 << 20).as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed_and_leaves_its_room_to_others() {
    let node = node(Limits { outgoing: 9 << 20, ..limits() }).await;
    let get = b"GET /long HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut lazy = node.connect().await;
    lazy.write_all(get).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.told(get).await.starts_with("HTTP/1.1 503"), "the room is taken");
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut reader = node.connect().await;
    reader.write_all(get).await.unwrap();
    assert!(heard(&mut reader).await.len() > 8 << 20);
}

#[tokio::test]
async fn a_window_of_nothing_is_a_reader_that_takes_nothing() {
    let node = node(limits()).await;
    let mut lazy = node.connect().await;
    let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4][..], &[0; 4]].concat();
    // GET /slow http localhost, from HPACK's static table where it has them.
    let block = [b"\x82\x86\x04\x05/long\x41\x09localhost".as_slice()].concat();
    let head = [&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1], block.as_slice()].concat();
    let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings, &head].concat();
    lazy.write_all(&all).await.unwrap();
    assert!(is_closed(&mut lazy, Duration::from_secs(3)).await);
}

#[tokio::test]
async fn what_is_in_flight_ends_and_nothing_new_is_taken() {
    let node = node(limits()).await;
    let mut caller = node.connect().await;
    assert!(asks(&mut caller, GOOD).await.starts_with("HTTP/1.1 200"));
    let mut slow = node.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.stop.begin();
    assert!(asks(&mut caller, GOOD).await.starts_with("HTTP/1.1 503"));
    assert!(asks(&mut node.connect().await, GOOD).await.contains("stopping"));
    assert!(heard(&mut slow).await.ends_with("done"));
    assert_eq!(node.serving.await.unwrap(), 0);
}

#[tokio::test]
async fn a_second_word_waits_for_nothing() {
    let node = node(limits()).await;
    let mut slow = node.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.stop.begin();
    node.stop.now();
    assert_eq!(node.serving.await.unwrap(), 1);
}

#[tokio::test]
async fn other_names_are_not_ours() {
    let node = node(limits()).await;
    assert!(node.told(b"GET /slow HTTP/1.1\r\nhost: evil.example\r\n\r\n").await.starts_with("HTTP/1.1 421"));
    assert!(
        node.told(b"GET /slow HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    assert!(
        node.told(b"GET http://evil.example/slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 421")
    );
}
