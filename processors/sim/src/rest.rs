//! When a run has come to rest: nothing is on its way, and nobody waits for anything. What is then not as it should be
//! never will be.

use omium_processor::testkit::BankState;
use omium_runtime::{Role, StreamKey};
use omium_schemas::Partition;

use crate::world::{Shell, World};

impl World {
    /// Whether more time would change nothing any more. A world in which something is stuck never gets here, and has
    /// to show after all its patience why.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_quiet()
            && !self.clients.iter().any(crate::clients::Client::waits)
            && (0..self.config.partitions).map(Partition).all(|partition| self.has_settled(partition))
    }

    fn leader(&self, partition: Partition) -> Option<&Shell> {
        let (node, _) = self.leaders[usize::from(partition.0)];
        let shell = self.nodes[node].shells.get(usize::from(partition.0))?;
        matches!(shell.role(), Role::Leading(_)).then_some(shell)
    }

    /// All messages have arrived, and no job waits for time to pass.
    fn has_settled(&self, partition: Partition) -> bool {
        let Some(shell) = self.leader(partition) else { return false };
        let arrived = shell.book().sent.iter().all(|(to, sent)| {
            self.leader(*to).is_some_and(|there| there.book().received.get(&partition) == Some(sent))
        });
        let truth = &self.truths[usize::from(partition.0)];
        arrived && !truth.streams().any(|key| is_open(shell, key))
    }
}

/// What waits for an effect or for a time is never let out of memory.
fn is_open(shell: &Shell, key: &StreamKey) -> bool {
    let Some(state) = shell.resident(key) else { return false };
    let BankState::Job(job) = &state.state.0 else { return false };
    job.planned > 0 && !job.ended && !job.paused && state.quarantine.is_none()
}
