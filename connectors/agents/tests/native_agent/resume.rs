//! Attempts that begin again after the process was killed.

use omium_agents::native::Outcome;
use serde_json::{Value, json};

use crate::earlier::EarlierOutcome;
use crate::record::Record;
use crate::world::{Service, models, output, run, task};

const RULES: &str =
    "  - {when: {tool_result: false}, answer: {tool_calls: [{name: book, arguments: {amount: 700}}]}}
  - {when: {tool_result: true}, answer: {text: booked it}}";

fn tools(service: &Service, effect: &str) -> Value {
    json!({"book": {
        "http": {"method": "POST", "url": format!("{}/book", service.url), "body": {"amount": "{{ amount }}"}},
        "effect": effect, "allow_private": true,
    }})
}

/// The operations: start and completion of the first question, of the tool, of the second question.
const OPERATIONS: usize = 6;

#[tokio::test]
async fn after_a_cut_at_any_point_no_answered_call_is_made_again_and_no_write_is_repeated() {
    for cut in 0..OPERATIONS {
        let (models, service) = (models(RULES).await, Service::start().await);
        let task = task(&models, json!({"prompt": "book it", "tools": ["book"]}), tools(&service, "write"));
        let record = Record::cut_after(cut);
        assert!(matches!(run(&task, &record).await, Outcome::NotRecorded(_)), "cut {cut}");
        let record = record.next();
        let outcome = run(&task, &record).await;
        let asked_without_record = u64::from(cut == 1) + u64::from(cut == 5);
        if cut == 3 {
            let Outcome::Unknown { call, tool, reason } = outcome else { panic!("{outcome:?}") };
            assert_eq!(tool, "book");
            assert!(reason.contains("and it changes something"), "{reason}");
            // Asked again, it is still unknown; told what came of it, the step goes on.
            let record = record.next();
            assert!(matches!(run(&task, &record).await, Outcome::Unknown { .. }));
            record.settle(call, EarlierOutcome::Answered(b"{\"booked\": true}".to_vec()));
            assert_eq!(output(run(&task, &record.next()).await), "booked it");
        } else {
            assert_eq!(output(outcome), "booked it", "cut {cut}");
        }
        assert_eq!(service.hits().len(), 1, "cut {cut}: the write was made once");
        assert_eq!(models.count(), 2 + asked_without_record, "cut {cut}: answered questions were asked once");
    }
}

#[tokio::test]
async fn what_may_be_repeated_is_repeated_under_the_same_key() {
    let (models, service) = (models(RULES).await, Service::start().await);
    let task = task(&models, json!({"prompt": "book it", "tools": ["book"]}), tools(&service, "idempotent"));
    let record = Record::cut_after(3);
    run(&task, &record).await;
    assert_eq!(output(run(&task, &record.next()).await), "booked it");
    let keys: Vec<_> = service.hits().iter().map(|hit| hit.headers["idempotency-key"].clone()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].len() == 32, "{keys:?}");
}

#[tokio::test]
async fn two_equal_calls_in_one_attempt_are_two_effects() {
    let rules = "  - {when: {tool_result: false}, answer: {tool_calls: [{name: book, arguments: {amount: 1}}, {name: book, arguments: {amount: 1}}]}}
  - {when: {tool_result: true}, answer: {text: booked it}}";
    let (models, service) = (models(rules).await, Service::start().await);
    let task = task(&models, json!({"prompt": "twice", "tools": ["book"]}), tools(&service, "write"));
    let record = Record::default();
    output(run(&task, &record).await);
    let keys: Vec<_> = service.hits().iter().map(|hit| hit.headers["idempotency-key"].clone()).collect();
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    output(run(&task, &record.next()).await);
    assert_eq!((service.hits().len(), models.count()), (2, 2));
}

#[tokio::test]
async fn the_clock_says_the_same_again() {
    let rules = "  - {when: {tool_result: false}, answer: {tool_calls: [{name: clock}]}}
  - {when: {tool_result: true}, answer: {text: late}}";
    let models = models(rules).await;
    let task = task(&models, json!({"prompt": "time?", "tools": ["clock"]}), json!({}));
    let record = Record::cut_after(4);
    run(&task, &record).await;
    let record = record.next();
    assert_eq!(output(run(&task, &record).await), "late");
    let clocks = record.calls().iter().filter(|call| call.tool.as_deref() == Some("clock")).count();
    assert_eq!((clocks, models.count()), (1, 2));
}

#[tokio::test]
async fn a_step_that_is_dropped_leaves_its_question_open_and_asks_it_again() {
    let models = models(
        "  - {when: {times: 1}, answer: {fault: hang}}
  - answer: {text: here}",
    )
    .await;
    let task = task(&models, json!({"prompt": "x"}), json!({}));
    let record = Record::default();
    tokio::select! {
        outcome = run(&task, &record) => panic!("{outcome:?}"),
        () = models.reached(1) => {}
    }
    assert_eq!(record.said(), ["ask default"]);
    assert_eq!(output(run(&task, &record.next()).await), "here");
}
