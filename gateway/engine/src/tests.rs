//! The engine without a network: published, started, performed, killed, opened again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod actors;
mod ages;
mod control;
mod frameworks;
mod retention;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use omium_api::port::{
    Action, Answer as Verdict, Caller, Filter, Outcome, StartRequest, Task, ToWorker, ToolCall, ToolEnd,
    WorkerInfo, WorkerSeat,
};
use omium_api::views::{Ended, ExecutionView, Started};
use omium_runtime::{Answer, Request};
use omium_schemas::catalogue::{EffectClass, FailureClass, KeyRole, LossReason, QuarantineStream, RevokeKey};
use omium_schemas::{Money, Partition, Seq};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::index::Standing;
use super::{Engine, Options};

const LOAN: &str = "
name: loan
inputs: {type: object, required: [amount]}
execution_order: graph
agents:
  - {id: apr, framework: program, input: {amount: '{{ amount }}'}}
  - {id: risk, framework: program}
  - {id: writer, framework: program, after: [apr, risk], input: 'APR {{ outputs.apr.apr }} for {{ inputs.amount }}'}
";

const ONE: &str = "
name: one
agents:
  - {id: only, framework: program}
";

fn lanes(name: &str, count: usize, order: &str) -> String {
    let mut text = format!("name: {name}\nexecution_order: {order}\nagents:\n");
    for n in 0..count {
        let after = if order == "graph" && n > 0 { ", after: [a0]" } else { "" };
        text.push_str(&format!("  - {{id: a{n}, framework: program{after}, timeout: 1s}}\n"));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_lanes_start_time_out_fan_out_and_are_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    for (name, order) in [("wide", "parallel"), ("fan", "graph")] {
        desk.served.publish(&desk.caller, "f", &lanes(name, 1_000, order)).await.unwrap();
    }
    let wide = desk.started_as("wide", None, json!({})).await.unwrap().id;
    let fan = desk.started_as("fan", None, json!({})).await.unwrap().id;
    let cancelled = desk.started_as("wide", None, json!({})).await.unwrap().id;
    desk.served.act(&desk.caller, &cancelled, Action::Cancel, None).await.unwrap();
    assert_eq!(desk.show(&cancelled).await.status, "cancelled");
    let failed = desk.until(&wide, "failed").await;
    assert!(failed.steps.iter().all(|step| step.status != "waiting"));
    assert_eq!(desk.until(&fan, "failed").await.steps.len(), 1_000, "its first step timed out");
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn an_execution_can_be_cancelled_while_nothing_runs() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "f", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    desk.engine.stop().await.unwrap();
    drop(desk);
    super::cancel_offline(dir.path(), &id).await.unwrap();
    assert!(super::cancel_offline(dir.path(), &id).await.is_err(), "it does not go on any more");
    let desk = Desk::open(dir.path()).await;
    assert_eq!(desk.show(&id).await.status, "cancelled");
    desk.engine.stop().await.unwrap();
}

struct Desk {
    engine: Arc<Engine>,
    served: Arc<dyn omium_api::port::Engine>,
    caller: Caller,
}

impl Desk {
    /// With one execution of `LOAN` under way.
    async fn with_a_loan(dir: &Path) -> (Desk, String) {
        let desk = Desk::open(dir).await;
        desk.served.publish(&desk.caller, "loan.yaml", LOAN).await.unwrap();
        let id = desk.started(None, 7).await.unwrap().id;
        (desk, id)
    }

    async fn open(dir: &Path) -> Desk {
        let options =
            Options { data: dir.to_owned(), partitions: 2, kafka: None, host: super::Host::default() };
        // What a worker held is given back in the background, which holds the directory of an engine before until then.
        let engine = loop {
            match Engine::open(&options).await {
                Err(error) if error.to_string().contains("is in use by another") => {
                    tokio::task::yield_now().await;
                }
                opened => break opened.unwrap(),
            }
        };
        let key = engine.admit("default", KeyRole::Admin).await.unwrap();
        let served: Arc<dyn omium_api::port::Engine> = engine.clone();
        let caller = served.authenticate(&key).await.unwrap().unwrap();
        Desk { engine, served, caller }
    }

    /// What `/metrics` says of executions and steps, once the index is where the log is.
    async fn counted(&self) -> Vec<String> {
        let history = &self.engine.history;
        for partition in [Partition(0), Partition(1)] {
            history.index.caught_up(&*history.log, partition).await.unwrap();
        }
        let text = self.served.meters().text(false);
        let of = |(name, start): (&str, &str)| {
            let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap();
            format!("{name} {}", line.trim())
        };
        let started = ("started", "omium_executions_started_total{framework=\"program\"}");
        let steps = [
            ("completed", "omium_steps_total{outcome=\"completed\"}"),
            ("failed", "omium_steps_total{outcome=\"failed\"}"),
        ];
        [started].into_iter().chain(steps).map(of).collect()
    }

    async fn started(&self, key: Option<&str>, amount: u64) -> Result<Started, omium_api::port::Failure> {
        self.started_as("loan", key, json!({ "amount": amount })).await
    }

    async fn started_as(
        &self,
        workflow: &str,
        key: Option<&str>,
        inputs: Value,
    ) -> Result<Started, omium_api::port::Failure> {
        let request = StartRequest {
            workflow: workflow.into(),
            inputs,
            idempotency: key.map(str::to_owned),
            budget: None,
        };
        self.served.start(&self.caller, request).await
    }

    /// Which executions are listed under which status.
    async fn by_status(&self) -> BTreeMap<String, Vec<String>> {
        let history = &self.engine.history;
        for partition in (0..history.log.partitions()).map(Partition) {
            history.index.caught_up(&*history.log, partition).await.unwrap();
        }
        let mut found = BTreeMap::new();
        for (status, _) in Standing::ALL {
            let filter = Filter { status: Some(status.into()), limit: 10, ..Filter::default() };
            let page = self.served.list(&self.caller, filter).await.unwrap();
            found.insert(status.to_owned(), page.items.into_iter().map(|line| line.id).collect());
        }
        found
    }

    fn worker(&self, capacity: u32) -> Worker {
        let (steps, told) = mpsc::channel(64);
        let info = WorkerInfo { name: "w".into(), frameworks: vec!["program".into()], capacity, code: None };
        Worker { seat: self.engine.take_seat(Some(self.caller.tenant), info, steps), told }
    }

    async fn show(&self, id: &str) -> ExecutionView {
        self.served.show(&self.caller, id, None).await.unwrap()
    }

    /// Returns when the execution stands so.
    async fn until(&self, id: &str, status: &str) -> ExecutionView {
        let mut seq = self.served.follow(&self.caller, id).await.unwrap();
        loop {
            let view = self.show(id).await;
            if view.status == status {
                return view;
            }
            seq.changed().await.unwrap();
        }
    }
}

struct Worker {
    seat: Box<dyn WorkerSeat>,
    told: mpsc::Receiver<ToWorker>,
}

impl Worker {
    /// What it is told next. Nothing here takes long; a test that waits for ever says nothing.
    async fn hears(&mut self) -> ToWorker {
        let told = tokio::time::timeout(Duration::from_secs(60), self.told.recv());
        told.await.expect("the worker is told something within a minute").unwrap()
    }

    async fn next(&mut self) -> Task {
        match self.hears().await {
            ToWorker::Perform(task) => *task,
            other => panic!("{other:?}"),
        }
    }

    async fn completes(&self, task: &Task, output: Value) {
        let outcome = Outcome::Completed { output, cost: Money::ZERO };
        self.seat.finish(&task.execution, task.sending(), outcome).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_runs_and_goes_on_where_it_was_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let published = desk.served.publish(&desk.caller, "loan.yaml", LOAN).await.unwrap();
    assert_eq!((published.workflow.version, published.repeated), (1, false));
    let again = desk.served.publish(&desk.caller, "loan.yaml", LOAN).await.unwrap();
    assert_eq!((again.workflow.version, again.repeated), (1, true));
    let id = desk.started(Some("k"), 7).await.unwrap().id;
    assert!(desk.started(Some("k"), 7).await.unwrap().repeated);
    assert_eq!(desk.started(Some("k"), 8).await.unwrap_err().code, "key-used");
    assert_eq!(
        desk.served
            .start(
                &desk.caller,
                StartRequest {
                    workflow: "laon".into(),
                    inputs: Value::Null,
                    idempotency: None,
                    budget: None
                }
            )
            .await
            .unwrap_err()
            .hint,
        "did you mean `loan`?"
    );

    let mut worker = desk.worker(4);
    let (first, second) = (worker.next().await, worker.next().await);
    let (apr, risk) = if first.agent == "apr" { (first, second) } else { (second, first) };
    assert_eq!(apr.input, json!({ "amount": 7 }));
    worker.completes(&apr, json!({ "apr": 5.2 })).await;
    worker.completes(&risk, json!("low")).await;
    let before = desk.show(&id).await;
    desk.engine.stop().await.unwrap();
    drop((worker, desk));

    let desk = Desk::open(dir.path()).await;
    let after = desk.show(&id).await;
    assert_eq!((&after.steps, &after.state_hash), (&before.steps, &before.state_hash));
    let mut worker = desk.worker(1);
    let writer = worker.next().await;
    assert_eq!((writer.agent.as_str(), &writer.input), ("writer", &json!("APR 5.2 for 7")));
    worker.completes(&writer, json!({ "letter": "yes" })).await;
    let ended = desk.until(&id, "completed").await;
    assert_eq!(ended.output, json!({ "letter": "yes" }));

    let marks = desk.served.checkpoints(&desk.caller, &id).await.unwrap();
    assert_eq!(marks.iter().map(|mark| mark.done.len()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let there = desk.served.show(&desk.caller, &id, Some(Seq(marks[2].seq))).await.unwrap();
    assert_eq!(there.state_hash, marks[2].state_hash);
    let events = desk.served.events(&desk.caller, &id, Seq(1), 1_000).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=ended.seq).collect::<Vec<_>>());
    assert_eq!(events[0].body["inputs"], json!({ "amount": 7 }));
    let page = desk
        .served
        .list(&desk.caller, Filter { status: Some("completed".into()), limit: 10, ..Filter::default() })
        .await
        .unwrap();
    assert_eq!(page.items.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);

    let fork = desk.served.fork(&desk.caller, &id, "step:writer:before", None, None).await.unwrap();
    let again = worker.next().await;
    assert_eq!((again.execution, again.input), (fork.id, json!("APR 5.2 for 7")));
    desk.engine.stop().await.unwrap();
}

/// What happened to an execution within one reading of the log is seen as if it had been read as it happened.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_made_anew_says_what_the_old_one_said() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    let mut worker = desk.worker(1);
    let task = worker.next().await;
    let outcome = Outcome::Failed {
        class: FailureClass::ToolError,
        reason: "x".into(),
        retryable: false,
        retry_after: None,
    };
    worker.seat.finish(&id, task.sending(), outcome).await.unwrap();
    desk.until(&id, "failed").await;
    desk.served.act(&desk.caller, &id, Action::Retry, None).await.unwrap();
    let task = worker.next().await;
    worker.completes(&task, json!(1)).await;
    desk.until(&id, "completed").await;
    let before = desk.by_status().await;
    assert_eq!(before["completed"], [id.as_str()]);
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), 1, "{before:?}");
    assert_eq!(desk.counted().await, ["started 1", "completed 1", "failed 1"]);
    desk.engine.stop().await.unwrap();
    drop((worker, desk));

    // Counters go on where the log is, with the index as it was and with one that is made anew.
    let desk = Desk::open(dir.path()).await;
    assert_eq!(desk.counted().await, ["started 1", "completed 1", "failed 1"]);
    desk.engine.stop().await.unwrap();
    drop(desk);

    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let desk = Desk::open(dir.path()).await;
    assert_eq!(desk.by_status().await, before);
    assert_eq!(desk.counted().await, ["started 1", "completed 1", "failed 1"]);
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_work_back_and_a_lost_step_goes_to_another_worker() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, id) = Desk::with_a_loan(dir.path()).await;
    let mut worker = desk.worker(1);
    let task = worker.next().await;
    worker.seat.lose(&id, task.sending(), LossReason::Silent).await.unwrap();
    let mut seen = vec![worker.next().await];
    worker.seat.grant(1);
    seen.push(worker.next().await);
    let again = seen.iter().find(|other| other.step == task.step).unwrap();
    assert!(again.delivery > task.delivery && again.attempt == task.attempt);
    assert_eq!(
        worker
            .seat
            .finish(&id, task.sending(), Outcome::Completed { output: json!(1), cost: Money::ZERO })
            .await
            .unwrap_err()
            .code,
        "not-yours"
    );

    let refused = desk
        .served
        .act(
            &desk.caller,
            &id,
            Action::RollBack { to: "last".into(), cancel_running: false, over_writes: false },
            None,
        )
        .await
        .unwrap_err();
    assert_eq!(refused.hint, "wait for it, or roll back with `--cancel-running`");
    desk.served
        .act(
            &desk.caller,
            &id,
            Action::RollBack { to: "last".into(), cancel_running: true, over_writes: false },
            None,
        )
        .await
        .unwrap();
    let mut cancelled = 0;
    while cancelled < 2 {
        match worker.hears().await {
            ToWorker::Cancel { .. } => cancelled += 1,
            ToWorker::Perform(task) => assert_eq!(task.branch.0, 1),
        }
    }
    let other = Caller { tenant: omium_schemas::TenantId([9; 16]), ..desk.caller.clone() };
    assert_eq!(desk.served.show(&other, &id, None).await.unwrap_err().code, "not-found");
    let outcome = Outcome::Failed {
        class: FailureClass::ToolError,
        reason: "x".into(),
        retryable: false,
        retry_after: None,
    };
    assert!(worker.seat.finish(&id, seen[0].sending(), outcome).await.is_err());
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_tool_call_is_recorded_before_it_is_made_and_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, id) = Desk::with_a_loan(dir.path()).await;
    let mut worker = desk.worker(2);
    let task = worker.next().await;
    let other = worker.next().await;
    let call = ToolCall { tool: "rates".into(), effect: EffectClass::Read, arguments: json!({"for": 7}) };
    let begun = worker.seat.call_tool(&id, task.sending(), call).await.unwrap().done;
    let view = desk.show(&id).await;
    let step = view.steps.iter().find(|step| step.step == task.step.0).unwrap();
    let shown = &step.calls[0];
    assert_eq!((shown.seq, shown.name.as_str(), shown.status.as_str()), (begun.seq, "rates", "open"));

    let end = || ToolEnd::Answered { result: json!({"apr": 5.5}) };
    let foreign = worker.seat.end_tool(&id, other.sending(), Seq(begun.seq), end()).await;
    assert_eq!(foreign.unwrap_err().code, "no-open-call");
    worker.seat.end_tool(&id, task.sending(), Seq(begun.seq), end()).await.unwrap();
    let again = worker.seat.end_tool(&id, task.sending(), Seq(begun.seq), end()).await;
    assert!(again.unwrap().repeated, "the same end is taken again and changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_revoked_is_not_known_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let other = desk.engine.admit("default", KeyRole::Viewer).await.unwrap();
    let other = desk.served.authenticate(&other).await.unwrap().unwrap();
    assert!(desk.served.knows(&other).await && desk.served.knows(&desk.caller).await);
    let revoke = RevokeKey { tenant: other.tenant, key: other.key.clone() };
    let told = desk.engine.node().submit(Request::new(super::control_key(), revoke)).await;
    assert!(matches!(told, Answer::Done(_)), "{told:?}");
    assert!(!desk.served.knows(&other).await && desk.served.knows(&desk.caller).await);
    let raised = Caller { role: omium_api::port::Role::Viewer, ..desk.caller.clone() };
    assert!(!desk.served.knows(&raised).await, "a key opens what it opened when it was shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_end_is_told_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, id) = Desk::with_a_loan(dir.path()).await;
    let waits = |millis| desk.served.ended(&desk.caller, &id, Duration::from_millis(millis));
    assert_eq!(waits(1).await.unwrap(), None);
    let mut worker = desk.worker(1);
    let works = async {
        for output in [json!({"apr": 5.2}), json!({"apr": 5.2}), json!({"letter": "yes"})] {
            let task = worker.next().await;
            worker.completes(&task, output).await;
        }
    };
    let (ended, ()) = tokio::join!(waits(60_000), works);
    let expected = Ended { status: "completed".into(), failure: None, output: json!({"letter": "yes"}) };
    assert_eq!(ended.unwrap(), Some(expected.clone()));
    assert_eq!(waits(0).await.unwrap(), Some(expected), "what has ended is not waited for");
    let other = Caller { tenant: omium_schemas::TenantId([9; 16]), ..desk.caller.clone() };
    assert_eq!(desk.served.ended(&other, &id, Duration::from_secs(60)).await.unwrap_err().code, "not-found");
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_sent_again_is_served_what_tools_answered_and_a_person_is_asked_about_an_open_write() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, id) = Desk::with_a_loan(dir.path()).await;
    let mut worker = desk.worker(2);
    let task = worker.next().await;
    worker.next().await;
    let call = |tool: &str, effect| ToolCall { tool: tool.into(), effect, arguments: json!({"for": 7}) };
    let (rates, pay) = (|| call("rates", EffectClass::Read), || call("pay", EffectClass::Write));
    for apr in [5.5, 5.6] {
        let begun = worker.seat.call_tool(&id, task.sending(), rates()).await.unwrap();
        assert_eq!(begun.recorded, None, "the second equal call of one attempt is another one");
        let end = ToolEnd::Answered { result: json!({ "apr": apr }) };
        worker.seat.end_tool(&id, task.sending(), Seq(begun.done.seq), end).await.unwrap();
    }
    worker.seat.call_tool(&id, task.sending(), rates()).await.unwrap();
    let write = worker.seat.call_tool(&id, task.sending(), pay()).await.unwrap().done.seq;

    worker.seat.lose(&id, task.sending(), LossReason::Silent).await.unwrap();
    let again = worker.next().await;
    for recorded in [Some(Ok(json!({"apr": 5.5}))), Some(Ok(json!({"apr": 5.6}))), None] {
        let begun = worker.seat.call_tool(&id, again.sending(), rates()).await.unwrap();
        assert_eq!(
            begun.recorded, recorded,
            "answers are served once each; a read that was cut off is made again"
        );
    }
    let refused = worker.seat.call_tool(&id, again.sending(), pay()).await.unwrap_err();
    assert_eq!(refused.code, "asked");
    assert!(matches!(worker.hears().await, ToWorker::Cancel { step, .. } if step == task.step));
    let view = desk.show(&id).await;
    let question = &view.questions[0];
    assert_eq!(
        (question.call, question.tool.as_str(), &question.arguments),
        (write, "pay", &json!({"for": 7}))
    );

    let answer = Action::Answer {
        question: Seq(question.seq),
        answer: Verdict::Happened { result: json!(1) },
        note: None,
    };
    desk.served.act(&desk.caller, &id, answer, None).await.unwrap();
    let third = worker.next().await;
    assert_eq!((third.step, third.attempt), (task.step, task.attempt));
    let begun = worker.seat.call_tool(&id, third.sending(), pay()).await.unwrap();
    assert_eq!((begun.recorded, begun.done.seq), (Some(Ok(json!(1))), write));
    worker.completes(&third, json!({ "apr": 5.5 })).await;
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_tool_call_that_failed_is_served_as_failed_to_a_step_that_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    let mut worker = desk.worker(1);
    let task = worker.next().await;
    let pay = || ToolCall { tool: "pay".into(), effect: EffectClass::Write, arguments: json!({}) };
    let begun = worker.seat.call_tool(&id, task.sending(), pay()).await.unwrap();
    let end = ToolEnd::Failed { reason: "no money".into() };
    worker.seat.end_tool(&id, task.sending(), Seq(begun.done.seq), end).await.unwrap();

    worker.seat.lose(&id, task.sending(), LossReason::Silent).await.unwrap();
    let again = worker.next().await;
    let begun = worker.seat.call_tool(&id, again.sending(), pay()).await.unwrap();
    assert_eq!(begun.recorded, Some(Err("no money".to_owned())));
    let begun = worker.seat.call_tool(&id, again.sending(), pay()).await.unwrap();
    assert_eq!(begun.recorded, None, "it is served once");
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn no_other_user_can_read_what_lies_in_the_data_folder() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let desk = Desk::open(&data).await;
    desk.served.publish(&desk.caller, "f", ONE).await.unwrap();
    desk.started_as("one", None, json!({ "long": "x".repeat(100_000) })).await.unwrap();
    desk.engine.stop().await.unwrap();
    let mut folders = vec![data];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
            folders.extend(path.is_dir().then_some(path));
        }
    }
}

#[tokio::test]
async fn content_that_cannot_be_read_is_told_and_never_taken_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "f", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({ "long": "x".repeat(100_000) })).await.unwrap().id;
    for entry in std::fs::read_dir(dir.path().join("blobs")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.len() == 32) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let shown = desk.show(&id).await;
    assert!(shown.inputs.to_string().contains("omium:unreadable"), "{}", shown.inputs);
    let forked = desk.served.fork(&desk.caller, &id, "last", None, None).await;
    assert!(forked.is_err_and(|failure| failure.code == "unreadable" || failure.code == "not-found"));
    desk.engine.stop().await.unwrap();
    drop(desk);
    // Sent out anew, the step does not go out with nothing in place of its input.
    let desk = Desk::open(dir.path()).await;
    let failed = desk.until(&id, "failed").await;
    assert!(failed.steps[0].reason.as_ref().is_some_and(|reason| reason.contains("cannot be read")));
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_too_long_for_a_view_has_a_path_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "f", ONE).await.unwrap();
    let inputs = json!({ "long": "x".repeat(15 << 20) });
    let id = desk.started_as("one", None, inputs.clone()).await.unwrap().id;
    let mut worker = desk.worker(1);
    let task = worker.next().await;
    let output = json!("y".repeat(2 << 20));
    worker.completes(&task, output.clone()).await;
    let shown = desk.until(&id, "completed").await;
    let path = shown.output["omium:too-large"]["path"].as_str().unwrap();
    let (place, at) =
        path.strip_prefix(&format!("/api/v1/executions/{id}/content/")).unwrap().split_once("?at=").unwrap();
    assert_eq!(at, shown.seq.to_string());
    let content = async |id: &str, name: &str| desk.served.content(&desk.caller, id, name, None).await;
    assert_eq!(content(&id, place).await.unwrap(), output.to_string());
    assert_eq!(content(&id, "inputs").await.unwrap(), inputs.to_string());
    let other = desk.started_as("one", None, json!({})).await.unwrap().id;
    for (of, name) in [(&other, place), (&id, "outputs"), (&id, "")] {
        assert_eq!(content(of, name).await.unwrap_err().code, "no-such-content", "{name} of {of}");
    }
    let foreign = Caller { tenant: omium_schemas::TenantId([7; 16]), ..desk.caller.clone() };
    let refused = desk.served.content(&foreign, &id, place, None).await.unwrap_err();
    assert_eq!(refused.kind, omium_api::port::FailureKind::NotFound);
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_step_is_made_of_what_its_template_names_and_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let two = "name: two\nagents:\n  - {id: a, framework: program}\n  - {id: b, framework: program}\n  \
               - {id: c, framework: program, input: 'only {{ outputs.b }}'}\n";
    desk.served.publish(&desk.caller, "two.yaml", two).await.unwrap();
    let id = desk.started_as("two", None, json!({ "long": "x".repeat(100_000) })).await.unwrap().id;
    let mut worker = desk.worker(1);
    let first = worker.next().await;
    worker.completes(&first, json!("y".repeat(100_000))).await;
    let second = worker.next().await;
    for entry in std::fs::read_dir(dir.path().join("blobs")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.len() == 32) {
            std::fs::remove_file(path).unwrap();
        }
    }
    worker.completes(&second, json!("short")).await;
    let third = worker.next().await;
    assert_eq!(
        (third.execution, third.input),
        (id, json!("only short")),
        "what it does not name is not opened"
    );
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn keys_of_another_log_or_none_beside_a_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.started_as("none", None, json!({})).await.unwrap_err();
    desk.engine.stop().await.unwrap();
    drop(desk);
    let (keys, master) = (dir.path().join("keys"), dir.path().join("master.key"));
    let (kept_keys, kept_master) = (std::fs::read(&keys).unwrap(), std::fs::read(&master).unwrap());
    let options =
        Options { data: dir.path().to_owned(), partitions: 2, kafka: None, host: super::Host::default() };
    let refused = async |what: &str| match Engine::open(&options).await {
        Ok(_) => panic!("{what}: it opens"),
        Err(error) => assert!(error.to_string().contains("from a backup"), "{what}: {error}"),
    };
    std::fs::write(&keys, b"").unwrap();
    refused("emptied").await;
    std::fs::remove_file(&keys).unwrap();
    std::fs::remove_file(&master).unwrap();
    refused("removed").await;
    let other = tempfile::tempdir().unwrap();
    let desk = Desk::open(other.path()).await;
    desk.engine.stop().await.unwrap();
    drop(desk);
    std::fs::copy(other.path().join("keys"), &keys).unwrap();
    std::fs::copy(other.path().join("master.key"), &master).unwrap();
    refused("another log's").await;
    std::fs::write(&keys, kept_keys).unwrap();
    std::fs::write(&master, kept_master).unwrap();
    let desk = Desk::open(dir.path()).await;
    assert_eq!(desk.served.wholeness(), []);
    std::fs::remove_dir_all(dir.path().join("blobs")).unwrap();
    let noticed = async {
        while desk.served.wholeness().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.unwrap();
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_repeated_request_has_the_first_answer_whatever_has_happened_since() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    let key = |name: &str| Some(name.to_owned());
    let fork = || desk.served.fork(&desk.caller, &id, "last", None, key("fork"));
    let first = fork().await.unwrap();
    let checkpoint = Action::Checkpoint { name: "later".into() };
    desk.served.act(&desk.caller, &id, checkpoint, None).await.unwrap();
    let again = fork().await.unwrap();
    assert_eq!((again.id, again.repeated), (first.id, true), "`last` is another checkpoint by now");

    let mut worker = desk.worker(1);
    let task = worker.next().await;
    let back = || Action::RollBack { to: "later".into(), cancel_running: true, over_writes: false };
    let done = desk.served.act(&desk.caller, &task.execution, back(), key("back")).await;
    // The rollback takes the checkpoint's place; whichever execution the worker got, asking again changes nothing.
    let repeated = desk.served.act(&desk.caller, &task.execution, back(), key("back")).await;
    assert_eq!(done.is_ok(), repeated.is_ok(), "{done:?} {repeated:?}");
    let other = Action::Checkpoint { name: "other".into() };
    if done.is_ok() {
        let refused = desk.served.act(&desk.caller, &task.execution, other, key("back")).await.unwrap_err();
        assert_eq!(refused.code, "key-used");
    }
    for nowhere in ["0", "1", "99", "nowhere", "step:nobody"] {
        let refused = desk.served.fork(&desk.caller, &id, nowhere, None, key(nowhere)).await.unwrap_err();
        assert_eq!(refused.kind, omium_api::port::FailureKind::NotFound, "{nowhere}: {refused:?}");
    }
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_workflow_with_a_rule_that_cannot_be_used_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let sum = vec!["inputs.x"; 400].join(" + ");
    for rule in [format!("({sum}).size() > 0"), "[".repeat(60), "1 +".to_owned()] {
        for side in ["require", "ensure"] {
            let agent = json!({ "id": "a", "framework": "crewai", side: rule });
            let text = json!({ "name": "ruled", "agents": [agent] }).to_string();
            let refused = desk.served.publish(&desk.caller, "ruled.yaml", &text).await.unwrap_err();
            assert_eq!(
                (refused.kind, refused.code),
                (omium_api::port::FailureKind::Invalid, "bad-definition")
            );
            assert!(refused.detail.contains(&format!("`{side}` cannot be used")), "{refused:?}");
        }
    }
    let unknown = json!({ "name": "ruled", "agents": [{ "id": "a", "prompt": "x", "tools": ["clok"] }] });
    let refused = desk.served.publish(&desk.caller, "ruled.yaml", &unknown.to_string()).await.unwrap_err();
    assert!(refused.detail.contains("did you mean `clock`?"), "{refused:?}");
    let read = desk.served.read("ruled.yaml", &unknown.to_string());
    assert_eq!(json!(read.unwrap_err()), refused.problems, "who validates hears the same");
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn a_fork_with_inputs_that_do_not_fit_is_refused_like_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let (desk, id) = Desk::with_a_loan(dir.path()).await;
    let wrong = Some(json!({ "income": 1 }));
    let refused = desk.served.fork(&desk.caller, &id, "1", wrong, None).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (omium_api::port::FailureKind::Invalid, "bad-inputs"));
    desk.engine.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_quarantined_takes_commands_again_when_an_admin_releases_it() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "f", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    let key = desk.engine.key_of(&desk.caller, &id).unwrap();
    let refused = desk.served.act(&desk.caller, &id, Action::Release, None).await.unwrap_err();
    assert_eq!(refused.code, "not-quarantined");
    let shut = QuarantineStream { reason: "it ended the process three times".into() };
    assert!(matches!(desk.engine.node().submit(Request::new(key, shut)).await, Answer::Done(_)));
    let refused = desk.served.act(&desk.caller, &id, Action::Pause, None).await.unwrap_err();
    assert_eq!(refused.code, "quarantined");
    assert!(refused.hint.contains("omium release"), "{refused:?}");
    desk.served.act(&desk.caller, &id, Action::Release, None).await.unwrap();
    desk.served.act(&desk.caller, &id, Action::Pause, None).await.unwrap();
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_completes_a_step_of_a_person_fits_its_schema() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let text = "name: sign\nkeep: 2d\nagents:\n  - {id: x, framework: human, signal: ok, output_schema: {type: object, required: [yes]}}\n";
    let published = desk.served.publish(&desk.caller, "sign.yaml", text).await.unwrap();
    assert!(published.warnings.iter().any(|warning| warning.contains("--keep")), "{:?}", published.warnings);
    let id = desk.started_as("sign", None, json!({})).await.unwrap().id;
    let signal = |body| Action::Signal { name: "ok".into(), body };
    let refused = desk.served.act(&desk.caller, &id, signal(json!({ "zork": 1 })), None).await.unwrap_err();
    assert_eq!((refused.code, refused.kind), ("bad-signal", omium_api::port::FailureKind::Invalid));
    assert_eq!(desk.show(&id).await.status, "running");
    desk.served.act(&desk.caller, &id, signal(json!({ "yes": true })), None).await.unwrap();
    desk.until(&id, "completed").await;
    desk.engine.stop().await.unwrap();
}
