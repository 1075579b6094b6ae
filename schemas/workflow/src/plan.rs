//! What of a definition an execution decides by: it stands in the command that starts the execution, so that a stream
//! can be read without any other.

use omium_schemas::catalogue::PlannedStep;
use omium_schemas::{Digest, StepId};

use crate::definition::{Agent, Definition};

impl Definition {
    /// The steps, in order: step 1 is the first agent.
    pub fn plan(&self) -> Vec<PlannedStep> {
        self.agents.iter().map(step).collect()
    }

    /// The agent of a step.
    pub fn agent(&self, step: StepId) -> Option<&Agent> {
        self.agents.get(usize::try_from(step.0).ok()?.checked_sub(1)?)
    }
}

fn step(agent: &Agent) -> PlannedStep {
    PlannedStep {
        agent: agent.id.clone(),
        framework: agent.framework.clone(),
        after: agent.after.iter().map(|at| *at as i32 + 1).collect(),
        attempts: agent.retry.attempts as i32,
        backoff_ms: agent.retry.backoff_ms as i64,
        timeout_ms: agent.timeout_ms.unwrap_or(0) as i64,
        budget: agent.budget,
        require: agent.require.clone(),
        ensure: agent.ensure.clone(),
        signal: agent.signal.clone(),
    }
}

/// The hash by which a version is pinned: of its text as it was published.
pub fn version(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}
