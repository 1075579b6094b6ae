//! Checkpoints over gRPC.

use tonic::{Request, Response, Status};

use super::proto::checkpoints_server::Checkpoints as Service;
use super::proto::{
    Checkpoint, CreateRequest, CreateResponse, Done, GetRequest, ListRequest, ListResponse, RollbackRequest,
    RollbackResponse,
};
use super::{caller, status};
use crate::port::{Action, Failure, FailureKind, Role};
use crate::request::{Shared, idempotency_key};
use crate::views::{self, CheckpointView};

/// The service.
pub(crate) struct Checkpoints {
    pub(crate) shared: Shared,
}

#[tonic::async_trait]
impl Service for Checkpoints {
    async fn create(&self, request: Request<CreateRequest>) -> Result<Response<CreateResponse>, Status> {
        let caller = caller(&self.shared.engine, request.metadata(), Role::Developer).await?;
        let CreateRequest { execution, name, idempotency_key: key } = request.into_inner();
        let action = Action::Checkpoint { name };
        let done = self.shared.act(&caller, &execution, action, given(key)?).await.map_err(status)?;
        Ok(Response::new(CreateResponse { done: Some(done.into()) }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Checkpoint>, Status> {
        let caller = caller(&self.shared.engine, request.metadata(), Role::Viewer).await?;
        let GetRequest { execution, checkpoint } = request.into_inner();
        let all = self.shared.engine.checkpoints(&caller, &execution).await.map_err(status)?;
        match find(&all, &checkpoint) {
            Some(found) => Ok(Response::new(found.clone().into())),
            None => Err(status(Failure::new(
                FailureKind::NotFound,
                "no-such-checkpoint",
                format!("{execution} has no checkpoint `{checkpoint}`"),
                "List shows them",
            ))),
        }
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let caller = caller(&self.shared.engine, request.metadata(), Role::Viewer).await?;
        let all =
            self.shared.engine.checkpoints(&caller, &request.into_inner().execution).await.map_err(status)?;
        Ok(Response::new(ListResponse { checkpoints: all.into_iter().map(Checkpoint::from).collect() }))
    }

    async fn rollback_to_checkpoint(
        &self,
        request: Request<RollbackRequest>,
    ) -> Result<Response<RollbackResponse>, Status> {
        let caller = caller(&self.shared.engine, request.metadata(), Role::Developer).await?;
        let RollbackRequest { execution, checkpoint, cancel_running, over_writes, idempotency_key: key } =
            request.into_inner();
        let action = Action::RollBack { to: checkpoint, cancel_running, over_writes };
        let done = self.shared.act(&caller, &execution, action, given(key)?).await.map_err(status)?;
        Ok(Response::new(RollbackResponse { done: Some(done.into()) }))
    }
}

fn given(key: String) -> Result<Option<String>, Status> {
    if key.is_empty() {
        return Ok(None);
    }
    idempotency_key(&key).map(Some).ok_or_else(|| {
        Status::invalid_argument(
            "the idempotency key is no text of 1 to 256 visible characters; a uuid will do",
        )
    })
}

/// A checkpoint by its address. What was done at each one says where a step stands between them.
fn find<'a>(all: &'a [CheckpointView], address: &str) -> Option<&'a CheckpointView> {
    if address == "last" {
        return all.last();
    }
    if let Ok(seq) = address.parse::<u64>() {
        return all.iter().find(|checkpoint| checkpoint.seq == seq);
    }
    let Some((agent, side)) = address.strip_prefix("step:").and_then(|rest| rest.rsplit_once(':')) else {
        return all.iter().rev().find(|checkpoint| checkpoint.name.as_deref() == Some(address));
    };
    let done = |checkpoint: &&CheckpointView| checkpoint.done.iter().any(|name| name == agent);
    match side {
        "before" => all.iter().rev().find(|checkpoint| !done(checkpoint)),
        "after" => all.iter().find(done),
        _ => None,
    }
}

impl From<views::Done> for Done {
    fn from(done: views::Done) -> Done {
        let views::Done { seq, last, repeated } = done;
        Done { seq, last, repeated }
    }
}

impl From<CheckpointView> for Checkpoint {
    fn from(view: CheckpointView) -> Checkpoint {
        let CheckpointView { seq, name, taken_at, done, state_hash } = view;
        Checkpoint { seq, name: name.unwrap_or_default(), taken_at, done, state_hash }
    }
}
