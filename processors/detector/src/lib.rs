//! Sees bad answers in the frame that records them, before any client reads them. Pure.

mod concerns;
mod extract;
mod number;
mod rules;
mod state;
mod verdict;

use omium_processor::{Context, Keep, Processor, Recorded};
use omium_schemas::Content;
use omium_schemas::catalogue::{CheckPassed, Event, FindingReported};

pub use extract::{Extraction, NotAnExtraction};
pub use rules::{RULES, Rule};
pub use state::State;

/// Checks the answers of programs.
pub struct Detector;

impl Processor for Detector {
    type State = State;

    const NAME: &'static str = "detector";
    const LAYOUT: u16 = 1;

    fn react(state: &State, event: &Event, context: &Context<'_>) -> Vec<Event> {
        let (Event::LlmCallCompleted(done), Some(fresh)) = (event, state.fresh()) else { return Vec::new() };
        if done.call != fresh.call {
            return Vec::new();
        }
        let seen = verdict::of(fresh, state.guards(), context);
        if seen.is_empty() {
            return vec![CheckPassed { check: fresh.done }.into()];
        }
        let reported = seen.into_iter().map(|seen| FindingReported {
            kind: seen.kind,
            severity: seen.severity,
            detector: seen.detector,
            step: Some(fresh.asked.step),
            call: Some(fresh.call),
            pointer: seen.pointer,
            detail: Some(Content::open(serde_json::Value::from(seen.detail).to_string())),
        });
        reported.map(Event::from).collect()
    }

    fn apply(mut state: State, recorded: &Recorded<'_>) -> State {
        state.apply(recorded);
        state
    }

    fn carry(_state: &State, _keep: &Keep) -> Option<Vec<Event>> {
        // What is carried forward has ended: there is nothing left to check.
        Some(Vec::new())
    }
}
