//! What a node measures of its work: what happens in the log, and how long it takes.

use std::sync::{Arc, Weak};

use omium_schemas::catalogue::{
    FindingReported, RemedyApplied, RemedyFailed, RemedySucceeded, StepCancelled, StepCompleted, StepFailed,
    StepLost, StepStarted, StepTimedOut, ToolCallCompleted, ToolCallFailed, ToolCallStarted,
    ToolResultServed, Usage,
};
use omium_schemas::{Money, Time, TypeId};
use omium_telemetry::{Events, Meters};

use super::Engine;
use super::index::{Line, Moved};

/// The events that are counted, and as what.
const COUNTED: [(TypeId, Events, &str); 14] = [
    (StepStarted::TYPE_ID, Events::Steps, "started"),
    (StepCompleted::TYPE_ID, Events::Steps, "completed"),
    (StepFailed::TYPE_ID, Events::Steps, "failed"),
    (StepTimedOut::TYPE_ID, Events::Steps, "timed_out"),
    (StepCancelled::TYPE_ID, Events::Steps, "cancelled"),
    (StepLost::TYPE_ID, Events::Steps, "lost"),
    (ToolCallStarted::TYPE_ID, Events::ToolCalls, "started"),
    (ToolCallCompleted::TYPE_ID, Events::ToolCalls, "completed"),
    (ToolCallFailed::TYPE_ID, Events::ToolCalls, "failed"),
    (ToolResultServed::TYPE_ID, Events::ToolCalls, "served"),
    (FindingReported::TYPE_ID, Events::Failures, ""),
    (RemedyApplied::TYPE_ID, Events::Recoveries, "applied"),
    (RemedySucceeded::TYPE_ID, Events::Recoveries, "succeeded"),
    (RemedyFailed::TYPE_ID, Events::Recoveries, "failed"),
];

/// Whether an event is counted.
pub(super) fn counts(event: TypeId) -> bool {
    COUNTED.iter().any(|(counted, ..)| *counted == event)
}

pub(super) struct Metrics {
    /// When this process began to measure.
    since: Time,
    pub(super) meters: Arc<Meters>,
}

/// What is counted in the log is read where somebody asks for it.
pub(super) fn watch(engine: &Arc<Engine>) {
    let weak: Weak<Engine> = Arc::downgrade(engine);
    let counted = move || weak.upgrade().map(|engine| engine.history.index.counted()).unwrap_or_default();
    let instruments = engine.metrics.meters.instruments();
    let of = counted.clone();
    instruments.watch_events(move || {
        let events = of().events;
        let count = |event: &TypeId| events.get(&event.0).copied().unwrap_or_default();
        COUNTED.iter().map(|(event, family, outcome)| (*family, *outcome, count(event))).collect()
    });
    let weak = Arc::downgrade(engine);
    instruments.watch_unserved(move || {
        weak.upgrade().map(|engine| engine.board.unserved_counts()).unwrap_or_default()
    });
    instruments.watch_started(move || {
        let started = counted().started.into_iter();
        started.map(|((tenant, framework), count)| (framework, tenant.to_string(), count)).collect()
    });
}

impl Metrics {
    pub(super) fn since(since: Time) -> Metrics {
        Metrics { since, meters: Meters::of_process() }
    }

    pub(super) fn moved(&self, moved: &Moved) {
        let Some((_, Line { framework, status, started, ended: Some(ended), .. })) = &moved.change else {
            return;
        };
        // An index that is made anew tells all of history once more.
        if *ended >= self.since {
            let seconds = ended.0.saturating_sub(started.0) as f64 / 1e6;
            self.meters.instruments().ended(framework, status.name(), seconds);
        }
    }

    /// A model has answered, and its answer is in the log.
    pub(super) fn answered(&self, seconds: Option<f64>, usage: &Usage, cost: Option<Money>) {
        let instruments = self.meters.instruments();
        seconds.into_iter().for_each(|seconds| instruments.llm_call("answered", seconds));
        let Usage { input, cached, output, reasoning } = *usage;
        for (kind, count) in
            [("input", input), ("cached", cached), ("output", output), ("reasoning", reasoning)]
        {
            instruments.llm_tokens(kind, count.max(0) as u64);
        }
        cost.into_iter().for_each(|cost| instruments.llm_cost(cost.0.max(0) as f64 / 1e12));
    }

    /// A model has not answered, and the log says so.
    pub(super) fn not_answered(&self, seconds: Option<f64>) {
        seconds.into_iter().for_each(|seconds| self.meters.instruments().llm_call("failed", seconds));
    }
}
