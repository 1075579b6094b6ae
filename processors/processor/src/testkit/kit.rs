//! Given these events, when this command comes, then these events follow: only this file knows the calls.

use omium_schemas::catalogue::{Command, Event, TakeCheckpoint};
use omium_schemas::{Content, ExecutionId, Seq, StreamId, TenantId, Time};

use crate::{Context, Processor, Recorded, Refusal};

/// The tenant that tests speak for.
pub const TEST_TENANT: TenantId = TenantId([7; 16]);

/// The job that tests speak of.
pub fn test_stream() -> StreamId {
    ExecutionId::new([9; 15]).stream()
}

/// A stream to which something has happened.
#[derive(Clone)]
pub struct Given {
    stream: StreamId,
    now: Time,
    events: Vec<Event>,
}

impl Given {
    /// A stream to which these events have happened.
    pub fn events(stream: StreamId, events: Vec<Event>) -> Given {
        Given { stream, now: Time::from_millis(1_000), events }
    }

    /// The same at another time.
    #[must_use]
    pub fn at(mut self, now: Time) -> Given {
        self.now = now;
        self
    }

    /// The state that the events fold to. Seqs count from 1.
    pub fn state<P: Processor>(&self) -> P::State {
        let command = Command::from(TakeCheckpoint { name: String::new() });
        self.events.iter().zip(1..).fold(P::State::default(), |state, (event, seq)| {
            let recorded = Recorded {
                tenant: TEST_TENANT,
                stream: self.stream,
                seq: Seq(seq),
                time: Time(seq),
                event,
                command: &command,
            };
            P::apply(state, &recorded)
        })
    }

    /// What the command causes.
    pub fn when<P: Processor>(&self, command: impl Into<Command>) -> Result<Vec<Event>, Refusal> {
        let open = |content: &Content| content.plain().cloned();
        let context = Context {
            tenant: TEST_TENANT,
            stream: self.stream,
            now: self.now,
            seq: Seq(self.events.len() as u64 + 1),
            entropy: [3; 16],
            logic: 1,
            control: &[],
            open: &open,
        };
        P::decide(&self.state::<P>(), &command.into(), &context)
    }
}
