//! What only a person can say: whether a tool that changes something did so.

use omium_execution::{Phase, Status};
use omium_schemas::catalogue::{
    ApprovalSubject, AskApproval, CancelExecution, CompleteStep, CompleteToolCall, EffectClass, FailToolCall,
    FailureClass, GiveApproval, MeetDeadline, PauseExecution, RefuseApproval, ResumeExecution,
    RetryExecution, RollBack, SignalExecution, StartExecution, StartToolCall, ToolErrorClass,
};
use omium_schemas::{Branch, Content, Digest, Money, Seq, StepId};

use crate::roll_back;
use crate::story::{Story, complete, start, step};

/// A step has called a tool, and nobody knows what came of it.
fn called(effect: EffectClass) -> (Story, Seq) {
    let mut story = Story::of(vec![step("a", &[]), step("b", &[1])]);
    let call = calls(&mut story, effect);
    (story, call)
}

fn calls(story: &mut Story, effect: EffectClass) -> Seq {
    calls_in(story, (StepId(1), "a#0"), effect)
}

fn calls_in(story: &mut Story, (step, caller): (StepId, &str), effect: EffectClass) -> Seq {
    let (branch, request) = (story.run().branch, Digest::of(b"pay"));
    let (caller, tool) = (caller.into(), "pay".into());
    story.does(StartToolCall {
        step,
        branch,
        caller,
        tool,
        effect,
        request,
        arguments: None,
        delivery: 0,
        agent: "a".into(),
        position: None,
        alias: None,
    });
    story.run().calls.last().unwrap().at
}

fn ask(call: Seq) -> AskApproval {
    let question = Some(Content::open("did it?"));
    AskApproval { subject: ApprovalSubject::ToolCall, about: Some(call), question, expires_at: None }
}

/// The same, with somebody asked.
fn asked() -> (Story, Seq, Seq) {
    let (mut story, call) = called(EffectClass::Write);
    assert_eq!(story.does(ask(call)), ["ApprovalAsked"]);
    let question = story.run().questions[0].at;
    (story, call, question)
}

#[test]
fn a_step_whose_write_is_unknown_waits_for_a_person_and_for_nothing_else() {
    let (mut story, call, question) = asked();
    assert_eq!((story.owed(), story.deadline(), story.status()), (vec![], None, Status::Running));
    story.refuses(complete(1, Branch(0), "1"), "waits for a person's word");
    story.refuses(ask(call), "is asked about the call");
    story.refuses(GiveApproval { approval: call, note: None }, "asks nothing at seq");
    // Its own time does not pass meanwhile.
    let at = story.now.plus_millis(1_000_000);
    story.now = at;
    assert_eq!(story.does(MeetDeadline { at }), [""; 0]);
    assert_eq!(story.run().questions[0].at, question);
}

#[test]
fn a_call_that_did_not_happen_is_made_again_by_the_same_attempt_with_all_of_its_time() {
    let (mut story, _, question) = asked();
    story.now = story.now.plus_millis(60_000);
    assert_eq!(
        story.does(GiveApproval { approval: question, note: None }),
        ["ApprovalGiven", "StepScheduled"]
    );
    assert_eq!((story.owed(), story.run().calls.len()), (vec![(1, 1)], 0));
    assert_eq!(story.deadline(), Some(story.now.plus_millis(10_000)));
    story.refuses(GiveApproval { approval: question, note: None }, "asks nothing at seq");
    story.completes(1);
}

#[test]
fn a_result_that_somebody_found_out_is_served_and_the_call_is_not_made_again() {
    let (mut story, call, question) = asked();
    let result = Some(Content::open("paid"));
    assert_eq!(story.does(CompleteToolCall { call, result }), ["ToolCallCompleted", "StepScheduled"]);
    assert_eq!((story.owed(), story.run().questions.len()), (vec![(1, 1)], 0));
    assert_eq!(story.run().calls.iter().map(|known| known.at).collect::<Vec<_>>(), [call]);
    story.refuses(RefuseApproval { approval: question, note: None }, "asks nothing at seq");

    let (mut story, call, _) = asked();
    let failed = FailToolCall { call, class: ToolErrorClass::Conflict, reason: None };
    assert_eq!(story.does(failed), ["ToolCallFailed", "StepScheduled"]);
    assert_eq!(story.run().questions.len(), 0);
}

#[test]
fn a_step_that_is_given_up_fails_and_is_not_tried_again() {
    let (mut story, _, question) = asked();
    assert_eq!(
        story.does(RefuseApproval { approval: question, note: None }),
        ["ApprovalRefused", "StepFailed", "CheckpointTaken", "StepSkipped", "ExecutionFailed"]
    );
    assert_eq!(story.status(), Status::Failed(FailureClass::Rejected));
}

#[test]
fn nobody_is_asked_about_what_is_known_or_may_be_done_twice() {
    let (mut story, call) = called(EffectClass::Read);
    story.refuses(ask(call), "calling it again does no harm");
    story.refuses(ask(Seq(999)), "no call at seq 999 is awaited");
    story
        .refuses(AskApproval { subject: ApprovalSubject::Budget, ..ask(call) }, "about calls of tools alone");
    let (mut story, call) = called(EffectClass::Irreversible);
    story.does(CompleteToolCall { call, result: None });
    story.refuses(ask(call), "is known");
    let late = AskApproval { expires_at: Some(story.now), ..ask(call) };
    story.refuses(late, "is known");
}

#[test]
fn a_question_that_nobody_answers_in_time_gives_the_step_up() {
    let (mut story, call) = called(EffectClass::Write);
    let end = story.now.plus_millis(500);
    story.does(AskApproval { expires_at: Some(end), ..ask(call) });
    assert_eq!(story.deadline(), Some(end));
    assert_eq!(
        story.meets_deadline(),
        ["ApprovalExpired", "StepFailed", "CheckpointTaken", "StepSkipped", "ExecutionFailed"]
    );
}

#[test]
fn an_answer_during_a_pause_takes_effect_at_its_end() {
    let (mut story, _, question) = asked();
    story.does(PauseExecution {});
    story.now = story.now.plus_millis(20_000);
    assert_eq!(story.does(GiveApproval { approval: question, note: None }), ["ApprovalGiven"]);
    assert_eq!((story.owed(), story.deadline()), (vec![], None));
    story.now = story.now.plus_millis(20_000);
    assert_eq!(story.does(ResumeExecution {}), ["ExecutionResumed", "StepScheduled"]);
    assert_eq!((story.owed(), story.deadline()), (vec![(1, 1)], Some(story.now.plus_millis(10_000))));
}

#[test]
fn going_back_names_what_tools_have_changed_and_keeps_what_lies_before() {
    let mut story = Story::of(vec![step("a", &[]), step("b", &[]), step("c", &[1])]);
    let first = story.mark(0);
    let paid = calls(&mut story, EffectClass::Write);
    story.does(CompleteToolCall { call: paid, result: Some(Content::open("paid")) });
    story.completes(2);
    let between = story.run().marks.last().unwrap().at;
    // While its step is not done, the call itself is known, and nothing of it is done again.
    assert_eq!(
        story.clone().does(roll_back(between, true)),
        ["StepCancelled", "BranchRaised", "StepScheduled"]
    );
    let read = calls(&mut story, EffectClass::Read);
    story.does(CompleteToolCall { call: read, result: None });
    let mailed = calls(&mut story, EffectClass::Write);
    story.does(FailToolCall { call: mailed, class: ToolErrorClass::Conflict, reason: None });
    let lost = calls(&mut story, EffectClass::Irreversible);
    story.completes(1);
    let text = format!("do it again: `pay` (seq {paid}), `pay` (seq {lost}, nobody knows");
    story.refuses(roll_back(first, true), &text);
    story.refuses(roll_back(between, true), &text);
    story.does(RollBack { over_writes: true, ..roll_back(between, true) });
    assert_eq!(story.run().writes, []);
}

#[test]
fn whoever_tries_again_is_served_what_was_done_and_asked_about_what_is_unknown() {
    let mut story = Story::of(vec![step("a", &[])]);
    let paid = calls(&mut story, EffectClass::Write);
    story.does(CompleteToolCall { call: paid, result: Some(Content::open("paid")) });
    let lost = calls(&mut story, EffectClass::Write);
    let read = calls(&mut story, EffectClass::Read);
    story.does(CompleteToolCall { call: read, result: None });
    story.fails(1, false);
    story.does(RetryExecution {});
    let known: Vec<_> = story.run().calls.iter().map(|call| (call.at, call.branch)).collect();
    assert_eq!(known, [(paid, Branch(1)), (lost, Branch(1))]);
    assert_eq!(story.does(ask(lost)), ["ApprovalAsked"]);
}

#[test]
fn a_retry_knows_the_writes_that_no_checkpoint_has_seen() {
    let mut story = Story::new();
    story.does(StartExecution { slice: Some(Money(1)), ..start(vec![step("a", &[]), step("b", &[1])]) });
    let spent = CompleteStep { cost: Money(4), ..complete(1, Branch(0), "1") };
    assert_eq!(story.does(spent), ["StepCompleted", "CostRecorded", "CheckpointTaken", "ExecutionFailed"]);
    story.does(RetryExecution {});
    let call = calls_in(&mut story, (StepId(2), "b#0"), EffectClass::Write);
    let signal = SignalExecution { name: "s".into(), body: None };
    assert_eq!(story.does(signal), ["SignalReceived", "StepCancelled", "ExecutionFailed"]);
    assert!(story.run().marks.iter().all(|mark| mark.at < call));
    story.does(RetryExecution {});
    assert_eq!(story.does(ask(call)), ["ApprovalAsked"]);
}

#[test]
fn an_execution_that_asks_can_still_end_and_go_back() {
    let (mut story, ..) = asked();
    assert_eq!(story.does(CancelExecution {}), ["StepCancelled", "ExecutionCancelled"]);
    assert_eq!(story.run().questions.len(), 0);

    let (mut story, call, question) = asked();
    let first = story.mark(0);
    story.refuses(roll_back(first, false), "a still runs");
    let silent = format!("do it again: `pay` (seq {call}, nobody knows whether it did)");
    story.refuses(roll_back(first, true), &silent);
    story.does(RollBack { over_writes: true, ..roll_back(first, true) });
    assert_eq!((story.owed(), story.run().questions.len(), story.run().calls.len()), (vec![(1, 1)], 0, 0));
    // What was said to be done again is not asked about twice.
    story.does(roll_back(first, true));
    story.refuses(GiveApproval { approval: question, note: None }, "asks nothing at seq");

    let mut story = Story::new();
    let timeout_ms = Some(500);
    story.does(StartExecution { timeout_ms, ..start(vec![step("a", &[])]) });
    let call = calls(&mut story, EffectClass::Write);
    story.does(ask(call));
    assert_eq!(story.meets_deadline(), ["DeadlinePassed", "StepCancelled", "ExecutionFailed"]);
    assert!(matches!(story.phase(1), Phase::Cancelled));
}
