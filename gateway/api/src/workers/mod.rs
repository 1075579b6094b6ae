//! The stream of workers: greets them, and finds the session of one that comes back.

mod queue;
mod said;
mod session;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omium_edge::{Slot, Stop};
use omium_schemas::{Label, TenantId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming};

use self::queue::{Leaving, Speaker, queue};
use self::session::{Link, Session};
use crate::grpc::proto::worker_item::Kind;
use crate::grpc::proto::workers_server::Workers as Service;
use crate::grpc::proto::{Register, WorkerItem, WorkerMessage};
use crate::grpc::{caller, status};
use crate::port::{Caller, Engine, Role, WorkerInfo};

/// How many things one message may hold.
pub(crate) const BATCH: usize = 1_000;

const MAX_CAPACITY: u32 = 10_000;

/// How long workers may be quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerTimes {
    /// Who says nothing for so long loses its steps.
    pub heartbeat: Duration,
    /// Who makes no progress with a step for so long loses it.
    pub idle: Duration,
    /// Who comes back within this time keeps its steps.
    pub reconnect: Duration,
}

impl Default for WorkerTimes {
    fn default() -> WorkerTimes {
        WorkerTimes {
            heartbeat: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            reconnect: Duration::from_secs(5),
        }
    }
}

/// The service.
pub(crate) struct Workers(Arc<Desk>);

/// What greeting a worker needs.
struct Desk {
    engine: Arc<dyn Engine>,
    times: WorkerTimes,
    sessions: Mutex<BTreeMap<Identity, mpsc::Sender<Link>>>,
}

/// A worker's session. The key is part of it, so that nobody else's key can take over a session whose name leaked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    tenant: TenantId,
    key: String,
    name: String,
    session: String,
}

impl Workers {
    pub(crate) fn new(engine: Arc<dyn Engine>, times: WorkerTimes) -> Workers {
        Workers(Arc::new(Desk { engine, times, sessions: Mutex::default() }))
    }
}

#[tonic::async_trait]
impl Service for Workers {
    type WorkStream = Leaving;

    async fn work(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        let caller = caller(&self.0.engine, request.metadata(), Role::Worker).await?;
        let slot = request.extensions().get::<Slot>();
        let (out, leaving) = queue(slot.map(Slot::following));
        let desk = self.0.clone();
        let mut hangs_up = JoinSet::new();
        if let Some(slot) = slot {
            hangs_up.spawn(hang_up(slot.stop().clone(), out.downgrade()));
        }
        // Some clients send nothing before they have seen the answer's headers, so the answer does not wait for `register`.
        tokio::spawn(async move {
            if let Err(status) = desk.greet(caller, request.into_inner(), &out).await {
                // Where this cannot be sent the worker is gone already.
                out.hang_up(status).await;
            }
        });
        Ok(Response::new(leaving.with(hangs_up)))
    }
}

/// Tells a worker to go elsewhere when the node stops. What it does goes on: it says so where it registers again.
async fn hang_up(stop: Stop, out: queue::WeakSpeaker) {
    stop.begun().await;
    if let Some(out) = out.upgrade() {
        out.hang_up(Status::unavailable("this node stops; register again in a moment")).await;
    }
}

impl Desk {
    async fn greet(
        self: Arc<Self>,
        caller: Caller,
        mut said: Streaming<WorkerMessage>,
        out: &Speaker,
    ) -> Result<(), Status> {
        let first = tokio::time::timeout(self.times.heartbeat, said.message()).await;
        let Some(first) =
            first.map_err(|_| Status::deadline_exceeded("no `register` came; it is the first item"))??
        else {
            return Ok(());
        };
        let mut items = first.items.into_iter();
        let Some(WorkerItem { kind: Some(Kind::Register(register)), .. }) = items.next() else {
            return Err(Status::invalid_argument("a stream begins with `register`"));
        };
        let identity = identify(&caller, &register)?;
        let info = info(&register)?;
        let idle = idle_limit(self.times.idle, register.idle_limit_ms);
        let link =
            Link { said, out: out.clone(), first: items.collect(), holding: register.holding, resumed: true };
        let Err(link) = self.resume(&identity, link).await else { return Ok(()) };
        self.begin(identity, caller, info, idle, link).await
    }

    /// Brings a connection to the session that it goes on with; gives it back where there is none.
    async fn resume(&self, identity: &Identity, link: Link) -> Result<(), Link> {
        let session = self.lock().get(identity).cloned();
        let Some(session) = session else { return Err(link) };
        session.send(link).await.map_err(|refused| refused.0)
    }

    async fn begin(
        self: Arc<Self>,
        identity: Identity,
        caller: Caller,
        info: WorkerInfo,
        idle: Duration,
        mut link: Link,
    ) -> Result<(), Status> {
        link.resumed = false;
        // Room for every step that credit allows and for a cancellation of each.
        let (give, steps) = mpsc::channel(2 * info.capacity as usize + 64);
        let seat = self.engine.clone().seat(&caller, info, give).await.map_err(status)?;
        let times = WorkerTimes { idle, ..self.times };
        let (attach, links) = mpsc::channel(1);
        self.lock().insert(identity.clone(), attach.clone());
        let session = Session::new(self.engine.clone(), caller, times, seat.into(), steps, links);
        tokio::spawn(async move {
            session.run(link).await;
            let mut sessions = self.lock();
            if sessions.get(&identity).is_some_and(|there| there.same_channel(&attach)) {
                sessions.remove(&identity);
            }
        });
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Identity, mpsc::Sender<Link>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identify(caller: &Caller, register: &Register) -> Result<Identity, Status> {
    for (what, text) in [("name", &register.name), ("session", &register.session)] {
        if text.parse::<Label>().is_err() {
            return Err(Status::invalid_argument(format!(
                "a worker's {what} has 1 to 64 of A-Z a-z 0-9 _ . - ; register with another one"
            )));
        }
    }
    let (name, session) = (register.name.clone(), register.session.clone());
    Ok(Identity { tenant: caller.tenant, key: caller.key.clone(), name, session })
}

fn info(register: &Register) -> Result<WorkerInfo, Status> {
    let Register { name, frameworks, capacity, code, .. } = register.clone();
    if frameworks.is_empty() || !(1..=MAX_CAPACITY).contains(&capacity) {
        return Err(Status::invalid_argument(format!(
            "a worker names its frameworks and takes 1 to {MAX_CAPACITY} steps at once; it said {} and {capacity}",
            frameworks.len()
        )));
    }
    Ok(WorkerInfo { name, frameworks, capacity, code: (!code.is_empty()).then_some(code) })
}

fn idle_limit(usual: Duration, wanted_ms: u64) -> Duration {
    match wanted_ms {
        0 => usual,
        wanted => Duration::from_millis(wanted.clamp(100, 3_600_000)),
    }
}
