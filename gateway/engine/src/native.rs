//! Native agents, performed inside the engine: each model and tool call stands in the log before it is made.

use std::sync::{Arc, Weak};
use std::time::Duration;

use omium_agents::native::{NativeTask, Outcome as Native, Upstream, names, perform};
use omium_api::port::{Failure, Outcome, Sending, Task, ToWorker, WorkerInfo};
use omium_runtime::{Request, StreamKey};
use omium_schemas::Money;
use omium_schemas::catalogue::{FailureClass, StartStep};
use omium_telemetry::Work;
use tokio::sync::mpsc;

use super::calls::NativeRecord;
use super::contents::Wanted;
use super::{Engine, answers, dispatch};

/// How many steps are performed at once. They wait for models most of the time.
const AT_ONCE: u32 = 256;
/// How long a step may take where its definition does not say.
const PATIENCE: Duration = Duration::from_secs(600);

/// Performs steps of native agents until the engine goes away.
///
/// Without a model's server each step fails by name.
pub fn seat(engine: &Arc<Engine>, upstream: Option<Upstream>) {
    let (steps, mut told) = mpsc::channel(4 * AT_ONCE as usize);
    let info = WorkerInfo {
        name: "native".into(),
        frameworks: vec!["native".into()],
        capacity: AT_ONCE,
        code: None,
    };
    let id = engine.board.seat(None, info, steps);
    let weak = Arc::downgrade(engine);
    let http = client(upstream.as_ref());
    tokio::spawn(async move {
        let mut running: Vec<(String, Sending, tokio::task::AbortHandle)> = Vec::new();
        while let Some(told) = told.recv().await {
            running.retain(|(.., handle)| !handle.is_finished());
            match told {
                ToWorker::Perform(task) => {
                    let (execution, sending) = (task.execution.clone(), task.sending());
                    let (weak, upstream, http) = (weak.clone(), upstream.clone(), http.clone());
                    let step = tokio::spawn(performed(weak, id, *task, upstream, http));
                    running.push((execution, sending, step.abort_handle()));
                }
                ToWorker::Cancel { execution, step, delivery } => {
                    let this = |known: &Sending| known.step == step && known.delivery == delivery;
                    running
                        .iter()
                        .filter(|(name, known, _)| *name == execution && this(known))
                        .for_each(|(.., handle)| handle.abort());
                }
            }
        }
    });
}

/// What a model's server redirects to has not been consented to, and a proxy cannot reach this machine.
fn client(upstream: Option<&Upstream>) -> reqwest::Client {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10));
    let here = upstream.is_some_and(|upstream| omium_edge::is_loopback(&upstream.base_url));
    if here { client.no_proxy() } else { client }.build().unwrap_or_default()
}

async fn performed(
    engine: Weak<Engine>,
    seat: u64,
    task: Task,
    upstream: Option<Upstream>,
    http: reqwest::Client,
) {
    let Some(engine) = engine.upgrade() else { return };
    let sending = task.sending();
    let Some(key) = engine.board.of_seat(seat, &task.execution, sending) else { return };
    let work = Work::of(task.trace.as_ref(), "omium.step", Vec::new());
    match work.during(engine.native(key, &task, upstream, &http)).await {
        Performed::Ended(outcome) => {
            if matches!(outcome, Outcome::Failed { .. }) {
                work.failed("the attempt failed");
            }
            work.during(engine.finish_when_taken(key, sending, outcome)).await;
        }
        Performed::Asked => {}
        Performed::NotBegun => {
            // What cannot be recorded now is tried again by whoever gets the sending next, and not at once.
            tokio::time::sleep(dispatch::AGAIN).await;
            engine.give_back(key, sending);
        }
    }
    engine.board.release(seat, key, sending);
}

/// How an attempt at a native step has gone.
enum Performed {
    Ended(Outcome),
    /// A person is asked about a call.
    Asked,
    /// The log did not take it: the step is somebody else's by now, or comes again.
    NotBegun,
}

impl Engine {
    async fn native(
        self: &Arc<Self>,
        key: StreamKey,
        task: &Task,
        upstream: Option<Upstream>,
        http: &reqwest::Client,
    ) -> Performed {
        if self.begin_native(key, task.sending()).await.is_err() {
            return Performed::NotBegun;
        }
        let Some(upstream) = upstream else { return Performed::Ended(no_upstream()) };
        let Ok(native) = self.native_task(key, task, upstream).await else { return Performed::NotBegun };
        let record = NativeRecord::new(self, key, task.sending());
        match perform(native, &record, http).await {
            // Each call has brought its own cost into the log.
            Native::Completed { output, .. } => {
                Performed::Ended(Outcome::Completed { output, cost: Money::ZERO })
            }
            Native::Failed(failure) => {
                // Of an attempt whose answers are to blame, the next one must not be served any.
                let class = match failure.class {
                    _ if !failure.blames_answers => failure.class,
                    FailureClass::ModelError | FailureClass::LogicError => failure.class,
                    _ => FailureClass::Hallucination,
                };
                let (reason, retryable) = (failure.reason, failure.retryable);
                let retry_after = failure.retry_after;
                Performed::Ended(Outcome::Failed { class, reason, retryable, retry_after })
            }
            Native::Unknown { call, reason, .. } => {
                self.ask_about(key, task.sending(), "native", call, &reason).await;
                Performed::Asked
            }
            Native::NotRecorded(reason) => {
                tracing::info!(stream = %key.stream, reason, "a call of a native step was not recorded");
                Performed::NotBegun
            }
        }
    }

    async fn begin_native(&self, key: StreamKey, sending: Sending) -> Result<(), Failure> {
        let Sending { step, branch, epoch, delivery } = sending;
        let start = StartStep { step, branch, epoch, delivery, worker: "native".into(), code: None };
        self.until_taken(|| Request::new(key, start.clone())).await.map(|_| ())
    }

    async fn native_task(
        &self,
        key: StreamKey,
        task: &Task,
        upstream: Upstream,
    ) -> Result<NativeTask, Failure> {
        let stream = self.stream(key).await?;
        let run = stream.state.0.run().ok_or_else(answers::unknown)?;
        let definition = self.definition_of(key.tenant, run).await?;
        let agent = definition.as_ref().and_then(|definition| definition.agent(task.step));
        let wanted = Wanted::named(names(&task.definition));
        let scope = self.scope_of(key, run, &wanted).await;
        let mut scope = scope.map_err(|why| answers::unreadable("what the step is made of", &why))?;
        scope["input"] = task.input.clone();
        Ok(NativeTask {
            agent: task.agent.clone(),
            caller: format!("{}#0", task.agent),
            definition: task.definition.clone(),
            tools: definition.as_ref().map(|definition| definition.tools.clone()).unwrap_or_default(),
            scope,
            input: task.input.clone(),
            output_schema: agent.and_then(|agent| agent.output_schema.clone()),
            upstream,
            effect_key: task.effect_key.clone(),
            deadline: task.timeout_ms.map_or(PATIENCE, Duration::from_millis),
            grants: self.host.of(key.tenant).clone(),
        })
    }
}

fn no_upstream() -> Outcome {
    let reason =
        "this node was started without a model's server; start it with --upstream URL or OMIUM_UPSTREAM_URL";
    let (class, reason) = (FailureClass::ModelError, reason.to_owned());
    Outcome::Failed { class, reason, retryable: false, retry_after: None }
}
