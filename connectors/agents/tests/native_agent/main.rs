//! Native agents against the scripted model server, with a record that can be cut at any point.

#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod earlier;
mod http_tools;
mod mcp;
mod record;
mod resume;
mod turns;
mod world;
