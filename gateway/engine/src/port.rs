//! The engine as the API asks for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use omium_api::port::{
    Action, Caller, Decision, Engine as Port, Failure, Filter, NewKey, ProgramRequest, Programs, Reason,
    StartRequest, ToWorker, WorkerInfo, WorkerSeat,
};
use omium_api::views::{
    AttemptView, CheckpointView, DeltaView, Done, Ended, EventView, ExecutionSummary, ExecutionView,
    GuardView, IssuedKey, KeyView, LetGo, Page, PriceView, PricesView, Published, Started, WorkflowView,
};
use omium_schemas::{Price, Seq};
use omium_telemetry::Meters;
use omium_workflow::{Definition, Problems};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, watch};

use super::Engine;

/// The engine behind the API.
pub struct Served(pub Arc<Engine>);

#[async_trait]
impl Programs for Served {
    async fn open_program(&self, caller: &Caller, request: ProgramRequest) -> Result<Started, Failure> {
        self.0.open_program(caller, request).await
    }

    async fn begin_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        code: Option<String>,
    ) -> Result<AttemptView, Failure> {
        self.0.begin_attempt(caller, execution, code).await
    }

    async fn end_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        number: i64,
        code: i32,
        output: Value,
    ) -> Result<Done, Failure> {
        self.0.end_attempt(caller, execution, number, code, output).await
    }

    async fn decide(
        &self,
        caller: &Caller,
        execution: &str,
        decision: Decision,
        note: Option<String>,
    ) -> Result<Done, Failure> {
        self.0.decided(caller, execution, decision, note).await
    }

    async fn guards(&self, caller: &Caller) -> Result<Vec<GuardView>, Failure> {
        self.0.known_guards(caller).await
    }

    async fn set_guard(&self, caller: &Caller, guard: GuardView) -> Result<GuardView, Failure> {
        self.0.guard_set(caller, guard).await
    }

    async fn drop_guard(&self, caller: &Caller, name: &str) -> Result<GuardView, Failure> {
        self.0.guard_dropped(caller, name).await
    }
}

#[async_trait]
impl Port for Served {
    async fn authenticate(&self, key: &str) -> Result<Option<Caller>, Failure> {
        self.0.known_key(key).await
    }

    async fn knows(&self, caller: &Caller) -> bool {
        self.0.still_knows(caller).await
    }

    fn ready(&self) -> bool {
        self.readable() && self.0.wholeness().is_empty()
    }

    fn wholeness(&self) -> Vec<Reason> {
        self.0.wholeness()
    }

    fn readable(&self) -> bool {
        self.0.ended().borrow().is_none() && self.0.history.index.troubles().is_empty()
    }

    fn health(&self) -> Vec<(String, bool)> {
        let running = self.0.ended().borrow().is_none();
        vec![
            ("engine".to_owned(), running),
            ("data".to_owned(), self.0.wholeness().is_empty()),
            ("publisher".to_owned(), self.0.troubles.none()),
        ]
    }

    fn meters(&self) -> Arc<Meters> {
        self.0.metrics.meters.clone()
    }

    fn active(&self) -> Vec<(String, u64)> {
        self.0.history.index.active()
    }

    fn read(&self, file: &str, text: &str) -> Result<Definition, Problems> {
        omium_agents::native::read(file, text)
    }

    async fn publish(&self, caller: &Caller, file: &str, text: &str) -> Result<Published, Failure> {
        self.0.publish_text(caller, file, text).await
    }

    async fn workflows(&self, caller: &Caller) -> Result<Vec<WorkflowView>, Failure> {
        self.0.known_workflows(caller).await
    }

    async fn workflow(&self, caller: &Caller, name: &str) -> Result<WorkflowView, Failure> {
        self.0.known_workflow(caller, name).await
    }

    async fn prices(&self, caller: &Caller) -> Result<PricesView, Failure> {
        self.0.known_prices(caller).await
    }

    async fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, Failure> {
        self.0.known_keys(caller).await
    }

    async fn issue_key(&self, caller: &Caller, wanted: NewKey) -> Result<IssuedKey, Failure> {
        self.0.key_issued(caller, wanted).await
    }

    async fn revoke_key(&self, caller: &Caller, key: &str) -> Result<KeyView, Failure> {
        self.0.key_revoked(caller, key).await
    }

    async fn set_price(&self, caller: &Caller, model: String, price: Price) -> Result<PriceView, Failure> {
        self.0.price_set(caller, model, price).await
    }

    async fn trim(&self, _caller: &Caller) -> Result<LetGo, Failure> {
        self.0.let_go_now().await
    }

    async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Failure> {
        self.0.begin(caller, request).await
    }

    async fn list(&self, caller: &Caller, filter: Filter) -> Result<Page<ExecutionSummary>, Failure> {
        self.0.page(caller, filter)
    }

    async fn show(
        &self,
        caller: &Caller,
        execution: &str,
        at: Option<Seq>,
    ) -> Result<ExecutionView, Failure> {
        self.0.look(caller, execution, at).await
    }

    async fn content(
        &self,
        caller: &Caller,
        execution: &str,
        name: &str,
        at: Option<Seq>,
    ) -> Result<Bytes, Failure> {
        self.0.named(caller, execution, name, at).await
    }

    async fn act(
        &self,
        caller: &Caller,
        execution: &str,
        action: Action,
        idempotency: Option<String>,
    ) -> Result<Done, Failure> {
        self.0.steer(caller, execution, action, idempotency).await
    }

    async fn fork(
        &self,
        caller: &Caller,
        execution: &str,
        at: &str,
        inputs: Option<Value>,
        idempotency: Option<String>,
    ) -> Result<Started, Failure> {
        self.0.split(caller, execution, at, inputs, idempotency).await
    }

    async fn place(&self, caller: &Caller, execution: &str, address: &str) -> Result<Seq, Failure> {
        self.0.place(caller, execution, address).await
    }

    async fn checkpoints(&self, caller: &Caller, execution: &str) -> Result<Vec<CheckpointView>, Failure> {
        self.0.marks(caller, execution).await
    }

    async fn events(
        &self,
        caller: &Caller,
        execution: &str,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<EventView>, Failure> {
        self.0.told(caller, execution, from, limit).await
    }

    async fn follow(&self, caller: &Caller, execution: &str) -> Result<watch::Receiver<Seq>, Failure> {
        self.0.followed(caller, execution).await
    }

    async fn read_along(
        &self,
        caller: &Caller,
        execution: &str,
    ) -> Result<broadcast::Receiver<DeltaView>, Failure> {
        self.0.reads_along(caller, execution).await
    }

    async fn ended(
        &self,
        caller: &Caller,
        execution: &str,
        limit: Duration,
    ) -> Result<Option<Ended>, Failure> {
        self.0.until_ended(caller, execution, limit).await
    }

    async fn seat(
        &self,
        caller: &Caller,
        worker: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Result<Box<dyn WorkerSeat>, Failure> {
        self.0.seat_of(caller, worker, steps)
    }
}
