//! Random runs under random commands. `OMIUM_WALKS=n` walks n seeds instead of a few thousand.
#![allow(clippy::unwrap_used, reason = "tests")]

mod chance;
mod checks;
mod endings;
mod forks;
mod moves;
mod plans;
mod walk;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chance::Chance;
use walk::Walk;

/// What has to happen on the way: commands that are taken, and the events that they cause.
const HAPPENS: [&str; 51] = [
    "ApprovalAsked",
    "ApprovalExpired",
    "ApprovalGiven",
    "ApprovalRefused",
    "AskApproval",
    "GiveApproval",
    "RefuseApproval",
    "CancelExecution",
    "CompleteLlmCall",
    "CompleteStep",
    "CompleteToolCall",
    "FailLlmCall",
    "FailStep",
    "FailToolCall",
    "ForkExecution",
    "LoseStep",
    "MeetDeadline",
    "PauseExecution",
    "ResumeExecution",
    "RetryExecution",
    "RollBack",
    "SignalExecution",
    "StartExecution",
    "StartFork",
    "StartLlmCall",
    "StartStep",
    "StartToolCall",
    "TakeCheckpoint",
    "BranchRaised",
    "CheckpointTaken",
    "CostRecorded",
    "DeadlinePassed",
    "ExecutionCancelled",
    "ExecutionCompleted",
    "ExecutionFailed",
    "ExecutionForked",
    "ExecutionPaused",
    "ExecutionResumed",
    "ExecutionStarted",
    "ForkStarted",
    "LlmCallStarted",
    "SignalReceived",
    "StepCancelled",
    "StepCompleted",
    "StepFailed",
    "StepLost",
    "StepScheduled",
    "StepSkipped",
    "StepStarted",
    "StepTimedOut",
    "ToolCallStarted",
];

#[expect(clippy::disallowed_methods, reason = "how many is for the one who runs the tests to say")]
fn walks() -> u64 {
    std::env::var("OMIUM_WALKS").ok().and_then(|count| count.parse().ok()).unwrap_or(3_000)
}

/// One seed. Gives what happened, by name.
fn walk(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut walk = Walk::new(Chance::new(seed));
    let begin = plans::start(&mut walk.chance);
    walk.submit(begin).unwrap_or_else(|refusal| panic!("a plan is refused: {refusal}"));
    wander(&mut walk);
    if walk.chance.percent(30)
        && let Some(mut fork) = walk.fork()
    {
        wander(&mut fork);
        end(&mut fork);
        fork.seen.iter().for_each(|(name, count)| *walk.seen.entry(name).or_default() += count);
    }
    end(&mut walk);
    walk.seen
}

fn wander(walk: &mut Walk) {
    for _ in 0..5 + walk.chance.below(40) {
        walk.now = walk.now.plus_millis(walk.chance.below(4_000));
        // A shell tells a run of its deadline first, unless it is late itself.
        if walk.due().deadline.is_some_and(|at| at <= walk.now) && walk.chance.percent(80) {
            let at = walk.now;
            walk.submit(omium_schemas::catalogue::MeetDeadline { at }).expect("a deadline is never refused");
        }
        let command = walk.next_command();
        let name = command.name();
        if walk.submit(command).is_err() {
            let count = walk.seen.entry("refused").or_default();
            *count += 1;
            assert!(name != "MeetDeadline", "a deadline is never refused");
        }
    }
}

fn end(walk: &mut Walk) {
    if walk.chance.percent(30) {
        walk.let_time_pass();
    }
    walk.let_it_end();
}

#[test]
fn whatever_is_asked_of_a_run_it_stays_whole_and_ends() {
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in 0..walks() {
        match catch_unwind(AssertUnwindSafe(|| walk(seed))) {
            Ok(here) => here.iter().for_each(|(name, count)| *seen.entry(name).or_default() += count),
            Err(_) => failed.push(seed),
        }
    }
    assert!(failed.is_empty(), "seeds that failed, each as is said above: {failed:?}");
    let rare = HAPPENS.iter().filter(|name| seen.get(**name).is_none_or(|count| *count < 20));
    assert_eq!(rare.collect::<Vec<_>>(), [&""; 0], "what does not happen is not tested: {seen:?}");
}
