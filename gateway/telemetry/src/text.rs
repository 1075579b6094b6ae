//! All series in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};

use crate::instruments::{Kind, METRICS, Metric, labels_of};

/// A reader that its provider and whoever reads share.
#[derive(Clone, Debug)]
pub(crate) struct Reader(pub(crate) Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// A series: its labels, by name.
type Labels = BTreeMap<String, String>;

/// What a series says.
#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    /// The counts of the buckets, one more for all that took longer, and the sum.
    Taken(Vec<u64>, f64),
}

impl Value {
    fn add(&mut self, other: Value) {
        match (self, other) {
            (Value::Number(sum), Value::Number(more)) => *sum += more,
            (Value::Taken(counts, sum), Value::Taken(others, more)) => {
                counts.iter_mut().zip(others).for_each(|(count, more)| *count += more);
                *sum += more;
            }
            _ => {}
        }
    }
}

pub(crate) fn of(reader: &Reader, names_tenants: bool) -> String {
    let mut collected = ResourceMetrics::default();
    // Of meters that are shut down nothing is left to tell.
    let _ = reader.collect(&mut collected);
    let mut families: BTreeMap<&str, BTreeMap<Labels, Value>> = BTreeMap::new();
    for metric in collected.scope_metrics().flat_map(|scope| scope.metrics()) {
        let family = families.entry(metric.name()).or_default();
        for (labels, value) in series(metric.data()) {
            let mut labels = labels;
            if !names_tenants {
                labels.remove("tenant_id");
            }
            match family.get_mut(&labels) {
                Some(known) => known.add(value),
                None => drop(family.insert(labels, value)),
            }
        }
    }
    let mut text = String::new();
    for metric in METRICS {
        let mut family = families.remove(metric.name).unwrap_or_default();
        for value in metric.always {
            let labels = labels_of(metric, value).iter().map(label).collect();
            family.entry(labels).or_insert_with(|| nothing(metric));
        }
        tell(&mut text, metric, &family);
    }
    text
}

fn nothing(metric: &Metric) -> Value {
    match metric.kind {
        Kind::Counter | Kind::Gauge => Value::Number(0.0),
        Kind::Histogram(bounds) => Value::Taken(vec![0; bounds.len() + 1], 0.0),
    }
}

fn label(label: &KeyValue) -> (String, String) {
    (label.key.as_str().replace('.', "_"), label.value.to_string())
}

fn series(data: &AggregatedMetrics) -> Vec<(Labels, Value)> {
    match data {
        AggregatedMetrics::F64(data) => points(data, |value| value),
        AggregatedMetrics::U64(data) => points(data, |value| value as f64),
        AggregatedMetrics::I64(data) => points(data, |value| value as f64),
    }
}

fn points<T: Copy>(data: &MetricData<T>, number: impl Fn(T) -> f64) -> Vec<(Labels, Value)> {
    match data {
        MetricData::Gauge(gauge) => gauge
            .data_points()
            .map(|point| (point.attributes().map(label).collect(), Value::Number(number(point.value()))))
            .collect(),
        MetricData::Sum(sum) => sum
            .data_points()
            .map(|point| (point.attributes().map(label).collect(), Value::Number(number(point.value()))))
            .collect(),
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .map(|point| {
                let taken = Value::Taken(point.bucket_counts().collect(), number(point.sum()));
                (point.attributes().map(label).collect(), taken)
            })
            .collect(),
        // No instrument of ours is one.
        MetricData::ExponentialHistogram(_) => Vec::new(),
    }
}

fn tell(text: &mut String, metric: &Metric, family: &BTreeMap<Labels, Value>) {
    let Metric { name, help, kind, .. } = metric;
    let (kind, bounds) = match kind {
        Kind::Counter => ("counter", &[] as &[f64]),
        Kind::Gauge => ("gauge", &[] as &[f64]),
        Kind::Histogram(bounds) => ("histogram", *bounds),
    };
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in family {
        match value {
            Value::Number(number) => line(text, name, labels, None, number),
            Value::Taken(counts, sum) => {
                let ends = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
                let mut total = 0;
                for (end, count) in ends.zip(counts) {
                    total += count;
                    line(text, &format!("{name}_bucket"), labels, Some(&end), &total);
                }
                line(text, &format!("{name}_sum"), labels, None, sum);
                line(text, &format!("{name}_count"), labels, None, &total);
            }
        }
    }
}

fn line(text: &mut String, name: &str, labels: &Labels, end: Option<&str>, value: &dyn std::fmt::Display) {
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    let labels: Vec<String> = labels.chain(end.map(|end| format!("le=\"{end}\""))).collect();
    let _ = if labels.is_empty() {
        writeln!(text, "{name} {value}")
    } else {
        writeln!(text, "{name}{{{}}} {value}", labels.join(","))
    };
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use crate::instruments::LABELS;
    use crate::{METRICS, Meters};

    #[test]
    fn every_series_that_has_to_exist_is_there_with_0_from_the_start() {
        let text = Meters::default().text(false);
        for metric in METRICS {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
            for value in metric.always {
                let labels =
                    metric.labels.iter().map(|name| format!("{name}=\"{value}\"")).collect::<String>();
                let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
                let lines =
                    [format!("{}{labels} 0", metric.name), format!("{}_count{labels} 0", metric.name)];
                assert!(
                    text.lines().any(|line| lines.iter().any(|wanted| wanted == line)),
                    "{lines:?}\n{text}"
                );
            }
        }
    }

    #[test]
    fn labels_come_from_the_list_and_a_series_always_there_has_one_at_most() {
        for metric in METRICS {
            assert!(metric.labels.iter().all(|label| LABELS.contains(label)), "{}", metric.name);
            assert!(metric.always.is_empty() || metric.labels.len() <= 1, "{}", metric.name);
        }
    }

    #[test]
    fn tenants_are_summed_for_those_who_may_not_know_them() {
        let meters = Meters::default();
        let started = [("t1", 2), ("t2", 1)];
        let started =
            move || started.map(|(tenant, count)| ("na\"tive".into(), tenant.into(), count)).to_vec();
        meters.instruments().watch_started(started);
        let line = |labels: &str, count| format!("omium_executions_started_total{{{labels}}} {count}\n");
        assert!(meters.text(false).contains(&line("framework=\"na\\\"tive\"", 3)));
        assert!(meters.text(true).contains(&line("framework=\"na\\\"tive\",tenant_id=\"t1\"", 2)));
    }

    #[test]
    fn names_that_others_choose_fill_no_memory() {
        let meters = Meters::default();
        let many = || (0..3_000).map(|number| format!("framework {number}"));
        many().for_each(|name| meters.instruments().ended(&name, "failed", 1.0));
        meters.instruments().watch_started(move || many().map(|name| (name, "t".into(), 1)).collect());
        let text = meters.text(true);
        for name in ["omium_executions_started_total{", "omium_execution_duration_seconds_sum{"] {
            let series = text.lines().filter(|line| line.starts_with(name)).count();
            assert!(series <= 2_001, "{series} of {name}");
        }
        assert!(text.contains("otel_metric_overflow=\"true\""));
    }
}
