//! Callers of models, directly and through the gate of a program's attempt, and what a finding costs until it is seen to.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use omium_agents::mock;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::http::{Address, Connection, Request};
use super::vendor::{After, Answers, Asked, say};
use crate::latency::Latencies;

const PATH: &str = "/v1/chat/completions";
/// A program that asks more often than this is seldom, and its conversation is not what is measured.
const PER_PROGRAM: usize = 200;
/// No two requests are alike, or the second one would be served from the record.
static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Where calls go.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// To the model's server.
    Direct(Address),
    /// Through the gate of this server.
    Gate(Address),
}

/// How long calls took, and how many there were in all.
#[derive(Debug)]
pub(crate) struct Took {
    pub(crate) latencies: Latencies,
    pub(crate) calls: u64,
}

/// Lets so many callers ask one question after the other for the given time, after a tenth of it to warm up.
pub(crate) async fn drive(way: &Way, callers: usize, seconds: f64) -> anyhow::Result<Took> {
    let begin = Instant::now() + Duration::from_secs_f64(seconds / 10.0);
    let end = begin + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(ask_until(way.clone(), begin, end))).collect();
    let mut took = Took { latencies: Latencies::default(), calls: 0 };
    for task in tasks {
        let of_one = task.await??;
        took.latencies.add(&of_one.latencies);
        took.calls += of_one.calls;
    }
    Ok(took)
}

async fn ask_until(way: Way, begin: Instant, end: Instant) -> anyhow::Result<Took> {
    let mut took = Took { latencies: Latencies::default(), calls: 0 };
    while Instant::now() < end {
        let mut line = Line::open(&way).await?;
        for _ in 0..PER_PROGRAM {
            let since = Instant::now();
            if since >= end {
                break;
            }
            line.ask(&question("Clerk")).await?;
            took.calls += 1;
            if since >= begin {
                took.latencies.record(since.elapsed().as_micros() as u64);
            }
        }
    }
    Ok(took)
}

/// What an agent asks, unlike anything before.
fn question(agent: &str) -> Value {
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    json!({
        "model": "gpt-4o-mini",
        "messages": [
            { "role": "system", "name": agent, "content": format!("You are {agent}. You work for a small bank.") },
            { "role": "user", "content": format!("Quote an APR for the loan number {number} .") },
        ],
    })
}

/// A connection over which one caller asks.
pub(crate) struct Line {
    connection: Connection,
    address: Address,
    /// What the paths of the attempt begin with; empty where the model is asked directly.
    gate: String,
    /// The program, where there is one.
    pub(crate) execution: String,
}

impl Line {
    pub(crate) async fn open(way: &Way) -> anyhow::Result<Line> {
        match way {
            Way::Direct(address) => {
                let connection = Connection::open(address).await?;
                let (gate, execution) = (String::new(), String::new());
                Ok(Line { connection, address: address.clone(), gate, execution })
            }
            Way::Gate(address) => Line::of_program(address).await,
        }
    }

    /// Opens a program and begins an attempt at it, as `omium exec` does.
    async fn of_program(address: &Address) -> anyhow::Result<Line> {
        let program = json!({ "name": "desk", "arguments": ["desk"] });
        let opened = Connection::open(address).await?.post("/api/v1/programs", &program).await?;
        Line::of_attempt(address, opened["id"].as_str().context("an opened program has an id")?).await
    }

    /// Begins another attempt at a program.
    pub(crate) async fn of_attempt(address: &Address, execution: &str) -> anyhow::Result<Line> {
        let path = format!("/api/v1/executions/{execution}/attempts");
        let attempt = Connection::open(address).await?.post(&path, &json!({ "code": "desk" })).await?;
        let text = |key: &str| attempt[key].as_str().with_context(|| format!("an attempt has a {key}"));
        let own = Address { port: address.port, key: text("token")?.to_owned() };
        let (gate, execution) = (text("path")?.to_owned(), execution.to_owned());
        Ok(Line { connection: Connection::open(&own).await?, address: own, gate, execution })
    }

    /// Another connection of the same attempt.
    pub(crate) async fn another(&self) -> anyhow::Result<Line> {
        let connection = Connection::open(&self.address).await?;
        let (address, gate, execution) = (self.address.clone(), self.gate.clone(), self.execution.clone());
        Ok(Line { connection, address, gate, execution })
    }

    pub(crate) async fn ask(&mut self, question: &Value) -> anyhow::Result<Vec<u8>> {
        self.ask_written(question.to_string().into_bytes()).await
    }

    /// The same where it is written already.
    pub(crate) async fn ask_written(&mut self, question: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        self.post(PATH, question).await
    }

    /// Says that a tool is about to be called.
    pub(crate) async fn begin_tool(&mut self, caller: &str, tool: &str) -> anyhow::Result<Value> {
        let begin = json!({ "caller": caller, "tool": tool, "effect": "read" });
        Ok(serde_json::from_slice(&self.post("/tools", begin.to_string().into_bytes()).await?)?)
    }

    /// Says what a tool has answered.
    pub(crate) async fn end_tool(&mut self, call: u64, result: &str) -> anyhow::Result<()> {
        let end = json!({ "result": result }).to_string().into_bytes();
        self.post(&format!("/tools/{call}"), end).await.map(drop)
    }

    async fn post(&mut self, path: &str, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let path = format!("{}{path}", self.gate);
        let request = Request { path: &path, kind: "application/json", body: Some(body), idempotency: None };
        let answer = self.connection.ask(&request).await?;
        ensure!(answer.good(), "a call was answered {}: {}", answer.status, text_of(&answer.body));
        Ok(answer.body)
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// Fails where a call did not reach the model: then it was the record that answered.
pub(crate) fn all_reached(model: &mock::Server, before: u64, calls: u64) -> anyhow::Result<()> {
    let reached = model.count() - before;
    ensure!(reached == calls, "{calls} calls were made and {reached} reached the model");
    Ok(())
}

/// A vendor whose Writer is out of bounds until he is told them, and who notes how long that took.
#[derive(Debug, Default)]
pub(crate) struct OutOfBounds(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// When the bad answer to a question left.
    bad: BTreeMap<String, Instant>,
    healed: Latencies,
}

const BAD: &str = "OFFER: your loan is approved. APR: 0%";
const GOOD: &str = "OFFER: your loan is approved. APR: 5.2%";
/// Only whoever has been told the bounds knows this one.
const BOUND: &str = "8.5";

impl OutOfBounds {
    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heal(&self, question: &str, at: Instant) -> anyhow::Result<()> {
        let mut noted = self.noted();
        let bad = noted.bad.remove(question).context("a patched request comes after a bad answer")?;
        noted.healed.record(at.duration_since(bad).as_micros() as u64);
        Ok(())
    }

    /// From each bad answer to the patched request, so far.
    pub(crate) fn taken(&self) -> Latencies {
        std::mem::take(&mut self.noted().healed)
    }
}

impl Answers for OutOfBounds {
    async fn answer(&self, asked: Asked, client: &mut TcpStream) -> anyhow::Result<After> {
        let body = asked.body()?;
        let content = |at: usize| body["messages"][at]["content"].as_str().unwrap_or_default();
        let question = content(1).to_owned();
        if content(0).contains(BOUND) {
            self.heal(&question, asked.at)?;
            say(client, GOOD).await?;
        } else {
            // The note stands before the gate can answer; its instant is the earlier one, so nothing is left out.
            self.noted().bad.insert(question, Instant::now());
            say(client, BAD).await?;
        }
        Ok(After::KeepOpen)
    }
}

/// Puts the check on the Writer.
pub(crate) async fn guard(address: &Address) -> anyhow::Result<()> {
    let guard = json!({
        "name": "writer-apr", "agent": "Writer", "extract": "apr: number near \"APR\"",
        "rule": "value >= 2.5 && value <= 8.5",
    });
    Connection::open(address).await?.post("/api/v1/guards", &guard).await.map(drop)
}

/// Programs whose one call has a finding; each is a new one, since a patch that helps stays with its program.
pub(crate) async fn find(address: &Address, findings: usize) -> anyhow::Result<()> {
    for _ in 0..findings {
        let mut line = Line::of_program(address).await?;
        let answer = text_of(&line.ask(&question("Writer")).await?);
        ensure!(answer.contains(GOOD), "the program was given an answer out of bounds: {answer}");
    }
    Ok(())
}
