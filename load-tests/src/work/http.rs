//! Requests over one connection that stays open: what a load test can send by the thousand without becoming the load.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Larger answers than this are a mistake.
const MAX_ANSWER: usize = 64 << 20;

/// Where an Omium answers, and by which key.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) port: u16,
    pub(crate) key: String,
}

/// One connection to it.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    key: String,
}

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &Address) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", address.port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream), key: address.key.clone() })
    }

    /// Whatever the answer is; an error means that there was none.
    pub(crate) async fn ask(&mut self, request: &Request<'_>) -> anyhow::Result<Answer> {
        self.stream.get_mut().write_all(&request.bytes(&self.key)).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> anyhow::Result<Answer> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line).await? > 0, "the connection ended before the answer");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("`{}` is no answer", line.trim()))?;
        let mut length = None;
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line).await? > 0, "the answer's head was cut off");
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let length = length.context("the answer does not say how long it is")?;
        ensure!(length <= MAX_ANSWER, "an answer of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(Answer { status, body })
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(&Request::get(path)).await?.json()
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(&Request::post(path, body)).await?.json()
    }

    /// Publishes a workflow.
    pub(crate) async fn publish(&mut self, definition: &str) -> anyhow::Result<()> {
        let body = definition.as_bytes().to_vec();
        let request = Request {
            path: "/api/v1/workflows",
            kind: "application/yaml",
            body: Some(body),
            idempotency: None,
        };
        self.ask(&request).await?.json().map(drop)
    }

    /// Starts an execution and says its id.
    pub(crate) async fn start(&mut self, workflow: &str, run: usize) -> anyhow::Result<String> {
        let body = json!({ "workflow": workflow, "inputs": { "run": run } });
        let started = self.post("/api/v1/executions", &body).await?;
        Ok(started["id"].as_str().context("a started execution has an id")?.to_owned())
    }

    /// Completes a step that waits for a human.
    pub(crate) async fn signal(&mut self, id: &str, name: &str) -> anyhow::Result<()> {
        let body = json!({ "name": name, "body": {} });
        self.post(&format!("/api/v1/executions/{id}/signal"), &body).await.map(drop)
    }
}

/// A request: with a body it is a POST.
pub(crate) struct Request<'a> {
    pub(crate) path: &'a str,
    /// What the body is.
    pub(crate) kind: &'a str,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) idempotency: Option<String>,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a str) -> Request<'a> {
        Request { path, kind: "", body: None, idempotency: None }
    }

    pub(crate) fn post(path: &'a str, body: &Value) -> Request<'a> {
        let body = Some(body.to_string().into_bytes());
        Request { path, kind: "application/json", body, idempotency: None }
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        let method = if self.body.is_some() { "POST" } else { "GET" };
        let body = self.body.as_deref().unwrap_or_default();
        let mut head = format!(
            "{method} {} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n",
            self.path,
            body.len()
        );
        if self.body.is_some() {
            head.push_str(&format!("content-type: {}\r\n", self.kind));
        }
        if let Some(key) = &self.idempotency {
            head.push_str(&format!("idempotency-key: {key}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

impl Answer {
    pub(crate) fn good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        if !self.good() {
            bail!("Omium answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(serde_json::from_slice(&self.body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_how_long_it_is_and_who_asks() {
        let idempotency = Some("run-1".to_owned());
        let request = Request { idempotency, ..Request::post("/x", &json!({})) };
        assert_eq!(
            String::from_utf8(request.bytes("om_1")).expect("it is text"),
            "POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer om_1\r\ncontent-length: 2\r\ncontent-type: application/json\r\nidempotency-key: run-1\r\n\r\n{}"
        );
    }
}
