//! Brings owed steps to whoever performs them, and their outcomes back as commands.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use omium_agents::native::{misfit, names};
use omium_api::port::{
    Caller, Failure, FailureKind, Outcome, Sending, Task, ToWorker, ToolBegun, ToolCall, ToolEnd, WorkerInfo,
    WorkerSeat, Workers,
};
use omium_api::views::Done;
use omium_execution::{Phase, Run};
use omium_runtime::{Answer, Dispatch, Request, StreamKey, Unreadable, Working};
use omium_schemas::catalogue::{
    Command, CompleteStep, FailStep, FailureClass, LoseStep, LossReason, StartStep,
};
use omium_schemas::{Content, ExecutionId, Money, Seq, StepId, TenantId};
use omium_workflow::{Agent, Definition};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::contents::Wanted;
use super::core::board::Offer;
use super::{Engine, answers};

/// How many steps are prepared at once.
const AT_ONCE: usize = 64;
/// How many bytes of content they open at once. One step alone may have more.
pub(super) const OPENED_AT_ONCE: usize = 64 << 20;
/// How long a node that is too busy to answer is left alone.
pub(super) const AGAIN: Duration = Duration::from_millis(20);
/// The same, when it has been too busy for a while.
const AGAIN_AT_MOST: Duration = Duration::from_secs(2);
/// How long what cannot be read now is left alone.
const LATER: Duration = Duration::from_millis(200);

pub(super) fn run(engine: &Arc<Engine>, mut incoming: mpsc::UnboundedReceiver<Dispatch>) {
    let weak = Arc::downgrade(engine);
    let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    tokio::spawn(async move {
        while let Some(dispatch) = incoming.recv().await {
            let Some(engine) = weak.upgrade() else { return };
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            tokio::spawn(async move {
                engine.prepare(dispatch).await;
                drop(permit);
            });
        }
    });
}

/// After a cancellation, a rollback or a timeout: takes back what is not awaited any more.
pub(super) fn withdraw(engine: &Arc<Engine>, key: StreamKey) {
    let held = engine.board.of(key);
    if held.is_empty() {
        return;
    }
    let engine = engine.clone();
    tokio::spawn(async move {
        let Some(stream) = engine.insisted(key).await else { return };
        let Some(run) = stream.state.0.run() else { return };
        for sending in held {
            let awaited = sending.branch == run.branch
                && run.status.is_open()
                && run
                    .step(sending.step)
                    .is_some_and(|(_, step)| matches!(step.phase, Phase::Waiting { .. }));
            if !awaited {
                engine.board.withdraw(key, sending);
            }
        }
    });
}

impl Engine {
    /// A stream as it is. What was sent out is not sent again by itself, so a node that is too busy to say is asked again
    /// until it does, or is over.
    async fn insisted(&self, key: StreamKey) -> Option<Arc<super::State>> {
        loop {
            match self.node().view(key).await {
                Ok(stream) => return stream,
                Err(Answer::Busy | Answer::Unknown) if self.ended.borrow().is_none() => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(_) => return None,
            }
        }
    }

    async fn prepare(self: &Arc<Self>, dispatch: Dispatch) {
        let key = dispatch.key;
        let (step, branch) = (dispatch.effect.step, dispatch.effect.branch);
        let sending = Sending { step, branch, epoch: dispatch.epoch, delivery: dispatch.delivery };
        match self.task(&dispatch).await {
            Ok(Some(task)) => self.board.offer(Offer { key, sending, task }),
            Ok(None) => {}
            Err(reason) => {
                let class = FailureClass::InvalidInput;
                let outcome = Outcome::Failed { class, reason, retryable: false, retry_after: None };
                self.finish_when_taken(key, sending, outcome).await;
            }
        }
    }

    /// What the step is made of, all of it: a step never goes out with nothing in place of what cannot be read.
    async fn whole_scope(
        &self,
        key: StreamKey,
        run: &Run,
        wanted: &Wanted,
    ) -> Result<(Value, Working), String> {
        let bytes: u64 = wanted.contents(run).map(omium_schemas::Content::length).sum();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(OPENED_AT_ONCE as u32);
        // It is open while the scope is made; the templates take what they name.
        let _room = self.opening.acquire_many(bytes).await.map_err(|_| "the node stops".to_owned())?;
        loop {
            match self.scope_of(key, run, wanted).await {
                // What ends the process while it is prepared is not tried for ever. Who only waits is not to blame.
                Ok(scope) => return Ok((scope, self.node().work_on(key))),
                Err(Unreadable::NotNow(_)) if self.ended.borrow().is_none() => {
                    tokio::time::sleep(LATER).await;
                }
                Err(why) => return Err(format!("what the step is made of cannot be read: {why}")),
            }
        }
    }

    /// What is sent; nothing where it is not awaited any more; a reason where the step can never begin.
    async fn task(&self, dispatch: &Dispatch) -> Result<Option<Task>, String> {
        let key = dispatch.key;
        let Some(stream) = self.insisted(key).await else { return Ok(None) };
        let Some(run) = stream.state.0.run() else { return Ok(None) };
        let step = dispatch.effect.step;
        let Some((plan, _)) = run.step(step) else { return Ok(None) };
        let Some(definition) = self.definition_when_there(key.tenant, run).await? else { return Ok(None) };
        let agent = definition.as_ref().and_then(|definition| definition.agent(step));
        let (scope, _working) = self.whole_scope(key, run, &wanted(agent, &plan.framework)).await?;
        let input = match agent.and_then(|agent| agent.input.as_ref()) {
            Some(template) => template.render(&scope).map_err(|missing| missing.to_string())?,
            None => scope,
        };
        if let Some(schema) = agent.and_then(|agent| agent.input_schema.as_ref()) {
            fits(schema, &input).map_err(|why| format!("the input does not fit its schema: {why}"))?;
        }
        let (workflow, branch) = (run.workflow.clone(), dispatch.effect.branch);
        Ok(Some(Task {
            execution: key.stream.to_string(),
            workflow,
            step,
            agent: plan.agent.clone(),
            framework: plan.framework.clone(),
            branch,
            epoch: dispatch.epoch,
            delivery: dispatch.delivery,
            attempt: dispatch.effect.attempt,
            effect_key: dispatch.effect_key(),
            definition: agent.map_or(Value::Null, |agent| agent.definition.clone()),
            input,
            timeout_ms: (plan.timeout_ms > 0).then_some(plan.timeout_ms as u64),
            trace: self.trace_of(key).await,
        }))
    }

    pub(super) async fn finish(
        &self,
        key: StreamKey,
        sending: Sending,
        outcome: Outcome,
    ) -> Result<Done, Failure> {
        // What was made was paid for, whether or not it is what was wanted.
        let cost = match &outcome {
            Outcome::Completed { cost, .. } if *cost > Money::ZERO => Some(*cost),
            Outcome::Completed { .. } | Outcome::Failed { .. } => None,
        };
        let outcome = self.held_to_its_schema(key, sending.step, outcome).await?;
        let Sending { step, branch, epoch, delivery } = sending;
        let command: Command = match outcome {
            Outcome::Completed { output, cost } => {
                if cost < Money::ZERO {
                    return Err(Failure::new(
                        FailureKind::Invalid,
                        "negative-cost",
                        "a cost is not negative",
                        "send what it cost, or nothing",
                    ));
                }
                // A step that gives nothing keeps nothing: where no result stands, `null` is read.
                let output = (!output.is_null()).then(|| Content::open(output.to_string()));
                CompleteStep { step, branch, epoch, delivery, output, cost }.into()
            }
            Outcome::Failed { class, reason, retryable, retry_after } => {
                let reason = Some(Content::open(json!(reason).to_string()));
                let retry_after_ms = retry_after.and_then(|wait| i64::try_from(wait.as_millis()).ok());
                FailStep { step, branch, epoch, delivery, class, reason, retryable, retry_after_ms, cost }
                    .into()
            }
        };
        let completes = matches!(command, Command::CompleteStep(_));
        let told = answers::done(self.node().submit(Request::new(key, command)).await);
        if let Err(failure) = &told
            && completes
            && matches!(failure.kind, FailureKind::Exhausted | FailureKind::Invalid)
        {
            // A result that there is no room for would leave the step waiting for one that there is.
            self.fail_for_want_of_room(key, sending, &failure.detail).await;
        }
        told
    }

    /// What was made, or the failure that it is where it does not fit. A native agent has held its output to it before.
    async fn held_to_its_schema(
        &self,
        key: StreamKey,
        step: StepId,
        outcome: Outcome,
    ) -> Result<Outcome, Failure> {
        let Outcome::Completed { output, .. } = &outcome else { return Ok(outcome) };
        let stream = self.stream(key).await?;
        let Some(run) = stream.state.0.run() else { return Ok(outcome) };
        let definition = self.definition_of(key.tenant, run).await?;
        let agent = definition.as_ref().and_then(|definition| definition.agent(step));
        let Some(agent) = agent.filter(|agent| agent.framework != "native") else { return Ok(outcome) };
        let misfit = agent.output_schema.as_ref().and_then(|schema| misfit(&agent.id, output, schema));
        Ok(match misfit {
            None => outcome,
            Some(misfit) => Outcome::Failed {
                class: misfit.class,
                reason: misfit.reason,
                retryable: misfit.retryable,
                retry_after: None,
            },
        })
    }

    async fn fail_for_want_of_room(&self, key: StreamKey, sending: Sending, why: &str) {
        let Sending { step, branch, epoch, delivery } = sending;
        let reason = Some(Content::open(json!(format!("its result finds no room: {why}")).to_string()));
        let class = FailureClass::Other;
        let (retryable, retry_after_ms, cost) = (false, None, None);
        let fail = FailStep { step, branch, epoch, delivery, class, reason, retryable, retry_after_ms, cost };
        if let Err(failure) = answers::done(self.node().submit(Request::new(key, fail)).await) {
            tracing::warn!(stream = %key.stream, detail = failure.detail, "a step whose result finds no room could not be failed");
        }
    }

    /// Seats somebody who performs steps: a worker of a tenant, or a part of the engine itself.
    pub(crate) fn take_seat(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
        info: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Box<dyn WorkerSeat> {
        let name = info.name.clone();
        let id = self.board.seat(tenant, info, steps);
        Box::new(Seated { engine: Arc::downgrade(self), id, tenant, name })
    }
}

#[async_trait]
impl Workers for Engine {
    async fn seat(
        self: Arc<Self>,
        caller: &Caller,
        info: WorkerInfo,
        steps: mpsc::Sender<ToWorker>,
    ) -> Result<Box<dyn WorkerSeat>, Failure> {
        if info.frameworks.is_empty() || info.capacity == 0 {
            return Err(Failure::new(
                FailureKind::Invalid,
                "bad-worker",
                "a worker names its frameworks and takes at least one step",
                "register with `frameworks` and `capacity`",
            ));
        }
        Ok(self.take_seat(Some(caller.tenant), info, steps))
    }
}

/// What holding a value against a schema may spend outside of a frame: a second or so at the very most.
const STEPS: u64 = 20_000_000;
const MEMORY: u64 = 256 << 20;

/// What of a run a step is made of.
fn wanted(agent: Option<&Agent>, framework: &str) -> Wanted {
    match agent {
        Some(Agent { input: Some(template), .. }) => Wanted::named(Some(template.names())),
        // A native agent with a prompt is asked that, and looks at its input where the prompt names it.
        Some(agent) if framework == "native" && agent.input_schema.is_none() => {
            let named = Wanted::named(names(&agent.definition));
            if named.names("input") { Wanted::all() } else { named }
        }
        _ => Wanted::all(),
    }
}

pub(super) fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let mut fuel = omium_limits::Fuel::new(STEPS, MEMORY);
    omium_limits::schema::fits(schema, value, &mut fuel).map_err(|why| why.to_string())
}

/// A worker's end of the engine. Dropped, all that it holds goes to others.
struct Seated {
    engine: Weak<Engine>,
    id: u64,
    tenant: Option<TenantId>,
    name: String,
}

impl Seated {
    fn held(&self, execution: &str, sending: Sending) -> Result<(Arc<Engine>, StreamKey), Failure> {
        let engine = self.engine.upgrade().ok_or_else(answers::unknown)?;
        let key = match (self.tenant, execution.parse::<ExecutionId>()) {
            (Some(tenant), Ok(id)) => Some(StreamKey::new(tenant, id.stream()))
                .filter(|key| engine.board.has(self.id, *key, sending)),
            (Some(_), Err(_)) => None,
            (None, _) => engine.board.of_seat(self.id, execution, sending),
        };
        match key {
            Some(key) => Ok((engine, key)),
            None => Err(Failure::new(
                FailureKind::Conflict,
                "not-yours",
                format!(
                    "sending {}/{} of {} of `{execution}` is not with this worker",
                    sending.epoch, sending.delivery, sending.step
                ),
                "it was taken back, or finished before; drop it",
            )),
        }
    }
}

#[async_trait]
impl WorkerSeat for Seated {
    async fn finish(&self, execution: &str, sending: Sending, outcome: Outcome) -> Result<Done, Failure> {
        let (engine, key) = self.held(execution, sending)?;
        let done = engine.finish(key, sending, outcome).await;
        // Where the outcome is unknown the worker sends it again; all else is settled.
        if !matches!(&done, Err(failure) if matches!(failure.kind, FailureKind::Busy | FailureKind::Full | FailureKind::Unknown))
        {
            engine.board.release(self.id, key, sending);
        }
        done
    }

    async fn begin(&self, execution: &str, sending: Sending) -> Result<Done, Failure> {
        let (engine, key) = self.held(execution, sending)?;
        let Sending { step, branch, epoch, delivery } = sending;
        let command = StartStep { step, branch, epoch, delivery, worker: self.name.clone(), code: None };
        answers::done(engine.node().submit(Request::new(key, command)).await)
    }

    async fn lose(&self, execution: &str, sending: Sending, reason: LossReason) -> Result<Done, Failure> {
        let (engine, key) = self.held(execution, sending)?;
        if reason == LossReason::Idle {
            // It may be stuck in the step: its place is taken until it says that it is not.
            engine.board.forfeit(self.id, key, sending);
        } else {
            engine.board.release(self.id, key, sending);
        }
        engine.lose(key, sending, self.name.clone(), reason).await
    }

    async fn call_tool(
        &self,
        execution: &str,
        sending: Sending,
        call: ToolCall,
    ) -> Result<ToolBegun, Failure> {
        let (engine, key) = self.held(execution, sending)?;
        engine.start_tool(&self.name, (key, sending), call).await
    }

    async fn end_tool(
        &self,
        execution: &str,
        sending: Sending,
        call: Seq,
        end: ToolEnd,
    ) -> Result<Done, Failure> {
        let (engine, key) = self.held(execution, sending)?;
        engine.end_tool(key, sending, call, end).await
    }

    fn holds(&self) -> Vec<(String, Sending)> {
        self.engine.upgrade().map(|engine| engine.board.holds(self.id)).unwrap_or_default()
    }

    fn grant(&self, credit: u32) {
        if let Some(engine) = self.engine.upgrade() {
            engine.board.grant(self.id, credit);
        }
    }

    fn away(&self, away: bool) {
        if let Some(engine) = self.engine.upgrade() {
            engine.board.away(self.id, away);
        }
    }

    fn drain(&self) {
        if let Some(engine) = self.engine.upgrade() {
            engine.board.drain(self.id);
        }
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        let Some(engine) = self.engine.upgrade() else { return };
        let held = engine.board.leave(self.id);
        let name = self.name.clone();
        if held.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            for (key, sending) in held {
                if let Err(failure) = engine.lose(key, sending, name.clone(), LossReason::Disconnected).await {
                    tracing::info!(stream = %key.stream, detail = failure.detail, "a step of a worker that is gone was not awaited");
                }
            }
        });
    }
}

impl Engine {
    pub(super) async fn lose(
        &self,
        key: StreamKey,
        sending: Sending,
        worker: String,
        reason: LossReason,
    ) -> Result<Done, Failure> {
        let Sending { step, branch, epoch, delivery } = sending;
        let command = LoseStep { step, branch, epoch, delivery, worker, reason };
        let told = answers::done(self.node().submit(Request::new(key, command)).await);
        // The same attempt goes out again under another number, whatever the log says: nobody performs it in any case.
        self.give_back(key, sending);
        told
    }

    /// Nobody performs a sending any more. The node sends the step out again if it still waits for this one.
    pub(super) fn give_back(&self, key: StreamKey, sending: Sending) {
        let Sending { step, branch, epoch, delivery } = sending;
        self.node().lost(key, step, branch, epoch, delivery);
    }

    /// Submits until the log takes or refuses it: a node that is busy, or whose disk is full, is asked again.
    pub(super) async fn until_taken(
        &self,
        request: impl Fn() -> Request,
    ) -> Result<omium_runtime::Done, Failure> {
        let mut wait = AGAIN;
        loop {
            let told = answers::decided(self.node().submit(request()).await);
            match &told {
                Err(failure) if answers::passes(failure) && self.ended.borrow().is_none() => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_AT_MOST);
                }
                _ => return told,
            }
        }
    }

    /// Brings an outcome into the log, however long that takes nothing. What was done is not done again meanwhile.
    pub(super) async fn finish_when_taken(&self, key: StreamKey, sending: Sending, outcome: Outcome) {
        let mut wait = AGAIN;
        loop {
            match self.finish(key, sending, outcome.clone()).await {
                Err(failure) if answers::passes(&failure) && self.ended.borrow().is_none() => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_AT_MOST);
                }
                Err(failure) => {
                    tracing::info!(stream = %key.stream, code = failure.code, "the outcome of a step was not taken");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// The definition that a run is pinned to, where it has one. A control stream that cannot be read now is asked again:
    /// a step that is sent out without its definition does something else. Nothing where the engine is over.
    async fn definition_when_there(
        &self,
        tenant: TenantId,
        run: &Run,
    ) -> Result<Option<Option<Arc<Definition>>>, String> {
        let mut wait = AGAIN;
        loop {
            match self.definition_of(tenant, run).await {
                Ok(definition) => return Ok(Some(definition)),
                Err(_) if self.ended.borrow().is_some() => return Ok(None),
                Err(failure) if answers::passes(&failure) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_AT_MOST);
                }
                Err(failure) => return Err(format!("{}; {}", failure.detail, failure.hint)),
            }
        }
    }
}
