//! The bank in given/when/then: what each command causes, and why it is refused.

use omium_processor::testkit::{Bank, Given, TEST_TENANT, test_stream};
use omium_processor::{Processor, Why};
use omium_schemas::catalogue::{
    AccountCredited, AccountDebited, CompleteStep, Event, ExecutionStarted, MeetDeadline, MessageKind,
    MessageSent, RollBack, SliceReceived, StartExecution, StepCompleted, StepScheduled, TopUpAccount,
    TransferMoney,
};
use omium_schemas::{Branch, Epoch, Money, Seq, StepId, StreamId, Time};

fn account(events: Vec<Event>) -> Given {
    Given::events(StreamId::account(), events)
}

fn job(events: Vec<Event>) -> Given {
    Given::events(test_stream(), events)
}

fn credited(dollars: i64) -> Event {
    AccountCredited { amount: Money::dollars(dollars) }.into()
}

fn started(steps: i32) -> Event {
    let account = Some(StreamId::account());
    ExecutionStarted { workflow: "w".into(), steps, account, deadline: None }.into()
}

fn scheduled(step: u32, attempt: i32) -> Event {
    let (not_before, timeout_at) = (Time(0), Some(Time::from_millis(20_000)));
    StepScheduled { step: StepId(step), branch: Branch(0), attempt, not_before, timeout_at }.into()
}

fn complete(step: u32, branch: u64, cost: i64) -> CompleteStep {
    CompleteStep {
        step: StepId(step),
        branch: Branch(branch),
        epoch: Epoch(1),
        delivery: 1,
        output: None,
        cost: Money::dollars(cost),
    }
}

fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::name).collect()
}

#[track_caller]
fn refused(result: Result<Vec<Event>, omium_processor::Refusal>, why: Why) {
    assert_eq!(result.expect_err("a refusal").why, why);
}

#[test]
fn money_moves_by_message_and_never_below_zero() {
    let moved = TransferMoney { to: StreamId::account(), amount: Money::dollars(3) };
    let events = account(vec![credited(3)]).when::<Bank>(moved.clone()).expect("enough money");
    assert_eq!(events[0], AccountDebited { amount: Money::dollars(3) }.into());
    let Event::MessageSent(MessageSent { message, .. }) = &events[1] else { panic!("a message") };
    assert_eq!((message.kind, message.to_tenant), (MessageKind::MoneyMoved, TEST_TENANT));
    refused(account(vec![credited(2)]).when::<Bank>(moved), Why::Exhausted);
    refused(account(vec![]).when::<Bank>(TopUpAccount { amount: Money(0) }), Why::Invalid);
}

#[test]
fn a_job_starts_once_and_asks_for_its_slice_first() {
    let start = StartExecution {
        workflow: "w".into(),
        workflow_version: None,
        inputs: None,
        account: Some(StreamId::account()),
        steps: 2,
        plan: Vec::new(),
        on_failure: omium_schemas::catalogue::OnFailure::FinishOthers,
        slice: Some(Money::dollars(1)),
        timeout_ms: None,
        price_list: None,
        keep_ms: None,
    };
    let events = job(vec![]).when::<Bank>(start.clone()).expect("a new job");
    assert_eq!(names(&events), ["ExecutionStarted", "MessageSent"]);
    refused(job(events).when::<Bank>(start), Why::Conflict);
}

#[test]
fn a_step_completes_once_on_its_own_branch_and_within_its_slice() {
    let slice = SliceReceived { amount: Money::dollars(5) }.into();
    let running = job(vec![started(2), slice, scheduled(1, 1)]);
    let events = running.when::<Bank>(complete(1, 0, 2)).expect("the step that is awaited");
    assert_eq!(names(&events), ["StepCompleted", "CostRecorded", "CheckpointTaken", "StepScheduled"]);
    refused(running.when::<Bank>(complete(2, 0, 2)), Why::Conflict);
    refused(running.when::<Bank>(complete(1, 1, 2)), Why::Conflict);
    let broke = running.when::<Bank>(complete(1, 0, 6)).expect("an end, not a refusal");
    assert_eq!(names(&broke), ["ExecutionFailed", "MessageSent"]);
}

#[test]
fn a_rollback_restores_the_checkpoint_and_raises_the_branch() {
    let done = StepCompleted { step: StepId(1), branch: Branch(0), output: None }.into();
    let mark = omium_schemas::catalogue::CheckpointTaken { name: None }.into();
    let slice = SliceReceived { amount: Money::dollars(5) }.into();
    let waiting = job(vec![started(3)]);
    refused(
        waiting.when::<Bank>(RollBack { to: Seq(1), cancel_running: true, over_writes: false }),
        Why::Conflict,
    );
    let running = job(vec![started(3), slice, scheduled(1, 1), done, mark, scheduled(2, 1)]);
    refused(
        running.when::<Bank>(RollBack { to: Seq(5), cancel_running: false, over_writes: false }),
        Why::Conflict,
    );
    refused(
        running.when::<Bank>(RollBack { to: Seq(3), cancel_running: true, over_writes: false }),
        Why::NotFound,
    );
    let events = running
        .when::<Bank>(RollBack { to: Seq(5), cancel_running: true, over_writes: false })
        .expect("a checkpoint");
    assert_eq!(names(&events), ["BranchRaised", "StepScheduled"]);
    refused(running.when::<Bank>(complete(2, 1, 0)), Why::Conflict);
}

#[test]
fn a_step_that_times_out_is_tried_again_and_in_the_end_fails_the_job() {
    let late = Time::from_millis(30_000);
    let deadline = MeetDeadline { at: late };
    let again =
        job(vec![started(1), scheduled(1, 1)]).at(late).when::<Bank>(deadline.clone()).expect("no refusal");
    assert_eq!(names(&again), ["StepTimedOut", "StepScheduled"]);
    let last = job(vec![started(1), scheduled(1, 3)]).at(late).when::<Bank>(deadline).expect("no refusal");
    assert_eq!(names(&last), ["StepTimedOut", "ExecutionFailed"]);
}

#[test]
fn a_waiting_step_is_due_until_it_ends() {
    let state = job(vec![started(1), scheduled(1, 1)]).state::<Bank>();
    let due = Bank::due(&state);
    assert_eq!((due.effects.len(), due.deadline), (1, Some(Time::from_millis(20_000))));
    let failed = omium_schemas::catalogue::ExecutionCancelled {}.into();
    assert!(Bank::due(&job(vec![started(1), scheduled(1, 1), failed]).state::<Bank>()).is_empty());
}
