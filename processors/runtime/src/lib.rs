//! The shell that runs processors over one partition of the log.

mod book;
mod driver;
mod key;
mod port;
mod sealing;
mod shell;
mod snapshot;
mod stream;
mod told;
mod vault;
mod window;

pub use book::{Book, Unacknowledged};
pub use driver::{
    Node, NodeParts, OpenError, PartitionStanding, Request, Telemetry, TrimError, Working, World,
    opens_execution,
};
pub use key::{
    PlainHasher, StreamKey, WindowKey, open_key, open_prefix, partition_prefix, position_key, stream_key,
    stream_of, stream_prefix, window_key,
};
pub use port::{
    Answer, AtHand, Dispatch, Done, Ended, Found, Input, Loaded, Needs, Now, Output, Parcel, Submission,
    Ticket,
};
pub use sealing::{DataKey, Place, Unreadable, Vault, open, open_blob, place, seal, seal_blob};
pub use shell::{Config, Deciding, Figures, Role, Shell, holds_copies};
pub use snapshot::{Changed, LAYOUT, Position, Snapshot, Used};
pub use stream::{Held, StreamState};
pub use told::Told;
pub use vault::{FileVault, MemoryVault, VaultError};
