//! `/metrics`, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::port::{Action, Role};
use crate::problem::Problem;
use crate::request::{Known, Shared};

/// The upper bounds of the buckets, in seconds.
const BUCKETS: [&str; 7] = ["0.5", "1", "2", "5", "10", "30", "60"];

/// The same bounds.
const BOUNDS: [Duration; 7] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// How long something took, in the buckets of all metrics.
#[derive(Default)]
pub(crate) struct Taken {
    buckets: [AtomicU64; 8],
    nanos: AtomicU64,
}

impl Taken {
    pub(crate) fn note(&self, time: Duration) {
        let bucket = BOUNDS.iter().position(|bound| time <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    fn counts(&self) -> ([u64; 8], f64) {
        let buckets = self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
        (buckets, self.nanos.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

/// What is measured here, because only here it is known how long a caller waited.
#[derive(Default)]
pub(crate) struct Times {
    checkpoint: Taken,
    rollback: Taken,
}

impl Times {
    pub(crate) fn of(&self, action: &Action) -> Option<&Taken> {
        match action {
            Action::Checkpoint { .. } => Some(&self.checkpoint),
            Action::RollBack { .. } => Some(&self.rollback),
            Action::Pause
            | Action::Resume
            | Action::Cancel
            | Action::Retry
            | Action::Release
            | Action::Signal { .. }
            | Action::Answer { .. } => None,
        }
    }
}

pub(crate) async fn metrics(State(shared): State<Shared>, known: Result<Known, Problem>) -> Response {
    // Without an admin's key there are numbers, and nobody's name.
    let named = known.is_ok_and(|known| known.may(Role::Admin).is_ok());
    let counts = shared.engine.counts();
    let mut text = String::new();
    let name = "omium_executions_started_total";
    head(&mut text, name, "counter", "Executions that were started.");
    of_tenants(&mut text, name, &counts.started, named);
    head(&mut text, "omium_active_executions", "gauge", "Executions that are open.");
    for (framework, count) in &counts.active {
        line(&mut text, "omium_active_executions", &[("framework", framework)], count);
    }
    let name = "omium_steps_without_worker";
    head(&mut text, name, "gauge", "Steps that wait though no worker for their framework is registered.");
    of_tenants(&mut text, name, &counts.unserved, named);
    head(&mut text, "omium_execution_duration_seconds", "histogram", "How long executions took.");
    for (framework, status, buckets, sum) in &counts.durations {
        let labels = [("framework", framework.as_str()), ("status", status.as_str())];
        histogram(&mut text, "omium_execution_duration_seconds", &labels, (*buckets, *sum));
    }
    let Times { checkpoint, rollback } = &*shared.times;
    let name = "omium_checkpoint_duration_seconds";
    head(&mut text, name, "histogram", "How long it took until a checkpoint that was asked for was durable.");
    histogram(&mut text, name, &[], checkpoint.counts());
    let name = "omium_rollback_duration_seconds";
    head(&mut text, name, "histogram", "How long it took until a rollback was durable.");
    histogram(&mut text, name, &[], rollback.counts());
    head(&mut text, "omium_health_check_status", "gauge", "Whether a part is well (1) or not (0).");
    for (service, well) in shared.engine.health() {
        line(&mut text, "omium_health_check_status", &[("service", &service)], &u8::from(well));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// What is counted by framework and tenant, the tenants summed up where they are not to be named.
fn of_tenants(text: &mut String, name: &str, counts: &[(String, String, u64)], named: bool) {
    if named {
        for (framework, tenant, count) in counts {
            line(text, name, &[("framework", framework.as_str()), ("tenant_id", tenant)], count);
        }
        return;
    }
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    counts.iter().for_each(|(framework, _, count)| *sums.entry(framework).or_default() += count);
    for (framework, count) in sums {
        line(text, name, &[("framework", framework)], &count);
    }
}

fn histogram(text: &mut String, name: &str, labels: &[(&str, &str)], (buckets, sum): ([u64; 8], f64)) {
    let mut total = 0;
    for (bound, count) in BUCKETS.iter().chain([&"+Inf"]).zip(buckets) {
        total += count;
        let labels: Vec<_> = labels.iter().copied().chain([("le", *bound)]).collect();
        line(text, &format!("{name}_bucket"), &labels, &total);
    }
    line(text, &format!("{name}_sum"), labels, &sum);
    line(text, &format!("{name}_count"), labels, &total);
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: &dyn std::fmt::Display) {
    if labels.is_empty() {
        let _ = writeln!(text, "{name} {value}");
        return;
    }
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
