//! Definitions of workflows and their versions.

use async_trait::async_trait;
use omium_workflow::{Definition, Problems};

use super::{Caller, Failure};
use crate::views::{Published, WorkflowView};

/// The workflows of a tenant.
#[async_trait]
pub trait Workflows: Send + Sync + 'static {
    /// Reads a definition as it is read before it is published: all that is wrong with it is told.
    fn read(&self, file: &str, text: &str) -> Result<Definition, Problems>;

    /// Publishes a version. The same text again is the same version.
    async fn publish(&self, caller: &Caller, file: &str, text: &str) -> Result<Published, Failure>;

    /// All workflows, newest versions.
    async fn workflows(&self, caller: &Caller) -> Result<Vec<WorkflowView>, Failure>;

    /// One workflow, `name` or `name@3`, with its text.
    async fn workflow(&self, caller: &Caller, name: &str) -> Result<WorkflowView, Failure>;
}
