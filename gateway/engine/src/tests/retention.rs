//! What was kept long enough is let go of, and all else stays as it was.

use std::path::Path;
use std::time::Duration;

use omium_api::port::{Action, Outcome};
use omium_api::views::{EventView, ExecutionView};
use omium_schemas::Seq;
use omium_schemas::catalogue::FailureClass;
use serde_json::{Value, json};

use super::{Desk, ONE, Worker};

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
    let then = std::time::SystemTime::now() - Duration::from_secs(7_200);
    for file in &files {
        std::fs::File::open(file.path()).unwrap().set_modified(then).unwrap();
    }
    files.len()
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
