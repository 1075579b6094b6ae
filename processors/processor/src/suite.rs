//! A processor, and several of them over the same streams.

use omium_schemas::Time;
use omium_schemas::catalogue::{Command, Event};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Due, Recorded, Refusal};

/// A pure state machine over the events of one stream at a time.
pub trait Processor: Send + Sync + 'static {
    /// What it keeps per stream. Its serialised form must be canonical: ordered maps, no floats.
    type State: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Its name, in metrics and in a quarantine's reason.
    const NAME: &'static str;

    /// The version of the state's layout. A store with another one is rebuilt from the log.
    const LAYOUT: u16;

    /// Says which events a command causes, or why it is refused. Changes nothing itself.
    fn decide(
        _state: &Self::State,
        _command: &Command,
        _context: &Context<'_>,
    ) -> Result<Vec<Event>, Refusal> {
        Ok(Vec::new())
    }

    /// Says which events an event causes in turn, of this processor's own family.
    fn react(_state: &Self::State, _event: &Event, _context: &Context<'_>) -> Vec<Event> {
        Vec::new()
    }

    /// Folds one recorded event. Never fails: what is in the log has already happened.
    fn apply(state: Self::State, recorded: &Recorded<'_>) -> Self::State;

    /// The outstanding work.
    fn due(_state: &Self::State) -> Due {
        Due::default()
    }

    /// The events that stand for this state once the front of the log is gone: applied to any state, they give the
    /// same one. Nothing where the stream's frames have to be kept as they are, because work on it goes on, or because
    /// it is to be kept.
    fn carry(_state: &Self::State, _keep: &Keep) -> Option<Vec<Event>> {
        None
    }
}

/// How long streams are kept after they have ended, when the front of the log is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// When it is dropped.
    pub now: Time,
    /// How long, in microseconds, where a stream does not say it itself.
    pub micros: u64,
}

impl Keep {
    /// Nothing that has ended is kept.
    pub const NOTHING: Keep = Keep { now: Time(u64::MAX), micros: 0 };

    /// Whether a stream that ended then is still kept. What it says itself counts before all else.
    pub fn holds(&self, ended: Time, own_millis: Option<u64>) -> bool {
        let micros = own_millis.map_or(self.micros, |millis| millis.saturating_mul(1_000));
        ended.0.saturating_add(micros) > self.now.0
    }
}

/// The processors that a partition runs, in the order in which they react. The first one decides.
pub trait Processors: Send + Sync + 'static {
    /// The states of all of them for one stream.
    type State: Clone + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// How many there are.
    const COUNT: usize;

    /// Changes when the layout of any of them does.
    fn layout() -> u64;

    /// See [`Processor::decide`].
    fn decide(state: &Self::State, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal>;

    /// See [`Processor::react`]; `which` counts from 0.
    fn react(which: usize, state: &Self::State, event: &Event, context: &Context<'_>) -> Vec<Event>;

    /// See [`Processor::apply`].
    fn apply(state: Self::State, recorded: &Recorded<'_>) -> Self::State;

    /// See [`Processor::due`]; the work of all, and the earliest deadline.
    fn due(state: &Self::State) -> Due;

    /// See [`Processor::carry`]; nothing as soon as one of them needs the frames.
    fn carry(state: &Self::State, keep: &Keep) -> Option<Vec<Event>>;
}

macro_rules! processors {
    ($count:literal: $first:ident 0 $(, $rest:ident $at:tt)*) => {
        impl<$first: Processor $(, $rest: Processor)*> Processors for ($first, $($rest,)*) {
            type State = ($first::State, $($rest::State,)*);

            const COUNT: usize = $count;

            fn layout() -> u64 {
                let layout = u64::from($first::LAYOUT);
                $(let layout = layout << 12 ^ u64::from($rest::LAYOUT);)*
                layout
            }

            fn decide(state: &Self::State, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
                $first::decide(&state.0, command, context)
            }

            fn react(which: usize, state: &Self::State, event: &Event, context: &Context<'_>) -> Vec<Event> {
                match which {
                    0 => $first::react(&state.0, event, context),
                    $($at => $rest::react(&state.$at, event, context),)*
                    _ => Vec::new(),
                }
            }

            fn apply(state: Self::State, recorded: &Recorded<'_>) -> Self::State {
                ($first::apply(state.0, recorded), $($rest::apply(state.$at, recorded),)*)
            }

            fn due(state: &Self::State) -> Due {
                #[allow(unused_mut, reason = "a suite of one has nothing to merge")]
                let mut due = $first::due(&state.0);
                $(
                    let more = $rest::due(&state.$at);
                    due.effects.extend(more.effects);
                    due.deadline = due.deadline.into_iter().chain(more.deadline).min();
                )*
                due
            }

            fn carry(state: &Self::State, keep: &Keep) -> Option<Vec<Event>> {
                #[allow(unused_mut, reason = "a suite of one has nothing to add")]
                let mut events = $first::carry(&state.0, keep)?;
                $(events.extend($rest::carry(&state.$at, keep)?);)*
                Some(events)
            }
        }
    };
}

processors!(1: A 0);
processors!(2: A 0, B 1);
processors!(3: A 0, B 1, C 2);
processors!(4: A 0, B 1, C 2, D 3);
