//! Tools: what an agent may call, what calling it again would do, and how it is called.

mod address;
mod builtin;
mod http;
mod math;
mod mcp;
mod secret;
mod shape;
mod toolbox;

pub(crate) use address::{address_of, reachable};
pub(crate) use toolbox::{Called, Context, Invocation, Toolbox};
