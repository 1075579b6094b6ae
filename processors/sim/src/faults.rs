//! When things go wrong, beside what goes wrong on the way.

use omium_runtime::Role;
use omium_schemas::Partition;

use crate::counts::Fault;
use crate::node::OFF;
use crate::world::{Action, World};

/// What a run has to have seen before it may come to rest.
pub(crate) const COMMANDS: u64 = 200;
pub(crate) const FAULTS: u64 = 20;
pub(crate) const CRASHES: u64 = 3;
/// In microseconds.
const YEAR: u64 = 365 * 24 * 3_600_000_000;
/// About as many commands are still acknowledged after the last fault.
const LEFT: u64 = 25;

impl World {
    pub(crate) fn plan_faults(&mut self) {
        self.plan_election();
        let node = self.chance.below(self.nodes.len() as u64) as usize;
        let by = match self.chance.below(4) {
            // For a moment it is another hour, or another year.
            0 => self.chance.between(0, 7_200_000_000) as i64 - 3_600_000_000,
            1 => self.chance.between(0, 20 * YEAR) as i64 - 10 * YEAR as i64,
            _ => self.chance.between(0, 60_000_000) as i64 - 30_000_000,
        };
        let at = self.chance.between(100_000, 2_000_000);
        self.after(at, Action::Jump(node, by));
    }

    fn plan_crash(&mut self) {
        let alive: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].alive).collect();
        if alive.is_empty() {
            return;
        }
        let node = *self.chance.pick(&alive);
        let at = self.chance.between(200, 6_000);
        self.after(at, Action::Crash(node));
    }

    fn plan_election(&mut self) {
        let partition = Partition(self.chance.below(u64::from(self.config.partitions)) as u16);
        let at = self.chance.between(100_000, 1_000_000);
        self.after(at, Action::Elect(partition));
    }

    /// Another misfortune whenever some more commands have been acknowledged. By the time that a run has acknowledged
    /// as many as it must, it has seen what it must, whatever its speed.
    pub(crate) fn keep_faulting(&mut self) {
        if self.counts.acknowledged < self.next_misfortune || !self.faulty {
            return;
        }
        self.next_misfortune = self.counts.acknowledged + self.chance.between(40, 60);
        self.plan_crash();
        if self.nodes.len() > 1 && self.chance.per_mille(300) {
            self.plan_election();
        }
    }

    pub(crate) fn jump(&mut self, node: usize, by: i64) {
        if by != 0 && self.faulty {
            self.fault(Fault::ClockJump);
            let begins = |shell: &crate::world::Shell| matches!(shell.role(), Role::Opening(..));
            let begins = self.nodes[node].shells.iter().any(begins);
            self.nodes[node].skew += if begins { by.clamp(-OFF, OFF) } else { by };
            let back = self.chance.between(200_000, 3_000_000);
            self.after(back, Action::Jump(node, 0));
        } else {
            self.nodes[node].skew = 0;
        }
    }

    /// Whether the world may heal. What is under way then, and what clients ask of a healed world, makes up the rest.
    pub(crate) fn has_seen_enough(&self) -> bool {
        self.counts.acknowledged >= COMMANDS - LEFT
            && self.counts.total_faults() >= FAULTS
            && self.counts.of(Fault::Crash) >= CRASHES
    }

    /// From now on nothing goes wrong any more, and everyone comes back.
    pub(crate) fn heal(&mut self) {
        self.faulty = false;
        self.keep_busy(false);
        for node in 0..self.nodes.len() {
            self.nodes[node].skew = 0;
            self.restart(node);
        }
    }
}
