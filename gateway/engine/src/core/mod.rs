//! Plain machines of the engine: what they are told goes in, what is to be done comes out. They wait for nothing, send
//! nothing and read no clock, so that whatever drives them can be a server or a simulation.

pub(crate) mod board;
pub(crate) mod unserved;
