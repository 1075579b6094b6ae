//! What the log says of a node's work, as its instruments count it.

use std::sync::Arc;

use omium_schemas::catalogue::{
    FindingReported, RemedyApplied, RemedyFailed, RemedySucceeded, StepCancelled, StepCompleted, StepFailed,
    StepLost, StepStarted, StepTimedOut, ToolCallCompleted, ToolCallFailed, ToolCallStarted,
    ToolResultServed, Usage,
};
use omium_schemas::{Money, TenantId, Time, TypeId};
use omium_telemetry::{Instruments, Meters};

use super::index::{Line, Moved};

/// One that counts an event.
type Count = fn(&Instruments);

/// The events that are counted, and where.
const COUNTED: [(TypeId, Count); 14] = [
    (StepStarted::TYPE_ID, |meters| meters.step("started")),
    (StepCompleted::TYPE_ID, |meters| meters.step("completed")),
    (StepFailed::TYPE_ID, |meters| meters.step("failed")),
    (StepTimedOut::TYPE_ID, |meters| meters.step("timed_out")),
    (StepCancelled::TYPE_ID, |meters| meters.step("cancelled")),
    (StepLost::TYPE_ID, |meters| meters.step("lost")),
    (ToolCallStarted::TYPE_ID, |meters| meters.tool_call("started")),
    (ToolCallCompleted::TYPE_ID, |meters| meters.tool_call("completed")),
    (ToolCallFailed::TYPE_ID, |meters| meters.tool_call("failed")),
    (ToolResultServed::TYPE_ID, |meters| meters.tool_call("served")),
    (FindingReported::TYPE_ID, Instruments::failure),
    (RemedyApplied::TYPE_ID, |meters| meters.recovery("applied")),
    (RemedySucceeded::TYPE_ID, |meters| meters.recovery("succeeded")),
    (RemedyFailed::TYPE_ID, |meters| meters.recovery("failed")),
];

/// Whether an event is counted.
pub(super) fn counts(event: TypeId) -> bool {
    COUNTED.iter().any(|(counted, _)| *counted == event)
}

pub(super) struct Metrics {
    /// When this process began to count.
    since: Time,
    pub(super) meters: Arc<Meters>,
}

impl Metrics {
    pub(super) fn since(since: Time) -> Metrics {
        Metrics { since, meters: Meters::of_process() }
    }

    pub(super) fn moved(&self, moved: &Moved) {
        // An index that is made anew tells all of history once more.
        if moved.at >= self.since {
            for event in &moved.counted {
                let of = COUNTED.iter().filter(|(counted, _)| counted == event);
                of.for_each(|(_, count)| count(self.meters.instruments()));
            }
        }
        if let Some((before, line)) = &moved.change {
            self.changed(moved.key.tenant, before.as_ref(), line);
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

    fn changed(&self, tenant: TenantId, before: Option<&Line>, line: &Line) {
        let instruments = self.meters.instruments();
        if before.is_none() && line.started >= self.since {
            instruments.started(&line.framework, &tenant.to_string());
        }
        if let Some(ended) = line.ended.filter(|ended| *ended >= self.since) {
            let seconds = ended.0.saturating_sub(line.started.0) as f64 / 1e6;
            instruments.ended(&line.framework, line.status.name(), seconds);
        }
    }
}
