//! A vendor of models that misbehaves: the name of the model says how.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::super::vendor::{After, Answers, Asked, say};
use super::texts;

/// How it misbehaves; any other model is answered well.
pub(crate) const MANNERS: &[&str] = &[
    "html",
    "empty",
    "cut-json",
    "error-200",
    "array",
    "null",
    "not-utf8",
    "lone-surrogate",
    "gzip",
    "created",
    "no-content",
    "status-999",
    "found",
    "moved",
    "throttled",
    "broken",
    "unavailable",
    "hints",
    "reset",
    "not-http",
    "negative-length",
    "two-lengths",
    "cut-length",
    "long-model",
    "many-choices",
    "many-numbers",
    "deep-closed",
    "deep-open",
    "deep-content",
    "huge-usage",
    "negative-usage",
    "huge-head",
    "endless-head",
    "endless-body",
    "endless-chunks",
    "sse-endless",
    "sse-one-event",
    "sse-cut",
    "sse-garbage",
    "sse-done-open",
    "cookies",
];

/// The model that answers well after some seconds.
pub(crate) const SLOW: &str = "slow";

/// The vendor, and how often each question came.
#[derive(Debug, Default)]
pub(crate) struct Rogue(Mutex<BTreeMap<String, u64>>);

impl Rogue {
    /// How often a question was asked that holds this text.
    pub(crate) fn asked(&self, text: &str) -> u64 {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(question, _)| question.contains(text)).map(|(_, times)| times).sum()
    }

    fn note(&self, question: &str) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *asked.entry(question.chars().take(80).collect()).or_default() += 1;
    }
}

impl Answers for Rogue {
    async fn answer(&self, asked: Asked, client: &mut TcpStream) -> anyhow::Result<After> {
        let body = asked.body().unwrap_or_default();
        let question = body["messages"].as_array().and_then(|all| all.last()).map(|last| &last["content"]);
        self.note(question.and_then(|question| question.as_str()).unwrap_or_default());
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        if !MANNERS.contains(&model.as_str()) {
            if model == SLOW {
                tokio::time::sleep(Duration::from_secs(8)).await;
            }
            say(client, "fine").await?;
            return Ok(After::KeepOpen);
        }
        misbehave(&model, client).await?;
        client.shutdown().await?;
        Ok(After::Close)
    }
}

async fn misbehave(model: &str, client: &mut TcpStream) -> anyhow::Result<()> {
    let whole = |status: &str, more: &str, body: &[u8]| whole(status, more, body);
    let good = completion("m", "fine");
    let bytes = match model {
        "html" => whole("200 OK", "", b"<html>502 Bad Gateway</html>"),
        "empty" => whole("200 OK", "", b""),
        "cut-json" => whole("200 OK", "", &good.as_bytes()[..good.len() / 2]),
        "error-200" => whole("200 OK", "", br#"{"error":{"message":"no","type":"server_error"}}"#),
        "array" => whole("200 OK", "", b"[]"),
        "null" => whole("200 OK", "", b"null"),
        "not-utf8" => whole("200 OK", "", b"{\"id\":\"\xff\xfe\"}"),
        "lone-surrogate" => whole("200 OK", "", completion("m", "X").replace('X', "\\ud800").as_bytes()),
        "gzip" => whole("200 OK", "content-encoding: gzip\r\n", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
        "created" => whole("201 Created", "", good.as_bytes()),
        "no-content" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "status-999" => whole("999 Strange", "", good.as_bytes()),
        "found" => whole("302 Found", "location: http://127.0.0.1:9/elsewhere\r\n", b""),
        "moved" => whole("307 Temporary Redirect", "location: http://localhost:9/elsewhere\r\n", b""),
        "throttled" => whole("429 Too Many Requests", "retry-after: 99999999999999999999\r\n", b"{}"),
        "broken" => whole("500 Internal Server Error", "", b"{\"error\":{\"message\":\"broken\"}}"),
        "unavailable" => whole("503 Service Unavailable", "retry-after: -1\r\n", b""),
        "hints" => [
            "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2_000).into_bytes(),
            whole("200 OK", "", good.as_bytes()),
        ]
        .concat(),
        "reset" => Vec::new(),
        "not-http" => b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        "negative-length" => b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello".to_vec(),
        "two-lengths" => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!".to_vec(),
        "cut-length" => b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"id\"".to_vec(),
        "long-model" => whole("200 OK", "", completion(&"z".repeat(600_000), "fine").as_bytes()),
        "many-choices" => whole("200 OK", "", choices(20_000).as_bytes()),
        "many-numbers" => whole("200 OK", "", completion("m", &numbers(30_000)).as_bytes()),
        "deep-closed" => whole("200 OK", "", texts::arrays(100_000, true).as_bytes()),
        "deep-open" => whole("200 OK", "", texts::arrays(100_000, false).as_bytes()),
        "deep-content" => whole("200 OK", "", completion("m", &texts::arrays(100_000, true)).as_bytes()),
        "huge-usage" => whole("200 OK", "", good.replace(":3", ":9000000000000000000").as_bytes()),
        "negative-usage" => whole("200 OK", "", good.replace(":3", ":-9000000000").as_bytes()),
        "huge-head" => whole("200 OK", &format!("x-long: {}\r\n", "h".repeat(2_000_000)), good.as_bytes()),
        "cookies" => {
            whole("200 OK", "set-cookie: a=b\r\naccess-control-allow-origin: *\r\n", good.as_bytes())
        }
        "sse-garbage" => {
            stream(b"\xef\xbb\xbfdata\ndata: {\r\n\r\nid: 5\n\n: :\ndata: []\n\ndata: [DONE]\n\n")
        }
        "sse-cut" => stream(b"data: {\"choices\":[{\"delta\":{\"content\":\"fi"),
        _ => return at_length(model, client).await,
    };
    Ok(client.write_all(&bytes).await?)
}

/// Those that do not end by themselves.
async fn at_length(model: &str, client: &mut TcpStream) -> anyhow::Result<()> {
    let (head, again) = match model {
        "endless-head" => ("HTTP/1.1 200 OK\r\n".to_owned(), format!("x-more: {}\r\n", "h".repeat(1 << 16))),
        "endless-body" => {
            ("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[".to_owned(), "1,".repeat(1 << 15))
        }
        "endless-chunks" => (CHUNKED.to_owned(), format!("10000\r\n{}\r\n", "[".repeat(1 << 16))),
        "sse-endless" => {
            (STREAM.to_owned(), format!("data: {}\n\n", completion("m", &"a".repeat(1 << 12))).repeat(16))
        }
        "sse-one-event" => (format!("{STREAM}data: "), "a".repeat(1 << 16)),
        _ => (format!("{STREAM}data: {}\n\ndata: [DONE]\n\n", delta()), String::new()),
    };
    client.write_all(head.as_bytes()).await?;
    // A gigabyte stands for no end at all.
    for _ in 0..if again.is_empty() { 0 } else { 1 << 14 } {
        client.write_all(again.as_bytes()).await?;
    }
    if again.is_empty() {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    Ok(())
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

fn stream(body: &[u8]) -> Vec<u8> {
    [STREAM.as_bytes(), body].concat()
}

fn whole(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn delta() -> String {
    json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "fine" }, "finish_reason": "stop" }] })
    .to_string()
}

fn completion(model: &str, text: &str) -> String {
    json!({ "id": "c", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6 } })
    .to_string()
}

fn choices(many: usize) -> String {
    let choice = r#"{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"},"#;
    let all = choice.repeat(many);
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{}]}}"#,
        all.trim_end_matches(',')
    )
}

fn numbers(many: usize) -> String {
    json!((0..many).collect::<Vec<_>>()).to_string()
}
