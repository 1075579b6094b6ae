//! Kills and errors at the n-th write and the n-th sync, by `strace`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::image::skip;
use crate::process::Running;
use crate::promises::Promises;
use crate::writer::Task;

/// The code of a process that ended because its disk failed.
const DISK_FAILED: i32 = omium_log::embedded::EXIT_DISK_FAILED;
const WRITES: &str = "pwritev,pwritev2,pwrite64";
const SYNCS: &str = "fdatasync,fsync";

/// How runs ended.
#[derive(Debug, Default)]
struct Ends {
    well: usize,
    killed: usize,
    disk_failed: usize,
    refused: usize,
}

/// Whether strace can trace here.
fn can_trace(test: &str) -> bool {
    let traced = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    let why = match traced {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("strace: {error}"),
    };
    skip(test, &why);
    false
}

/// Runs the writer once for each `n`, with the fault at the n-th of these calls of a thread, and each time holds the
/// directory to what was promised; the log goes on in the next run.
fn run(calls: &str, fault: &str, times: impl Iterator<Item = usize>) -> Ends {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("log");
    let mut ends = Ends::default();
    let mut promised = Promises::default();
    for n in times {
        let task = Task { root: root.clone(), blocks: Some(12), only_reads: false, lying: false };
        let inject = format!("inject={calls}:{fault}:when={n}");
        let trace = format!("trace={calls}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let (status, said) = Running::start(&task, &strace).end();
        match (status.code(), status.signal()) {
            (Some(0), _) => ends.well += 1,
            (Some(1), _) => ends.refused += 1,
            (Some(DISK_FAILED), _) => ends.disk_failed += 1,
            (Some(137), _) | (_, Some(9)) => ends.killed += 1,
            other => panic!("{inject}: ended with {other:?}, {:?}", said.error),
        }
        promised = said.and(&promised);
        if root.join("FORMAT").exists() {
            promised.assert_kept_in(&root, &inject);
        } else {
            assert_eq!(promised.records(), 0, "{inject}: a log that was never made has promised nothing");
        }
    }
    ends
}

#[test]
fn a_kill_at_any_write_loses_nothing_acknowledged() {
    if can_trace("a_kill_at_any_write_loses_nothing_acknowledged") {
        let ends = run(WRITES, "signal=KILL", 1..=12);
        assert!(ends.killed >= 6, "{ends:?}");
    }
}

#[test]
fn a_kill_at_any_sync_loses_nothing_acknowledged() {
    if can_trace("a_kill_at_any_sync_loses_nothing_acknowledged") {
        let ends = run(SYNCS, "signal=KILL", 1..=12);
        assert!(ends.killed >= 6, "{ends:?}");
    }
}

#[test]
fn an_io_error_at_any_sync_ends_the_process_and_loses_nothing_acknowledged() {
    if can_trace("an_io_error_at_any_sync_ends_the_process_and_loses_nothing_acknowledged") {
        let ends = run(SYNCS, "error=EIO", 1..=12);
        assert!(ends.disk_failed >= 4, "{ends:?}");
    }
}

#[test]
fn an_io_error_at_any_write_ends_the_process_and_loses_nothing_acknowledged() {
    if can_trace("an_io_error_at_any_write_ends_the_process_and_loses_nothing_acknowledged") {
        let ends = run(WRITES, "error=EIO", 1..=12);
        assert!(ends.disk_failed >= 4, "{ends:?}");
    }
}

#[test]
fn no_space_at_any_write_loses_nothing_acknowledged() {
    if can_trace("no_space_at_any_write_loses_nothing_acknowledged") {
        let ends = run(WRITES, "error=ENOSPC", 1..=12);
        assert!(ends.well + ends.disk_failed + ends.refused == 12, "{ends:?}");
    }
}
