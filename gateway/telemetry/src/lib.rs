//! What a node tells of itself: the traces that requests belong to, one list of instruments, and where both are sent.
//!
//! Nothing here holds content, tokens or ids of executions: labels come from fixed lists, spans are named by routes.

mod export;
mod instruments;
mod settings;
mod text;
mod trace;

use std::sync::{Arc, OnceLock};

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::{FutureExt, SpanContext};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};

pub use export::{Exporting, start};
pub use instruments::{Events, Instruments, Kind, LABELS, METRICS, Metric};
pub use settings::Settings;
pub use trace::{Work, caller_is_known, carried, in_request, span_of, traceparent};

use text::Reader;

/// The meters of one node: what is measured with them is read by `/metrics`, and exported where that was asked for.
pub struct Meters {
    provider: SdkMeterProvider,
    reader: Reader,
    instruments: Instruments,
}

/// Those of this process, once it exports or would.
static INSTALLED: OnceLock<Arc<Meters>> = OnceLock::new();

impl Default for Meters {
    fn default() -> Meters {
        Meters::new(Resource::builder_empty().build(), None)
    }
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    fn new(resource: Resource, exported: Option<Reader>) -> Meters {
        let reader = Reader(Arc::new(ManualReader::default()));
        let provider = SdkMeterProvider::builder().with_resource(resource).with_reader(reader.clone());
        let provider = match exported {
            Some(reader) => provider.with_reader(reader),
            None => provider,
        };
        let provider = provider.build();
        let instruments = Instruments::of(&provider);
        Meters { provider, reader, instruments }
    }

    /// The meters of this process where [`start`] has made some; else new ones, which nobody else sees.
    pub fn of_process() -> Arc<Meters> {
        INSTALLED.get().cloned().unwrap_or_default()
    }

    /// What is measured.
    pub fn instruments(&self) -> &Instruments {
        &self.instruments
    }

    /// All series in the text format of Prometheus. Who may not know the tenants is told their sums.
    pub fn text(&self, names_tenants: bool) -> String {
        text::of(&self.reader, names_tenants)
    }
}
