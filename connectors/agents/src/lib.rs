//! Native agents with their tools, and the scripted model server that demos and tests talk to.

pub mod mock;
pub mod native;
mod tools;

pub use mock::{Script, serve, serve_and_forget};
pub use native::{Calls, NativeTask, Outcome, perform};
