//! What a run waits for, from its state alone.

use omium_processor::{Due, Effect};
use omium_schemas::Time;

use crate::state::{Phase, Run, Status};

pub(crate) fn due(run: &Run) -> Due {
    let mut due = Due::default();
    if !run.status.is_open() {
        return due;
    }
    due.deadline = run.deadline;
    for (step, (plan, state)) in run.ids().zip(run.plan.iter().zip(&run.steps)) {
        let Phase::Waiting { not_before, timeout_at, .. } = state.phase else { continue };
        due.deadline = due.deadline.into_iter().chain(timeout_at).min();
        // A step of a human is performed by nobody; a repetition that was not sent before a pause waits for its end.
        if plan.signal.is_none() && !held(run, not_before) {
            due.effects.push(Effect { step, branch: run.branch, attempt: state.attempts, not_before });
        }
    }
    due
}

fn held(run: &Run, not_before: Time) -> bool {
    run.status == Status::Paused && run.paused_at.is_some_and(|paused| not_before > paused)
}
