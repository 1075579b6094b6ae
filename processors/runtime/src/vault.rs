//! Where data keys are kept: in memory for tests, in a file beside the log for everyone else.

mod memory;

pub use memory::MemoryVault;
