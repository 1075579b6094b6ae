//! An engine in memory: executions of one step each, their events, and who performs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use omium_api::port::{
    Action, Caller, Decision, Executions, Failure, FailureKind, Filter, Keys, NewKey, Node, Prices,
    ProgramRequest, Programs, Reason, Retention, Role, StartRequest, Streams, ToWorker, WorkerInfo,
    WorkerSeat, Workers, Workflows,
};
use omium_api::views::{
    AttemptView, CheckpointView, DeltaView, Done, Ended, EventView, ExecutionSummary, ExecutionView,
    GuardView, IssuedKey, KeyView, LetGo, Page, PriceView, PricesView, Published, Started, WorkflowView,
};
use omium_schemas::{Money, Price, Seq, TenantId};
use omium_telemetry::Meters;
use omium_workflow::{Definition, Problems};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};

use crate::board::{Board, Seat, task};

pub(crate) const TIME: &str = "2026-01-02T03:04:05Z";
pub(crate) const MISSING: &str = "ex_00000000000000000000000000000000";

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) streams: Mutex<BTreeMap<String, Stream>>,
    pub(crate) board: Board,
    pub(crate) meters: Arc<Meters>,
    /// The public parts of keys that open nothing any more.
    pub(crate) revoked: Mutex<BTreeSet<String>>,
    pub(crate) reasons: Mutex<Vec<Reason>>,
}

pub(crate) struct Stream {
    tenant: TenantId,
    status: &'static str,
    events: Vec<EventView>,
    checkpoints: Vec<CheckpointView>,
    last: watch::Sender<Seq>,
    pub(crate) parts: broadcast::Sender<DeltaView>,
}

impl Stream {
    fn say(&mut self, kind: &str, body: Value) -> Done {
        let seq = self.events.len() as u64 + 1;
        let (time, kind) = (TIME.to_owned(), kind.to_owned());
        self.events.push(EventView { seq, time, kind, command: false, actor: None, body });
        self.last.send_replace(Seq(seq));
        Done { seq, last: seq, repeated: false }
    }
}

pub(crate) fn caller(tenant: u8, role: Role) -> Caller {
    Caller { tenant: TenantId([tenant; 16]), label: format!("t{tenant}"), role, key: format!("{role:?}") }
}

fn key(name: &str, role: Role) -> KeyView {
    KeyView { key: name.to_owned(), name: None, role, expires_at: None }
}

pub(crate) fn no_execution(id: &str) -> Failure {
    Failure::new(
        FailureKind::NotFound,
        "no-such-execution",
        format!("there is no execution `{id}`"),
        "`omium list` shows them",
    )
}

impl Memory {
    /// An execution whose one step waits for a worker.
    pub(crate) fn started(&self, caller: &Caller) -> String {
        let mut streams = self.streams.lock().unwrap();
        let id = format!("ex_{:032x}", streams.len() + 1);
        let last = watch::channel(Seq(0)).0;
        let (events, checkpoints) = (Vec::new(), Vec::new());
        let (tenant, status, parts) = (caller.tenant, "running", broadcast::Sender::new(16));
        let mut stream = Stream { tenant, status, events, checkpoints, last, parts };
        stream.say("ExecutionStarted", json!({ "big": u64::MAX }));
        streams.insert(id.clone(), stream);
        drop(streams);
        self.board.offer(caller.tenant, task(&id, 1));
        id
    }

    pub(crate) fn say(&self, id: &str, kind: &str, body: Value) -> Done {
        self.streams.lock().unwrap().get_mut(id).unwrap().say(kind, body)
    }

    /// A part of the answer to a call, for whoever reads along.
    pub(crate) fn part(&self, id: &str, call: u64, at: u64, text: &str) {
        let (kind, text) = ("delta".to_owned(), text.to_owned());
        let delta = DeltaView { kind, call, step: 1, at, text };
        self.streams.lock().unwrap()[id].parts.send(delta).unwrap();
    }

    /// Waits until an event of this kind is there, and returns its body.
    pub(crate) async fn told(&self, id: &str, kind: &str) -> Value {
        let mut last = self.streams.lock().unwrap()[id].last.subscribe();
        loop {
            let found = self.streams.lock().unwrap()[id]
                .events
                .iter()
                .rev()
                .find(|event| event.kind == kind)
                .cloned();
            if let Some(event) = found {
                return event.body;
            }
            last.changed().await.unwrap();
        }
    }

    fn of<T>(
        &self,
        caller: &Caller,
        id: &str,
        look: impl FnOnce(&mut Stream) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut streams = self.streams.lock().unwrap();
        let stream = streams.get_mut(id).filter(|stream| stream.tenant == caller.tenant);
        look(stream.ok_or_else(|| no_execution(id))?)
    }
}

/// The engine as the router gets it.
pub(crate) struct Served(pub(crate) Arc<Memory>);

#[async_trait]
impl Programs for Served {
    async fn open_program(&self, caller: &Caller, request: ProgramRequest) -> Result<Started, Failure> {
        if request.recovery.is_some_and(|mode| mode == "pray") {
            return Err(Failure::new(FailureKind::Invalid, "bad-recovery", "no such mode", "auto"));
        }
        Ok(Started { id: self.0.started(caller), repeated: false, ended: None })
    }

    async fn begin_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        _: Option<String>,
    ) -> Result<AttemptView, Failure> {
        let done = self.0.of(caller, execution, |stream| Ok(stream.say("StepStarted", Value::Null)))?;
        let (number, token) = (done.seq as i64, "omx_00".to_owned());
        Ok(AttemptView { number, token, path: format!("/x/{execution}") })
    }

    async fn end_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        number: i64,
        code: i32,
        output: Value,
    ) -> Result<Done, Failure> {
        let body = json!({ "number": number, "code": code, "output": output });
        self.0.of(caller, execution, |stream| Ok(stream.say("ExecutionCompleted", body)))
    }

    async fn decide(
        &self,
        caller: &Caller,
        execution: &str,
        decision: Decision,
        note: Option<String>,
    ) -> Result<Done, Failure> {
        let body = json!({ "decision": format!("{decision:?}"), "note": note });
        self.0.of(caller, execution, |stream| Ok(stream.say("RemedyChosen", body)))
    }

    async fn guards(&self, _: &Caller) -> Result<Vec<GuardView>, Failure> {
        Ok(Vec::new())
    }

    async fn set_guard(&self, _: &Caller, guard: GuardView) -> Result<GuardView, Failure> {
        Ok(guard)
    }

    async fn drop_guard(&self, caller: &Caller, name: &str) -> Result<GuardView, Failure> {
        if name == "loan-decision" && caller.tenant == TenantId([1; 16]) {
            let (name, agent) = (name.to_owned(), "Writer".to_owned());
            let (program, field, extract, rule, schema, hint) = (None, None, None, None, None, None);
            return Ok(GuardView { name, program, agent, field, extract, rule, schema, hint });
        }
        Err(Failure::new(
            FailureKind::NotFound,
            "not-found",
            format!("there is no guard `{name}`"),
            "list them",
        ))
    }
}

impl Node for Served {
    fn ready(&self) -> bool {
        self.wholeness().is_empty()
    }

    fn wholeness(&self) -> Vec<Reason> {
        self.0.reasons.lock().unwrap().clone()
    }

    fn readable(&self) -> bool {
        self.ready()
    }

    fn health(&self) -> Vec<(String, bool)> {
        vec![("engine".to_owned(), self.ready())]
    }

    fn meters(&self) -> Arc<Meters> {
        self.0.meters.clone()
    }

    fn active(&self) -> Vec<(String, u64)> {
        vec![("native".to_owned(), 1)]
    }
}

#[async_trait]
impl Keys for Served {
    async fn authenticate(&self, key: &str) -> Result<Option<Caller>, Failure> {
        Ok(Some(match key {
            "viewer" => caller(1, Role::Viewer),
            "worker" => caller(1, Role::Worker),
            "developer" => caller(1, Role::Developer),
            "admin" => caller(1, Role::Admin),
            "foreign" => caller(2, Role::Admin),
            "away" => {
                let hint = "send it again in a moment";
                return Err(Failure::new(FailureKind::Busy, "not-leading", "keys cannot be read now", hint));
            }
            _ => return Ok(None),
        }))
    }

    async fn knows(&self, caller: &Caller) -> bool {
        !self.0.revoked.lock().unwrap().contains(&caller.key)
    }

    async fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, Failure> {
        Ok(vec![key(&caller.key, caller.role)])
    }

    async fn issue_key(&self, _: &Caller, wanted: NewKey) -> Result<IssuedKey, Failure> {
        let NewKey { role, days, name } = wanted;
        let expires_at = days.map(|_| TIME.to_owned());
        Ok(IssuedKey {
            view: KeyView { expires_at, name, ..key("other", role) },
            bearer: "om_other_secret".to_owned(),
        })
    }

    async fn revoke_key(&self, caller: &Caller, name: &str) -> Result<KeyView, Failure> {
        if name == "other" && caller.tenant == TenantId([1; 16]) {
            return Ok(key(name, Role::Viewer));
        }
        let hint = "`omium keys list` shows those that there are";
        Err(Failure::new(FailureKind::NotFound, "not-found", format!("there is no key `{name}`"), hint))
    }
}

#[async_trait]
impl Workflows for Served {
    fn read(&self, file: &str, text: &str) -> Result<Definition, Problems> {
        omium_workflow::parse(file, text)
    }

    async fn publish(&self, _: &Caller, file: &str, text: &str) -> Result<Published, Failure> {
        if text.contains("nonsense") {
            let mut failure = Failure::new(FailureKind::Invalid, "bad-definition", "1 problem", "mend it");
            failure.problems =
                json!([{ "file": file, "line": 1, "column": 2, "text": "nonsense", "hint": "" }]);
            return Err(failure);
        }
        Ok(Published { workflow: workflow(Some(text)), repeated: false, warnings: Vec::new() })
    }

    async fn workflows(&self, _: &Caller) -> Result<Vec<WorkflowView>, Failure> {
        Ok(vec![workflow(None)])
    }

    async fn workflow(&self, caller: &Caller, name: &str) -> Result<WorkflowView, Failure> {
        if name == "loan-decision" && caller.tenant == TenantId([1; 16]) {
            return Ok(workflow(Some("name: loan")));
        }
        let detail = format!("there is no workflow `{name}`");
        Err(Failure::new(FailureKind::NotFound, "no-such-workflow", detail, "publish it"))
    }
}

#[async_trait]
impl Prices for Served {
    async fn prices(&self, _: &Caller) -> Result<PricesView, Failure> {
        Ok(PricesView { items: Vec::new(), list: None })
    }

    async fn set_price(&self, _: &Caller, model: String, price: Price) -> Result<PriceView, Failure> {
        let shown = |money: Money| format!("{} pico-dollars a token", money.0);
        let Price { input, cached, output } = price;
        let (input_usd, cached_usd, output_usd) = (shown(input), shown(cached), shown(output));
        Ok(PriceView { model, input_usd, cached_usd, output_usd })
    }
}

#[async_trait]
impl Executions for Served {
    async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Failure> {
        self.workflow(caller, &request.workflow).await?;
        Ok(Started { id: self.0.started(caller), repeated: false, ended: None })
    }

    async fn list(&self, caller: &Caller, filter: Filter) -> Result<Page<ExecutionSummary>, Failure> {
        let streams = self.0.streams.lock().unwrap();
        let own = streams.iter().filter(|(_, stream)| stream.tenant == caller.tenant);
        let items = own.map(|(id, stream)| ExecutionSummary {
            id: id.clone(),
            workflow: "loan-decision".to_owned(),
            status: stream.status.to_owned(),
            started_at: TIME.to_owned(),
            ended_at: None,
        });
        Ok(Page { items: items.take(filter.limit).collect(), next: None })
    }

    async fn place(&self, _: &Caller, execution: &str, address: &str) -> Result<Seq, Failure> {
        let detail = format!("{execution} has no checkpoint `{address}`");
        let hint = format!("`omium checkpoints list {execution}` shows them");
        Err(Failure::new(FailureKind::NotFound, "no-such-checkpoint", detail, hint))
    }

    async fn show(&self, caller: &Caller, execution: &str, _: Option<Seq>) -> Result<ExecutionView, Failure> {
        self.0.of(caller, execution, |stream| {
            Ok(ExecutionView {
                id: execution.to_owned(),
                workflow: "loan-decision".to_owned(),
                version: None,
                status: stream.status.to_owned(),
                failure: None,
                branch: 0,
                seq: stream.events.len() as u64,
                started_at: TIME.to_owned(),
                ended_at: (stream.status == "cancelled").then(|| TIME.to_owned()),
                inputs: json!({ "big": u64::MAX }),
                output: Value::Null,
                cost_usd: "0".to_owned(),
                unpriced_calls: 0,
                steps: Vec::new(),
                questions: Vec::new(),
                findings: Vec::new(),
                attempt: None,
                drifts: 0,
                forked_from: None,
                state_hash: "00".to_owned(),
            })
        })
    }

    async fn content(
        &self,
        caller: &Caller,
        execution: &str,
        _: &str,
        _: Option<Seq>,
    ) -> Result<Bytes, Failure> {
        self.0.of(caller, execution, |_| Ok(Bytes::from_static(b"{}")))
    }

    async fn act(
        &self,
        caller: &Caller,
        execution: &str,
        action: Action,
        _: Option<String>,
    ) -> Result<Done, Failure> {
        self.0.of(caller, execution, |stream| match action {
            Action::Checkpoint { name } => {
                let done = stream.say("CheckpointTaken", json!({ "name": name }));
                let finished = stream.events.iter().any(|event| event.kind == "StepCompleted");
                stream.checkpoints.push(CheckpointView {
                    seq: done.seq,
                    name: Some(name),
                    taken_at: TIME.to_owned(),
                    done: finished.then(|| "clerk".to_owned()).into_iter().collect(),
                    state_hash: "00".to_owned(),
                });
                Ok(done)
            }
            Action::Resume if stream.status != "paused" => Err(Failure::new(
                FailureKind::Conflict,
                "not-paused",
                format!("`{execution}` is not paused"),
                "nothing is to be done",
            )),
            Action::Pause => {
                stream.status = "paused";
                Ok(stream.say("ExecutionPaused", Value::Null))
            }
            Action::Cancel => {
                stream.status = "cancelled";
                Ok(stream.say("ExecutionCancelled", Value::Null))
            }
            action => Ok(stream.say("Acted", json!(format!("{action:?}")))),
        })
    }

    async fn fork(
        &self,
        caller: &Caller,
        execution: &str,
        _: &str,
        _: Option<Value>,
        _: Option<String>,
    ) -> Result<Started, Failure> {
        self.0.of(caller, execution, |_| Ok(()))?;
        Ok(Started { id: self.0.started(caller), repeated: false, ended: None })
    }

    async fn checkpoints(&self, caller: &Caller, execution: &str) -> Result<Vec<CheckpointView>, Failure> {
        self.0.of(caller, execution, |stream| Ok(stream.checkpoints.clone()))
    }

    async fn ended(
        &self,
        caller: &Caller,
        execution: &str,
        limit: Duration,
    ) -> Result<Option<Ended>, Failure> {
        let mut moved = self.follow(caller, execution).await?;
        let over = tokio::time::sleep(limit);
        tokio::pin!(over);
        loop {
            moved.borrow_and_update();
            let ExecutionView { ended_at, status, failure, output, .. } =
                self.show(caller, execution, None).await?;
            if ended_at.is_some() {
                return Ok(Some(Ended { status, failure, output }));
            }
            tokio::select! {
                changed = moved.changed() => if changed.is_err() { return Ok(None) },
                () = &mut over => return Ok(None),
            }
        }
    }
}

#[async_trait]
impl Streams for Served {
    async fn events(
        &self,
        caller: &Caller,
        execution: &str,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<EventView>, Failure> {
        self.0.of(caller, execution, |stream| {
            let events = stream.events.iter().filter(|event| event.seq >= from.0);
            Ok(events.take(limit).cloned().collect())
        })
    }

    async fn follow(&self, caller: &Caller, execution: &str) -> Result<watch::Receiver<Seq>, Failure> {
        self.0.of(caller, execution, |stream| Ok(stream.last.subscribe()))
    }

    async fn read_along(
        &self,
        caller: &Caller,
        execution: &str,
    ) -> Result<broadcast::Receiver<DeltaView>, Failure> {
        self.0.of(caller, execution, |stream| Ok(stream.parts.subscribe()))
    }
}

#[async_trait]
impl Workers for Served {
    async fn seat(
        self: Arc<Self>,
        caller: &Caller,
        worker: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Result<Box<dyn WorkerSeat>, Failure> {
        let id = self.0.board.seat(caller.tenant, worker, steps);
        Ok(Box::new(Seat { memory: self.0.clone(), id }))
    }
}

#[async_trait]
impl Retention for Served {
    async fn trim(&self, _: &Caller) -> Result<LetGo, Failure> {
        Ok(LetGo::default())
    }
}

fn workflow(text: Option<&str>) -> WorkflowView {
    WorkflowView {
        name: "loan-decision".to_owned(),
        version: 1,
        hash: "00".to_owned(),
        published_at: TIME.to_owned(),
        agents: vec!["clerk".to_owned()],
        definition: text.map(str::to_owned),
    }
}
