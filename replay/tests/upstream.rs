//! A model's server that misbehaves, byte for byte: what the log says of it and what its client gets are the same.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;
mod gate;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use desk::Dev;
use gate::Program;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers each request with the bytes that are given, and leaves the connection open.
struct Raw {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    async fn start(says: impl Fn(&str) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (says, kept) = (Arc::new(says), heads.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, says.clone(), kept.clone()));
            }
        });
        Raw { url, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: TcpStream,
    says: Arc<impl Fn(&str) -> Vec<Vec<u8>> + ?Sized>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let (mut read, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let Ok(count @ 1..) = stream.read(&mut part).await else { return };
        read.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        heads.lock().unwrap().push(head.to_owned());
        for part in says(&text) {
            if stream.write_all(&part).await.is_err() {
                return;
            }
        }
        read.clear();
    }
}

async fn served(upstream: &Raw) -> Dev {
    let url = upstream.url.clone();
    tokio::task::spawn_blocking(move || Dev::start_as(&["dev", "--upstream", &url])).await.unwrap()
}

fn good() -> String {
    r#"{"id":"c","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#.to_owned()
}

fn with_head(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

fn ask(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"q {model}"}}]}}"#)
}

async fn statuses(program: &Program, dev: &Dev) -> Vec<String> {
    let shown = program.shown(dev).await;
    let calls = shown["steps"][0]["calls"].as_array().unwrap().clone();
    calls.iter().map(|call| call["status"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_a_failed_call_for_the_log_and_for_the_client() {
    let statuses_of_none =
        ["201 Created", "204 No Content", "202 Accepted", "302 Found", "307 Temporary Redirect", "999 What"];
    let upstream = Raw::start(move |request| {
        let status =
            statuses_of_none.iter().find(|status| request.contains(&format!("\"{}\"", &status[..3])));
        let Some(status) = status else {
            return vec![with_head(
                "200 OK",
                "content-type: application/json\r\ncontent-encoding: gzip\r\n",
                "x",
            )];
        };
        let length = if status.starts_with("204") { "" } else { &good() };
        vec![with_head(
            status,
            "content-type: application/json\r\nlocation: http://127.0.0.1:1/v1\r\n",
            length,
        )]
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    for status in statuses_of_none.iter().map(|status| &status[..3]).chain(["gzip"]) {
        let response = program.send("Writer", "/v1/chat/completions", &ask(status)).await;
        assert_eq!(response.status(), 502, "{status}");
        assert!(response.headers().get("location").is_none());
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "no-answer", "{status}");
    }
    assert!(statuses(&program, &dev).await.iter().all(|status| status == "failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_pass_in_both_directions_by_name_alone() {
    let headers = "content-type: application/json\r\nset-cookie: a=b\r\naccess-control-allow-origin: *\r\n\
         x-omium-recorded: 7\r\nstrict-transport-security: max-age=9\r\nalt-svc: h3=\":1\"\r\nx-request-id: r7\r\n\
         x-ratelimit-remaining-tokens: 4\r\n";
    let upstream = Raw::start(move |_| vec![with_head("200 OK", headers, &good())]).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let request =
        program.client.post(format!("{}/v1/chat/completions", program.base)).bearer_auth(&program.token);
    let request = request
        .header("x-omium-step", "Writer")
        .header("cookie", "c=d")
        .header("te", "trailers")
        .header("x-forwarded-for", "10.0.0.1")
        .header("openai-organization", "org")
        .header("x-stainless-lang", "python");
    let response = request.body(ask("m")).send().await.unwrap();
    let got: Vec<&str> = response.headers().keys().map(|name| name.as_str()).collect();
    for name in [
        "set-cookie",
        "access-control-allow-origin",
        "x-omium-recorded",
        "strict-transport-security",
        "alt-svc",
    ] {
        assert!(!got.contains(&name), "{name} in {got:?}");
    }
    assert!(got.contains(&"x-request-id") && got.contains(&"x-ratelimit-remaining-tokens"), "{got:?}");
    let head = upstream.heads()[0].to_lowercase();
    for name in ["cookie:", "\r\nte:", "x-forwarded-for", "x-omium-step", &program.token] {
        assert!(!head.contains(name), "{name} in {head}");
    }
    assert!(head.contains("openai-organization: org") && head.contains("x-stainless-lang: python"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_models_can_be_read_below_the_address() {
    let upstream =
        Raw::start(|_| vec![with_head("200 OK", "content-type: application/json\r\n", "{}")]).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let address = dev.address().0.trim_start_matches("http://").to_owned();
    let raw = async |target: String| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            program.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text[9..12].parse::<u16>().unwrap()
    };
    let base = format!("/x/{}/v1/models", program.id);
    for good in ["", "/gpt-4.1", "/org/name:free", "/org%2Fname"] {
        assert_eq!(raw(format!("{base}{good}")).await, 200, "{good}");
    }
    for bad in [
        "/..",
        "/../../key/list",
        "/..%2F..%2Fkey%2Flist",
        "/%2e%2e/files",
        "/a/../../files",
        "/a%3Fb=c",
        "/a%23b",
        "/a%5C..%5Cb",
        "/%00",
        "/a%0d%0ab",
        "/",
        "//files",
        "/a//b",
        "/.",
        "/a%25%32%46b",
        "/a;b",
    ] {
        assert_eq!(raw(format!("{base}{bad}")).await, 404, "{bad}");
        assert_eq!(raw(format!("http://{address}{base}{bad}")).await, 404, "{bad} in absolute form");
    }
    let lines: Vec<String> =
        upstream.heads().iter().map(|head| head.lines().next().unwrap().to_owned()).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/models HTTP/1.1",
            "GET /v1/models/gpt-4.1 HTTP/1.1",
            "GET /v1/models/org%2Fname:free HTTP/1.1",
            "GET /v1/models/org%2Fname HTTP/1.1"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_models_has_an_end() {
    let upstream = Raw::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec();
        std::iter::once(head).chain((0..40).map(|_| vec![b'['; 1 << 20])).collect()
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let get = program.client.get(format!("{}/v1/models", program.base)).bearer_auth(&program.token);
    assert_eq!(get.send().await.unwrap().status(), 502);
}

fn chunk(text: &str) -> String {
    format!(
        "data: {{\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

const STOP: &str =
    "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_vec()
}

fn ask_stream(model: &str) -> String {
    format!(r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"q"}}]}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_over_when_it_says_so_and_not_when_its_connection_ends() {
    let upstream = Raw::start(|_| {
        let said = format!("{}{STOP}data: [DONE]\n\n", chunk("hello"));
        vec![stream_head(), said.into_bytes()]
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let began = Instant::now();
    let (status, text) = program.asks("Writer", &ask_stream("m")).await;
    assert!(status == 200 && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(statuses(&program, &dev).await, ["answered"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_instead_of_an_end_stands_in_the_log() {
    let upstream = Raw::start(|_| {
        let said =
            format!("{}data: {{\"error\":{{\"message\":\"out of luck\",\"code\":null}}}}\n\n", chunk("hel"));
        let mut whole = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
            said.len()
        );
        whole.push_str(&said);
        vec![whole.into_bytes()]
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let response = program.send("Writer", "/v1/chat/completions", &ask_stream("m")).await;
    assert!(response.text().await.is_err(), "half an answer has no end");
    let events = dev.says(&["logs", &program.id, "--json"]);
    assert!(events.contains("out of luck"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_does_not_hold_its_call() {
    let upstream = Raw::start(|_| {
        let part = chunk(&"x".repeat(60_000));
        let parts = (0..300).map(|_| part.clone().into_bytes());
        std::iter::once(stream_head())
            .chain(parts)
            .chain([format!("{STOP}data: [DONE]\n\n").into_bytes()])
            .collect()
    })
    .await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let body = ask_stream("m");
    let mut lazy = TcpStream::connect(dev.address().0.trim_start_matches("http://")).await.unwrap();
    let path = program.base.strip_prefix(&dev.address().0).unwrap();
    let head = format!(
        "POST {path}/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\nx-omium-step: Writer\r\ncontent-length: {}\r\n\r\n{body}",
        program.token,
        body.len()
    );
    lazy.write_all(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    while statuses(&program, &dev).await != ["answered"] {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", statuses(&program, &dev).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (mut text, mut part) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_secs(10), lazy.read(&mut part)).await
    {
        text.extend_from_slice(&part[..count]);
    }
    assert!(
        !String::from_utf8_lossy(&text).contains("[DONE]"),
        "half an answer must not look like a whole one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_refuses_in_the_form_of_the_api_that_was_spoken_to() {
    let upstream = Raw::start(|_| Vec::new()).await;
    let dev = served(&upstream).await;
    let program = Program::open(&dev, "auto").await;
    let send = async |method: reqwest::Method, path: &str, body: Vec<u8>| {
        let request =
            program.client.request(method, format!("{}{path}", program.base)).bearer_auth(&program.token);
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let said: Value = response.json().await.unwrap();
        (status, said["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    for (method, path, body, status, code) in [
        (&get, "/v1/chat/completions", Vec::new(), 405, "wrong-method"),
        (&post, "/v1/models", Vec::new(), 405, "wrong-method"),
        (&get, "/tools", Vec::new(), 405, "wrong-method"),
        (&post, "/v1/chat/completions", vec![b' '; (32 << 20) + 1], 413, "too-large"),
        (&post, "/v1/files", Vec::new(), 404, "unknown-operation"),
        (&post, "/nowhere", Vec::new(), 404, "unknown-operation"),
    ] {
        assert_eq!(send(method.clone(), path, body).await, (status, code.to_owned()), "{method} {path}");
    }
}
