//! Checkpoints over gRPC.

use omium_api::port::Role;
use omium_api::proto::checkpoints_client::CheckpointsClient;
use omium_api::proto::{CreateRequest, GetRequest, ListRequest, RollbackRequest};
use serde_json::json;
use tonic::{Code, Request};

use crate::client::{LONG, serve};
use crate::engine::{MISSING, caller};

fn with<T>(key: &str, body: T) -> Request<T> {
    let mut request = Request::new(body);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

#[tokio::test]
async fn checkpoints_are_taken_found_by_each_address_and_gone_back_to() {
    let server = serve(LONG).await;
    let execution = server.memory.started(&caller(1, Role::Developer));
    let mut client = CheckpointsClient::new(server.channel().await);
    let create = |name: &str| CreateRequest {
        execution: execution.clone(),
        name: name.to_owned(),
        idempotency_key: "k".to_owned(),
    };
    let first = client.create(with("developer", create("first"))).await.unwrap().into_inner().done.unwrap();
    server.memory.say(&execution, "StepCompleted", json!(null));
    let second = client.create(with("developer", create("second"))).await.unwrap().into_inner().done.unwrap();
    let list = ListRequest { execution: execution.clone() };
    let listed = client.list(with("viewer", list)).await.unwrap().into_inner().checkpoints;
    assert_eq!(listed.iter().map(|one| one.seq).collect::<Vec<_>>(), [first.seq, second.seq]);
    let addresses = [
        ("first", first.seq),
        ("last", second.seq),
        (&second.seq.to_string(), second.seq),
        ("step:clerk:before", first.seq),
        ("step:clerk:after", second.seq),
    ];
    for (checkpoint, seq) in addresses {
        let get = GetRequest { execution: execution.clone(), checkpoint: checkpoint.to_owned() };
        assert_eq!(client.get(with("viewer", get)).await.unwrap().into_inner().seq, seq, "{checkpoint}");
    }
    let back = RollbackRequest {
        execution: execution.clone(),
        checkpoint: "first".to_owned(),
        ..Default::default()
    };
    client.rollback_to_checkpoint(with("developer", back)).await.unwrap();
    let acted = server.memory.told(&execution, "Acted").await;
    assert_eq!(acted, json!("RollBack { to: \"first\", cancel_running: false, over_writes: false }"));
}

#[tokio::test]
async fn what_is_missing_foreign_or_not_allowed_is_told_with_a_status_a_code_and_a_hint() {
    let server = serve(LONG).await;
    let execution = server.memory.started(&caller(1, Role::Developer));
    let mut client = CheckpointsClient::new(server.channel().await);
    let list = |execution: &str| ListRequest { execution: execution.to_owned() };
    let missing = client.list(with("viewer", list(MISSING))).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.metadata().get("omium-code").unwrap(), "no-such-execution");
    assert_eq!(missing.metadata().get("omium-hint").unwrap(), "`omium list` shows them");
    let foreign = client.list(with("foreign", list(&execution))).await.unwrap_err();
    assert_eq!(foreign.code(), Code::NotFound);
    assert_eq!(
        client.list(with("nobody", list(&execution))).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let create = CreateRequest { execution: execution.clone(), name: "n".to_owned(), ..Default::default() };
    for key in ["viewer", "worker"] {
        let refused = client.create(with(key, create.clone())).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{key}");
    }
    let get = GetRequest { execution, checkpoint: "nowhere".to_owned() };
    assert_eq!(client.get(with("viewer", get)).await.unwrap_err().code(), Code::NotFound);
}
