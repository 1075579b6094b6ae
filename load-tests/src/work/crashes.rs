//! Executions of native agents under fire, and what became of each of their model calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use omium_agents::mock::{self, Script, Seen};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::http::{Address, Connection, Request};
use super::server::{Server, free_port};

/// Two lanes at once, and a third step that needs both. Each call says which execution it is of.
const WORKFLOW: &str = "
name: crash
inputs: {type: object, required: [run]}
execution_order: graph
agents:
  - {id: left, framework: native, prompt: 'run {{ inputs.run }} .'}
  - {id: right, framework: native, prompt: 'run {{ inputs.run }} .'}
  - {id: last, framework: native, after: [left, right], prompt: 'run {{ inputs.run }} .'}
";
/// Each answer takes its time, so that kills find calls under way.
const SCRIPT: &str = "
models: [default]
rules:
  - {name: slow, answer: {text: fine, delay: 40ms}}
";
const CALLERS: usize = 8;
/// Between two starts of one caller: the load must not grow faster than it ends.
const PAUSE: Duration = Duration::from_millis(60);
const LANES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(120);

/// A call: which execution of ours, and which agent.
type Call = (usize, String);

/// What was asked in one life of the process.
struct Life {
    /// When, RFC 3339.
    began: String,
    asked: BTreeMap<Call, u64>,
}

/// The whole trial.
pub(crate) struct Crashes {
    data: PathBuf,
    port: u16,
    dice: u64,
    begun: Arc<AtomicUsize>,
    /// Started but never acknowledged: to be sent again.
    open: Vec<usize>,
    ids: BTreeMap<usize, String>,
    lives: Vec<Life>,
}

/// How it ended.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) executions: u64,
    pub(crate) calls: u64,
    pub(crate) repeated: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) asked_again: u64,
    pub(crate) twice_in_a_life: u64,
    pub(crate) lanes_over: u64,
    pub(crate) unflagged: u64,
}

impl Crashes {
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Crashes> {
        Ok(Crashes {
            data: dir.join("crash"),
            port: free_port()?,
            dice: 1,
            begun: Arc::default(),
            open: Vec::new(),
            ids: BTreeMap::new(),
            lives: Vec::new(),
        })
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.ids.len()
    }

    /// A life has a model server of its own, which so counts what was asked in it.
    async fn start(&self) -> anyhow::Result<(Server, mock::Server)> {
        let script = Script::parse(SCRIPT).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let model = mock::serve(script, TcpListener::bind(("127.0.0.1", 0)).await?).await?;
        let server = Server::start_at(&self.data, self.port, Some(&model.url())).await?;
        Ok((server, model))
    }

    /// One life: callers start executions until a random instant at which the process is killed.
    pub(crate) async fn live_and_die(&mut self) -> anyhow::Result<()> {
        let began = now();
        let (server, model) = self.start().await?;
        if self.lives.is_empty() {
            server.connect().await?.publish(WORKFLOW).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); CALLERS];
        for (at, run) in self.open.drain(..).enumerate() {
            shares[at % CALLERS].push(run);
        }
        let callers: Vec<_> = shares
            .into_iter()
            .map(|share| {
                let (address, begun, stop) = (server.address.clone(), self.begun.clone(), stop.clone());
                tokio::spawn(call(address, share, begun, stop))
            })
            .collect();
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Half a second and up to a second more: a random instant, and enough time for there to be load at it.
        tokio::time::sleep(Duration::from_micros(500_000 + (self.dice >> 33) % 1_000_000)).await;
        server.kill()?;
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            let (acknowledged, open) = caller.await?;
            self.ids.extend(acknowledged);
            self.open.extend(open);
        }
        self.end_life(began, &model)?;
        model.stop().await;
        Ok(())
    }

    fn end_life(&mut self, began: String, model: &mock::Server) -> anyhow::Result<()> {
        let seen = model.seen();
        ensure!(seen.len() as u64 == model.count(), "the model server was asked more than it remembers");
        let mut asked = BTreeMap::new();
        for seen in &seen {
            *asked.entry(which(seen)?).or_insert(0) += 1;
        }
        self.lives.push(Life { began, asked });
        Ok(())
    }

    /// A last life without a kill: everything ends, and is counted.
    pub(crate) async fn judge(mut self) -> anyhow::Result<Judged> {
        let began = now();
        let (server, model) = self.start().await?;
        let mut connection = server.connect().await?;
        for run in std::mem::take(&mut self.open) {
            self.ids.insert(run, start(&mut connection, run).await?);
        }
        let since = Instant::now();
        while !listed(&mut connection, "status=running").await?.is_empty() {
            ensure!(
                since.elapsed() < PATIENCE,
                "executions still run {} s after the last kill",
                PATIENCE.as_secs()
            );
            // Asking for all that run is work for the server that is to end them.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.end_life(began, &model)?;
        let judged = self.weigh(&mut connection).await?;
        server.stop()?;
        model.stop().await;
        Ok(judged)
    }

    async fn weigh(&self, connection: &mut Connection) -> anyhow::Result<Judged> {
        let completed = listed(connection, "status=completed").await?;
        let all = listed(connection, "").await?;
        let ours: BTreeSet<&String> = self.ids.values().collect();
        let mut judged = Judged { executions: self.ids.len() as u64, ..Judged::default() };
        judged.lost = ours.iter().filter(|id| !completed.contains(**id)).count() as u64;
        judged.doubled = all.iter().filter(|id| !ours.contains(id)).count() as u64;
        let mut lives_of: BTreeMap<&Call, Vec<usize>> = BTreeMap::new();
        for (number, life) in self.lives.iter().enumerate() {
            for (call, times) in &life.asked {
                judged.calls += times;
                judged.twice_in_a_life += u64::from(*times > 1);
                lives_of.entry(call).or_default().push(number);
            }
        }
        // What a kill cut off is asked again in a later life.
        let mut cut_off: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (call, lives) in lives_of.iter().filter(|(_, lives)| lives.len() > 1) {
            for life in &lives[..lives.len() - 1] {
                judged.repeated += 1;
                *cut_off.entry((*life, call.0)).or_default() += 1;
            }
            let Some(id) = self.ids.get(&call.0) else { continue };
            let events = connection.get(&format!("/api/v1/executions/{id}/events?limit=10000")).await?;
            let told = told(&events["items"], &call.1);
            let last = &self.lives[lives[lives.len() - 1]].began;
            judged.asked_again += u64::from(told.answered.iter().any(|time| time < last));
            judged.unflagged += u64::from(told.flagged == 0);
        }
        judged.lanes_over = cut_off.values().filter(|calls| **calls > LANES).count() as u64;
        Ok(judged)
    }
}

/// Starts executions until the server is gone: those it was told of, and those it cannot know about.
async fn call(
    address: Address,
    mut again: Vec<usize>,
    begun: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> (Vec<(usize, String)>, Vec<usize>) {
    let (mut acknowledged, mut open) = (Vec::new(), Vec::new());
    let Ok(mut connection) = Connection::open(&address).await else { return (acknowledged, again) };
    while !stop.load(Ordering::Relaxed) {
        let run = again.pop().unwrap_or_else(|| begun.fetch_add(1, Ordering::Relaxed));
        match start(&mut connection, run).await {
            Ok(id) => acknowledged.push((run, id)),
            Err(_) => {
                open.push(run);
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    open.append(&mut again);
    (acknowledged, open)
}

/// Sent again with the same key it is the same execution.
async fn start(connection: &mut Connection, run: usize) -> anyhow::Result<String> {
    let body = json!({ "workflow": "crash", "inputs": { "run": run } });
    let request =
        Request { idempotency: Some(format!("run-{run}")), ..Request::post("/api/v1/executions", &body) };
    let started = connection.ask(&request).await?.json()?;
    Ok(started["id"].as_str().context("a started execution has an id")?.to_owned())
}

/// The ids of all executions of a filter.
async fn listed(connection: &mut Connection, filter: &str) -> anyhow::Result<BTreeSet<String>> {
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = connection.get(&format!("/api/v1/executions?limit=1000&{filter}{cursor}")).await?;
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        ids.extend(items.iter().filter_map(|item| Some(item["id"].as_str()?.to_owned())));
        let Some(next) = page["next"].as_str() else { return Ok(ids) };
        cursor = format!("&cursor={next}");
    }
}

fn which(seen: &Seen) -> anyhow::Result<Call> {
    let messages = seen.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let prompt = messages.iter().rev().find(|message| message["role"] == "user");
    let text = prompt.and_then(|message| message["content"].as_str()).unwrap_or_default();
    let number = text.split(' ').nth(1).and_then(|number| number.parse().ok());
    let agent = seen.step.split('#').next().unwrap_or_default().to_owned();
    Ok((number.with_context(|| format!("`{text}` names no run"))?, agent))
}

/// What an execution's own events say about an agent's call.
#[derive(Debug, Default, PartialEq)]
struct Told {
    /// When answers became durable.
    answered: Vec<String>,
    /// How many calls may have been charged twice.
    flagged: usize,
}

fn told(events: &Value, agent: &str) -> Told {
    let (mut told, mut calls) = (Told::default(), BTreeSet::new());
    for event in events.as_array().into_iter().flatten() {
        let body = &event["body"];
        let caller = body["caller"].as_str().and_then(|caller| caller.split('#').next());
        match event["kind"].as_str() {
            Some("LlmCallStarted") if caller == Some(agent) => {
                calls.extend(event["seq"].as_u64());
                told.flagged += usize::from(body["possible_double_charge"] == true);
            }
            Some("LlmCallCompleted") if body["call"].as_u64().is_some_and(|call| calls.contains(&call)) => {
                told.answered.extend(event["time"].as_str().map(str::to_owned));
            }
            _ => {}
        }
    }
    told
}

/// RFC 3339 with microseconds, as events have it: such texts compare as their times do.
fn now() -> String {
    humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_the_agent_whose_call_it_answers() {
        let started = |seq: u64, caller: &str, flag: bool| json!({ "seq": seq, "kind": "LlmCallStarted", "body": { "caller": caller, "possible_double_charge": flag } });
        let answered = |call: u64, time: &str| json!({ "seq": call + 10, "time": time, "kind": "LlmCallCompleted", "body": { "call": call } });
        let events = json!([
            started(1, "left#0", false),
            started(2, "right#0", false),
            started(3, "left#0", true),
            answered(2, "b"),
            answered(3, "c"),
        ]);
        assert_eq!(told(&events, "left"), Told { answered: vec!["c".to_owned()], flagged: 1 });
        assert_eq!(told(&events, "right"), Told { answered: vec!["b".to_owned()], flagged: 0 });
    }
}
