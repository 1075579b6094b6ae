//! The running server: where it listens, what it was asked, and how it stops.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use omium_limits::Room;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::Actor;
use super::routes;
use super::script::Script;

/// How many requests are remembered with their bodies; a load test would otherwise fill the memory with them.
const REMEMBERED: usize = 10_000;
/// How much memory their bodies may take.
const REMEMBERED_MEMORY: usize = 16 << 20;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Below `/v1`, for example `/chat/completions`.
    pub path: &'static str,
    /// The caller's step, where it said so.
    pub step: String,
    /// The body.
    pub body: Value,
    /// The rule that answered, where one did.
    pub rule: Option<String>,
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

/// What all requests see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) actor: Actor,
    remembers: bool,
    seen: Mutex<Remembered>,
    count: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

/// The first requests, and the room that is left for further ones.
#[derive(Debug)]
struct Remembered {
    seen: Vec<Seen>,
    room: Room,
}

impl Default for Remembered {
    fn default() -> Remembered {
        Remembered { seen: Vec::new(), room: Room::of(REMEMBERED_MEMORY) }
    }
}

impl Shared {
    pub(super) fn record(&self, seen: Seen) {
        let mut all = self.seen.lock().expect("nobody panics while recording");
        if self.remembers && all.seen.len() < REMEMBERED && all.room.value(&seen.body).is_ok() {
            all.seen.push(seen);
        }
        self.count.send_modify(|count| *count += 1);
    }

    /// Returns once the server is told to stop: what hangs must not hold it.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // Without a sender there is no server either.
        let _gone = stop.wait_for(|stop| *stop).await;
    }
}

/// Serves a script on a listener, at once and in the background. What it was asked is remembered, for tests to look at.
pub async fn serve(script: Script, listener: TcpListener) -> std::io::Result<Server> {
    started(script, listener, true)
}

/// The same for people: prompts are nobody's business once they are answered, and memory is not theirs.
pub async fn serve_and_forget(script: Script, listener: TcpListener) -> std::io::Result<Server> {
    started(script, listener, false)
}

fn started(script: Script, listener: TcpListener, remembers: bool) -> std::io::Result<Server> {
    let address = listener.local_addr()?;
    let shared = Arc::new(Shared {
        actor: Actor::new(script),
        remembers,
        seen: Mutex::default(),
        count: watch::channel(0).0,
        stop: watch::channel(false).0,
    });
    let router = routes::router(shared.clone());
    let until = shared.clone();
    let task = tokio::spawn(async move {
        let stopped = async move { until.stopped().await };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%address, %error, "the scripted model server ended");
        }
    });
    Ok(Server { address, shared, task: Some(task) })
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients take as their base URL.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// How many requests have come.
    pub fn count(&self) -> u64 {
        *self.shared.count.borrow()
    }

    /// The requests as they came: the first ten thousand of them, and no more than 16 MiB.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("nobody panics while recording").seen.clone()
    }

    /// Returns once so many requests have come.
    pub async fn reached(&self, count: u64) {
        let mut counted = self.shared.count.subscribe();
        // The sender lives as long as this server does.
        let _alive = counted.wait_for(|now| *now >= count).await;
    }

    /// Lets what is being answered end, breaks off what hangs, and returns when all is quiet.
    pub async fn stop(mut self) {
        self.shared.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // A panic in there has been reported by the runtime already.
            let _ended = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
    }
}
