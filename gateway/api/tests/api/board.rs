//! Who performs what, in memory.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use omium_api::port::{
    Failure, FailureKind, Outcome, Sending, Task, ToWorker, ToolBegun, ToolCall, ToolEnd, WorkerInfo,
    WorkerSeat,
};
use omium_api::views::Done;
use omium_schemas::catalogue::LossReason;
use omium_schemas::{Branch, Epoch, Seq, StepId, TenantId};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::engine::Memory;

#[derive(Default)]
pub(crate) struct Board(Mutex<Table>);

#[derive(Default)]
struct Table {
    absent: watch::Sender<usize>,
    seats: Vec<Option<Place>>,
    waiting: Vec<(TenantId, Task)>,
}

struct Place {
    tenant: TenantId,
    info: WorkerInfo,
    credit: u32,
    draining: bool,
    away: bool,
    held: Vec<Task>,
    steps: mpsc::Sender<ToWorker>,
}

pub(crate) fn task(execution: &str, delivery: i64) -> Task {
    Task {
        execution: execution.to_owned(),
        workflow: "loan-decision".to_owned(),
        step: StepId(1),
        agent: "clerk".to_owned(),
        framework: "program".to_owned(),
        branch: Branch(0),
        epoch: Epoch(1),
        delivery,
        attempt: 1,
        effect_key: format!("{execution}/1/0"),
        definition: json!({}),
        input: json!({ "big": u64::MAX }),
        timeout_ms: None,
        trace: None,
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap()
    }

    pub(crate) fn seat(&self, tenant: TenantId, info: WorkerInfo, steps: mpsc::Sender<ToWorker>) -> usize {
        let mut table = self.lock();
        let credit = info.capacity;
        let place = Place { tenant, info, credit, draining: false, away: false, held: Vec::new(), steps };
        table.seats.push(Some(place));
        table.hand_out();
        table.seats.len() - 1
    }

    pub(crate) fn offer(&self, tenant: TenantId, task: Task) {
        let mut table = self.lock();
        table.waiting.push((tenant, task));
        table.hand_out();
    }

    /// How many workers have a seat.
    pub(crate) fn seated(&self) -> usize {
        self.lock().seats.iter().flatten().count()
    }

    pub(crate) async fn waits_for_an_absence(&self) {
        let mut absent = self.lock().absent.subscribe();
        absent.wait_for(|absent| *absent > 0).await.unwrap();
    }

    /// Takes a step back from whoever has it.
    pub(crate) fn withdraw(&self, execution: &str) {
        for place in self.lock().seats.iter_mut().flatten() {
            if let Some(at) = place.held.iter().position(|task| task.execution == execution) {
                let Task { execution, step, delivery, .. } = place.held.remove(at);
                place.steps.try_send(ToWorker::Cancel { execution, step, delivery }).unwrap();
            }
        }
    }

    fn release(&self, id: usize, execution: &str, of: Sending, room: u32) -> Option<(TenantId, Task)> {
        let mut table = self.lock();
        let place = table.seats[id].as_mut()?;
        let at = place.held.iter().position(|task| task.execution == execution && task.sending() == of)?;
        let task = place.held.remove(at);
        place.credit += room;
        let tenant = place.tenant;
        table.hand_out();
        Some((tenant, task))
    }
}

impl Table {
    fn hand_out(&mut self) {
        let mut still = Vec::new();
        for (tenant, task) in std::mem::take(&mut self.waiting) {
            let taker = self.seats.iter_mut().flatten().find(|place| {
                place.tenant == tenant
                    && place.credit > 0
                    && !(place.draining || place.away)
                    && place.info.frameworks.contains(&task.framework)
            });
            match taker {
                Some(place) => {
                    place.credit -= 1;
                    place.held.push(task.clone());
                    place.steps.try_send(ToWorker::Perform(Box::new(task))).unwrap();
                }
                None => still.push((tenant, task)),
            }
        }
        self.waiting = still;
    }
}

pub(crate) struct Seat {
    pub(crate) memory: Arc<Memory>,
    pub(crate) id: usize,
}

fn not_yours() -> Failure {
    Failure::new(FailureKind::Conflict, "not-yours", "it is not with this worker", "drop it")
}

#[async_trait]
impl WorkerSeat for Seat {
    async fn finish(&self, execution: &str, of: Sending, outcome: Outcome) -> Result<Done, Failure> {
        self.memory.board.release(self.id, execution, of, 1).ok_or_else(not_yours)?;
        Ok(match outcome {
            Outcome::Completed { output, cost } => {
                let body = json!({ "output": output, "nano": cost.nano_dollars() as i64 });
                self.memory.say(execution, "StepCompleted", body)
            }
            Outcome::Failed { class, reason, retryable, .. } => {
                let body = json!({ "class": class.symbol(), "reason": reason, "retryable": retryable });
                self.memory.say(execution, "StepFailed", body)
            }
        })
    }

    async fn begin(&self, execution: &str, of: Sending) -> Result<Done, Failure> {
        if !self.holds().contains(&(execution.to_owned(), of)) {
            return Err(not_yours());
        }
        Ok(self.memory.say(execution, "StepStarted", json!(null)))
    }

    /// The rates were asked for before; all else is new.
    async fn call_tool(&self, execution: &str, _: Sending, call: ToolCall) -> Result<ToolBegun, Failure> {
        let recorded = (call.tool == "rates").then(|| Ok(json!({ "apr": 5.5 })));
        Ok(ToolBegun { done: self.memory.say(execution, "ToolCallStarted", call.arguments), recorded })
    }

    async fn end_tool(&self, _: &str, _: Sending, _: Seq, _: ToolEnd) -> Result<Done, Failure> {
        let detail = "this engine does not record tool calls of workers";
        Err(Failure::new(
            FailureKind::Invalid,
            "tools-not-recorded",
            detail,
            "call the tool without saying so",
        ))
    }

    async fn lose(&self, execution: &str, of: Sending, reason: LossReason) -> Result<Done, Failure> {
        let room = u32::from(reason != LossReason::Idle);
        let (tenant, mut task) =
            self.memory.board.release(self.id, execution, of, room).ok_or_else(not_yours)?;
        let done = self.memory.say(execution, "StepLost", json!(reason.symbol()));
        task.delivery += 1;
        self.memory.board.offer(tenant, task);
        Ok(done)
    }

    fn holds(&self) -> Vec<(String, Sending)> {
        let table = self.memory.board.lock();
        let held = table.seats[self.id].iter().flat_map(|place| &place.held);
        held.map(|task| (task.execution.clone(), task.sending())).collect()
    }

    fn grant(&self, credit: u32) {
        let mut table = self.memory.board.lock();
        if let Some(place) = table.seats[self.id].as_mut() {
            place.credit += credit;
        }
        table.hand_out();
    }

    fn away(&self, away: bool) {
        let mut table = self.memory.board.lock();
        if let Some(place) = table.seats[self.id].as_mut() {
            place.away = away;
        }
        let absent = table.seats.iter().flatten().filter(|place| place.away).count();
        table.absent.send_replace(absent);
        table.hand_out();
    }

    fn drain(&self) {
        if let Some(place) = self.memory.board.lock().seats[self.id].as_mut() {
            place.draining = true;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let left = self.memory.board.lock().seats[self.id].take();
        let held = left.map(|place| place.held).unwrap_or_default();
        assert!(held.is_empty(), "the session gives back what its worker held before it leaves: {held:?}");
    }
}
