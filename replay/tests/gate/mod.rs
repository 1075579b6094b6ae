//! An upstream that keeps every byte that it is sent, and a program's side of the gate.
#![allow(clippy::unwrap_used, dead_code, reason = "tests; not every one uses all of it")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::desk::Dev;

type Says = dyn Fn(&str) -> (u16, &'static str, String) + Send + Sync;

/// A model's server.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<(String, HeaderMap, String)>>>,
    says: Arc<Says>,
}

impl Upstream {
    /// Answers each body with a status, a content type and a body.
    pub(crate) async fn start(
        says: impl Fn(&str) -> (u16, &'static str, String) + Send + Sync + 'static,
    ) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let upstream = Upstream { url, asked: Arc::default(), says: Arc::new(says) };
        let router = Router::new().fallback(answer).with_state(upstream.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        upstream
    }

    /// The bodies that it was sent.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(.., body)| body.clone()).collect()
    }

    pub(crate) fn headers(&self, at: usize) -> HeaderMap {
        self.asked.lock().unwrap()[at].1.clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(path, ..)| path.clone()).collect()
    }
}

async fn answer(State(upstream): State<Upstream>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    upstream.asked.lock().unwrap().push((uri.path().to_owned(), headers, body.clone()));
    let (status, kind, said) = (upstream.says)(&body);
    let rate = [("content-type", kind), ("x-ratelimit-remaining", "41"), ("x-request-id", "req_7")];
    (StatusCode::from_u16(status).unwrap(), rate, said).into_response()
}

pub(crate) fn says(content: &str) -> (u16, &'static str, String) {
    // Odd spacing, an unknown field and a number that no double holds: all of it has to come through.
    let content = Value::from(content);
    let body = format!(
        r#"{{ "id":"c-1","big":9007199254740993, "choices":[{{"index":0,"message":{{"role":"assistant","content":{content}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":10,"completion_tokens":2}},"model":"m" }}"#
    );
    (200, "application/json", body)
}

/// A program as the gate sees it: one attempt at an execution.
pub(crate) struct Program {
    pub(crate) id: String,
    pub(crate) base: String,
    pub(crate) token: String,
    pub(crate) number: i64,
    pub(crate) client: reqwest::Client,
}

pub(crate) async fn api(dev: &Dev, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
    let (url, key) = dev.address();
    let request = reqwest::Client::new().request(method, format!("{url}/api/v1{path}")).bearer_auth(key);
    let response =
        request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

pub(crate) async fn post(dev: &Dev, path: &str, body: Value) -> (u16, Value) {
    api(dev, reqwest::Method::POST, path, body).await
}

impl Program {
    pub(crate) async fn open(dev: &Dev, recovery: &str) -> Program {
        let (status, opened) = post(dev, "/programs", json!({ "name": "crew", "recovery": recovery })).await;
        assert_eq!(status, 201, "{opened}");
        Program::attempt(dev, opened["id"].as_str().unwrap()).await
    }

    pub(crate) async fn attempt(dev: &Dev, id: &str) -> Program {
        let (status, attempt) = post(dev, &format!("/executions/{id}/attempts"), json!({})).await;
        assert_eq!(status, 201, "{attempt}");
        let text = |field: &str| attempt[field].as_str().unwrap().to_owned();
        let base = format!("{}{}", dev.address().0, text("path"));
        let number = attempt["number"].as_i64().unwrap();
        Program { id: id.to_owned(), base, token: text("token"), number, client: reqwest::Client::new() }
    }

    pub(crate) async fn send(&self, agent: &str, path: &str, body: &str) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let request = request.header("x-omium-step", agent).header("content-type", "application/json");
        request.body(body.to_owned()).send().await.unwrap()
    }

    /// Asks a model, and gives status and body.
    pub(crate) async fn asks(&self, agent: &str, body: &str) -> (u16, String) {
        let response = self.send(agent, "/v1/chat/completions", body).await;
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn tool(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.send("x", path, &body.to_string()).await;
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    pub(crate) async fn ends(&self, dev: &Dev, code: i32) -> Value {
        let body = json!({ "number": self.number, "code": code, "output": "done" });
        post(dev, &format!("/executions/{}/attempts/end", self.id), body).await.1
    }

    pub(crate) async fn shown(&self, dev: &Dev) -> Value {
        api(dev, reqwest::Method::GET, &format!("/executions/{}", self.id), Value::Null).await.1
    }
}

pub(crate) async fn served(upstream: &Upstream) -> Dev {
    let url = upstream.url.clone();
    tokio::task::spawn_blocking(move || Dev::start_as(&["dev", "--upstream", &url])).await.unwrap()
}
