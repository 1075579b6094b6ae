//! Leaders let the front of their log go, as far as the log says: nobody really drops it here, so that what must hold
//! can still be looked at. Instead the rest of it is folded on its own when a run has come to rest.

use omium_runtime::{Input, Role, Ticket};
use omium_schemas::{Offset, Partition};

use crate::world::{Action, World};

impl World {
    pub(crate) fn plan_trim(&mut self) {
        let partition = Partition(self.chance.below(u64::from(self.config.partitions)) as u16);
        let at = self.chance.between(300_000, 1_500_000);
        self.after(at, Action::Trim(partition));
    }

    /// Gives the leader a part of its log's front, and goes on until it has carried all that is needed.
    pub(crate) fn trim(&mut self, partition: Partition) {
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        let Some(shell) = self.shell(life, partition) else { return self.trim_again() };
        if !matches!(shell.role(), Role::Leading(_)) {
            return self.trim_again();
        }
        let (begun, start, end) = (shell.is_carrying(), shell.book().start, shell.next());
        let mut entries = Vec::new();
        if !begun {
            let before = self.chance.between(start.0, end.0 + 1);
            if before <= start.0 {
                return self.trim_again();
            }
            entries = self.logs.read(partition, start, Offset(before - 1));
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.feed(life, partition, Input::Carry(ticket, entries));
        let carrying = self.shell(life, partition).is_some_and(|shell| shell.is_carrying());
        if carrying {
            return self.soon(20_000, Action::Trim(partition));
        }
        self.trim_again();
    }

    fn trim_again(&mut self) {
        if self.busy {
            self.plan_trim();
        }
    }
}
