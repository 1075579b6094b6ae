//! What must hold of a run, whatever was asked of it.

use std::collections::BTreeSet;

use omium_execution::{CallKind, Execution, Outcome, Phase, Run, State, Status, Step};
use omium_processor::{Effect, Keep, Processor};
use omium_schemas::catalogue::{BranchRaised, Command, Event, MeetDeadline, RollBack, TakeCheckpoint};
use omium_schemas::{Money, Seq, StepId};

use crate::walk::{Line, Walk, carried};

/// After each event.
pub(crate) fn one_event(walk: &Walk, before: &State, line: &Line) {
    let Some(run) = walk.state.run() else { return };
    let Some(old) = before.run() else { return };
    if Walk::has_ended_for_good(before) {
        assert_eq!(run.status, old.status, "{} changes what has ended for good", line.event.name());
        assert_eq!(run.steps, old.steps, "{} changes a step of what has ended", line.event.name());
    }
    match &line.event {
        Event::BranchRaised(raised) => went_back(walk, old, run, raised, &line.command),
        event => {
            assert_eq!(run.branch, old.branch, "only a rollback or a retry raises the branch");
            for (step, old) in run.steps.iter().zip(&old.steps) {
                let done = matches!(old.phase, Phase::Done { .. });
                assert!(!done || step.phase == old.phase, "{} undoes a step", event.name());
            }
        }
    }
    while_asked(old, &line.event);
    if let Event::StepTimedOut(late) = &line.event {
        let owed = Execution::due(before).effects.iter().any(|effect| effect.step == late.step);
        let (plan, _) = run.step(late.step).expect("the plan has it");
        assert!(owed || plan.signal.is_some(), "{} is late and was never sent", late.step);
    }
    if let Event::StepScheduled(scheduled) = &line.event {
        assert!(
            old.status == Status::Running,
            "{} is begun in a run that is {:?}",
            scheduled.step,
            old.status
        );
        assert!(is_ready(run, scheduled.step), "{} is begun before its turn", scheduled.step);
        let paid = run.budget.is_none_or(|budget| run.spent <= budget);
        assert!(paid || decided_by_hand(line), "{} is begun with money that is not there", scheduled.step);
    }
}

/// A step that waits for a person's word is not worked on, and is not late.
fn while_asked(old: &Run, event: &Event) {
    let step = match event {
        Event::StepStarted(event) => event.step,
        Event::StepTimedOut(event) => event.step,
        Event::StepLost(event) => event.step,
        Event::LlmCallStarted(event) => event.step,
        Event::ToolCallStarted(event) => event.step,
        // A human's step is done by his word, whatever else is asked.
        Event::StepCompleted(event)
            if old.step(event.step).is_some_and(|(plan, _)| plan.signal.is_none()) =>
        {
            event.step
        }
        _ => return,
    };
    assert!(!old.asks(step), "{} of {step}, which waits for a person's word", event.name());
}

/// What is asked can be answered: it is about an open call that must not be made twice, of a step that waits for it.
fn asks(run: &Run) {
    for question in &run.questions {
        let call = run.calls.iter().find(|call| call.at == question.call);
        let call = call.unwrap_or_else(|| panic!("{question:?} is about no call"));
        assert!(matches!(call.kind, CallKind::Tool { repeatable: false, .. }), "{call:?} may be made twice");
        assert_eq!((&call.outcome, call.step), (&Outcome::Open, question.step));
        let (_, step) = run.step(question.step).expect("the plan has it");
        assert!(
            matches!(step.phase, Phase::Waiting { .. }) && run.status.is_open(),
            "nobody waits for {question:?}"
        );
    }
    let about: BTreeSet<Seq> = run.questions.iter().map(|question| question.call).collect();
    assert_eq!(about.len(), run.questions.len(), "one call is asked about twice");
}

/// Whoever rolls back or tries again has seen what it has cost.
fn decided_by_hand(line: &Line) -> bool {
    matches!(line.command, Command::RollBack(_) | Command::RetryExecution(_))
}

/// A rollback brings back what its checkpoint had, and nothing else.
fn went_back(walk: &Walk, old: &Run, run: &Run, raised: &BranchRaised, command: &Command) {
    assert_eq!(run.branch, old.branch.next(), "the branch rises by one");
    assert!(walk.known.checkpoints.contains(&raised.to), "{} is no checkpoint", raised.to);
    let there = walk.folded(raised.to);
    let there = there.run().expect("it had begun");
    assert_eq!((&run.signals, &run.marks), (&there.signals, &there.marks), "what was heard and marked there");
    for ((step, then), id) in run.steps.iter().zip(&there.steps).zip(run.ids()) {
        let Step { spent, unpriced, .. } = old.steps[id.0 as usize - 1];
        let wanted = match then.phase {
            Phase::Done { .. } => Step { spent, unpriced, ..then.clone() },
            _ => Step { spent, unpriced, ..Step::default() },
        };
        assert_eq!(*step, wanted, "{id} after going back to {}", raised.to);
    }
    assert_eq!(run.status, Status::Running);
    for call in &run.calls {
        let changed = matches!(call.kind, CallKind::Tool { repeatable: false, .. });
        let there = call.at <= raised.to || matches!(command, Command::RetryExecution(_));
        assert!(changed && there, "{call:?} of the old branch goes on");
    }
    nothing_is_repeated_in_silence(walk, run, command);
}

/// What tools have changed stays known, its step stays done, or somebody has said that it may be done again.
fn nothing_is_repeated_in_silence(walk: &Walk, run: &Run, command: &Command) {
    if matches!(command, Command::RollBack(RollBack { over_writes: true, .. })) {
        return;
    }
    for (at, step) in &walk.known.writes {
        let done = run.step(*step).is_some_and(|(_, step)| matches!(step.phase, Phase::Done { .. }));
        let known = run.calls.iter().any(|call| call.at == *at);
        assert!(done || known, "the write at seq {at} is forgotten, and {step} is done again");
    }
}

/// After each command.
pub(crate) fn at_rest(walk: &mut Walk) {
    let run = walk.run();
    money(walk, run);
    for mark in &run.marks {
        assert!(walk.known.checkpoints.contains(&mark.at), "the mark at {} is no checkpoint", mark.at);
    }
    for call in &run.calls {
        assert!(walk.known.calls.contains(&call.at), "no call began at {}", call.at);
        assert_eq!(call.branch, run.branch, "a call of an older branch is remembered");
    }
    for (plan, step) in run.plan.iter().zip(&run.steps) {
        assert!(step.attempts <= plan.attempts, "{} of {} attempts", step.attempts, plan.attempts);
    }
    assert_eq!(run.bytes, walk.known.bytes, "the content that it brought");
    goes_on(run);
    hears(run);
    asks(run);
    owes_what_it_waits_for(walk, run);
    deadline_passes(walk);
    if walk.chance.percent(20) {
        assert!(walk.folded(omium_schemas::Seq(u64::MAX)) == walk.state, "the fold of all events differs");
        can_be_carried(walk);
    }
}

fn money(walk: &Walk, run: &Run) {
    assert_eq!(run.spent, walk.known.spent, "spent is the sum of what was recorded");
    assert_eq!(run.unpriced, walk.known.unpriced, "answers without a price are counted");
    let of_steps: u32 = run.steps.iter().map(|step| step.unpriced).sum();
    assert_eq!(of_steps, run.unpriced, "each of them is one of a step");
    for id in run.ids() {
        let (_, step) = run.step(id).expect("it is one of its own");
        let known = walk.known.spent_on.get(&id).copied().unwrap_or(Money::ZERO);
        assert_eq!(step.spent, known, "what {id} has cost");
    }
}

/// Something is always waited for, until nothing is and the run has ended.
fn goes_on(run: &Run) {
    let waiting = run.running();
    match run.status {
        Status::Running => {
            assert!(!waiting.is_empty(), "it runs and waits for nothing: {:?}", run.steps);
            let forgotten = run.ids().find(|id| {
                let (_, step) = run.step(*id).expect("it is one of its own");
                step.phase == Phase::Blocked && is_ready(run, *id)
            });
            assert_eq!(forgotten, None, "a step could begin and does not");
        }
        Status::Paused => {}
        Status::Completed => {
            let done = |step: &Step| matches!(step.phase, Phase::Done { .. });
            assert!(run.steps.iter().all(done), "completed with steps that are not done: {:?}", run.steps);
        }
        Status::Failed(_) | Status::Cancelled => {
            assert_eq!(waiting, [], "it has ended and steps still wait");
        }
    }
}

/// No word is said in vain, and nothing is done before its turn.
fn hears(run: &Run) {
    for (id, (plan, step)) in run.ids().zip(run.plan.iter().zip(&run.steps)) {
        let waits = matches!(step.phase, Phase::Waiting { .. }) && run.status.is_open();
        let said = run
            .signals
            .iter()
            .any(|signal| signal.taken.is_none() && plan.signal.as_ref() == Some(&signal.name));
        assert!(!(waits && said), "{id} waits for what has been said");
        assert!(
            !matches!(step.phase, Phase::Done { .. }) || is_ready(run, id),
            "{id} is done before its turn"
        );
    }
}

fn is_ready(run: &Run, step: StepId) -> bool {
    let (plan, _) = run.step(step).expect("the plan has it");
    plan.after.iter().all(|before| {
        let (_, before) = run.step(StepId(*before as u32)).expect("the plan has it");
        matches!(before.phase, Phase::Done { .. })
    })
}

fn owes_what_it_waits_for(walk: &Walk, run: &Run) {
    let due = walk.due();
    if !run.status.is_open() {
        assert!(due.is_empty(), "it has ended and owes {due:?}");
    }
    for Effect { step, branch, attempt, not_before } in due.effects {
        let (plan, state) = run.step(step).expect("the plan has it");
        let Phase::Waiting { not_before: begins, .. } = state.phase else {
            panic!("{step} is owed and is {:?}", state.phase)
        };
        assert_eq!(
            (branch, attempt, not_before),
            (run.branch, state.attempts, begins),
            "{step} as it is owed"
        );
        assert!(!run.asks(step), "{step} is owed and waits for a person's word");
        assert!(plan.signal.is_none() && is_ready(run, step), "{step} is owed by nobody");
    }
}

/// A deadline that is met is over: asked about again and again it would keep a shell busy.
fn deadline_passes(walk: &mut Walk) {
    let Some(at) = walk.due().deadline else { return };
    let now = walk.now;
    walk.now = now.max(at);
    let events = walk.decide(&MeetDeadline { at }.into(), [1; 16]).expect("a deadline is never refused");
    assert!(!events.is_empty(), "the deadline at {at:?} passes and nothing happens");
    walk.now = now;
}

/// What stands for a run once the front of its log is gone gives the same to those who have the front and to others.
fn can_be_carried(walk: &Walk) {
    let Some(events) = Execution::carry(&walk.state, &Keep::NOTHING) else { return };
    let command = Command::from(TakeCheckpoint { name: String::new() });
    let here = carried(walk.state.clone(), &events, &command, walk.now);
    let elsewhere = carried(State::default(), &events, &command, walk.now);
    assert!(here == elsewhere, "carried otherwise for those who have the front of the log");
    assert!(Execution::due(&here).is_empty(), "what is carried owes something");
    let (here, run) = (here.run().expect("a run stays one"), walk.run());
    assert_eq!((here.status, here.spent), (run.status, run.spent), "what is carried of it");
}
