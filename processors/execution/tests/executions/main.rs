//! What an execution does, command by command.
#![allow(clippy::unwrap_used, reason = "tests")]

mod asked;
mod story;

use omium_execution::{Execution, Phase, Status};
use omium_processor::{Keep, Processor, Why};
use omium_schemas::catalogue::{
    CancelExecution, CompleteLlmCall, CompleteToolCall, EffectClass, Event, FailStep, FailureClass,
    FinishReason, ForkExecution, ForkedStep, LoseStep, LossReason, MeetDeadline, OnFailure, PauseExecution,
    PlannedStep, ResumeExecution, RetryExecution, RollBack, SignalExecution, StartExecution, StartFork,
    StartLlmCall, StartToolCall, TakeCheckpoint, Usage,
};
use omium_schemas::{
    BlobId, BlobRef, Branch, Content, Digest, Epoch, ExecutionId, KeyId, Money, Seq, StepId,
};
use story::{Story, complete, human, start, step, stream};

fn three() -> Vec<PlannedStep> {
    vec![step("a", &[]), step("b", &[1]), step("c", &[2])]
}

fn roll_back(to: Seq, cancel_running: bool) -> RollBack {
    RollBack { to, cancel_running, over_writes: false }
}

#[test]
fn steps_follow_each_other_with_a_checkpoint_between() {
    let mut story = Story::new();
    let started = story.does(start(three()));
    assert_eq!(started, ["ExecutionStarted", "CheckpointTaken", "StepScheduled"]);
    assert_eq!(story.owed(), [(1, 1)]);
    assert_eq!(story.completes(1), ["StepCompleted", "CheckpointTaken", "StepScheduled"]);
    assert_eq!(story.owed(), [(2, 1)]);
    story.completes(2);
    assert_eq!(story.completes(3), ["StepCompleted", "CheckpointTaken", "ExecutionCompleted"]);
    assert_eq!((story.status(), story.owed(), story.deadline()), (Status::Completed, vec![], None));
}

#[test]
fn a_result_stands_once_in_its_frame_and_is_found_from_the_state() {
    let mut story = Story::of(three());
    story.completes(1);
    let events = story.log.iter().map(|(.., event, _)| event);
    let repeated = |event: &Event| matches!(event, Event::StepCompleted(done) if done.output.is_some());
    assert_eq!(events.filter(|event| repeated(event)).count(), 0, "the command holds it");
    let Phase::Done { output, .. } = story.phase(1) else { panic!() };
    assert_eq!(output.as_ref().and_then(Content::plain).map(|plain| &plain[..]), Some(&br#"{"by": 1}"#[..]));
}

#[test]
fn a_graph_runs_what_can_run_at_once() {
    let mut story = Story::of(vec![step("d", &[2, 3]), step("b", &[4]), step("c", &[4]), step("a", &[])]);
    assert_eq!(story.owed(), [(4, 1)]);
    story.completes(4);
    assert_eq!(story.owed(), [(2, 1), (3, 1)]);
    story.completes(3);
    assert_eq!(story.owed(), [(2, 1)]);
    story.completes(2);
    assert_eq!(story.owed(), [(1, 1)]);
}

#[test]
fn a_failed_attempt_is_repeated_later_and_later_until_the_budget_of_attempts_is_used_up() {
    let mut story = Story::of(three());
    assert_eq!(story.fails(1, true), ["StepFailed", "CheckpointTaken", "StepScheduled"]);
    let Phase::Waiting { not_before, .. } = *story.phase(1) else { panic!() };
    let first = not_before.0 - story.now.0;
    story.fails(1, true);
    let Phase::Waiting { not_before, .. } = *story.phase(1) else { panic!() };
    assert!(not_before.0 - story.now.0 > first);
    assert_eq!(story.owed(), [(1, 3)]);
    assert_eq!(
        story.fails(1, true),
        ["StepFailed", "CheckpointTaken", "StepSkipped", "StepSkipped", "ExecutionFailed"]
    );
    assert_eq!(story.status(), Status::Failed(FailureClass::ToolError));
}

#[test]
fn an_attempt_that_nothing_can_help_is_not_repeated() {
    let mut story = Story::of(vec![step("a", &[])]);
    assert_eq!(story.fails(1, false), ["StepFailed", "CheckpointTaken", "ExecutionFailed"]);
}

#[test]
fn a_failed_lane_leaves_its_siblings_running() {
    let mut story = Story::of(vec![step("a", &[]), step("b", &[]), step("c", &[1])]);
    assert_eq!(story.fails(1, false), ["StepFailed", "CheckpointTaken", "StepSkipped"]);
    assert_eq!((story.status(), story.owed()), (Status::Running, vec![(2, 1)]));
    assert_eq!(story.completes(2), ["StepCompleted", "CheckpointTaken", "ExecutionFailed"]);
}

#[test]
fn a_failed_lane_takes_its_siblings_with_it_where_that_is_said() {
    let mut story = Story::new();
    let plan = vec![step("a", &[]), step("b", &[]), step("c", &[1])];
    story.does(StartExecution { on_failure: OnFailure::CancelOthers, ..start(plan) });
    assert_eq!(story.fails(1, false), ["StepFailed", "CheckpointTaken", "StepCancelled", "ExecutionFailed"]);
    let late = complete(2, Branch(0), "1");
    story.refuses(late, "has failed");
}

#[test]
fn a_step_that_takes_too_long_is_tried_again() {
    let mut story = Story::of(three());
    assert_eq!(story.meets_deadline(), ["StepTimedOut", "CheckpointTaken", "StepScheduled"]);
    assert_eq!(story.owed(), [(1, 2)]);
}

#[test]
fn an_execution_that_takes_too_long_fails() {
    let mut story = Story::new();
    let timeout_ms = Some(500);
    story.does(StartExecution { timeout_ms, ..start(three()) });
    assert_eq!(story.meets_deadline(), ["DeadlinePassed", "StepCancelled", "ExecutionFailed"]);
    assert_eq!(story.status(), Status::Failed(FailureClass::Timeout));
}

#[test]
fn a_paused_execution_ends_what_runs_and_begins_nothing() {
    let mut story = Story::of(three());
    story.does(PauseExecution {});
    story.refuses(PauseExecution {}, "paused already");
    assert_eq!(story.owed(), [(1, 1)]);
    assert_eq!(story.completes(1), ["StepCompleted", "CheckpointTaken"]);
    assert_eq!(story.owed(), []);
    assert_eq!(story.does(ResumeExecution {}), ["ExecutionResumed", "StepScheduled"]);
    assert_eq!(story.owed(), [(2, 1)]);
    story.refuses(ResumeExecution {}, "not paused");
}

#[test]
fn a_repetition_that_was_not_sent_before_a_pause_waits_for_its_end() {
    let mut story = Story::of(three());
    story.fails(1, true);
    story.does(PauseExecution {});
    assert_eq!(story.owed(), []);
    story.does(ResumeExecution {});
    assert_eq!(story.owed(), [(1, 2)]);
}

#[test]
fn what_has_ended_for_good_is_not_changed_any_more() {
    let mut story = Story::of(vec![step("a", &[])]);
    story.completes(1);
    let first = story.mark(0);
    story.refuses(CancelExecution {}, "completed");
    story.refuses(PauseExecution {}, "completed");
    story.refuses(ResumeExecution {}, "completed");
    story.refuses(RetryExecution {}, "not failed");
    story.refuses(roll_back(first, true), "omium fork");
    story.refuses(start(three()), "started before");
    story.refuses(complete(1, Branch(0), "1"), "completed");
}

#[test]
fn a_cancelled_execution_refuses_what_comes_late() {
    let mut story = Story::of(three());
    assert_eq!(story.does(CancelExecution {}), ["StepCancelled", "ExecutionCancelled"]);
    story.refuses(complete(1, Branch(0), "1"), "cancelled");
    assert_eq!((story.status(), story.owed()), (Status::Cancelled, vec![]));
}

#[test]
fn a_human_completes_a_step_by_a_signal_that_comes_in_time_or_early() {
    let mut story = Story::of(vec![human("review", &[]), human("sign", &[1])]);
    assert_eq!(story.owed(), []);
    let signal =
        |name: &str| SignalExecution { name: name.into(), body: Some(Content::open(format!("\"{name}\""))) };
    assert_eq!(story.does(signal("sign")), ["SignalReceived"]);
    let events = story.does(signal("review"));
    assert_eq!(
        events,
        [
            "SignalReceived",
            "StepCompleted",
            "CheckpointTaken",
            "StepScheduled",
            "StepCompleted",
            "CheckpointTaken",
            "ExecutionCompleted"
        ]
    );
    let Phase::Done { output: Some(output), .. } = story.phase(2) else { panic!() };
    assert_eq!(output.plain().unwrap(), "\"sign\"");
}

#[test]
fn a_rollback_restores_what_was_there_and_refuses_what_comes_late() {
    let mut story = Story::of(vec![step("a", &[]), human("review", &[1]), step("c", &[2])]);
    story.completes(1);
    let to = story.mark(1);
    let there = story.folded(to.next());
    story.does(SignalExecution { name: "review".into(), body: None });
    story.does(TakeCheckpoint { name: "reviewed".into() });
    story.refuses(roll_back(to, false), "c still runs");
    story.refuses(roll_back(Seq(to.0 + 1), true), "is not a checkpoint");
    let events = story.does(roll_back(to, true));
    assert_eq!(events, ["StepCancelled", "BranchRaised", "StepScheduled"]);
    story.refuses(complete(3, Branch(0), "1"), "branch 0 is over");

    let (now, then) = (story.run(), there.run().unwrap());
    assert_eq!(
        (&now.signals, &now.marks, &now.steps[0], now.branch),
        (&then.signals, &then.marks, &then.steps[0], Branch(1))
    );
    assert!(matches!(story.phase(2), Phase::Waiting { .. }));
    assert_eq!(story.phase(3), &Phase::Blocked);
}

#[test]
fn a_failed_execution_is_retried_from_the_step_that_failed() {
    let mut story = Story::of(three());
    story.refuses(RetryExecution {}, "not failed");
    story.completes(1);
    story.fails(2, false);
    story.refuses(complete(2, Branch(0), "1"), "omium retry");
    assert_eq!(story.does(RetryExecution {}), ["BranchRaised", "StepScheduled"]);
    assert_eq!(story.owed(), [(2, 1)]);
    story.completes(2);
    story.completes(3);
    assert_eq!(story.status(), Status::Completed);
}

#[test]
fn a_fork_begins_where_its_source_was() {
    let mut source = Story::of(three());
    source.completes(1);
    let at = source.mark(1);
    let to = ExecutionId::new([4; 15]).stream();
    source.refuses(ForkExecution { to, at: Seq(99) }, "is not a checkpoint");
    assert_eq!(source.does(ForkExecution { to, at }), ["ExecutionForked"]);

    let mut fork = Story::new();
    let done = vec![ForkedStep { step: StepId(1), output: Some(Content::open("1")) }];
    let events = fork.does(StartFork {
        source: stream(),
        at,
        state_hash: Digest::of(b"state"),
        workflow: "w".into(),
        workflow_version: Some(Digest::of(b"version")),
        inputs: None,
        plan: three(),
        on_failure: OnFailure::FinishOthers,
        slice: None,
        timeout_ms: None,
        price_list: None,
        keep_ms: None,
        done,
    });
    assert_eq!(
        events,
        [
            "ExecutionStarted",
            "ForkStarted",
            "VersionsPinned",
            "StepCompleted",
            "CheckpointTaken",
            "StepScheduled"
        ]
    );
    assert_eq!((fork.owed(), fork.run().source), (vec![(2, 1)], Some((stream(), at))));
}

#[test]
fn a_worker_that_loses_a_step_again_and_again_costs_an_attempt() {
    let mut story = Story::of(three());
    let lose = |delivery| LoseStep {
        step: StepId(1),
        branch: Branch(0),
        epoch: Epoch(1),
        delivery,
        worker: "w1".into(),
        reason: LossReason::Silent,
    };
    for delivery in 1..5 {
        assert_eq!(story.does(lose(delivery)), ["StepLost"]);
        assert_eq!(story.owed(), [(1, 1)]);
    }
    assert_eq!(story.does(lose(5)), ["StepLost", "StepFailed", "CheckpointTaken", "StepScheduled"]);
    assert_eq!(story.owed(), [(1, 2)]);
}

#[test]
fn rules_hold_steps_back_and_reject_outputs() {
    let careful = |rule: &str, ensure: &str| PlannedStep {
        require: Some(rule.into()),
        ensure: Some(ensure.into()),
        ..step("b", &[1])
    };
    let mut story = Story::of(vec![
        step("a", &[]),
        careful("outputs.a.by == 1 && inputs.amount > 6.5", "output.by >= 2 && outputs.a.by < output.by"),
    ]);
    story.completes(1);
    assert_eq!(story.owed(), [(2, 1)]);
    let bad = story.does(complete(2, Branch(0), "{\"by\": 1.5}"));
    assert_eq!(bad, ["StepFailed", "CheckpointTaken", "StepScheduled"]);
    assert_eq!(story.completes(2), ["StepCompleted", "CheckpointTaken", "ExecutionCompleted"]);

    let mut story = Story::of(vec![step("a", &[]), careful("inputs.amount > 100.0", "true")]);
    assert_eq!(
        story.completes(1),
        ["StepCompleted", "CheckpointTaken", "StepFailed", "CheckpointTaken", "ExecutionFailed"]
    );
    assert_eq!(story.status(), Status::Failed(FailureClass::Policy));

    Story::new()
        .refuses(start(vec![PlannedStep { require: Some("1 +".into()), ..step("a", &[]) }]), "is not a rule");
}

#[test]
fn rules_of_one_decision_share_what_they_may_spend_and_none_passes_without_an_answer() {
    let costly = "outputs.a.list.all(x, outputs.a.list.all(y, x == y || x != y))";
    let many = (0..40).map(|n| PlannedStep { require: Some(costly.into()), ..step(&format!("b{n}"), &[1]) });
    let mut story = Story::of([step("a", &[])].into_iter().chain(many).collect());
    let list: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    let done = story.does(complete(1, Branch(0), &format!("{{\"list\": [{}]}}", list.join(","))));
    let count = |kind: &str| done.iter().filter(|event| **event == kind).count();
    assert!((1..10).contains(&count("StepScheduled")), "{}", count("StepScheduled"));
    assert_eq!(count("StepScheduled") + count("StepFailed"), 40);
}

#[test]
fn a_rule_that_costs_too_much_to_check_is_not_paid_for_again() {
    let costly = "output.all(x, output.all(y, output.all(z, x + y + z >= 0.0)))";
    let mut story = Story::of(vec![PlannedStep { ensure: Some(costly.into()), ..step("a", &[]) }]);
    let list: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let done = story.does(complete(1, Branch(0), &format!("[{}]", list.join(","))));
    assert_eq!(done, ["StepFailed", "CheckpointTaken", "ExecutionFailed"]);
    assert_eq!(story.status(), Status::Failed(FailureClass::Hallucination));
    let reason = story.log.iter().find_map(|(_, _, event, _)| match event {
        Event::StepFailed(failed) => failed.reason.as_ref()?.plain().cloned(),
        _ => None,
    });
    let reason = String::from_utf8(reason.unwrap().to_vec()).unwrap();
    assert!(reason.contains("cannot be checked: it takes more than"), "{reason}");
}

#[test]
fn what_is_spent_is_spent_and_no_step_begins_without_money() {
    let mut story = Story::new();
    story.does(StartExecution { slice: Some(Money::dollars(1)), ..start(three()) });
    let mut dear = complete(1, Branch(0), "1");
    dear.cost = Money::dollars(2);
    assert_eq!(story.does(dear), ["StepCompleted", "CostRecorded", "CheckpointTaken", "ExecutionFailed"]);
    assert_eq!(
        (story.status(), story.run().spent),
        (Status::Failed(FailureClass::Budget), Money::dollars(2))
    );
}

#[test]
fn a_plan_that_cannot_end_is_refused() {
    Story::new().refuses(start(vec![]), "1 to 1000 steps");
    Story::new().refuses(start(vec![step("a", &[2]), step("b", &[1])]), "wait for each other");
    Story::new().refuses(start(vec![step("a", &[7])]), "one that there is not");
}

#[test]
fn a_checkpoint_has_a_name_of_its_own() {
    let mut story = Story::of(three());
    story.does(TakeCheckpoint { name: "before-review".into() });
    story.refuses(TakeCheckpoint { name: "before-review".into() }, "already");
    for name in ["last", "12", "", "a b"] {
        story.refuses(TakeCheckpoint { name: name.into() }, "a checkpoint's name");
    }
}

#[test]
fn a_rule_that_is_none_is_refused_whatever_it_is() {
    for rule in [
        "(".repeat(4_000),
        "[".repeat(4_096),
        "-".repeat(4_096),
        "!".repeat(4_096),
        "a".repeat(5_000),
        "1 < 2 < ".repeat(500),
        "\u{0}".into(),
        "\"".into(),
    ] {
        Story::new().refuses(start(vec![PlannedStep { ensure: Some(rule), ..step("a", &[]) }]), "rule");
    }
}

#[test]
fn a_signal_that_breaks_the_rule_of_its_step_is_refused_or_fails_the_step_when_it_came_early() {
    let careful =
        |after: &[i32]| PlannedStep { ensure: Some("output.ok == true".into()), ..human("sign", after) };
    let signal =
        |body: &str| SignalExecution { name: "sign".into(), body: Some(Content::open(body.to_owned())) };
    let mut story = Story::of(vec![careful(&[])]);
    story.refuses(signal("{\"ok\": false}"), "not what the step waits for");
    story.does(signal("{\"ok\": true}"));
    assert_eq!(story.status(), Status::Completed);

    let mut story = Story::of(vec![step("a", &[]), careful(&[1])]);
    story.does(signal("{\"ok\": false}"));
    story.completes(1);
    assert_eq!(story.status(), Status::Failed(FailureClass::Rejected));
}

#[test]
fn an_attempt_that_a_pause_holds_back_is_not_late_and_has_all_of_its_time_after_it() {
    let mut story = Story::of(vec![step("a", &[])]);
    story.fails(1, true);
    story.does(PauseExecution {});
    assert_eq!(story.deadline(), None);
    story.now = story.now.plus_millis(60_000);
    let now = story.now;
    assert_eq!(story.does(MeetDeadline { at: now }), [""; 0]);
    assert_eq!(story.does(ResumeExecution {}), ["ExecutionResumed", "StepScheduled"]);
    assert_eq!((story.owed(), story.deadline()), (vec![(1, 2)], Some(now.plus_millis(10_000))));
}

#[test]
fn a_word_that_is_said_during_a_pause_is_heard_in_time() {
    let mut story = Story::of(vec![human("review", &[]), step("b", &[1])]);
    story.does(PauseExecution {});
    let said = story.does(SignalExecution { name: "review".into(), body: None });
    assert_eq!(said, ["SignalReceived", "StepCompleted", "CheckpointTaken"]);
    assert_eq!(story.owed(), []);
    story.does(ResumeExecution {});
    assert_eq!(story.owed(), [(2, 1)]);
}

#[test]
fn a_word_that_did_not_do_is_used_up_and_another_try_waits_for_another() {
    let careful = PlannedStep { ensure: Some("output.ok == true".into()), ..human("sign", &[1]) };
    let mut story = Story::of(vec![step("a", &[]), careful]);
    let body = |ok: bool| Some(Content::open(format!("{{\"ok\": {ok}}}")));
    story.does(SignalExecution { name: "sign".into(), body: body(false) });
    story.completes(1);
    assert_eq!(story.status(), Status::Failed(FailureClass::Rejected));
    assert_eq!(story.does(RetryExecution {}), ["BranchRaised", "StepScheduled"]);
    story.does(SignalExecution { name: "sign".into(), body: body(true) });
    assert_eq!(story.status(), Status::Completed);
}

#[test]
fn a_cancelled_execution_stays_cancelled_when_the_front_of_its_log_goes() {
    let mut story = Story::of(three());
    story.does(CancelExecution {});
    let events = Execution::carry(&story.state, &Keep::NOTHING).expect("it has ended");
    let names: Vec<&str> = events.iter().map(Event::name).collect();
    assert_eq!(names, ["ExecutionCarried", "ExecutionCancelled"]);
}

#[test]
fn a_fork_does_not_begin_with_what_no_checkpoint_holds() {
    let fork = |done: &[u32], timeout_ms| StartFork {
        source: stream(),
        at: Seq(3),
        state_hash: Digest::of(b"state"),
        workflow: "w".into(),
        workflow_version: None,
        inputs: None,
        plan: three(),
        on_failure: OnFailure::FinishOthers,
        slice: None,
        timeout_ms,
        price_list: None,
        keep_ms: None,
        done: done.iter().map(|step| ForkedStep { step: StepId(*step), output: None }).collect(),
    };
    Story::new().refuses(fork(&[1, 1], None), "not twice");
    Story::new().refuses(fork(&[2], None), "before those that it comes after");
    Story::new().refuses(fork(&[4], None), "the plan has no");
    Story::new().refuses(fork(&[0], None), "the plan has no");
    let mut story = Story::new();
    story.refuses(fork(&[1], Some(0)), "one millisecond at least");
    story.does(fork(&[1], Some(500)));
    assert_eq!(story.run().deadline, Some(story.now.plus_millis(500)), "by the command's own time");
}

#[test]
fn money_that_calls_have_spent_begins_nothing_whatever_comes_next() {
    let mut story = Story::new();
    story.does(StartExecution { slice: Some(Money::dollars(1)), ..start(three()) });
    spends(&mut story, Money::dollars(2));
    assert_eq!(story.meets_deadline(), ["StepTimedOut", "CheckpointTaken", "ExecutionFailed"]);
    assert_eq!(story.status(), Status::Failed(FailureClass::Budget));
}

fn asks(story: &mut Story) -> Seq {
    story.does(question());
    story.run().calls.last().unwrap().at
}

fn question() -> StartLlmCall {
    StartLlmCall {
        step: StepId(1),
        branch: Branch(0),
        agent: "a".into(),
        caller: "a#0".into(),
        model: "m".into(),
        request: Digest::of(b"request"),
        patch_set: None,
        messages: Vec::new(),
        stored: Vec::new(),
        parameters: None,
        delivery: 0,
        endpoint: "chat/completions".into(),
        continues: None,
        thread: None,
        before: None,
        after: None,
        difference: None,
        position: None,
        alias: None,
        reserve: Some(Money::ZERO),
    }
}

fn spends(story: &mut Story, cost: Money) {
    let call = asks(story);
    let usage = Usage { input: 1, cached: 0, output: 1, reasoning: 0 };
    let (model, finish, answer) = ("m".into(), FinishReason::Stop, Content::open("1"));
    story.does(CompleteLlmCall {
        call,
        model,
        usage,
        cost: Some(cost),
        finish,
        answer,
        shown: false,
        estimated: false,
    });
}

#[test]
fn an_answer_without_a_price_is_counted_and_not_taken_for_free() {
    let mut story = Story::of(three());
    spends(&mut story, Money::ZERO);
    assert_eq!((story.run().unpriced, story.run().calls[0].cost), (0, Some(Money::ZERO)));
    let call = asks(&mut story);
    let usage = Usage { input: 1, cached: 0, output: 1, reasoning: 0 };
    let (finish, answer) = (FinishReason::Stop, Content::open("1"));
    let done = |cost, answer| CompleteLlmCall {
        call,
        model: "m".into(),
        usage: usage.clone(),
        cost,
        finish,
        answer,
        shown: false,
        estimated: false,
    };
    story.refuses(done(Some(Money(-1)), Content::open("1")), "not negative");
    assert_eq!(story.does(done(None, answer)), ["LlmCallCompleted"]);
    assert_eq!((story.run().unpriced, story.run().steps[0].unpriced, story.run().spent), (1, 1, Money::ZERO));
    story.completes(1);
    let first = story.mark(0);
    story.does(roll_back(first, true));
    assert_eq!((story.run().unpriced, story.run().steps[0].unpriced), (1, 1), "what was asked was asked");
}

#[test]
fn nobody_goes_back_when_there_is_no_time_to_go_on_in() {
    let mut story = Story::new();
    let timeout_ms = Some(500);
    story.does(StartExecution { timeout_ms, ..start(three()) });
    let first = story.mark(0);
    story.meets_deadline();
    story.refuses(roll_back(first, true), "the deadline");
    story.refuses(RetryExecution {}, "the deadline");
}

#[test]
fn a_stream_that_is_too_long_takes_nothing_more_and_still_ends() {
    let mut story = Story::of(vec![step("a", &[])]);
    story.grows_to(200_001);
    story.refuses(complete(1, Branch(0), "1"), "the most that one may have");
    assert_eq!(story.meets_deadline(), ["StepTimedOut", "CheckpointTaken", "StepScheduled"]);
    story.meets_deadline();
    story.meets_deadline();
    assert_eq!(story.status(), Status::Failed(FailureClass::Timeout));
}

#[test]
fn content_has_a_limit_and_what_has_reached_it_still_ends() {
    let mut story = Story::of(vec![step("a", &[])]);
    let begun = story.run().bytes;
    assert_eq!(begun, r#"{"amount": 7}"#.len() as u64);
    let said = |length| SignalExecution {
        name: "told".into(),
        body: Some(Content::Blob(Box::new(BlobRef {
            key: KeyId(1),
            blob: BlobId([1; 16]),
            at: 0,
            length,
            sha256: Digest::of(b"blob"),
        }))),
    };
    story.does(said((1 << 30) - begun - 10));
    assert_eq!(story.run().bytes, (1 << 30) - 10);
    story.refuses(said(11), "more would exceed the 1073741824 that one may have");
    story.refuses(said(u64::MAX), "pass references to data instead");
    let refusal = story.tries(complete(1, Branch(0), r#"{"long": true}"#)).unwrap_err();
    assert_eq!(refusal.why, Why::Exhausted);
    // What says less still fits, and whatever ends it says nothing.
    story.does(said(10));
    assert_eq!(story.fails(1, true), ["StepFailed", "CheckpointTaken", "StepScheduled"]);
    assert_eq!(story.clone().does(CancelExecution {}), ["StepCancelled", "ExecutionCancelled"]);
    story.meets_deadline();
    story.meets_deadline();
    assert_eq!(story.status(), Status::Failed(FailureClass::Timeout));
}

#[test]
fn going_back_gives_no_room_back() {
    let mut story = Story::of(three());
    story.completes(1);
    let before = story.run().bytes;
    let first = story.mark(0);
    story.does(roll_back(first, true));
    assert_eq!(story.run().bytes, before, "the log still holds it");
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    let mut story = Story::of(three());
    let (step, branch, request) = (StepId(1), Branch(0), Digest::of(b"request"));
    let (caller, effect) = ("a#0".into(), EffectClass::Read);
    let long = StartToolCall {
        step,
        branch,
        caller,
        tool: "t".repeat(513),
        effect,
        request,
        arguments: None,
        delivery: 0,
        agent: "a".into(),
        position: None,
        alias: None,
    };
    story.refuses(long, "513 bytes is longer than the 512");
}

#[test]
fn an_attempt_after_a_bad_answer_asks_again_and_knows_what_tools_have_done() {
    let mut story = Story::of(vec![step("a", &[])]);
    let digest = Digest::of(b"asked");
    let model = StartLlmCall {
        step: StepId(1),
        branch: Branch(0),
        agent: "a".into(),
        caller: "a#0".into(),
        model: "m".into(),
        request: digest,
        patch_set: None,
        messages: vec![],
        stored: vec![],
        parameters: None,
        delivery: 0,
        endpoint: "chat/completions".into(),
        continues: None,
        thread: None,
        before: None,
        after: None,
        difference: None,
        position: None,
        alias: None,
        reserve: None,
    };
    story.does(model);
    let call = story.run().calls[0].at;
    let usage = Usage { input: 1, cached: 0, output: 1, reasoning: 0 };
    let answer = Content::open("cut");
    let finish = FinishReason::Length;
    story.does(CompleteLlmCall {
        call,
        model: "m".into(),
        usage,
        cost: Some(Money::ZERO),
        finish,
        answer,
        shown: false,
        estimated: false,
    });
    let (caller, tool, effect) = ("a#0".into(), "pay".into(), EffectClass::Write);
    story.does(StartToolCall {
        step: StepId(1),
        branch: Branch(0),
        caller,
        tool,
        effect,
        request: digest,
        arguments: None,
        delivery: 0,
        agent: "a".into(),
        position: None,
        alias: None,
    });
    let call = story.run().calls[1].at;
    story.does(CompleteToolCall { call, result: None });
    story.refuses(CompleteToolCall { call, result: None }, "answered before");
    story.fails(1, true);
    assert_eq!(story.run().calls.len(), 2, "a tool was at fault: what the model said is served again");
    let class = FailureClass::Hallucination;
    let (step, branch, epoch) = (StepId(1), Branch(0), Epoch(1));
    story.does(FailStep {
        step,
        branch,
        epoch,
        delivery: 2,
        class,
        reason: None,
        retryable: true,
        retry_after_ms: None,
        cost: None,
    });
    assert_eq!(story.run().calls.iter().map(|call| call.at).collect::<Vec<_>>(), [call]);
}

fn reserves(call: StartLlmCall, reserve: Option<Money>) -> StartLlmCall {
    StartLlmCall { reserve, ..call }
}

#[test]
fn calls_that_run_at_once_are_held_by_the_budget_too() {
    let mut story = Story::new();
    story.does(StartExecution { slice: Some(Money::dollars(5)), ..start(three()) });
    let three_dollars = Some(Money::dollars(3));
    story.does(reserves(question(), three_dollars));
    let refusal = story.tries(reserves(question(), three_dollars)).unwrap_err();
    assert_eq!(refusal.why, Why::Exhausted, "{refusal}");
    // What was kept aside is free again once it is known what the call has cost.
    let call = story.run().calls.last().unwrap().at;
    let usage = Usage { input: 1, cached: 0, output: 1, reasoning: 0 };
    let (model, finish, answer) = ("m".into(), FinishReason::Stop, Content::open("1"));
    let cost = Some(Money::dollars(1));
    story.does(CompleteLlmCall { call, model, usage, cost, finish, answer, shown: false, estimated: false });
    story.does(reserves(question(), three_dollars));
    let refusal = story.tries(reserves(question(), Some(Money::dollars(2)))).unwrap_err();
    assert_eq!(refusal.why, Why::Exhausted);
    story.does(reserves(question(), Some(Money::dollars(1))));
}

#[test]
fn a_model_without_a_price_is_not_asked_under_a_budget() {
    let mut story = Story::new();
    story.does(StartExecution { slice: Some(Money::dollars(5)), ..start(three()) });
    story.refuses(reserves(question(), None), "omium prices set m");
    let mut without = Story::of(three());
    without.does(reserves(question(), None));
}

#[test]
fn another_attempt_waits_as_long_as_somebody_asked() {
    let mut story = Story::of(vec![step("a", &[])]);
    let (step, branch, epoch, class) = (StepId(1), Branch(0), Epoch(1), FailureClass::ModelError);
    let retry_after_ms = Some(90_000);
    let now = story.now;
    story.does(FailStep {
        step,
        branch,
        epoch,
        delivery: 1,
        class,
        reason: None,
        retryable: true,
        retry_after_ms,
        cost: None,
    });
    let Phase::Waiting { not_before, .. } = story.run().steps[0].phase else { panic!("it is tried again") };
    assert!(not_before >= now.plus_millis(90_000), "{not_before:?}");
}

#[test]
fn a_rule_that_is_not_kept_is_named() {
    let mut judged = step("a", &[]);
    (judged.attempts, judged.ensure) = (1, Some("output.apr > 100.0".into()));
    let mut story = Story::of(vec![judged]);
    story.does(complete(1, Branch(0), r#"{"apr": 5.2}"#));
    let Phase::Failed { reason: Some(reason), .. } = story.phase(1) else { panic!("{:?}", story.phase(1)) };
    let reason = String::from_utf8(reason.plain().unwrap().to_vec()).unwrap();
    assert!(reason.contains("output.apr > 100.0"), "{reason}");
}
