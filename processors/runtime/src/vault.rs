//! Where data keys are kept: in memory for tests, in a file beside the log for everyone else.

mod error;
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "keys are kept in files of their own"
)]
mod file;
mod memory;
mod slot;

pub use error::VaultError;
pub use file::FileVault;
pub use memory::MemoryVault;
