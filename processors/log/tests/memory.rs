//! The log in memory keeps the contract.

mod contract;

use std::sync::Arc;

use contract::Subject;
use omium_log::MemoryLog;

async fn memory() -> Subject {
    let log = MemoryLog::new(2).expect("a thread can be started");
    Subject { log: Arc::new(log), keep: Box::new(()) }
}

contract_suite!(memory);
