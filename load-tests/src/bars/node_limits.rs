//! Strangers and a greedy key hold whatever a node has to give: its own clients notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::latency::Latencies;
use crate::work::hostile::blow::Field;
use crate::work::http::{Address, Connection, Request};
use crate::work::server::{Server, free_port, fresh, prepare};
use crate::work::{callers, runs};

pub(super) const BAR: Bar = Bar {
    name: "node-limits",
    what: "idle connections, half heads and bodies held back: clients with another key stay under 100 ms p99",
    prepare,
    run,
};

/// Descriptors that this process keeps for itself.
const OWN: u64 = 500;
/// Requests a second of the node's own clients.
const RATE: f64 = 50.0;

/// What is held against the node.
struct Siege {
    what: &'static str,
    bytes: Vec<u8>,
    connections: u64,
}

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let mine = raise();
    for descriptors in [1_024, 65_536_u64] {
        // A limit above one's own is not everybody's to give.
        let descriptors = descriptors.min(mine);
        let data = fresh(&setting.dir, &format!("limits-{descriptors}"))?;
        let mut server = Server::start_with(&data, free_port()?, None, descriptors).await?;
        server.connect().await?.publish(runs::NOTE).await?;
        let field = Field::open(&server.address).await?;
        let clients = Clients::begin(&server.address);
        let moment = Duration::from_secs(if setting.quick { 2 } else { 20 });
        tokio::time::sleep(moment).await;
        clients.take();
        for siege in sieges(setting, &field, mine - OWN) {
            setting.say(&format!("ulimit -n {descriptors}: {} {}", siege.connections, siege.what));
            let held = field.hold(&siege.bytes, siege.connections as usize).await;
            tokio::time::sleep(moment).await;
            let (latencies, failed) = clients.take();
            finding.notes.push(format!("{} of {} {} held", held.len(), siege.connections, siege.what));
            let what = |figure: &str| format!("{figure}, ulimit -n {descriptors}, {}", siege.what);
            let p99 = latencies.quantile(0.99) / 1e3;
            finding.parts.push(Part::at_most(&what("p99 in ms of clients"), &[p99], 100.0));
            finding.parts.push(Part::at_most(&what("failed requests of clients"), &[failed as f64], 0.0));
            finding.parts.push(Part::at_most(&what("MB of memory"), &[server.resident_mb()], 512.0));
        }
        clients.stop().await?;
        let ended = server.ended()?;
        finding.parts.push(Part::at_most(
            "ends of the node by itself",
            &[f64::from(u8::from(ended.is_some()))],
            0.0,
        ));
        server.stop()?;
    }
    Ok(finding)
}

/// How many descriptors this process may have.
fn raise() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(65_536).max(65_536);
    // The administrator may have more than the hard limit; anybody else has that.
    for limit in [Some(wanted), maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(65_536)
}

fn sieges(setting: &Setting, field: &Field, most: u64) -> Vec<Siege> {
    let many = |full: u64, quick: u64| if setting.quick { quick } else { full }.min(most);
    let body = |key: &str| {
        let head = format!(
            "POST /api/v1/executions HTTP/1.1\r\nhost: 127.0.0.1\r\n{key}content-length: 30000000\r\n\r\n"
        );
        [head.as_bytes(), &vec![b' '; 1 << 16]].concat()
    };
    let greedy = format!("authorization: Bearer {}\r\n", field.developer);
    vec![
        Siege { what: "idle connections", bytes: Vec::new(), connections: many(20_000, 2_000) },
        Siege {
            what: "half heads",
            bytes: b"GET /health HTTP/1.1\r\nhost:".to_vec(),
            connections: many(5_000, 500),
        },
        Siege { what: "bodies without a key", bytes: body(""), connections: many(500, 50) },
        Siege { what: "bodies with one key", bytes: body(&greedy), connections: many(500, 50) },
    ]
}

/// Clients that know the node: one keeps its connection, one opens one each time.
struct Clients {
    came: Arc<std::sync::Mutex<(Latencies, u64)>>,
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Clients {
    fn begin(address: &Address) -> Clients {
        let (came, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut clients = Clients { came, over, tasks: Vec::new() };
        for keeps in [true, false] {
            let (address, came, over) = (address.clone(), clients.came.clone(), clients.over.clone());
            clients.tasks.push(tokio::spawn(async move {
                let mut kept = None;
                while !over.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_secs_f64(2.0 / RATE)).await;
                    let since = Instant::now();
                    let asked =
                        tokio::time::timeout(Duration::from_secs(10), ask(&address, kept.take())).await;
                    let mut came = came.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    came.0.record(since.elapsed().as_micros() as u64);
                    match asked {
                        Ok(Ok(connection)) => kept = Some(connection).filter(|_| keeps),
                        _ => came.1 += 1,
                    }
                }
            }));
        }
        clients
    }

    fn take(&self) -> (Latencies, u64) {
        std::mem::take(&mut self.came.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        Ok(())
    }
}

async fn ask(address: &Address, kept: Option<Connection>) -> anyhow::Result<Connection> {
    let mut connection = match kept {
        Some(kept) => kept,
        None => Connection::open(address).await?,
    };
    let body = json!({ "workflow": "note", "inputs": { "run": 1 } });
    connection.ask(&Request::post("/api/v1/executions", &body)).await?.json()?;
    Ok(connection)
}
