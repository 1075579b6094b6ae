//! The bank through a node: money between streams and partitions, jobs whose steps the world performs.

use omium_processor::Why;
use omium_processor::testkit::{BankState, BankSuite, Ledger};
use omium_runtime::{Answer, Dispatch, Request, StreamKey};
use omium_schemas::catalogue::{LoseStep, LossReason, RollBack, StartExecution, TopUpAccount, TransferMoney};
use omium_schemas::{Branch, Digest, ExecutionId, Money, StepId, StreamId, StreamKind, TenantId};

use crate::place::Place;
use crate::world::{Outcome, Running};

pub(crate) type BankNode = Running<BankSuite>;
type State = (BankState, Ledger);

pub(crate) const TENANT: TenantId = TenantId([1; 16]);

pub(crate) fn account(name: &str) -> StreamKey {
    StreamKey::new(TENANT, StreamId::named(StreamKind::Account, name))
}

pub(crate) fn job(n: u8) -> StreamKey {
    StreamKey::new(TENANT, ExecutionId::new([n; 15]).stream())
}

pub(crate) fn top_up(dollars: i64) -> TopUpAccount {
    TopUpAccount { amount: Money::dollars(dollars) }
}

pub(crate) fn start(steps: i32, account: Option<StreamKey>) -> StartExecution {
    StartExecution {
        workflow: "w".into(),
        workflow_version: None,
        inputs: None,
        account: account.map(|key| key.stream),
        steps,
        plan: Vec::new(),
        on_failure: omium_schemas::catalogue::OnFailure::FinishOthers,
        slice: account.map(|_| Money::dollars(1)),
        timeout_ms: None,
        price_list: None,
        keep_ms: None,
    }
}

pub(crate) fn balance(state: &State) -> Money {
    state.0.account().balance
}

#[tokio::test]
async fn money_reaches_accounts_on_every_partition() {
    for place in Place::all() {
        let mut node: BankNode = place.open().await;
        node.done(account("source"), top_up(100)).await;
        let targets: Vec<StreamKey> = (0..24).map(|n| account(&format!("target-{n}"))).collect();
        for target in &targets {
            let moved = TransferMoney { to: target.stream, amount: Money::dollars(4) };
            node.done(account("source"), moved).await;
        }
        for target in &targets {
            node.until(*target, |state| balance(state) == Money::dollars(4)).await;
        }
        let source = node.until(account("source"), |_| true).await;
        assert_eq!(balance(&source), Money::dollars(4));
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_job_takes_a_slice_does_its_steps_and_gives_back_what_is_left() {
    for place in Place::all() {
        let mut node: BankNode = place.open().await;
        node.done(account("payer"), top_up(5)).await;
        node.done(job(1), start(3, Some(account("payer")))).await;
        node.work_until(job(1), |state| state.0.job().ended).await;
        let done = node.until(job(1), |_| true).await.0.job();
        assert_eq!((done.done.len(), done.spent), (3, Money(9)));
        let rest = Money(Money::dollars(5).0 - 9);
        node.until(account("payer"), |state| balance(state) == rest).await;
        let lesson = StreamKey::new(TENANT, StreamId::named(StreamKind::Lesson, "bank"));
        node.until(lesson, |state| matches!(&state.0, BankState::Lesson(l) if l.outcomes.len() == 1)).await;
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_step_is_tried_again_and_a_lost_sending_goes_out_under_another_number() {
    let place = Place::disk(1);
    let mut node: BankNode = place.open().await;
    node.done(job(1), start(1, None)).await;
    let first = node.next_dispatch().await;
    node.perform(&first, Outcome::GoAway).await;
    let second = node.next_dispatch().await;
    assert_eq!((second.effect, second.effect_key()), (first.effect, first.effect_key()));
    assert!(second.delivery > first.delivery);
    let late = node.perform(&first, Outcome::Succeed).await.unwrap();
    assert!(matches!(late, Answer::Refused(refusal) if refusal.why == Why::Conflict));
    node.perform(&second, Outcome::FailOnce).await;
    let third = node.next_dispatch().await;
    assert_eq!((third.effect.step, third.effect.attempt), (StepId(1), 2));
    assert!(matches!(node.perform(&third, Outcome::Succeed).await, Some(Answer::Done(_))));
    node.until(job(1), |state| state.0.job().ended).await;
    node.node.halt().await;
}

#[tokio::test]
async fn a_loss_that_is_told_late_does_not_count_against_whoever_has_the_step_now() {
    let place = Place::memory(1);
    let mut node: BankNode = place.open().await;
    node.done(job(1), start(1, None)).await;
    let first = node.next_dispatch().await;
    let lose = |dispatch: &Dispatch| LoseStep {
        step: dispatch.effect.step,
        branch: dispatch.effect.branch,
        epoch: dispatch.epoch,
        delivery: dispatch.delivery,
        worker: "w".into(),
        reason: LossReason::Silent,
    };
    node.done(job(1), lose(&first)).await;
    node.perform(&first, Outcome::GoAway).await;
    let second = node.next_dispatch().await;
    let late = node.submit(job(1), lose(&first)).await;
    assert!(matches!(late, Answer::Refused(refusal) if refusal.why == Why::Conflict));
    node.perform(&second, Outcome::Succeed).await;
    let state = node.until(job(1), |state| state.0.job().ended).await;
    assert_eq!(state.0.job().losses, 1);
    node.node.halt().await;
}

#[tokio::test]
async fn a_rollback_raises_the_branch_and_the_old_branch_is_refused() {
    for place in [Place::memory(1), Place::disk(8)] {
        let mut node: BankNode = place.open().await;
        node.done(job(1), start(3, None)).await;
        let first = node.next_dispatch().await;
        node.perform(&first, Outcome::Succeed).await;
        let second = node.next_dispatch().await;
        let marks = node.until(job(1), |state| !state.0.job().marks.is_empty()).await.0.job().marks;
        let back = RollBack { to: marks[0].at, cancel_running: true, over_writes: false };
        node.done(job(1), back).await;
        let again = node.next_dispatch().await;
        assert_eq!((again.effect.step, again.effect.branch), (StepId(2), Branch(1)));
        let old = node.perform(&second, Outcome::Succeed).await.unwrap();
        assert!(matches!(old, Answer::Refused(refusal) if refusal.why == Why::Conflict));
        node.perform(&again, Outcome::Succeed).await;
        node.work_until(job(1), |state| state.0.job().ended).await;
        assert_eq!(node.until(job(1), |_| true).await.0.job().done.len(), 3);
        node.node.halt().await;
    }
}

#[tokio::test]
async fn the_same_key_gives_the_same_answer_also_after_the_window_went_to_the_store() {
    for place in [Place::memory(8), Place::disk(8)] {
        let node: BankNode = place.open().await;
        let request = |digest: &[u8]| {
            let request = Request::new(account("a"), top_up(1)).with_key("once");
            Request { digest: Some(Digest::of(digest)), ..request }
        };
        let Answer::Done(first) = node.node.submit(request(b"one")).await else { panic!("a new key") };
        assert!(!first.repeated);
        let again = omium_runtime::Done { repeated: true, ..first };
        assert_eq!(node.node.submit(request(b"one")).await, Answer::Done(again.clone()));
        assert_eq!(node.node.submit(request(b"two")).await, Answer::OtherRequest);
        node.node.stop().await.unwrap();
        drop(node);
        let node: BankNode = place.open().await;
        assert_eq!(node.node.submit(request(b"one")).await, Answer::Done(again.clone()));
        assert_eq!(node.node.submit(request(b"two")).await, Answer::OtherRequest);
        let elsewhere = Request::new(account("b"), top_up(1)).with_key("once");
        assert!(matches!(node.node.submit(elsewhere).await, Answer::Done(done) if !done.repeated));
        node.node.stop().await.unwrap();
    }
}

#[tokio::test]
async fn refusals_change_nothing_and_streams_that_do_not_exist_are_seen_as_such() {
    for place in Place::all() {
        let node: BankNode = place.open().await;
        node.done(account("poor"), top_up(1)).await;
        let moved = TransferMoney { to: account("rich").stream, amount: Money::dollars(2) };
        let answer = node.submit(account("poor"), moved).await;
        assert!(matches!(answer, Answer::Refused(refusal) if refusal.why == Why::Exhausted));
        let poor = node.node.view(account("poor")).await.unwrap().unwrap();
        assert_eq!((balance(&poor.state), poor.seq.0), (Money::dollars(1), 2));
        assert!(node.node.view(account("rich")).await.unwrap().is_none());
        node.node.stop().await.unwrap();
    }
}
