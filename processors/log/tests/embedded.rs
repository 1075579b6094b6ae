//! The log on disk keeps the contract.

mod contract;

use std::sync::Arc;

use contract::Subject;
use omium_log::{EmbeddedLog, EmbeddedOptions};

async fn embedded() -> Subject {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = EmbeddedOptions::new(dir.path().join("log"), 2).expect("randomness");
    let log = EmbeddedLog::open(options).expect("an empty directory becomes a log");
    Subject { log: Arc::new(log), keep: Box::new(dir) }
}

contract_suite!(embedded);
