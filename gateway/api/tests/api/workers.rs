//! The stream of workers.

use std::time::Duration;

use omium_api::WorkerTimes;
use omium_api::port::Role;
use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::{
    Begin, CallTool, Complete, Credit, Drain, Fail, FailureClass, Heartbeat, Perform, Progress, Register,
    Sending, TakeCheckpoint, engine_item::Kind,
};
use serde_json::json;
use tonic::Code;

use crate::client::{LONG, register, serve};
use crate::engine::caller;

fn complete(perform: &Perform) -> Say {
    completes(perform.sending.clone(), r#"{"rate": 18446744073709551615}"#, "0.0125")
}

fn completes(sending: Option<Sending>, output: &str, cost: &str) -> Say {
    Say::Complete(Complete { sending, output_json: output.to_owned(), cost_usd: cost.to_owned() })
}

#[tokio::test]
async fn a_worker_performs_a_step_and_what_it_says_is_recorded_in_its_order() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    assert_eq!((step.agent.as_str(), step.attempt), ("clerk", 1));
    assert_eq!(step.input_json, json!({ "big": u64::MAX }).to_string());
    let sending = step.sending.clone();
    worker
        .say([
            Say::Begin(Begin { sending: sending.clone() }),
            Say::Progress(Progress { sending: sending.clone() }),
            Say::Checkpoint(TakeCheckpoint { sending, name: "half".to_owned() }),
            complete(&step),
        ])
        .await;
    for no in 1..=4 {
        worker.is_accepted(no).await;
    }
    let done = server.memory.told(&id, "StepCompleted").await;
    assert_eq!(done, json!({ "output": { "rate": u64::MAX }, "nano": 12_500_000 }));
    assert_eq!(server.memory.told(&id, "CheckpointTaken").await, json!({ "name": "half" }));
}

#[tokio::test]
async fn a_failed_step_is_recorded_with_its_class() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let sending = worker.performs().await.sending;
    let class = FailureClass::ToolError.into();
    worker.say([Say::Fail(Fail { sending, class, reason: "503".to_owned(), retryable: true })]).await;
    worker.is_accepted(1).await;
    let body = server.memory.told(&id, "StepFailed").await;
    assert_eq!(body, json!({ "class": "TOOL_ERROR", "reason": "503", "retryable": true }));
}

#[tokio::test]
async fn no_more_steps_are_sent_than_there_is_credit_for() {
    let server = serve(LONG).await;
    let developer = caller(1, Role::Developer);
    let mut worker = server.worker("one").await;
    let ids = [0; 3].map(|_| server.memory.started(&developer));
    let first = worker.performs().await;
    assert_eq!(first.sending.as_ref().unwrap().execution, ids[0]);
    // A second step would have come before the answer to this.
    worker.say([Say::Progress(Progress { sending: first.sending.clone() })]).await;
    worker.is_accepted(1).await;
    worker.say([Say::Credit(Credit { more: 1 })]).await;
    assert_eq!(worker.performs().await.sending.unwrap().execution, ids[1]);
    worker.say([complete(&first)]).await;
    let next = [worker.next().await, worker.next().await];
    assert!(next.iter().any(|kind| matches!(kind, Kind::Perform(_))), "an end makes room: {next:?}");
}

#[tokio::test]
async fn a_worker_that_comes_back_keeps_its_step_and_hears_again_what_it_missed() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    drop(worker);

    let (mut worker, resumed) = server.worker_with("one", step.sending.clone().into_iter().collect()).await;
    assert!(resumed);
    worker.say([Say::Progress(Progress { sending: step.sending.clone() })]).await;
    worker.is_accepted(1).await;
    drop(worker);

    let (mut worker, resumed) = server.worker_with("one", Vec::new()).await;
    assert!(resumed);
    assert_eq!(worker.performs().await, step);
    worker.say([complete(&step)]).await;
    worker.is_accepted(1).await;
    server.memory.told(&id, "StepCompleted").await;
}

#[tokio::test]
async fn a_worker_that_comes_back_is_told_what_is_not_its_own_any_more() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    drop(worker);
    server.memory.board.withdraw(&id);
    let (mut worker, resumed) = server.worker_with("one", step.sending.clone().into_iter().collect()).await;
    assert!(resumed);
    assert_eq!(Some(worker.is_cancelled().await), step.sending);
    worker.say([complete(&step)]).await;
    assert_eq!(worker.is_refused(1).await, "not-yours");
}

#[tokio::test]
async fn another_session_of_the_same_name_is_another_worker() {
    let server = serve(LONG).await;
    server.memory.started(&caller(1, Role::Developer));
    let mut one = server.worker("one").await;
    let step = one.performs().await;
    let (mut two, resumed) = server.worker_with("two", step.sending.clone().into_iter().collect()).await;
    assert!(!resumed);
    assert_eq!(Some(two.is_cancelled().await), step.sending);
    two.say([complete(&step)]).await;
    assert_eq!(two.is_refused(1).await, "not-yours");
    one.say([complete(&step)]).await;
    one.is_accepted(1).await;
}

#[tokio::test]
async fn a_worker_that_does_not_come_back_loses_its_step_to_another() {
    let server = serve(WorkerTimes { reconnect: Duration::from_millis(100), ..LONG }).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut one = server.worker("one").await;
    one.performs().await;
    let mut two = server.worker("two").await;
    drop(one);
    let step = two.performs().await;
    assert_eq!(step.sending.unwrap().delivery, 2);
    assert_eq!(server.memory.told(&id, "StepLost").await, json!("DISCONNECTED"));
}

#[tokio::test]
async fn nothing_new_is_sent_to_a_worker_whose_connection_is_broken() {
    let server = serve(LONG).await;
    let gone = server.worker("one").await;
    let mut there = server.worker("two").await;
    drop(gone);
    server.memory.board.waits_for_an_absence().await;
    let id = server.memory.started(&caller(1, Role::Developer));
    assert_eq!(there.performs().await.sending.unwrap().execution, id);
}

#[tokio::test]
async fn a_silent_worker_loses_its_step_and_is_cut_off() {
    let server = serve(WorkerTimes { heartbeat: Duration::from_millis(300), ..LONG }).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut silent = server.worker("one").await;
    let step = silent.performs().await;
    let mut lively = server.worker("two").await;
    lively.beat(Duration::from_millis(30));
    assert_eq!(lively.performs().await.sending.unwrap().delivery, 2);
    assert_eq!(server.memory.told(&id, "StepLost").await, json!("SILENT"));
    assert_eq!(Some(silent.is_cancelled().await), step.sending);
    assert_eq!(silent.heard().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(server.memory.board.seated(), 1);
}

#[tokio::test]
async fn a_worker_that_lives_and_makes_no_progress_loses_its_step_and_its_late_outcome_is_refused() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut idle = server.open("worker").await.unwrap();
    idle.say([Say::Register(Register { idle_limit_ms: 200, ..register("one") })]).await;
    idle.beat(Duration::from_millis(30));
    assert!(matches!(idle.next().await, Kind::Registered(registered) if registered.idle_ms == 200));
    let step = idle.performs().await;
    let mut other = server.worker("two").await;
    let again = other.performs().await;
    assert_eq!(again.sending.as_ref().unwrap().delivery, 2);
    assert_eq!(server.memory.told(&id, "StepLost").await, json!("IDLE"));
    assert_eq!(Some(idle.is_cancelled().await), step.sending);
    other.say([complete(&again)]).await;
    other.is_accepted(1).await;
    other.say([Say::Drain(Drain { give_back: false })]).await;
    assert!(matches!(other.next().await, Kind::Drained(_)));

    // It may be stuck for good, so the next step waits for somebody else, or for a word that it is not.
    let next = server.memory.started(&caller(1, Role::Developer));
    idle.say([complete(&step)]).await;
    assert_eq!(idle.is_refused(1).await, "not-yours");
    assert_eq!(idle.performs().await.sending.unwrap().execution, next);
}

#[tokio::test]
async fn a_draining_worker_ends_what_it_has_and_gets_nothing_new() {
    let server = serve(LONG).await;
    let developer = caller(1, Role::Developer);
    server.memory.started(&developer);
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    worker.say([Say::Drain(Drain { give_back: false })]).await;
    let later = server.memory.started(&developer);
    worker.say([complete(&step)]).await;
    worker.is_accepted(1).await;
    assert!(matches!(worker.next().await, Kind::Drained(_)));
    assert_eq!(worker.heard().await.unwrap(), None);
    let mut other = server.worker("two").await;
    assert_eq!(other.performs().await.sending.unwrap().execution, later);
}

#[tokio::test]
async fn a_draining_worker_may_give_back_what_it_has() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    worker.say([Say::Drain(Drain { give_back: true })]).await;
    assert_eq!(Some(worker.is_cancelled().await), step.sending);
    assert!(matches!(worker.next().await, Kind::Drained(_)));
    assert_eq!(server.memory.told(&id, "StepLost").await, json!("DRAINED"));
}

#[tokio::test]
async fn a_worker_that_lies_is_refused_and_keeps_its_step() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    let right = step.sending.clone().unwrap();
    let mine = || Some(right.clone());
    let large = format!("\"{}\"", "x".repeat(9 << 20));
    let lies = [
        (completes(Some(Sending { step: 9, ..right.clone() }), "1", ""), "not-yours"),
        (completes(Some(Sending { delivery: 0, ..right.clone() }), "1", ""), "not-yours"),
        (completes(Some(Sending { branch: 4, ..right.clone() }), "1", ""), "not-yours"),
        (completes(Some(Sending { epoch: 4, ..right.clone() }), "1", ""), "not-yours"),
        (completes(Some(Sending { execution: "ex_x".to_owned(), ..right.clone() }), "1", ""), "not-yours"),
        (completes(None, "1", ""), "no-sending"),
        (completes(mine(), "{", ""), "bad-json"),
        (completes(mine(), "NaN", ""), "bad-json"),
        (completes(mine(), &large, ""), "too-large"),
        (completes(mine(), "1", "-1"), "bad-money"),
        (completes(mine(), "1", "1e9"), "bad-money"),
        (Say::Register(register("one")), "registered-twice"),
    ];
    for (lie, code) in lies {
        worker.say([lie]).await;
        assert_eq!(worker.is_refused(1).await, code);
    }
    worker.say([complete(&step)]).await;
    worker.is_accepted(1).await;
    server.memory.told(&id, "StepCompleted").await;
}

#[tokio::test]
async fn a_stream_needs_a_key_of_a_worker_and_begins_with_its_registration() {
    let server = serve(LONG).await;
    assert_eq!(server.open("nobody").await.err().unwrap().code(), Code::Unauthenticated);
    assert_eq!(server.open("viewer").await.err().unwrap().code(), Code::PermissionDenied);
    let wrong = [
        Say::Heartbeat(Heartbeat { nonce: 1 }),
        Say::Register(Register { name: "no spaces".to_owned(), ..register("one") }),
        Say::Register(Register { capacity: 0, ..register("one") }),
        Say::Register(Register { frameworks: Vec::new(), ..register("one") }),
    ];
    for first in wrong {
        let mut worker = server.open("worker").await.unwrap();
        worker.say([first]).await;
        assert_eq!(worker.heard().await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_worker_gets_no_steps_of_another_tenant() {
    let server = serve(LONG).await;
    server.memory.started(&caller(2, Role::Developer));
    let mut worker = server.worker("one").await;
    let own = server.memory.started(&caller(1, Role::Developer));
    assert_eq!(worker.performs().await.sending.unwrap().execution, own);
}

#[tokio::test]
async fn a_worker_whose_key_was_revoked_is_cut_off_and_its_step_goes_to_another() {
    let server = serve(LONG).await;
    let id = server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    worker.performs().await;
    server.memory.revoked.lock().unwrap().insert("Worker".to_owned());
    assert_eq!(server.memory.told(&id, "StepLost").await, json!("DISCONNECTED"));
    worker.is_cancelled().await;
    assert_eq!(worker.heard().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(server.memory.board.seated(), 0);
}

#[tokio::test]
async fn a_call_that_was_made_before_comes_back_with_its_answer() {
    let server = serve(LONG).await;
    server.memory.started(&caller(1, Role::Developer));
    let mut worker = server.worker("one").await;
    let step = worker.performs().await;
    let call = |tool: &str| {
        let (sending, arguments_json) = (step.sending.clone(), "{\"for\": 7}".to_owned());
        Say::CallTool(CallTool { sending, tool: tool.to_owned(), arguments_json, ..CallTool::default() })
    };
    worker.say([call("rates"), call("pay")]).await;
    for (no, recorded) in [(1, "{\"apr\":5.5}"), (2, "")] {
        let Kind::Accepted(accepted) = worker.next().await else { panic!("it is accepted") };
        assert_eq!((accepted.no, accepted.recorded_json.as_str()), (no, recorded));
    }
}
