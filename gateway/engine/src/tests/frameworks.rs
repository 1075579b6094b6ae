//! Steps that workers perform: whether there is a worker at all, and whether what it makes is what was asked for.

use serde_json::json;

use super::Desk;

const CREW: &str = "
name: crew
agents:
  - id: apr
    framework: program
    retry: {attempts: 2, backoff: 1ms}
    output_schema: {type: object, required: [apr], properties: {apr: {type: number, maximum: 8.5}}}
  - {id: asked, framework: human}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_framework_without_a_worker_is_told_at_publish_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    let published = desk.served.publish(&desk.caller, "crew.yaml", CREW).await.unwrap();
    assert_eq!(
        published.warnings,
        ["no worker for the framework `program` is registered, and these agents wait for one: apr"]
    );
    desk.started_as("crew", None, json!({})).await.unwrap();
    let tenant = desk.caller.tenant.to_string();
    while desk.engine.board.unserved_counts().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(desk.engine.board.unserved_counts(), [("program".to_owned(), tenant, 1)]);
    let mut worker = desk.worker(1);
    worker.next().await;
    assert_eq!(desk.engine.board.unserved_counts(), []);
    let again = desk.served.publish(&desk.caller, "crew.yaml", CREW).await.unwrap();
    assert_eq!(again.warnings, Vec::<String>::new());
    desk.engine.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_makes_is_held_to_the_schema_of_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::open(dir.path()).await;
    desk.served.publish(&desk.caller, "crew.yaml", CREW).await.unwrap();
    let id = desk.started_as("crew", None, json!({})).await.unwrap().id;
    let mut worker = desk.worker(1);
    let first = worker.next().await;
    worker.completes(&first, json!({ "apr": 9 })).await;
    let second = worker.next().await;
    assert_eq!((first.attempt, second.attempt), (1, 2));
    worker.completes(&second, json!("a lot")).await;
    let view = desk.until(&id, "failed").await;
    let said = json!(view).to_string();
    assert!(said.contains("does not fit its `output_schema`: is not of type object"), "{said}");
    desk.engine.stop().await.unwrap();
}
