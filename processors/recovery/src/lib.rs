//! Says what can be done about a finding, how likely that helps, and does the best of it where the policy allows. Pure.

mod concerns;
mod known;
mod patch;
mod remedies;

use omium_processor::{Context, Keep, Processor, Recorded};
use omium_schemas::catalogue::{
    AnswersCondemned, ApprovalAsked, ApprovalSubject, ChosenBy, Event, FindingReported, RecoveryMode,
    RemedyApplied, RemedyChosen, RemedyFailed, RemedySucceeded, RemedySuggested, Severity,
};

pub use known::State;
pub use patch::{Patch, Patches};

use crate::known::Known;
use crate::remedies::Remedy;

/// Below this nothing is ever done without asking, in thousandths.
const NEVER_BELOW: i32 = 500;

/// Ranks remedies and applies them.
pub struct Recovery;

impl Processor for Recovery {
    type State = State;

    const NAME: &'static str = "recovery";
    const LAYOUT: u16 = 1;

    fn react(state: &State, event: &Event, _context: &Context<'_>) -> Vec<Event> {
        let Some(known) = state.known() else { return Vec::new() };
        match event {
            Event::FindingReported(found) if found.severity == Severity::Fail => about(known, found),
            Event::CheckPassed(_) => succeeded(known),
            Event::RemedyChosen(RemedyChosen { finding, number, by: ChosenBy::Human }) => {
                applied(known, *finding, *number)
            }
            _ => Vec::new(),
        }
    }

    fn apply(mut state: State, recorded: &Recorded<'_>) -> State {
        state.apply(recorded);
        state
    }

    fn carry(_state: &State, _keep: &Keep) -> Option<Vec<Event>> {
        // What is carried forward has ended: nothing of it is repaired any more.
        Some(Vec::new())
    }
}

/// What is suggested about a finding, and what is done about it at once.
fn about(known: &Known, found: &FindingReported) -> Vec<Event> {
    let (Some(call), finding) = (found.call, known.last_finding) else { return Vec::new() };
    let Some(asked) = known.answered(call) else { return Vec::new() };
    let remedies = remedies::ranked(known, found, asked);
    let mut events = Vec::new();
    if let Some((before, number)) = known.pending(asked, call) {
        events.push(RemedyFailed { finding: before, number, again: Some(finding) }.into());
    }
    events.extend(
        (1..).zip(&remedies).map(|(number, remedy)| suggested(finding, number, remedy, &asked.agent)),
    );
    // Whoever has read the answer already cannot be given another one in its place.
    if asked.shown || known.policy.mode == RecoveryMode::Off {
        return events;
    }
    match remedies.first().filter(|best| may_be_applied(known, best, asked, call)) {
        Some(best) => {
            events.push(RemedyChosen { finding, number: 1, by: ChosenBy::Policy }.into());
            events.extend(in_force(known, finding, 1, best, asked));
        }
        // Nobody has set this check: the program would have gone on with the answer without us, and goes on with it now.
        None if known.policy.mode == RecoveryMode::Auto && !known.is_guarded(found) => {}
        None => {
            let (subject, about) = (ApprovalSubject::Remedy, Some(finding));
            events.push(ApprovalAsked { subject, about, expires_at: None }.into());
        }
    }
    events
}

fn may_be_applied(known: &Known, best: &Remedy, asked: &known::Asked, call: omium_schemas::Seq) -> bool {
    known.policy.mode == RecoveryMode::Auto
        && best.confidence >= known.policy.min_confidence.max(NEVER_BELOW)
        && known.tries(asked, call) < known.policy.max_attempts
        // One question that only a person can answer stops all of the answer.
        && !known.is_asked_about(call)
}

fn suggested(finding: omium_schemas::Seq, number: i32, remedy: &Remedy, agent: &str) -> Event {
    RemedySuggested {
        finding,
        number,
        kind: remedy.kind,
        agent: Some(agent.to_owned()),
        template: Some(remedy.template.clone()),
        confidence: remedy.confidence,
        succeeded: remedy.succeeded,
        tried: remedy.tried,
        text: remedy.text.clone(),
        schema: remedy.schema.clone(),
    }
    .into()
}

/// The answer is never served again, and what was chosen is in force.
fn in_force(
    known: &Known,
    finding: omium_schemas::Seq,
    number: i32,
    remedy: &Remedy,
    asked: &known::Asked,
) -> Vec<Event> {
    let patches = known.patches.with(&asked.agent, remedy.patch());
    vec![
        AnswersCondemned { finding, answers: asked.done.into_iter().collect() }.into(),
        RemedyApplied { finding, number, patch_set: patches.digest(&asked.agent) }.into(),
    ]
}

fn applied(known: &Known, finding: omium_schemas::Seq, number: i32) -> Vec<Event> {
    let Some((asked, remedy)) = known.suggestion(finding, number) else { return Vec::new() };
    in_force(known, finding, number, &remedy, asked)
}

/// An answer that passes all checks shows that what was done before it has helped.
fn succeeded(known: &Known) -> Vec<Event> {
    let Some(call) = known.last_answered else { return Vec::new() };
    let Some(asked) = known.answered(call) else { return Vec::new() };
    let pending = known.pending(asked, call);
    pending.map(|(finding, number)| RemedySucceeded { finding, number }.into()).into_iter().collect()
}
