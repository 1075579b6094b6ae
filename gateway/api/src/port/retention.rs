//! Letting go of what was kept long enough.

use async_trait::async_trait;

use super::{Caller, Failure};
use crate::views::LetGo;

/// How long things are kept is set where the server is started.
#[async_trait]
pub trait Retention: Send + Sync + 'static {
    /// Lets go at once of what was kept long enough.
    async fn trim(&self, caller: &Caller) -> Result<LetGo, Failure>;
}
