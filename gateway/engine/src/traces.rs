//! Which trace an execution belongs to: its starter's. The log says so; this is what was read of it lately.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use omium_runtime::StreamKey;
use omium_schemas::Seq;
use omium_telemetry::{SpanContext, carried, span_of};

use super::Engine;

/// How many executions are remembered.
const REMEMBERED: usize = 10_000;

/// The traces of open executions.
#[derive(Debug, Default)]
pub(crate) struct Traces(Mutex<BTreeMap<StreamKey, Option<SpanContext>>>);

impl Traces {
    /// Remembers the trace of what is worked on now, before work can come of it. Says whether nothing was known.
    pub(crate) fn note(&self, key: StreamKey) -> bool {
        self.keep(key, carried())
    }

    fn keep(&self, key: StreamKey, trace: Option<SpanContext>) -> bool {
        let mut known = self.lock();
        if known.contains_key(&key) {
            return false;
        }
        if known.len() >= REMEMBERED {
            // Which one goes is all the same: it is read again when somebody needs it.
            known.pop_first();
        }
        known.insert(key, trace);
        true
    }

    pub(crate) fn forget(&self, key: &StreamKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StreamKey, Option<SpanContext>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The trace that an execution belongs to. Where the log cannot be read now it is none: work does not wait for it.
    pub(crate) async fn trace_of(&self, key: StreamKey) -> Option<SpanContext> {
        if let Some(known) = self.traces.lock().get(&key) {
            return known.clone();
        }
        let frames = self.history.raw_frames(&key, Seq(1), 1).await.ok()?;
        let trace = frames.first().and_then(|frame| frame.head.trace.as_ref()).map(span_of);
        self.traces.keep(key, trace.clone());
        trace
    }
}
