//! A tenant who has nothing tries what belongs to others: their streams by name, under their idempotency keys. To that
//! tenant all of it has to be as if it had never been.

use omium_runtime::{Answer, Input, StreamKey, Ticket};
use omium_schemas::catalogue::{
    CancelExecution, Command, PauseExecution, RollBack, SignalExecution, TakeCheckpoint, TransferMoney,
};
use omium_schemas::{Money, Partition, Seq, StreamId, StreamKind, TenantId};

use crate::counts::Fault;
use crate::truth::{Truth, Violation, broken};
use crate::world::{Action, Asked, Asker, World};

/// Who has nothing, and is never given anything.
const STRANGER: TenantId = TenantId([3; 16]);

impl World {
    /// What a stranger asks of a stream that others have. None of it can be done to a stream that is new.
    pub(crate) fn try_as_stranger(&mut self, stream: StreamId, to: StreamId) -> (StreamKey, Command) {
        self.fault(Fault::Stranger);
        let key = StreamKey::new(STRANGER, stream);
        self.look(key);
        let amount = Money(1_000_000_000);
        let command = match (stream.kind(), self.chance.below(5)) {
            (StreamKind::Account, _) => TransferMoney { to, amount }.into(),
            (_, 0) => RollBack { to: Seq(3), cancel_running: true, over_writes: false }.into(),
            (_, 1) => TakeCheckpoint { name: "mine".into() }.into(),
            (_, 2) => SignalExecution { name: "go".into(), body: None }.into(),
            (_, 3) => PauseExecution {}.into(),
            _ => CancelExecution {}.into(),
        };
        (key, command)
    }

    fn look(&mut self, key: StreamKey) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, Asked { asker: Asker::Stranger, key, seen: Seq(0) });
        let partition = key.stream.partition(key.tenant, self.config.partitions);
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        // Late enough to find what the question beside it has brought into memory.
        self.after(3_000, Action::Feed(life, partition, Input::Read(ticket, key)));
    }

    pub(crate) fn viewed(&mut self, ticket: Ticket, there: bool) {
        let Some(asked) = self.asked.remove(&ticket) else { return };
        if there && asked.key.tenant == STRANGER {
            self.check(Err(seen(&asked.key, "is shown")));
        }
    }

    /// Nothing is done for a stranger, and nothing that others have done has a part in the answer.
    pub(crate) fn check_strangers(&mut self, partition: Partition, asked: &Asked, answer: &Answer) {
        if asked.key.tenant != STRANGER {
            return;
        }
        if asked.seen > Seq(0) {
            self.check(Err(seen(&asked.key, "is decided on")));
        }
        if matches!(answer, Answer::Done(_) | Answer::OtherRequest | Answer::Quarantined(_)) {
            self.check(Err(seen(&asked.key, &format!("is answered with {answer:?}"))));
        }
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        let state = self.shell(life, partition).and_then(|shell| shell.resident(&asked.key));
        if state.is_some_and(|state| state.seq > Seq(0)) {
            self.check(Err(seen(&asked.key, "is in memory")));
        }
    }
}

/// What is another one's, and reached a stranger all the same.
fn seen(key: &StreamKey, how: &str) -> Violation {
    broken(13, format!("{}, which is another tenant's, {how} as if it were a stranger's", key.stream))
}

/// In all of a partition's log there is nothing of a stranger's.
pub(crate) fn check_nothing_strange(truth: &Truth) -> Result<(), Violation> {
    match truth.streams().find(|key| key.tenant == STRANGER) {
        Some(key) => Err(broken(13, format!("a stranger has changed {}", key.stream))),
        None => Ok(()),
    }
}

/// A message stays with the tenant of the stream that sends it.
pub(crate) fn check_message(from: &StreamKey, to: TenantId) -> Result<(), Violation> {
    if from.tenant == to {
        return Ok(());
    }
    Err(broken(13, format!("{} sends a message to another tenant", from.stream)))
}
