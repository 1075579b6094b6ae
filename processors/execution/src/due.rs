//! What a run waits for, from its state alone.

use omium_processor::{Due, Effect};

use crate::state::{Phase, Run};

pub(crate) fn due(run: &Run) -> Due {
    let mut due = Due::default();
    if !run.status.is_open() {
        return due;
    }
    let answers = run.questions.iter().filter_map(|question| question.expires_at);
    due.deadline = answers.chain(run.deadline).min();
    // A program is run by whoever started it.
    if run.program.is_some() {
        return due;
    }
    for (step, (plan, state)) in run.ids().zip(run.plan.iter().zip(&run.steps)) {
        let Phase::Waiting { not_before, timeout_at, .. } = state.phase else { continue };
        // What was not sent before a pause waits for its end, what only a person knows for his word: neither is late.
        if run.holds(&state.phase) || run.asks(step) {
            continue;
        }
        due.deadline = due.deadline.into_iter().chain(timeout_at).min();
        // A step of a human is performed by nobody.
        if plan.signal.is_none() {
            due.effects.push(Effect { step, branch: run.branch, attempt: state.attempts, not_before });
        }
    }
    due
}
