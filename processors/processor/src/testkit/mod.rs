//! The given/when/then kit, and a bank that moves money between streams and has jobs done: small enough to read in a
//! sitting, and yet it uses all that a shell offers. It exercises the shell before and beside the real workflows.

mod account;
mod bank;
mod job;
mod kit;
mod lesson;

pub use account::{Account, NOTE};
pub use bank::{Auditor, Bank, BankState, Ledger};
pub use job::{Job, Mark, Step};
pub use kit::{Given, TEST_TENANT, test_stream};
pub use lesson::Lesson;

/// A partition of the bank: the bank decides, the auditor reacts.
pub type BankSuite = (Bank, Auditor);
