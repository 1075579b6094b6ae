//! The kit for workers in any language, as a command: a right one, a wrong one, and none at all.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that is a worker reads its surroundings"
)]

#[path = "../../gateway/api/tests/conforming/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod conforming;

use std::process::{Command, Output};

use conforming::{Flaw, worker};
use omium_api::conformance::Place;

fn conformance(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_omium"))
        .args(["conformance", "--pace", "800ms"])
        .args(words)
        .output()
        .unwrap()
}

/// This program as a worker, which is right or has one flaw.
fn ourselves(flaw: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    [&program, "--ignored", "--exact", flaw].map(str::to_owned).to_vec()
}

async fn work(flaw: Flaw) {
    let of = |name: &str| std::env::var(name).expect("`omium conformance` starts it");
    worker(Place { url: of("OMIUM_URL"), key: of("OMIUM_KEY") }, flaw).await;
}

#[tokio::test]
#[ignore = "not a test: the worker that the tests here start"]
async fn right() {
    work(Flaw::None).await;
}

#[tokio::test]
#[ignore = "not a test: the worker that the tests here start"]
async fn silent() {
    work(Flaw::NoHeartbeat).await;
}

#[test]
fn a_worker_that_holds_to_the_protocol_passes() {
    let words = ourselves("right");
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.insert(0, "--");
    let told = conformance(&words);
    let lines: Vec<String> = String::from_utf8(told.stdout).unwrap().lines().map(str::to_owned).collect();
    let cases: Vec<&String> = lines.iter().filter(|line| line.starts_with("ok    ")).collect();
    assert_eq!((told.status.code(), cases.len()), (Some(0), 7), "{lines:?}");
}

#[test]
fn what_a_worker_does_wrong_is_told_and_so_is_one_that_does_not_come() {
    let words = ourselves("silent");
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.insert(0, "--json");
    let told = conformance(&words);
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(1), "{text}");
    assert!(text.contains("it was silent: no heartbeat came in time"), "{text}");

    let told = conformance(&["--", "true"]);
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(told.stdout).unwrap(),
        "WRONG registers for the framework `conformance`: no worker registered within 3s\n"
    );
    let told = conformance(&["--", "there-is-no-such-program"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(
        String::from_utf8(told.stderr)
            .unwrap()
            .starts_with("omium: `there-is-no-such-program` cannot be started")
    );
    assert_eq!(conformance(&[]).status.code(), Some(2));
}
