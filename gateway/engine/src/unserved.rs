//! Says aloud what waits for workers that nobody has registered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use omium_schemas::TenantId;
use omium_workflow::{Definition, HUMAN};
use tokio::time::Instant;

use super::Engine;
use super::core::unserved::Unserved;

/// How often is looked.
const LOOKS: Duration = Duration::from_secs(5);

/// Looks until the engine ends.
pub(super) fn watch(engine: &Arc<Engine>) {
    let (weak, begun, mut unserved) = (Arc::downgrade(engine), Instant::now(), Unserved::default());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOKS).await;
            let Some(engine) = weak.upgrade() else { return };
            for ((tenant, framework), steps) in unserved.look(begun.elapsed(), &engine.board.unserved()) {
                tracing::error!(
                    %tenant,
                    framework,
                    steps,
                    "steps wait for a worker, and none for their framework is registered; start one"
                );
            }
        }
    });
}

impl Engine {
    /// What a definition's steps would wait for as things are.
    pub(super) fn unserved_by(&self, tenant: TenantId, definition: &Definition) -> Vec<String> {
        let frameworks: BTreeSet<&str> =
            definition.agents.iter().map(|agent| agent.framework.as_str()).collect();
        let unserved = frameworks.into_iter().filter(|framework| {
            *framework != HUMAN && !self.board.has_worker(&(tenant, (*framework).to_owned()))
        });
        let warning = |framework: &str| {
            let agents: Vec<&str> = definition
                .agents
                .iter()
                .filter(|agent| agent.framework == framework)
                .map(|agent| agent.id.as_str())
                .collect();
            let agents = omium_workflow::listed(&agents);
            format!(
                "no worker for the framework `{framework}` is registered, and these agents wait for one: {agents}"
            )
        };
        unserved.map(warning).collect()
    }
}
