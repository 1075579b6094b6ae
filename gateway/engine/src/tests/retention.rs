//! What was kept long enough is let go of, and all else stays as it was.

use std::path::Path;
use std::time::Duration;

use omium_api::port::{Action, Outcome};
use omium_api::views::{EventView, ExecutionView};
use omium_schemas::catalogue::FailureClass;
use omium_schemas::{Block, Frame, Partition, Seq};
use serde_json::{Value, json};

use super::{Desk, ONE, Worker};
use crate::publish::Shown;

const KEPT: &str = "
name: kept
keep: 7d
agents:
  - {id: only, framework: program}
";

/// An execution of a workflow that has ended, with content too long for a frame.
async fn ended(desk: &Desk, worker: &mut Worker, workflow: &str) -> String {
    let inputs = json!({ "text": "0123456789abcdef".repeat(20_000) });
    let id = desk.started_as(workflow, None, inputs).await.unwrap().id;
    let task = worker.next().await;
    worker.completes(&task, json!("done")).await;
    desk.until(&id, "completed").await;
    id
}

async fn failed(desk: &Desk, worker: &mut Worker) -> String {
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    let task = worker.next().await;
    let (class, reason) = (FailureClass::ToolError, "x".into());
    let outcome = Outcome::Failed { class, reason, retryable: false, retry_after: None };
    worker.seat.finish(&id, task.sending(), outcome).await.unwrap();
    desk.until(&id, "failed").await;
    id
}

async fn events(desk: &Desk, id: &str) -> Vec<EventView> {
    desk.served.events(&desk.caller, id, Seq(1), 1_000).await.unwrap()
}

/// As if the blobs had been written a while ago.
fn age_blobs(data: &Path) -> usize {
    let files: Vec<_> = std::fs::read_dir(data.join("blobs")).unwrap().flatten().collect();
    let then = std::time::SystemTime::now() - Duration::from_secs(2 * 86_400);
    for file in &files {
        std::fs::File::open(file.path()).unwrap().set_modified(then).unwrap();
    }
    files.len()
}

/// Every frame of the log.
async fn frames(desk: &Desk) -> Vec<Frame> {
    let log = &desk.engine.history.log;
    let mut frames = Vec::new();
    for partition in (0..log.partitions()).map(Partition) {
        let end = *log.tail(partition).unwrap().borrow();
        let mut next = log.start(partition).unwrap();
        while next < end {
            for entry in log.read(partition, next, 1 << 20).await.unwrap() {
                next = entry.offset.next();
                frames.extend(Block::trusted(entry.bytes).unwrap().frames().unwrap());
            }
        }
    }
    frames
}

async fn is_gone(desk: &Desk, id: &str) {
    assert_eq!(desk.served.show(&desk.caller, id, None).await.unwrap_err().code, "let-go");
    assert_eq!(desk.served.events(&desk.caller, id, Seq(1), 10).await.unwrap_err().code, "let-go");
    assert!(desk.served.act(&desk.caller, id, Action::Retry, None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_is_let_go_of_and_all_else_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    desk.served.publish(&desk.caller, "kept.yaml", KEPT).await.unwrap();
    let mut worker = desk.worker(8);
    let mut gone = Vec::new();
    for _ in 0..4 {
        gone.push(ended(&desk, &mut worker, "one").await);
    }
    gone.push(failed(&desk, &mut worker).await);
    let kept = ended(&desk, &mut worker, "kept").await;
    let open = desk.started_as("one", None, json!({ "n": 1 })).await.unwrap().id;
    let _held = worker.next().await;

    let before: Vec<ExecutionView> = vec![desk.show(&kept).await, desk.show(&open).await];
    let told: Vec<Vec<EventView>> = vec![events(&desk, &kept).await, events(&desk, &open).await];
    let blobs = age_blobs(dir.path());
    for round in 0..2 {
        let done = desk.engine.let_go(Duration::ZERO).await.unwrap();
        let dropped: u64 = done.partitions.iter().map(|part| part.dropped).sum();
        assert!(dropped > 0, "round {round}: {done:?}");
        assert_eq!(done.blobs_removed > 0, round == 0, "{done:?}");
    }
    let left = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert!(0 < left && left < blobs, "{left} of {blobs}");
    let mut lists = desk.by_status().await;
    let stands = |list: &mut std::collections::BTreeMap<String, Vec<String>>| {
        list.retain(|_, ids| !ids.is_empty());
        json!(list)
    };
    let wanted = json!({ "completed": [kept], "running": [open] });
    assert_eq!(stands(&mut lists), wanted);
    desk.engine.stop().await.unwrap();
    drop((worker, desk));

    for forgotten in [&[][..], &["index"], &["state", "index"]] {
        for part in forgotten {
            std::fs::remove_dir_all(dir.path().join(part)).unwrap();
        }
        let desk = Desk::open(dir.path()).await;
        assert_eq!(stands(&mut desk.by_status().await), wanted, "without {forgotten:?}");
        // Long texts are compared here, not printed.
        assert!(vec![desk.show(&kept).await, desk.show(&open).await] == before, "without {forgotten:?}");
        assert!(
            vec![events(&desk, &kept).await, events(&desk, &open).await] == told,
            "without {forgotten:?}"
        );
        let then = desk.served.show(&desk.caller, &kept, Some(Seq(1))).await.unwrap();
        assert_eq!(then.status, "running");
        for id in &gone {
            is_gone(&desk, id).await;
        }
        desk.engine.stop().await.unwrap();
    }

    // What goes on goes on, and is let go of in its turn.
    let desk = Desk::open(dir.path()).await;
    let mut worker = desk.worker(8);
    let task = worker.next().await;
    assert_eq!(task.execution, open);
    worker.completes(&task, Value::Null).await;
    desk.until(&open, "completed").await;
    desk.engine.let_go(Duration::ZERO).await.unwrap();
    is_gone(&desk, &open).await;
    assert_eq!(stands(&mut desk.by_status().await), json!({ "completed": [kept] }));
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_let_go_of_that_ended_within_the_time_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let mut worker = desk.worker(8);
    let id = ended(&desk, &mut worker, "one").await;
    age_blobs(dir.path());
    assert_eq!(desk.served.trim(&desk.caller).await.unwrap_err().code, "keeps-everything");
    let done = desk.engine.let_go(Duration::from_secs(86_400)).await.unwrap();
    assert_eq!(done.partitions.iter().map(|part| part.dropped).sum::<u64>(), 0, "{done:?}");
    assert_eq!(done.blobs_removed, 0);
    assert_eq!(desk.show(&id).await.status, "completed");
    desk.engine.keep(Duration::from_secs(86_400));
    assert_eq!(desk.served.trim(&desk.caller).await.unwrap().keep_ms, 86_400_000);
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_result_of_what_is_let_go_of_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    desk.served.publish(&desk.caller, "kept.yaml", KEPT).await.unwrap();
    let mut worker = desk.worker(8);
    let gone = ended(&desk, &mut worker, "one").await;
    let kept = ended(&desk, &mut worker, "kept").await;
    let open = desk.started_as("one", None, json!({})).await.unwrap().id;
    let earlier = frames(&desk).await;
    let published = async |frames: &[Frame]| -> std::collections::BTreeMap<String, bool> {
        let records = desk.engine.results(frames, Shown::Whole).await.unwrap();
        records.into_iter().map(|record| (record.key, record.payload.is_some())).collect()
    };
    let before = published(&earlier).await;
    assert_eq!(before, [(gone.clone(), true), (kept.clone(), true)].into());
    desk.engine.let_go(Duration::ZERO).await.unwrap();
    for frames in [frames(&desk).await, earlier] {
        assert_eq!(published(&frames).await, [(gone.clone(), false), (kept.clone(), true)].into());
    }
    assert!(!before.contains_key(&open));
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_looked_through_where_something_was_dropped_or_somebody_asks() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let mut worker = desk.worker(8);
    ended(&desk, &mut worker, "one").await;
    let orphan = || {
        std::fs::write(dir.path().join("blobs").join("7".repeat(32)), "x").unwrap();
        age_blobs(dir.path());
    };
    let day = Duration::from_secs(86_400);
    orphan();
    assert_eq!(desk.engine.let_go(day).await.unwrap().blobs_removed, 1, "nobody knows of earlier times");
    orphan();
    assert_eq!(desk.engine.let_go(day).await.unwrap().blobs_removed, 0, "nothing was dropped since");
    let done = desk.engine.let_go(Duration::ZERO).await.unwrap();
    assert!(done.blobs_removed > 1, "its own and the orphan: {done:?}");
    orphan();
    assert_eq!(desk.engine.let_go(day).await.unwrap().blobs_removed, 0);
    desk.engine.keep(day);
    assert!(desk.served.trim(&desk.caller).await.is_ok());
    assert!(!dir.path().join("blobs").join("7".repeat(32)).exists(), "who asks gets all");
    let text = desk.engine.metrics.meters.text(false);
    for name in ["omium_log_dropped_records_total", "omium_blobs_removed_total"] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(!line.ends_with(" 0"), "{line}");
    }
    desk.engine.stop().await.unwrap();
}

/// Copies stand in the order in which they were met, and are copied again by the next time.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_execution_is_read_whole_however_often_the_front_of_its_log_goes() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    let signal = || Action::Signal { name: "s".into(), body: json!("x".repeat(5_000)) };
    let mut told = 0;
    for round in 0..4 {
        for _ in 0..60 {
            desk.served.act(&desk.caller, &id, signal(), None).await.unwrap();
        }
        let hash = desk.show(&id).await.state_hash;
        let before = events(&desk, &id).await;
        assert!(before.len() > told, "round {round}");
        told = before.len();
        let reader = async {
            for _ in 0..8 {
                assert!(events(&desk, &id).await == before, "while it is let go of, round {round}");
            }
        };
        let (done, ()) = tokio::join!(desk.engine.let_go(Duration::ZERO), reader);
        assert!(done.unwrap().partitions.iter().any(|part| part.dropped > 0));
        assert!(events(&desk, &id).await == before, "round {round}");
        let last = Seq(before.last().unwrap().seq);
        let then = desk.served.show(&desk.caller, &id, Some(last)).await.unwrap();
        assert_eq!(then.state_hash, hash, "round {round}");
    }
    desk.engine.stop().await.unwrap();
}

/// Who has the front of the log and who has not come to the same state.
#[test]
fn what_stands_for_a_program_gives_the_same_state_to_everybody() {
    use omium_processor::{Processors, Recorded};
    use omium_schemas::catalogue::{
        Command, ExecutionCarried, RecoveryMode, RecoveryPolicy, StartProgram, TakeCheckpoint,
    };
    type State = <crate::Suite as Processors>::State;
    let (tenant, stream) =
        (omium_schemas::TenantId([1; 16]), omium_schemas::ExecutionId::new([2; 15]).stream());
    let applied = |state: State, seq, event: &omium_schemas::catalogue::Event, command: &Command| {
        let time = omium_schemas::Time(7);
        crate::Suite::apply(state, &Recorded { tenant, stream, seq: Seq(seq), time, event, command })
    };
    let recovery = RecoveryPolicy { mode: RecoveryMode::Auto, max_attempts: 3, min_confidence: 700 };
    let start = Command::from(StartProgram {
        program: "p".into(),
        inputs: None,
        guards: Vec::new(),
        recovery,
        price: None,
        budget: None,
        timeout_ms: None,
    });
    let started = omium_schemas::catalogue::ExecutionStarted {
        workflow: "p".into(),
        steps: 1,
        account: None,
        deadline: None,
    };
    let there = applied(State::default(), 2, &started.into(), &start);
    assert!(there != State::default());
    let carried = ExecutionCarried { steps: 1, account: None, slice: None, spent: omium_schemas::Money(3) };
    let command = Command::from(TakeCheckpoint { name: String::new() });
    let (here, elsewhere) = (
        applied(there, 9, &carried.clone().into(), &command),
        applied(State::default(), 9, &carried.into(), &command),
    );
    assert!(here == elsewhere, "the state of who has the front differs");
}

/// Whoever begins to publish behind a front that was dropped finds what goes on among copies alone.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_taken_by_those_alone_who_began_behind_a_front_that_was_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "one.yaml", ONE).await.unwrap();
    let id = desk.started_as("one", None, json!({})).await.unwrap().id;
    // The last block of a partition stays as it is.
    for _ in 0..8 {
        desk.started_as("one", None, json!({})).await.unwrap();
    }
    desk.engine.let_go(Duration::ZERO).await.unwrap();
    let log = &desk.engine.history.log;
    let (mut with, mut without) = (0, 0);
    for partition in (0..log.partitions()).map(omium_schemas::Partition) {
        let start = log.start(partition).unwrap();
        for (copies, found) in [(true, &mut with), (false, &mut without)] {
            let (mut filter, mut frames) = (None, Vec::new());
            for entry in log.read(partition, start, 1 << 20).await.unwrap() {
                let block = omium_schemas::Block::parse(entry.bytes).unwrap();
                crate::publish::take(entry.offset, block, copies, &mut filter, &mut frames).unwrap();
            }
            *found += frames.iter().filter(|frame| frame.head.stream.to_string() == id).count();
        }
    }
    assert_eq!((with, without), (1, 0));
    desk.engine.stop().await.unwrap();
}
