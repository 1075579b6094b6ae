//! `/metrics`, in the text format of Prometheus.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::request::Shared;

/// The upper bounds of the buckets, in seconds.
const BUCKETS: [&str; 7] = ["0.5", "1", "2", "5", "10", "30", "60"];

pub(crate) async fn metrics(State(shared): State<Shared>) -> Response {
    let counts = shared.engine.counts();
    let mut text = String::new();
    head(&mut text, "omium_executions_started_total", "counter", "Executions that were started.");
    for (framework, tenant, count) in &counts.started {
        line(
            &mut text,
            "omium_executions_started_total",
            &[("framework", framework), ("tenant_id", tenant)],
            count,
        );
    }
    head(&mut text, "omium_active_executions", "gauge", "Executions that are open.");
    for (framework, count) in &counts.active {
        line(&mut text, "omium_active_executions", &[("framework", framework)], count);
    }
    head(&mut text, "omium_execution_duration_seconds", "histogram", "How long executions took.");
    for (framework, status, buckets, sum) in &counts.durations {
        let labels = [("framework", framework.as_str()), ("status", status.as_str())];
        let mut total = 0;
        for (bound, count) in BUCKETS.iter().chain([&"+Inf"]).zip(buckets) {
            total += count;
            let [framework, status] = labels;
            line(
                &mut text,
                "omium_execution_duration_seconds_bucket",
                &[framework, status, ("le", bound)],
                &total,
            );
        }
        line(&mut text, "omium_execution_duration_seconds_sum", &labels, sum);
        line(&mut text, "omium_execution_duration_seconds_count", &labels, &total);
    }
    head(&mut text, "omium_health_check_status", "gauge", "Whether a part is well (1) or not (0).");
    line(&mut text, "omium_health_check_status", &[("service", "engine")], &u8::from(shared.engine.ready()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: &dyn std::fmt::Display) {
    let labels: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
