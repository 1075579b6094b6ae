//! The API: REST, event streams, and the stream of workers, over one port.

pub mod port;
pub mod views;
