//! One thing that an enemy does, and what the node says to it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::http::{Address, Connection};

/// Whoever has not answered by then hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer no more is looked at.
const KEPT: usize = 16 << 20;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Nobody,
    Viewer,
    Developer,
    Admin,
    /// By the token of an attempt at a program.
    Attempt,
}

/// A request. `{gate}` and `{execution}` in its path are those of the program.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) by: By,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// More lines of the head.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// One thing that is done to the node.
#[derive(Clone, Debug)]
pub(crate) enum Blow {
    Ask(Ask),
    /// The same request over so many connections at once.
    Many(Ask, usize),
    /// A workflow, published and started.
    Run {
        definition: String,
        inputs: String,
    },
    /// These bytes over so many connections, which then stay open for a while.
    Hold {
        bytes: Vec<u8>,
        connections: usize,
        hold: Duration,
    },
}

/// What the node said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    /// None where the connection was cut off.
    pub(crate) status: Option<u16>,
    pub(crate) hung: bool,
    /// An execution that neither ended nor waits for anybody.
    pub(crate) stuck: bool,
    pub(crate) body: Vec<u8>,
}

/// Whom it is done to: the node, the keys of all roles, a program with an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) address: Address,
    pub(crate) viewer: String,
    pub(crate) developer: String,
    token: String,
    gate: String,
    number: i64,
    pub(crate) execution: String,
}

impl Field {
    pub(crate) async fn open(address: &Address) -> anyhow::Result<Field> {
        let mut connection = Connection::open(address).await?;
        let viewer = text(&connection.post("/api/v1/keys", &json!({ "role": "viewer" })).await?, "bearer")?;
        let developer =
            text(&connection.post("/api/v1/keys", &json!({ "role": "developer" })).await?, "bearer")?;
        let none = String::new;
        let (address, token, gate, execution) = (address.clone(), none(), none(), none());
        let mut field = Field { address, viewer, developer, token, gate, number: 0, execution };
        field.begin().await?;
        Ok(field)
    }

    /// Another program: what was done to the last one does not count for the next case.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        let mut connection = Connection::open(&self.address).await?;
        let program =
            connection.post("/api/v1/programs", &json!({ "name": "desk", "arguments": ["desk"] })).await?;
        self.execution = text(&program, "id")?;
        let path = format!("/api/v1/executions/{}/attempts", self.execution);
        let attempt = connection.post(&path, &json!({ "code": "desk" })).await?;
        self.number = attempt["number"].as_i64().context("an attempt has a number")?;
        (self.token, self.gate) = (text(&attempt, "token")?, text(&attempt, "path")?);
        Ok(())
    }

    fn bytes(&self, ask: &Ask) -> Vec<u8> {
        let path = ask.path.replace("{gate}", &self.gate).replace("{execution}", &self.execution);
        let key = match ask.by {
            By::Nobody => "",
            By::Viewer => &self.viewer,
            By::Developer => &self.developer,
            By::Admin => &self.address.key,
            By::Attempt => &self.token,
        };
        let mut head = format!("{} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n", ask.method);
        if !key.is_empty() {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        if !ask.head.contains("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", ask.body.len()));
        }
        if !ask.head.contains("content-type") {
            head.push_str("content-type: application/json\r\n");
        }
        [head.as_bytes(), ask.head.as_bytes(), b"\r\n", &ask.body].concat()
    }

    /// Does it, and waits for what becomes of it.
    pub(crate) async fn strike(&self, blow: &Blow) -> Vec<Came> {
        match blow {
            Blow::Ask(ask) => vec![self.ask(ask).await],
            Blow::Many(ask, times) => self.many(ask, *times).await,
            Blow::Run { definition, inputs } => self.run(definition, inputs).await,
            Blow::Hold { bytes, connections, hold } => {
                let held = self.hold(bytes, *connections).await;
                tokio::time::sleep(*hold).await;
                drop(held);
                Vec::new()
            }
        }
    }

    pub(crate) async fn ask(&self, ask: &Ask) -> Came {
        self.ask_within(ask, PATIENCE).await
    }

    /// The same by a client that waits for so long.
    pub(crate) async fn ask_within(&self, ask: &Ask, patience: Duration) -> Came {
        let answered = exchange(self.address.port, self.bytes(ask));
        match tokio::time::timeout(patience, answered).await {
            Err(_) => Came { hung: true, ..Came::default() },
            Ok(Err(_)) => Came::default(),
            Ok(Ok((status, body))) => Came { status: Some(status), body, ..Came::default() },
        }
    }

    pub(crate) async fn many(&self, ask: &Ask, times: usize) -> Vec<Came> {
        let one = |_| {
            let (field, ask) = (self.clone(), ask.clone());
            tokio::spawn(async move { field.ask(&ask).await })
        };
        let all: Vec<_> = (0..times).map(one).collect();
        let mut came = Vec::new();
        for one in all {
            came.extend(one.await);
        }
        came
    }

    /// Ends the attempt, and the program with it.
    pub(crate) async fn end(&self) -> Came {
        let path = format!("/api/v1/executions/{}/attempts/end", self.execution);
        self.ask(&post(By::Admin, &path, "", format!(r#"{{"number":{},"code":0}}"#, self.number).as_bytes()))
            .await
    }

    async fn run(&self, definition: &str, inputs: &str) -> Vec<Came> {
        let name = format!("w{}", NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let yaml = "content-type: application/yaml\r\n";
        let definition = definition.replacen("NAME", &name, 1);
        let published =
            self.ask(&post(By::Developer, "/api/v1/workflows", yaml, definition.as_bytes())).await;
        if published.status.is_none_or(|status| status >= 300) {
            return vec![published];
        }
        let body = format!(r#"{{"workflow":"{name}","inputs":{inputs}}}"#);
        let started = self.ask(&post(By::Developer, "/api/v1/executions", "", body.as_bytes())).await;
        let id = started.json()["id"].as_str().map(str::to_owned);
        let mut came = vec![published, started];
        if let Some(id) = id {
            came.push(self.see_to_its_end(&id, definition.contains("human")).await);
        }
        came
    }

    /// Waits until it has ended; what does not end is cancelled, and must end then.
    async fn see_to_its_end(&self, id: &str, waits: bool) -> Came {
        let path = format!("/api/v1/executions/{id}");
        let mut came = self.ask(&get(By::Viewer, &format!("{path}?wait_ms=8000"))).await;
        let open = |came: &Came| came.json()["status"].as_str().is_some_and(|status| status == "running");
        if came.hung || !(open(&came) || waits) {
            return came;
        }
        let stuck = open(&came) && !waits;
        let cancelled = self.ask(&post(By::Developer, &format!("{path}/cancel"), "", b"{}")).await;
        let after = self.ask(&get(By::Viewer, &format!("{path}?wait_ms=8000"))).await;
        came.hung = cancelled.hung || after.hung;
        came.stuck = stuck || open(&after);
        came
    }

    /// Opens connections, sends the bytes over each, and keeps what was opened.
    pub(crate) async fn hold(&self, bytes: &[u8], connections: usize) -> Vec<TcpStream> {
        let mut held = Vec::new();
        for _ in 0..connections {
            let limit = Duration::from_secs(1);
            let Ok(Ok(mut stream)) =
                tokio::time::timeout(limit, TcpStream::connect(("127.0.0.1", self.address.port))).await
            else {
                break;
            };
            // One that is not listened to is what is wanted here.
            let _ = tokio::time::timeout(limit, stream.write_all(bytes)).await;
            held.push(stream);
        }
        held
    }
}

static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

impl Came {
    /// For who watches: the status, and what a problem or an execution calls itself.
    pub(crate) fn in_short(&self) -> String {
        let Some(status) = self.status else {
            return if self.hung { "no answer" } else { "cut off" }.to_owned();
        };
        let body = self.json();
        let named = ["code", "status"].iter().find_map(|key| body[key].as_str());
        let named = named.or_else(|| body["error"]["code"].as_str()).unwrap_or_default();
        format!("{status} {named}").trim_end().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

fn text(answer: &Value, key: &str) -> anyhow::Result<String> {
    Ok(answer[key].as_str().with_context(|| format!("the answer has no {key}"))?.to_owned())
}

pub(crate) fn get(by: By, path: &str) -> Ask {
    Ask { by, method: "GET", path: path.to_owned(), head: String::new(), body: Vec::new() }
}

pub(crate) fn post(by: By, path: &str, head: &str, body: &[u8]) -> Ask {
    Ask { by, method: "POST", path: path.to_owned(), head: head.to_owned(), body: body.to_vec() }
}

/// Sends and listens at the same time: a node that refuses a body need not read it first.
async fn exchange(port: u16, bytes: Vec<u8>) -> anyhow::Result<(u16, Vec<u8>)> {
    let (mut read, mut write) = TcpStream::connect(("127.0.0.1", port)).await?.into_split();
    let sending = tokio::spawn(async move {
        // An answer may come before all is sent.
        let _ = write.write_all(&bytes).await;
        write
    });
    let (mut kept, mut part) = (Vec::new(), vec![0; 1 << 16]);
    let ended = loop {
        match read.read(&mut part).await {
            Ok(0) => break Ok(()),
            Ok(many) if kept.len() < KEPT => kept.extend_from_slice(&part[..many]),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    sending.abort();
    ensure!(ended.is_ok() || !kept.is_empty(), "the connection broke");
    loop {
        let end = kept.windows(4).position(|four| four == b"\r\n\r\n").context("no whole head")? + 4;
        let head = String::from_utf8_lossy(&kept[..end]).into_owned();
        kept.drain(..end);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        if status >= 200 {
            return Ok((status, kept));
        }
    }
}
