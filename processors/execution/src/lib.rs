//! Runs of workflows: which steps are due, what their outcomes cause, where a run can go back to. Pure.

mod apply;
mod asking;
mod bounds;
mod calls;
mod control;
mod decide;
mod draft;
mod due;
mod gate;
mod matching;
mod money;
mod prices;
mod program;
mod rules;
mod schedule;
mod state;
mod writes;

use omium_processor::{Context, Due, Processor, Recorded, Refusal};
use omium_schemas::StreamKind;
use omium_schemas::catalogue::{Command, Event, ExecutionCancelled, ExecutionCarried};

pub use control::{Control, Key, SetGuards, Version};
pub use matching::{Found, Wanted};
pub use prices::Prices;
pub use state::{
    Call, CallKind, Cancelling, FindingState, Mark, Outcome, Phase, Program, Question, Run, Signal, State,
    Status, Step, Suggested, Write,
};

/// Decides for executions and for control.
pub struct Execution;

impl Processor for Execution {
    type State = State;

    const NAME: &'static str = "execution";
    const LAYOUT: u16 = 9;

    fn decide(state: &State, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        match context.stream.kind() {
            StreamKind::Execution => decide::decide(state.run(), command, context),
            StreamKind::Control => control::decide(state.control(), command),
            StreamKind::Account | StreamKind::Lesson | StreamKind::Book => {
                draft::invalid(format!("{} is not understood by {}", command.name(), context.stream))
            }
        }
    }

    fn react(state: &State, event: &Event, _context: &Context<'_>) -> Vec<Event> {
        state.run().map(|run| program::react(run, event)).unwrap_or_default()
    }

    fn apply(mut state: State, recorded: &Recorded<'_>) -> State {
        match &mut state {
            State::Run(run) => run.apply(fact(recorded)),
            State::Control(control) => control.apply(recorded),
            State::Empty => return first(recorded),
        }
        state
    }

    fn due(state: &State) -> Due {
        state.run().map(due::due).unwrap_or_default()
    }

    fn carry(state: &State) -> Option<Vec<Event>> {
        match state {
            State::Empty => Some(Vec::new()),
            State::Run(run) if !run.status.is_open() && !matches!(run.status, Status::Failed(_)) => {
                let (steps, spent) = (run.plan.len() as i32, run.spent);
                let mut events = vec![ExecutionCarried { steps, account: None, slice: None, spent }.into()];
                // What is carried counts as completed unless more is said.
                events.extend((run.status == Status::Cancelled).then(|| ExecutionCancelled {}.into()));
                Some(events)
            }
            State::Run(_) | State::Control(_) => None,
        }
    }
}

/// What the first event that matters makes of a stream.
fn first(recorded: &Recorded<'_>) -> State {
    match recorded.event {
        Event::ExecutionStarted(_) | Event::ExecutionCarried(_) => {
            let mut run = Box::<Run>::default();
            run.apply(fact(recorded));
            State::Run(run)
        }
        Event::TenantCreated(_)
        | Event::KeyIssued(_)
        | Event::WorkflowPublished(_)
        | Event::PriceSet(_)
        | Event::GuardSet(_) => {
            let mut control = Box::<Control>::default();
            control.apply(recorded);
            State::Control(control)
        }
        _ => State::Empty,
    }
}

fn fact<'a>(recorded: &Recorded<'a>) -> apply::Fact<'a> {
    let Recorded { seq, time, event, command, .. } = *recorded;
    apply::Fact { seq, time, event, command }
}
