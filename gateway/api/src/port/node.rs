//! How a node stands.

use std::sync::Arc;

use omium_telemetry::Meters;

/// Why a node is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kind of it, for everybody: it names no file, no log and no stream.
    pub kind: &'static str,
    /// One sentence with all there is to say, for who has a key.
    pub text: String,
}

impl Reason {
    /// A reason.
    pub fn new(kind: &'static str, text: impl Into<String>) -> Reason {
        Reason { kind, text: text.into() }
    }
}

/// How a node stands, and what it measures.
pub trait Node: Send + Sync + 'static {
    /// Whether all partitions are led.
    fn ready(&self) -> bool;

    /// Why it is not ready.
    fn wholeness(&self) -> Vec<Reason>;

    /// Whether what is there can be read, also while not all can be written.
    fn readable(&self) -> bool;

    /// Its parts and whether each is well.
    fn health(&self) -> Vec<(String, bool)>;

    /// What `/metrics` reads.
    fn meters(&self) -> Arc<Meters>;

    /// How many executions are open, by framework.
    fn active(&self) -> Vec<(String, u64)>;
}
