//! What happens in an execution, as it happens.

use async_trait::async_trait;
use omium_schemas::Seq;
use tokio::sync::{broadcast, watch};

use super::{Caller, Failure};
use crate::views::{DeltaView, EventView};

/// The events of executions.
#[async_trait]
pub trait Streams: Send + Sync + 'static {
    /// Its events from a seq on, at most so many.
    async fn events(
        &self,
        caller: &Caller,
        execution: &str,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<EventView>, Failure>;

    /// The last seq of an execution, as it grows. Whoever follows reads events whenever it moves.
    async fn follow(&self, caller: &Caller, execution: &str) -> Result<watch::Receiver<Seq>, Failure>;

    /// Parts of models' answers from now on. As long as somebody holds this, models are asked to stream.
    async fn read_along(
        &self,
        caller: &Caller,
        execution: &str,
    ) -> Result<broadcast::Receiver<DeltaView>, Failure>;
}
