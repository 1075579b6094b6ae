//! A lesson: how often jobs of a workflow have ended well.

use std::collections::BTreeMap;

use omium_schemas::catalogue::{Event, LessonCarried, Message, OutcomeLearned, Tally};
use omium_schemas::mutant::Mutant;
use serde::{Deserialize, Serialize};

/// What was learned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Successes and failures by label.
    pub outcomes: BTreeMap<String, (u64, u64)>,
    /// The labels in the order in which a report lists them.
    pub report: Vec<String>,
}

impl Lesson {
    pub(super) fn hear(message: &Message) -> Vec<Event> {
        let label = message.label.clone().unwrap_or_default();
        vec![OutcomeLearned { label, succeeded: message.count > 0 }.into()]
    }

    pub(super) fn carry(&self) -> Event {
        let tally = |(label, (succeeded, failed)): (&String, &(u64, u64))| Tally {
            label: label.clone(),
            succeeded: *succeeded as i64,
            failed: *failed as i64,
        };
        LessonCarried { outcomes: self.outcomes.iter().map(tally).collect() }.into()
    }

    pub(super) fn apply(&mut self, event: &Event) {
        if let Event::LessonCarried(LessonCarried { outcomes }) = event {
            let counts = |tally: &Tally| (tally.succeeded as u64, tally.failed as u64);
            self.outcomes = outcomes.iter().map(|tally| (tally.label.clone(), counts(tally))).collect();
            self.report = self.outcomes.keys().cloned().collect();
        }
        if let Event::OutcomeLearned(OutcomeLearned { label, succeeded }) = event {
            let entry = self.outcomes.entry(label.clone()).or_default();
            if *succeeded {
                entry.0 += 1
            } else {
                entry.1 += 1
            }
            self.report = self.outcomes.keys().cloned().collect();
            if Mutant::UnorderedApply.on() {
                self.report = self.unordered();
            }
        }
    }

    /// What a careless `apply` would do; the simulation shows that it is found.
    #[expect(clippy::disallowed_types, reason = "the planted bug is that a map without order is walked")]
    fn unordered(&self) -> Vec<String> {
        self.outcomes
            .keys()
            .cloned()
            .map(|key| (key, ()))
            .collect::<std::collections::HashMap<_, _>>()
            .into_keys()
            .collect()
    }
}
