//! The listener: connections, heads, bodies and readers, each bounded, so that strangers cannot take what callers need.

mod body;
mod budget;
mod connection;
mod door;
mod host;
mod limits;
mod reader;
mod refusal;
mod refusals;
mod registry;
mod server;
mod slot;
mod socket;
mod stop;

pub use body::{Unread, read_body};
pub use budget::{Following, Taken};
pub use host::is_loopback;
pub use limits::{Limits, raise_descriptors};
pub use refusal::{Code, Refusal};
pub use server::Server;
pub use slot::Slot;
pub use stop::Stop;
