//! The list of all metrics, and the instruments that it makes.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How long something took, in buckets with these upper bounds, in seconds.
    Histogram(&'static [f64]),
}

/// A metric, with all that is said of it anywhere.
#[derive(Debug)]
pub struct Metric {
    /// Its name, for Prometheus and OTLP alike.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// The values of its only label for which there is a series from the start; `[""]` where it has no label.
    pub always: &'static [&'static str],
}

/// Names of labels. No label holds content, a token, a name of a person or an execution's id.
pub const LABELS: &[&str] = &[
    "framework",
    "kind",
    "outcome",
    "partition",
    "service",
    "signal",
    "stage",
    "status",
    "tenant_id",
    // What the SDK puts into the series that takes what is too much: 2,000 series for each instrument are kept.
    "otel.metric.overflow",
];

const SECONDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
const CALLS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const STAGES: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0];
const ALONE: &[&str] = &[""];

macro_rules! metrics {
    ($($id:ident: $name:literal, $kind:expr, $labels:expr, $always:expr, $help:literal;)*) => {
        $(const $id: Metric =
            Metric { name: $name, help: $help, kind: $kind, labels: $labels, always: $always };)*

        /// All metrics. `/metrics` and OTLP tell these and no others.
        pub const METRICS: &[Metric] = &[$($id),*];
    };
}

metrics! {
    STARTED: "omium_executions_started_total", Kind::Counter, &["framework", "tenant_id"], &[],
        "Executions that were started.";
    ACTIVE: "omium_active_executions", Kind::Gauge, &["framework"], &[],
        "Executions that are open.";
    UNSERVED: "omium_steps_without_worker", Kind::Gauge, &["framework", "tenant_id"], &[],
        "Steps that wait though no worker for their framework is registered.";
    DURATION: "omium_execution_duration_seconds", Kind::Histogram(SECONDS), &["framework", "status"], &[],
        "How long executions took.";
    CHECKPOINT: "omium_checkpoint_duration_seconds", Kind::Histogram(SECONDS), &[], ALONE,
        "How long it took until a checkpoint that was asked for was durable.";
    ROLLBACK: "omium_rollback_duration_seconds", Kind::Histogram(SECONDS), &[], ALONE,
        "How long it took until a rollback was durable.";
    HEALTH: "omium_health_check_status", Kind::Gauge, &["service"], &[],
        "Whether a part is well (1) or not (0).";
    STEPS: "omium_steps_total", Kind::Counter, &["outcome"],
        &["started", "completed", "failed", "timed_out", "cancelled", "lost"],
        "Attempts at steps by what became of them; those that began are `started`.";
    LLM_CALLS: "omium_llm_call_duration_seconds", Kind::Histogram(CALLS), &["outcome"], &["answered", "failed"],
        "How long models took to answer, until the end of the answer. Answers that were served again are not counted.";
    LLM_COST: "omium_llm_cost_usd_total", Kind::Counter, &[], ALONE,
        "What answers of models cost, in US dollars, by the prices that are set. Models without a price count nothing.";
    LLM_TOKENS: "omium_llm_tokens_total", Kind::Counter, &["kind"], &["input", "cached", "output", "reasoning"],
        "Tokens as providers count them: `cached` is a part of `input`, `reasoning` a part of `output`.";
    TOOLS: "omium_tool_calls_total", Kind::Counter, &["outcome"], &["started", "completed", "failed", "served"],
        "Calls of tools by what became of them; `served` again from the record were not made.";
    FAILURES: "omium_failures_detected_total", Kind::Counter, &[], ALONE,
        "Failures that were detected in answers.";
    RECOVERIES: "omium_recoveries_total", Kind::Counter, &["outcome"], &["applied", "succeeded", "failed"],
        "Remedies that were put into force, and what became of them.";
    SHELL_STAGE: "omium_shell_stage_seconds", Kind::Histogram(STAGES), &["partition", "stage"], &[],
        "How long a stage of a partition's shell took.";
    SHELL_COMMANDS: "omium_shell_commands_total", Kind::Counter, &["partition", "outcome"], &[],
        "Commands by what became of them.";
    SHELL_RECORDS: "omium_shell_records_total", Kind::Counter, &["partition"], &[],
        "Commands and events written or folded.";
    SHELL_BLOCKS: "omium_shell_blocks_total", Kind::Counter, &["partition"], &[],
        "Blocks accepted.";
    LOG_DROPPED: "omium_log_dropped_records_total", Kind::Counter, &[], ALONE,
        "Records at the front of the log that were let go of.";
    BLOBS_REMOVED: "omium_blobs_removed_total", Kind::Counter, &[], ALONE,
        "Long values that nothing named any more and that were removed.";
    DROPPED: "omium_telemetry_dropped_total", Kind::Counter, &["signal"], &["spans", "metrics"],
        "Spans, and readings of all metrics, that the receiver of telemetry did not take in time.";
}

/// Events of the log that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// Of steps.
    Steps,
    /// Of calls of tools.
    ToolCalls,
    /// Failures that were detected.
    Failures,
    /// Of remedies.
    Recoveries,
}

impl Events {
    fn metric(self) -> Metric {
        match self {
            Events::Steps => STEPS,
            Events::ToolCalls => TOOLS,
            Events::Failures => FAILURES,
            Events::Recoveries => RECOVERIES,
        }
    }
}

/// What is measured here. What the log says and what is only read (open executions, health) is watched, and the shells
/// measure themselves.
#[derive(Debug)]
pub struct Instruments {
    meter: Meter,
    durations: Histogram<f64>,
    checkpoints: Histogram<f64>,
    rollbacks: Histogram<f64>,
    llm_calls: Histogram<f64>,
    llm_cost: Counter<f64>,
    llm_tokens: Counter<u64>,
    log_dropped: Counter<u64>,
    blobs_removed: Counter<u64>,
    dropped: Counter<u64>,
}

fn counter(meter: &Meter, metric: &Metric) -> Counter<u64> {
    let counter = meter.u64_counter(metric.name).with_description(metric.help).build();
    metric.always.iter().for_each(|value| counter.add(0, &labels_of(metric, value)));
    counter
}

fn histogram(meter: &Meter, metric: &Metric) -> Histogram<f64> {
    let Kind::Histogram(bounds) = metric.kind else { unreachable!("{} has buckets", metric.name) };
    let histogram = meter.f64_histogram(metric.name).with_description(metric.help).with_unit("s");
    histogram.with_boundaries(bounds.to_vec()).build()
}

/// The labels of a series that there always is.
pub(crate) fn labels_of(metric: &Metric, value: &'static str) -> Vec<KeyValue> {
    metric.labels.iter().map(|label| KeyValue::new(*label, value)).collect()
}

fn of_tenant(framework: String, tenant: String) -> [KeyValue; 2] {
    [KeyValue::new("framework", framework), KeyValue::new("tenant_id", tenant)]
}

impl Instruments {
    pub(crate) fn of(provider: &SdkMeterProvider) -> Instruments {
        let meter = provider.meter("omium");
        let cost = meter.f64_counter(LLM_COST.name).with_description(LLM_COST.help).with_unit("USD").build();
        cost.add(0.0, &[]);
        Instruments {
            durations: histogram(&meter, &DURATION),
            checkpoints: histogram(&meter, &CHECKPOINT),
            rollbacks: histogram(&meter, &ROLLBACK),
            llm_calls: histogram(&meter, &LLM_CALLS),
            llm_cost: cost,
            llm_tokens: counter(&meter, &LLM_TOKENS),
            log_dropped: counter(&meter, &LOG_DROPPED),
            blobs_removed: counter(&meter, &BLOBS_REMOVED),
            dropped: counter(&meter, &DROPPED),
            meter,
        }
    }

    /// An execution has ended.
    pub fn ended(&self, framework: &str, status: &'static str, seconds: f64) {
        let labels = [KeyValue::new("framework", framework.to_owned()), KeyValue::new("status", status)];
        self.durations.record(seconds, &labels);
    }

    /// A checkpoint that was asked for is durable.
    pub fn checkpoint(&self, seconds: f64) {
        self.checkpoints.record(seconds, &[]);
    }

    /// A rollback is durable.
    pub fn rollback(&self, seconds: f64) {
        self.rollbacks.record(seconds, &[]);
    }

    /// A model has answered, or has not.
    pub fn llm_call(&self, outcome: &'static str, seconds: f64) {
        self.llm_calls.record(seconds, &[KeyValue::new("outcome", outcome)]);
    }

    /// What an answer cost, in dollars.
    pub fn llm_cost(&self, dollars: f64) {
        self.llm_cost.add(dollars, &[]);
    }

    /// How many tokens of a kind a provider has counted.
    pub fn llm_tokens(&self, kind: &'static str, count: u64) {
        self.llm_tokens.add(count, &[KeyValue::new("kind", kind)]);
    }

    /// Records were let go of at the front of the log.
    pub fn log_dropped(&self, records: u64) {
        self.log_dropped.add(records, &[]);
    }

    /// Long values were removed that nothing names any more.
    pub fn blobs_removed(&self, blobs: u64) {
        self.blobs_removed.add(blobs, &[]);
    }

    pub(crate) fn dropped(&self) -> Counter<u64> {
        self.dropped.clone()
    }

    /// Asks for the executions that were started so far, by framework and tenant, whenever somebody reads the metrics.
    pub fn watch_started(&self, look: impl Fn() -> Vec<(String, String, u64)> + Send + Sync + 'static) {
        let counter = self.meter.u64_observable_counter(STARTED.name).with_description(STARTED.help);
        let counter = counter.with_callback(move |seen| {
            for (framework, tenant, count) in look() {
                seen.observe(count, &of_tenant(framework, tenant));
            }
        });
        counter.build();
    }

    /// Asks for the steps that no worker performs, by framework and tenant, whenever somebody reads the metrics.
    pub fn watch_unserved(&self, look: impl Fn() -> Vec<(String, String, u64)> + Send + Sync + 'static) {
        let gauge = self.meter.u64_observable_gauge(UNSERVED.name).with_description(UNSERVED.help);
        let gauge = gauge.with_callback(move |seen| {
            look()
                .into_iter()
                .for_each(|(framework, tenant, count)| seen.observe(count, &of_tenant(framework, tenant)));
        });
        gauge.build();
    }

    /// Asks for all that was counted of events so far, and their outcomes, whenever somebody reads the metrics.
    pub fn watch_events(&self, look: impl Fn() -> Vec<(Events, &'static str, u64)> + Send + Sync + 'static) {
        let look = std::sync::Arc::new(look);
        for family in [Events::Steps, Events::ToolCalls, Events::Failures, Events::Recoveries] {
            let (metric, look) = (family.metric(), look.clone());
            let counter = self.meter.u64_observable_counter(metric.name).with_description(metric.help);
            let counter = counter.with_callback(move |seen| {
                let own = look().into_iter().filter(|(of, ..)| *of == family);
                own.for_each(|(_, outcome, count)| seen.observe(count, &labels_of(&metric, outcome)));
            });
            counter.build();
        }
    }

    /// Asks for open executions by framework, whenever somebody reads the metrics.
    pub fn watch_active(&self, look: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static) {
        self.watch(&ACTIVE, look);
    }

    /// Asks for the parts of the node and whether each is well, whenever somebody reads the metrics.
    pub fn watch_health(&self, look: impl Fn() -> Vec<(String, bool)> + Send + Sync + 'static) {
        let look = move || look().into_iter().map(|(part, well)| (part, u64::from(well))).collect();
        self.watch(&HEALTH, look);
    }

    fn watch(&self, metric: &Metric, look: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static) {
        let label = metric.labels[0];
        let gauge = self.meter.u64_observable_gauge(metric.name).with_description(metric.help);
        // What calls back lives as long as the provider does.
        let gauge = gauge.with_callback(move |seen| {
            look().into_iter().for_each(|(value, count)| seen.observe(count, &[KeyValue::new(label, value)]));
        });
        gauge.build();
    }
}
