//! One stream in memory: where it ends, and the states that its events fold to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use omium_processor::{Processors, Recorded};
use omium_schemas::catalogue::{Event, StreamQuarantined};
use omium_schemas::{Digest, Seq};
use serde::{Deserialize, Serialize};

/// A stream as its events fold to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamState<S> {
    /// Its last record.
    pub seq: Seq,
    /// The hash of its last frame.
    pub hash: Digest,
    /// Why it is quarantined, where it is.
    pub quarantine: Option<String>,
    /// What the processors keep.
    pub state: S,
}

impl<S: Clone + Default> StreamState<S> {
    /// Folds one event. Nothing is given back where a processor panicked: the state is lost then.
    pub fn apply<P: Processors<State = S>>(mut self, recorded: &Recorded<'_>) -> Option<StreamState<S>> {
        match recorded.event {
            Event::StreamQuarantined(StreamQuarantined { reason }) => self.quarantine = Some(reason.clone()),
            Event::StreamReleased(_) => self.quarantine = None,
            _ => {}
        }
        self.seq = recorded.seq;
        self.state = catch_unwind(AssertUnwindSafe(|| P::apply(self.state, recorded))).ok()?;
        Some(self)
    }
}

impl<S: Serialize + for<'a> Deserialize<'a>> StreamState<S> {
    /// The canonical bytes: equal states give equal bytes.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("states hold nothing that cannot be serialised")
    }

    /// Reads what [`StreamState::bytes`] wrote.
    pub fn read(bytes: &[u8]) -> Option<StreamState<S>> {
        postcard::from_bytes(bytes).ok()
    }

    /// The hash of the canonical bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }
}

/// The hash of a stream's last frame: known, or still to be made of the frame's bytes where a reader trusts its log.
#[derive(Clone, Debug)]
pub(crate) enum LastFrame {
    Hashed(Digest),
    Bytes(Bytes),
}

impl LastFrame {
    pub(crate) fn hash(&self) -> Digest {
        match self {
            LastFrame::Hashed(hash) => *hash,
            LastFrame::Bytes(bytes) => Digest::of(bytes),
        }
    }
}
