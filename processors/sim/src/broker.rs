//! One partition of a log with the failures of Kafka. What a reader has seen never changes again; everything that can
//! go wrong goes wrong on the way.

use bytes::Bytes;
use omium_schemas::Offset;

use crate::world::Life;

/// A partition of the brokers.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    records: Vec<Bytes>,
    last: Option<(u64, Life)>,
}

impl Broker {
    /// Whether an append that was sent later, by another leader, is here already.
    pub(crate) fn overtaken(&self, sent: u64, from: Life) -> bool {
        self.last.is_some_and(|(last, by)| last > sent && by != from)
    }

    pub(crate) fn append(&mut self, bytes: Bytes, sent: u64, from: Life) -> Offset {
        self.records.push(bytes);
        self.last = Some((sent, from));
        Offset(self.records.len() as u64 - 1)
    }

    pub(crate) fn records(&self) -> &[Bytes] {
        &self.records
    }
}
