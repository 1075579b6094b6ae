//! Runs of workflows: which steps are due, what their outcomes cause, where a run can go back to. Pure.

mod apply;
mod asking;
mod bounds;
mod calls;
mod concerns;
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

use omium_processor::{Context, Due, Keep, Processor, Recorded, Refusal};
use omium_schemas::StreamKind;
use omium_schemas::catalogue::{Command, Event, ExecutionCancelled, ExecutionCarried, ExecutionFailed};

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
    const LAYOUT: u16 = 11;

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

    fn carry(state: &State, keep: &Keep) -> Option<Vec<Event>> {
        let run = match state {
            State::Empty => return Some(Vec::new()),
            State::Run(run)
                if !run.status.is_open()
                    && run.ended.is_some_and(|ended| !keep.holds(ended, run.keep_ms)) =>
            {
                run
            }
            State::Run(_) | State::Control(_) => return None,
        };
        let (steps, spent) = (run.plan.len() as i32, run.spent);
        let mut events = vec![ExecutionCarried { steps, account: None, slice: None, spent }.into()];
        // What is carried counts as completed unless more is said.
        events.extend(match run.status {
            Status::Cancelled => Some(ExecutionCancelled {}.into()),
            Status::Failed(class) => Some(ExecutionFailed { class }.into()),
            Status::Completed | Status::Running | Status::Paused => None,
        });
        Some(events)
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
