//! Leaders let the front of their log go. From then on no node can read it, and one whose saved state is older starts
//! without it. What checks can read all of it to the end.

use omium_runtime::{Answer, Input, Role, StreamKey, Ticket};
use omium_schemas::{Offset, Partition, Seq};

use crate::world::{Action, Asked, Asker, World};

impl World {
    pub(crate) fn plan_trim(&mut self) {
        let partition = Partition(self.chance.below(u64::from(self.config.partitions)) as u16);
        let at = self.chance.between(300_000, 1_500_000);
        self.after(at, Action::Trim(partition));
    }

    /// Gives the leader a part of its log's front, and goes on until it has carried all that is needed.
    pub(crate) fn trim(&mut self, partition: Partition) {
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        // What has just ended is kept now and then, and let go of the next time.
        let keep = self.chance.below(2) * 500_000;
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
        let asked = Asked { asker: Asker::Trimmer(None), key: StreamKey::book(partition), seen: Seq(0) };
        self.asked.insert(ticket, asked);
        self.feed(life, partition, Input::Carry(ticket, entries, keep));
        let carrying = self.shell(life, partition).is_some_and(|shell| shell.is_carrying());
        if carrying {
            return self.soon(20_000, Action::Trim(partition));
        }
        let start = self.shell(life, partition).map(|shell| shell.book().start);
        if let Some(asked) = self.asked.get_mut(&ticket) {
            asked.asker = Asker::Trimmer(start);
        }
        self.trim_again();
    }

    /// What has to be carried is durable, and that the log starts later; now it may.
    pub(crate) fn let_go(&mut self, partition: Partition, start: Option<Offset>, answer: &Answer) {
        if let (Some(start), Answer::Done(_)) = (start, answer) {
            let here = &mut self.starts[usize::from(partition.0)];
            *here = start.max(*here);
        }
    }

    fn trim_again(&mut self) {
        if self.busy {
            self.plan_trim();
        }
    }
}
