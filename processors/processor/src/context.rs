//! What a processor is told beside the state and the command: all of it is in the log, none of it is looked up.

use bytes::Bytes;
use omium_schemas::{Content, Seq, StreamId, TenantId, Time};

use omium_schemas::catalogue::{Command, Event};

/// The circumstances of one decision.
pub struct Context<'a> {
    /// Whose stream it is.
    pub tenant: TenantId,
    /// The stream.
    pub stream: StreamId,
    /// When the command is decided.
    pub now: Time,
    /// The seq that the command will have.
    pub seq: Seq,
    /// Sixteen bytes drawn for this command: the only source of randomness and of new ids.
    pub entropy: [u8; 16],
    /// The version of the rules to decide by.
    pub logic: i32,
    /// The content of the last control record that this partition has seen.
    pub control: &'a [u8],
    /// Opens content that the state holds sealed.
    pub open: &'a dyn Fn(&Content) -> Option<Bytes>,
}

impl Context<'_> {
    /// A number below `bound`, drawn from the command's entropy; `salt` tells several draws apart.
    pub fn draw(&self, salt: u8, bound: u64) -> u64 {
        let mut seed = [0; 17];
        seed[..16].copy_from_slice(&self.entropy);
        seed[16] = salt;
        let hash = omium_schemas::Digest::of(&seed).0;
        let mut front = [0; 8];
        front.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(front) % bound.max(1)
    }
}

/// One event as the log holds it. Its content is sealed, and `apply` never opens it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Whose stream it is.
    pub tenant: TenantId,
    /// The stream.
    pub stream: StreamId,
    /// Its place in the stream.
    pub seq: Seq,
    /// When its frame was decided.
    pub time: Time,
    /// The event.
    pub event: &'a Event,
    /// The command of its frame: events refer to its content instead of repeating it.
    pub command: &'a Command,
}
