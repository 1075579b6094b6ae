//! The engine that the worker under test works for: it has no executions, only steps to give.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use omium_schemas::catalogue::LossReason;
use omium_schemas::{Branch, Epoch, Price, Seq, StepId, TenantId};
use omium_telemetry::Meters;
use omium_workflow::{Definition, Problems};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};

use crate::port::{
    Action, Caller, Decision, Executions, Failure, FailureKind, Filter, Keys, NewKey, Node, Outcome, Prices,
    ProgramRequest, Programs, Reason, Retention, Role, Sending, StartRequest, Streams, Task, ToWorker,
    ToolBegun, ToolCall, ToolEnd, WorkerInfo, WorkerSeat, Workers, Workflows,
};
use crate::views::{
    AttemptView, CheckpointView, DeltaView, Done, Ended, EventView, ExecutionSummary, ExecutionView,
    GuardView, IssuedKey, KeyView, LetGo, Page, PriceView, PricesView, Published, Started, WorkflowView,
};

/// The key of the worker under test.
pub(super) const KEY: &str = "om_conformance";

/// The framework of all steps.
pub(super) const FRAMEWORK: &str = "conformance";

pub(super) struct Kit(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    seat: Option<(WorkerInfo, mpsc::Sender<ToWorker>)>,
    given: BTreeMap<String, Given>,
}

struct Given {
    sending: Sending,
    end: Option<End>,
}

#[derive(Clone)]
enum End {
    Finished(Outcome),
    Lost(LossReason),
    Cancelled,
}

impl Kit {
    pub(super) fn new() -> Kit {
        Kit(Arc::new(Shared { table: Mutex::default(), changed: watch::channel(0).0 }))
    }

    /// The worker, once it has registered.
    pub(super) async fn seated(&self, limit: Duration) -> Option<WorkerInfo> {
        self.0.wait(limit, |table| table.seat.as_ref().map(|(info, _)| info.clone())).await
    }

    /// Gives the worker a step, and says by which name its outcome is asked for.
    pub(super) async fn give(&self, input: Value) -> Result<String, String> {
        // Who lost its session may have begun another one.
        self.seated(Duration::from_secs(3)).await;
        let mut table = self.0.lock();
        let Some((_, steps)) = table.seat.clone() else { return Err("the worker is gone".to_owned()) };
        let execution = format!("ex_{:032x}", table.given.len() + 1);
        let task = task(&execution, input);
        let sending = task.sending();
        table.given.insert(execution.clone(), Given { sending, end: None });
        steps
            .try_send(ToWorker::Perform(Box::new(task)))
            .map_err(|_| "the worker takes no steps any more")?;
        Ok(execution)
    }

    pub(super) fn cancel(&self, execution: &str) -> Result<(), String> {
        let mut table = self.0.lock();
        let steps = table.seat.as_ref().map(|(_, steps)| steps.clone());
        if let Some(given) = table.given.get_mut(execution) {
            given.end = Some(End::Cancelled);
            let Sending { step, delivery, .. } = given.sending;
            let cancel = ToWorker::Cancel { execution: execution.to_owned(), step, delivery };
            steps.and_then(|steps| steps.try_send(cancel).ok()).ok_or("the worker is gone")?;
        }
        Ok(())
    }

    pub(super) async fn outcome(&self, execution: &str, limit: Duration) -> Result<Outcome, String> {
        let end = self.0.wait(limit, |table| table.given.get(execution)?.end.clone()).await;
        match end {
            Some(End::Finished(outcome)) => Ok(outcome),
            Some(End::Lost(LossReason::Silent)) => Err("it was silent: no heartbeat came in time".to_owned()),
            Some(End::Lost(LossReason::Idle)) => Err("its step made no progress in time".to_owned()),
            Some(End::Lost(LossReason::Disconnected)) => {
                Err("it did not come back in time under the same name and session".to_owned())
            }
            Some(End::Lost(LossReason::Drained | LossReason::Other)) => {
                Err("it gave the step back".to_owned())
            }
            Some(End::Cancelled) => Err("the step was cancelled".to_owned()),
            None => Err(format!("no outcome came within {limit:?}")),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    async fn wait<T>(&self, limit: Duration, look: impl Fn(&Table) -> Option<T>) -> Option<T> {
        let mut changed = self.changed.subscribe();
        let looking = async {
            loop {
                let seen = look(&self.lock());
                if seen.is_some() {
                    return seen;
                }
                changed.changed().await.ok()?;
            }
        };
        tokio::time::timeout(limit, looking).await.ok().flatten()
    }

    /// Ends a step that is with the worker.
    fn end(&self, execution: &str, sending: Sending, end: End) -> Result<Done, Failure> {
        let mut table = self.lock();
        let open = |given: &&mut Given| given.sending == sending && given.end.is_none();
        let Some(given) = table.given.get_mut(execution).filter(open) else { return Err(not_yours()) };
        given.end = Some(end);
        drop(table);
        self.moved();
        Ok(Done { seq: 2, last: 2, repeated: false })
    }
}

fn task(execution: &str, input: Value) -> Task {
    Task {
        execution: execution.to_owned(),
        workflow: "conformance".to_owned(),
        step: StepId(1),
        agent: "conformance".to_owned(),
        framework: FRAMEWORK.to_owned(),
        branch: Branch(0),
        epoch: Epoch(1),
        delivery: 1,
        attempt: 1,
        effect_key: execution.to_owned(),
        definition: json!({}),
        input,
        timeout_ms: None,
        trace: None,
    }
}

fn not_yours() -> Failure {
    let detail = "the sending is not with this worker";
    Failure::new(FailureKind::Conflict, "not-yours", detail, "it was taken back, or finished before; drop it")
}

fn not_here<T>() -> Result<T, Failure> {
    let hint = "`omium dev` starts a whole engine";
    Err(Failure::new(FailureKind::Invalid, "only-workers", "here only workers are tested", hint))
}

fn unrecorded<T>() -> Result<T, Failure> {
    let detail = "this engine does not record tool calls of workers";
    let hint = "call the tool without saying so; its effect is not deduplicated";
    Err(Failure::new(FailureKind::Invalid, "tools-not-recorded", detail, hint))
}

struct Seat(Arc<Shared>);

#[async_trait]
impl WorkerSeat for Seat {
    async fn finish(&self, execution: &str, sending: Sending, outcome: Outcome) -> Result<Done, Failure> {
        self.0.end(execution, sending, End::Finished(outcome))
    }

    async fn begin(&self, execution: &str, sending: Sending) -> Result<Done, Failure> {
        if self.holds().contains(&(execution.to_owned(), sending)) {
            return Ok(Done { seq: 1, last: 1, repeated: false });
        }
        Err(not_yours())
    }

    async fn lose(&self, execution: &str, sending: Sending, reason: LossReason) -> Result<Done, Failure> {
        self.0.end(execution, sending, End::Lost(reason))
    }

    async fn call_tool(&self, _: &str, _: Sending, _: ToolCall) -> Result<ToolBegun, Failure> {
        unrecorded()
    }

    async fn end_tool(&self, _: &str, _: Sending, _: Seq, _: ToolEnd) -> Result<Done, Failure> {
        unrecorded()
    }

    fn holds(&self) -> Vec<(String, Sending)> {
        let table = self.0.lock();
        let open = table.given.iter().filter(|(_, given)| given.end.is_none());
        open.map(|(execution, given)| (execution.clone(), given.sending)).collect()
    }

    fn grant(&self, _: u32) {}

    fn away(&self, _: bool) {}

    fn drain(&self) {}
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.lock().seat = None;
        self.0.moved();
    }
}

impl Node for Kit {
    fn ready(&self) -> bool {
        true
    }

    fn wholeness(&self) -> Vec<Reason> {
        Vec::new()
    }

    fn readable(&self) -> bool {
        true
    }

    fn health(&self) -> Vec<(String, bool)> {
        Vec::new()
    }

    fn meters(&self) -> Arc<Meters> {
        Arc::default()
    }

    fn active(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}

#[async_trait]
impl Keys for Kit {
    async fn authenticate(&self, key: &str) -> Result<Option<Caller>, Failure> {
        let caller = Caller {
            tenant: TenantId([1; 16]),
            label: FRAMEWORK.into(),
            role: Role::Worker,
            key: KEY.into(),
        };
        Ok((key == KEY).then_some(caller))
    }

    async fn knows(&self, _: &Caller) -> bool {
        true
    }

    async fn keys(&self, _: &Caller) -> Result<Vec<KeyView>, Failure> {
        not_here()
    }

    async fn issue_key(&self, _: &Caller, _: NewKey) -> Result<IssuedKey, Failure> {
        not_here()
    }

    async fn revoke_key(&self, _: &Caller, _: &str) -> Result<KeyView, Failure> {
        not_here()
    }
}

#[async_trait]
impl Workflows for Kit {
    fn read(&self, file: &str, text: &str) -> Result<Definition, Problems> {
        omium_workflow::parse(file, text)
    }

    async fn publish(&self, _: &Caller, _: &str, _: &str) -> Result<Published, Failure> {
        not_here()
    }

    async fn workflows(&self, _: &Caller) -> Result<Vec<WorkflowView>, Failure> {
        not_here()
    }

    async fn workflow(&self, _: &Caller, _: &str) -> Result<WorkflowView, Failure> {
        not_here()
    }
}

#[async_trait]
impl Prices for Kit {
    async fn prices(&self, _: &Caller) -> Result<PricesView, Failure> {
        not_here()
    }

    async fn set_price(&self, _: &Caller, _: String, _: Price) -> Result<PriceView, Failure> {
        not_here()
    }
}

#[async_trait]
impl Executions for Kit {
    async fn start(&self, _: &Caller, _: StartRequest) -> Result<Started, Failure> {
        not_here()
    }

    async fn list(&self, _: &Caller, _: Filter) -> Result<Page<ExecutionSummary>, Failure> {
        not_here()
    }

    async fn place(&self, _: &Caller, _: &str, _: &str) -> Result<Seq, Failure> {
        not_here()
    }

    async fn show(&self, _: &Caller, _: &str, _: Option<Seq>) -> Result<ExecutionView, Failure> {
        not_here()
    }

    async fn content(&self, _: &Caller, _: &str, _: &str, _: Option<Seq>) -> Result<Bytes, Failure> {
        not_here()
    }

    async fn act(&self, _: &Caller, _: &str, _: Action, _: Option<String>) -> Result<Done, Failure> {
        not_here()
    }

    async fn fork(
        &self,
        _: &Caller,
        _: &str,
        _: &str,
        _: Option<Value>,
        _: Option<String>,
    ) -> Result<Started, Failure> {
        not_here()
    }

    async fn checkpoints(&self, _: &Caller, _: &str) -> Result<Vec<CheckpointView>, Failure> {
        not_here()
    }

    async fn ended(&self, _: &Caller, _: &str, _: Duration) -> Result<Option<Ended>, Failure> {
        not_here()
    }
}

#[async_trait]
impl Streams for Kit {
    async fn events(&self, _: &Caller, _: &str, _: Seq, _: usize) -> Result<Vec<EventView>, Failure> {
        not_here()
    }

    async fn follow(&self, _: &Caller, _: &str) -> Result<watch::Receiver<Seq>, Failure> {
        not_here()
    }

    async fn read_along(&self, _: &Caller, _: &str) -> Result<broadcast::Receiver<DeltaView>, Failure> {
        not_here()
    }
}

#[async_trait]
impl Workers for Kit {
    async fn seat(
        self: Arc<Self>,
        _: &Caller,
        worker: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Result<Box<dyn WorkerSeat>, Failure> {
        self.0.lock().seat = Some((worker, steps));
        self.0.moved();
        Ok(Box::new(Seat(self.0.clone())))
    }
}

#[async_trait]
impl Programs for Kit {
    async fn open_program(&self, _: &Caller, _: ProgramRequest) -> Result<Started, Failure> {
        not_here()
    }

    async fn begin_attempt(&self, _: &Caller, _: &str, _: Option<String>) -> Result<AttemptView, Failure> {
        not_here()
    }

    async fn end_attempt(&self, _: &Caller, _: &str, _: i64, _: i32, _: Value) -> Result<Done, Failure> {
        not_here()
    }

    async fn decide(&self, _: &Caller, _: &str, _: Decision, _: Option<String>) -> Result<Done, Failure> {
        not_here()
    }

    async fn guards(&self, _: &Caller) -> Result<Vec<GuardView>, Failure> {
        not_here()
    }

    async fn set_guard(&self, _: &Caller, _: GuardView) -> Result<GuardView, Failure> {
        not_here()
    }

    async fn drop_guard(&self, _: &Caller, _: &str) -> Result<GuardView, Failure> {
        not_here()
    }
}

#[async_trait]
impl Retention for Kit {
    async fn trim(&self, _: &Caller) -> Result<LetGo, Failure> {
        not_here()
    }
}
