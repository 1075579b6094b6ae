//! Bad answers of programs: found in their own frame, repaired by policy or by a person, and never served again.
#![allow(clippy::unwrap_used, reason = "tests")]

mod story;
mod walk;

use omium_execution::{Found, Status, Wanted};
use omium_recovery::Patch;
use omium_schemas::catalogue::{
    ApprovalSubject, AskApproval, ChooseRemedy, CompleteToolCall, DismissFinding, FailureClass, GateVerdict,
    PauseExecution, RecoveryMode, RefuseApproval, ResumeExecution, StartLlmCall,
};
use omium_schemas::{Content, Digest, StepId};
use story::{Story, answer, ask, attempt, end, guard, in_range, pay};

const HEALED: &[&str] = &[
    "LlmCallCompleted",
    "FindingReported",
    "RemedySuggested",
    "RemedySuggested",
    "RemedySuggested",
    "RemedyChosen",
    "AnswersCondemned",
    "RemedyApplied",
    "LlmAnswerJudged",
];

#[test]
fn a_bad_answer_is_thrown_away_in_its_own_frame_and_the_next_one_is_patched() {
    let mut story = Story::of(vec![in_range()], RecoveryMode::Auto);
    let call = story.asks("Writer", "quote");
    assert_eq!(story.answers(call, r#"{"apr": 0}"#), HEALED);
    let bad = &story.run().calls[0];
    assert!(bad.condemned && !bad.released && bad.verdict == Some(GateVerdict::AskAgain));
    let patches = story.state.2.patches().unwrap();
    assert!(
        matches!(patches.of("Writer"), [Patch::Append(text)] if text.contains("value >= 2.5 && value <= 8.5"))
    );
    assert_eq!(patches.of("Reviewer"), []);

    let call = story.asks("Writer", "quote");
    assert_eq!(
        story.answers(call, r#"{"apr": 5.2}"#),
        ["LlmCallCompleted", "CheckPassed", "RemedySucceeded"]
    );
    let program = story.run().program.as_ref().unwrap();
    assert_eq!((program.findings[0].chosen, program.findings[0].helped), (Some(1), Some(true)));
    assert_eq!(story.does(end(1, 0)), ["StepCompleted", "CheckpointTaken", "ExecutionCompleted"]);
}

#[test]
fn what_was_condemned_is_never_served_and_the_rest_is() {
    let mut story = Story::of(vec![in_range()], RecoveryMode::Auto);
    let other = story.asks("Researcher", "look");
    story.answers(other, "notes");
    for content in [r#"{"apr": 0}"#, r#"{"apr": 5.2}"#] {
        let call = story.asks("Writer", "quote");
        story.answers(call, content);
    }
    story.does(end(1, 137));
    assert_eq!(story.status(), Status::Failed(FailureClass::Crashed));
    story.attempts(2);
    assert_eq!(story.served("Researcher", "look").as_deref(), Some("notes"));
    assert_eq!(story.served("Writer", "quote").as_deref(), Some(r#"{"apr": 5.2}"#));
    assert_eq!(story.served("Writer", "quote"), None, "each answer is served once in an attempt");
    assert_eq!(story.served("Writer", "another"), None);
    story.attempts(3);
    assert_eq!(story.served("Writer", "quote").as_deref(), Some(r#"{"apr": 5.2}"#));
}

#[test]
fn what_does_not_help_is_followed_by_the_next_best_and_in_the_end_by_a_person() {
    let mut story = Story::of(vec![in_range()], RecoveryMode::Auto);
    let call = story.asks("Writer", "quote");
    story.answers(call, r#"{"apr": 0}"#);
    let call = story.asks("Writer", "quote");
    let told = story.answers(call, r#"{"apr": 1}"#);
    assert_eq!(told.iter().filter(|name| **name == "RemedyFailed").count(), 1);
    assert!(told.contains(&"RemedyChosen"));
    let call = story.asks("Writer", "quote");
    let told = story.answers(call, r#"{"apr": 2}"#);
    assert_eq!(told[told.len() - 3..], ["ApprovalAsked", "LlmAnswerJudged", "ExecutionSuspended"]);
    assert_eq!(story.run().calls.last().unwrap().verdict, Some(GateVerdict::Suspend));
    assert_eq!(story.status(), Status::Paused);
}

#[test]
fn a_person_is_asked_first_where_the_policy_says_so_and_his_word_is_final() {
    let suspended = || {
        let mut story = Story::of(vec![in_range()], RecoveryMode::Approve);
        let call = story.asks("Writer", "quote");
        story.answers(call, r#"{"apr": 0}"#);
        let finding = story.run().program.as_ref().unwrap().findings[0].at;
        (story, finding)
    };
    let (mut story, finding) = suspended();
    story.refuses(ask("Writer", "more", 1, None), "suspended");
    story.refuses(ResumeExecution {}, "waits for a decision");
    story.refuses(attempt(2), "somebody has to decide");
    assert!(story.does(end(1, 0)).is_empty(), "how the process ended does not matter");
    story.refuses(ChooseRemedy { finding, number: 9 }, "no suggestion 9");
    let told = story.does(ChooseRemedy { finding, number: 1 });
    assert_eq!(told, ["RemedyChosen", "ExecutionResumed", "AnswersCondemned", "RemedyApplied"]);
    story.attempts(2);
    assert_eq!(story.served("Writer", "quote"), None);

    let (mut story, finding) = suspended();
    story.does(DismissFinding { finding, reason: None });
    story.attempts(2);
    assert_eq!(story.served("Writer", "quote").as_deref(), Some(r#"{"apr": 0}"#));

    let (mut story, _) = suspended();
    let approval = story.run().program.as_ref().unwrap().asked.unwrap();
    story.does(RefuseApproval { approval, note: None });
    assert_eq!(story.status(), Status::Failed(FailureClass::Rejected));
}

#[test]
fn what_a_client_has_read_is_told_and_not_repaired() {
    let mut story = Story::of(vec![in_range()], RecoveryMode::Auto);
    let call = story.asks("Writer", "quote");
    let told = story.does(answer(call, r#"{"apr": 0}"#, true));
    assert_eq!(
        told,
        ["LlmCallCompleted", "FindingReported", "RemedySuggested", "RemedySuggested", "RemedySuggested"]
    );
    let mut story = Story::of(vec![in_range()], RecoveryMode::Off);
    let call = story.asks("Writer", "quote");
    assert!(!story.answers(call, r#"{"apr": 0}"#).contains(&"RemedyChosen"));
    assert!(story.run().calls[0].released);
}

#[test]
fn an_attempt_that_is_over_asks_for_nothing_and_ends_nothing() {
    let mut story = Story::of(Vec::new(), RecoveryMode::Auto);
    let call = story.asks("Writer", "quote");
    story.attempts(2);
    story.refuses(ask("Writer", "more", 1, None), "attempt 1");
    story.refuses(end(1, 0), "attempt 1");
    story.refuses(attempt(2), "next attempt");
    // What it had asked was paid for: its answer is taken, and served to the attempt that runs.
    assert_eq!(story.answers(call, "5.2"), ["LlmCallCompleted", "CheckPassed"]);
    assert_eq!(story.served("Writer", "quote").as_deref(), Some("5.2"));
    story.does(PauseExecution {});
    story.refuses(ask("Writer", "more", 2, None), "paused");
    story.does(ResumeExecution {});
    story.does(end(2, 0));
    story.refuses(attempt(3), "is completed");
}

#[test]
fn a_call_in_flight_at_a_crash_is_asked_again_and_flagged() {
    let mut story = Story::of(Vec::new(), RecoveryMode::Auto);
    story.asks("Writer", "quote");
    story.attempts(2);
    assert_eq!(story.served("Writer", "quote"), None);
    story.asks("Writer", "quote");
    assert_eq!(story.run().calls.iter().map(|call| call.occurrence).collect::<Vec<_>>(), [1, 2]);
    // Two equal calls that one attempt makes at once are two calls, and nobody pays twice.
    story.asks("Reviewer", "check");
    story.asks("Reviewer", "check");
    assert_eq!(story.flagged(), [false, true, false, false]);
}

#[test]
fn a_resumed_program_that_asks_for_something_else_has_drifted() {
    let mut story = Story::of(Vec::new(), RecoveryMode::Auto);
    let call = story.asks("Writer", "quote");
    story.answers(call, "5.2");
    story.attempts(2);
    assert_eq!(story.does(ask("Writer", "quote, please", 2, None)), ["LlmCallStarted", "RunDrifted"]);
    assert_eq!(
        story.does(ask("Reviewer", "check", 2, None)),
        ["LlmCallStarted"],
        "a new caller has nothing to differ from"
    );
}

#[track_caller]
fn found(guards: Vec<omium_schemas::catalogue::Guard>, content: &str, expected: &[&str]) {
    let mut story = Story::of(guards, RecoveryMode::Off);
    let call = story.asks("Writer", "quote");
    story.answers(call, content);
    let findings = &story.run().program.as_ref().unwrap().findings;
    let kinds: Vec<String> = findings.iter().map(|found| format!("{:?}", found.kind)).collect();
    assert_eq!(kinds, expected, "{content}");
}

#[test]
fn what_cannot_be_checked_is_a_finding_and_never_a_pass() {
    found(vec![in_range()], r#"{"apr": 5}"#, &[]);
    found(vec![in_range()], "```json\n{\"apr\": 5}\n```", &[]);
    found(vec![in_range()], r#"{"apr": 9}"#, &["Rule"]);
    found(vec![in_range()], r#"{"rate": 5}"#, &["Uncheckable"]);
    found(vec![in_range()], r#"{"apr": "five"}"#, &["Uncheckable"]);
    found(vec![in_range()], "about five", &["Uncheckable"]);
    found(vec![in_range()], "  ", &["Unusable"]);
    let prose = || guard(None, Some("apr: number near \"APR\""), Some("value >= 2.5"));
    found(vec![prose()], "We offer an APR of 5.2%.", &[]);
    found(vec![prose()], "We offer an APR of 0%.", &["Rule"]);
    found(vec![prose()], "We offer good terms.", &["Uncheckable"]);
}

#[test]
fn what_costs_too_much_to_check_is_not_asked_for_again() {
    let costly = guard(None, None, Some("value.all(x, value.all(y, value.all(z, x + y + z >= 0.0)))"));
    let mut story = Story::of(vec![costly.clone()], RecoveryMode::Auto);
    let list: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let call = story.asks("Writer", "quote");
    let told = story.answers(call, &format!("[{}]", list.join(",")));
    let last = ["LlmCallCompleted", "FindingReported", "RemedySuggested", "ApprovalAsked"];
    assert_eq!(told, [&last[..], &["LlmAnswerJudged", "ExecutionSuspended"]].concat());
    // Of another answer it can be told.
    let mut story = Story::of(vec![costly], RecoveryMode::Auto);
    let call = story.asks("Writer", "quote");
    assert_eq!(story.answers(call, "[1, 2]"), ["LlmCallCompleted", "CheckPassed"]);
}

#[test]
fn an_answer_that_a_person_refused_is_never_served_and_its_program_does_not_go_on() {
    let mut story = Story::of(vec![in_range()], RecoveryMode::Approve);
    let call = story.asks("Writer", "quote");
    story.answers(call, r#"{"apr": 0}"#);
    let approval = story.run().program.as_ref().unwrap().asked.unwrap();
    story.does(RefuseApproval { approval, note: None });
    assert_eq!(story.status(), Status::Failed(FailureClass::Rejected));
    story.refuses(attempt(2), "was refused by a person");
    assert_eq!(story.served("Writer", "quote"), None);
}

#[test]
fn an_answer_that_fails_a_check_that_nobody_has_set_is_released_in_the_end_with_its_finding() {
    let mut story = Story::of(Vec::new(), RecoveryMode::Auto);
    let mut told = Vec::new();
    for _ in 0..4 {
        let call = story.asks("Writer", "quote");
        told = story.answers(call, "");
        if !told.contains(&"LlmAnswerJudged") {
            break;
        }
    }
    assert!(told.contains(&"FindingReported") && !told.contains(&"ApprovalAsked"), "{told:?}");
    assert_eq!(story.status(), Status::Running);
    assert_eq!(story.run().calls.last().unwrap().verdict, None);
}

#[test]
fn a_tool_that_was_lost_holds_up_no_answer_to_what_was_asked_after_that() {
    let mut story = Story::of(Vec::new(), RecoveryMode::Off);
    let early = story.asks("Reader", "early");
    story.does(pay(1));
    let paid = story.run().calls.last().unwrap().at;
    story.answers(early, "came while it ran");
    story.does(end(1, 137));
    story.attempts(2);
    let (during, late) = (story.asks("Reader", "during"), story.asks("Reader", "late"));
    let question = Some(Content::open("did it?"));
    let (subject, about) = (ApprovalSubject::ToolCall, Some(paid));
    story.does(AskApproval { subject, about, question, expires_at: None });
    story.answers(during, "came while nobody knew");
    story.does(CompleteToolCall { call: paid, result: Some(Content::open("{}")) });
    story.answers(late, "came after somebody had said it");
    let call = |at| story.run().calls.iter().find(|call| call.at == at).unwrap();
    assert!(call(early).came_during(call(paid)), "it was heard of before the tool");
    assert!(!call(paid).came_during(call(late)), "nobody heard of the tool while this was asked");
    assert!(!call(during).came_during(call(paid)));
    assert!(call(during).came_during(call(late)), "calls of one attempt have their order");
}

#[test]
fn the_loop_index_is_no_part_of_what_an_answer_is_known_by_and_the_position_is() {
    let mut story = Story::of(Vec::new(), RecoveryMode::Auto);
    for (index, position) in [(0, "1"), (1, "2"), (2, "3")] {
        let asked = ask("worker", "draw", 1, None);
        let caller = format!("worker#{index}");
        story.does(StartLlmCall { caller, position: Some(position.into()), ..asked });
        let call = story.run().calls.last().unwrap().at;
        story.answers(call, &format!("drew {position}"));
    }
    story.does(end(1, 137));
    story.attempts(2);
    let at = |position| {
        let request = Digest::of(b"draw");
        let wanted = Wanted {
            step: StepId(1),
            agent: "worker",
            tool: None,
            request,
            alias: None,
            position,
            taking: 2,
            repeats: false,
        };
        match story.run().find(&wanted, &|_| false) {
            Found::Serve(call) => call.position.clone(),
            _ => None,
        }
    };
    assert_eq!(at(Some("3")).as_deref(), Some("3"), "a program that goes on at its third round");
    assert_eq!(at(Some("4")), None, "is asked what it has not asked before");
    assert_eq!(at(None), None);
}
