//! The processor that is measured: a till that answers each signal with three events, and an auditor beside it.

use omium_processor::{Context, Processor, Recorded, Refusal, Why};
use omium_schemas::Money;
use omium_schemas::catalogue::{CheckpointTaken, Command, CostRecorded, Event, SignalReceived};
use serde::{Deserialize, Serialize};

/// What the till keeps of one stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drawer {
    signals: u64,
    checkpoints: u64,
}

/// Answers a signal with three events.
pub(crate) struct Till;

impl Processor for Till {
    type State = Drawer;

    const NAME: &'static str = "till";
    const LAYOUT: u16 = 1;

    fn decide(_: &Drawer, command: &Command, _: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        let Command::SignalExecution(signal) = command else {
            return Err(Refusal::new(Why::Invalid, "a till only takes signals"));
        };
        Ok(vec![
            SignalReceived { name: signal.name.clone() }.into(),
            CostRecorded { step: None, amount: Money(1_250_000_000) }.into(),
            CheckpointTaken { name: None }.into(),
        ])
    }

    fn apply(mut drawer: Drawer, recorded: &Recorded<'_>) -> Drawer {
        match recorded.event {
            Event::SignalReceived(_) => drawer.signals += 1,
            Event::CheckpointTaken(_) => drawer.checkpoints += 1,
            _ => {}
        }
        drawer
    }
}

/// The till decides, the auditor of the bank adds up.
pub(crate) type TillSuite = (Till, omium_processor::testkit::Auditor);
