//! Spans and metrics per stage, through OpenTelemetry's global providers. Without a provider they cost next to nothing.

use omium_schemas::{Partition, TraceContext};
use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue, global};

use crate::Figures;

/// The buckets of stages, in seconds.
const BUCKETS: [f64; 11] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0, 10.0];

/// The stages that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// From taking a record to knowing that it is durable.
    Append,
    /// Writing a snapshot and flushing the store.
    Flush,
    /// Reading rows of the store.
    Load,
    /// Folding what was read from the log.
    Fold,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Append => "append",
            Stage::Flush => "flush",
            Stage::Load => "load",
            Stage::Fold => "fold",
        }
    }
}

/// The instruments of one node.
#[derive(Clone)]
pub struct Telemetry {
    stages: Histogram<f64>,
    commands: Counter<u64>,
    records: Counter<u64>,
    blocks: Counter<u64>,
}

impl Telemetry {
    /// Instruments of this meter.
    pub fn new(meter: &Meter) -> Telemetry {
        Telemetry {
            stages: meter
                .f64_histogram("omium_shell_stage_seconds")
                .with_unit("s")
                .with_description("How long a stage of a partition's shell took.")
                .with_boundaries(BUCKETS.to_vec())
                .build(),
            commands: meter
                .u64_counter("omium_shell_commands_total")
                .with_description("Commands by what became of them.")
                .build(),
            records: meter
                .u64_counter("omium_shell_records_total")
                .with_description("Commands and events written or folded.")
                .build(),
            blocks: meter
                .u64_counter("omium_shell_blocks_total")
                .with_description("Blocks accepted.")
                .build(),
        }
    }

    pub(super) fn stage(&self, partition: Partition, stage: Stage, micros: u64) {
        let labels = [partition_label(partition), KeyValue::new("stage", stage.name())];
        self.stages.record(micros as f64 / 1e6, &labels);
    }

    /// Tells what has been counted since `before`.
    pub(super) fn progress(&self, partition: Partition, before: &Figures, now: &Figures) {
        let outcomes = [
            ("decided", now.decided - before.decided),
            ("refused", now.refused - before.refused),
            ("repeated", now.repeated - before.repeated),
        ];
        for (outcome, count) in outcomes.into_iter().filter(|(_, count)| *count > 0) {
            self.commands.add(count, &[partition_label(partition), KeyValue::new("outcome", outcome)]);
        }
        self.records.add(now.records - before.records, &[partition_label(partition)]);
        self.blocks.add(now.blocks - before.blocks, &[partition_label(partition)]);
    }

    /// A span below the caller's own, where the caller's is sampled.
    pub(super) fn span(
        name: &'static str,
        trace: Option<&TraceContext>,
        partition: Partition,
    ) -> Option<Context> {
        let trace = trace.filter(|trace| trace.flags & 1 == 1)?;
        let remote = SpanContext::new(
            TraceId::from_bytes(trace.trace),
            SpanId::from_bytes(trace.span),
            TraceFlags::SAMPLED,
            true,
            TraceState::NONE,
        );
        let parent = Context::new().with_remote_span_context(remote);
        let tracer = global::tracer("omium");
        let span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Internal)
            .with_attributes([partition_label(partition)])
            .start_with_context(&tracer, &parent);
        Some(parent.with_span(span))
    }
}

/// The trace of what asks now, as the log keeps it.
pub(super) fn current() -> Option<TraceContext> {
    Context::map_current(|current| {
        let span = current.span();
        let span = span.span_context();
        span.is_valid().then(|| TraceContext {
            trace: span.trace_id().to_bytes(),
            span: span.span_id().to_bytes(),
            flags: span.trace_flags().to_u8(),
        })
    })
}

fn partition_label(partition: Partition) -> KeyValue {
    KeyValue::new("partition", i64::from(partition.0))
}
