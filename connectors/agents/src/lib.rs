//! Native agents with their tools, and the scripted model server that demos and tests talk to.

pub mod mock;
