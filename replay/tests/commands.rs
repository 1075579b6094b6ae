//! What commands say and do where that is about more than one part of the node.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;
mod gate;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use desk::Dev;
use gate::{Program, Upstream, says, served};
use serde_json::Value;

#[test]
fn a_check_of_a_field_and_one_of_prose_are_two_guards_and_a_second_one_of_a_name_replaces_the_first() {
    let dev = Dev::start();
    let rule = ["--rule", "value >= 2.5 && value <= 8.5"];
    let field = [&["guard", "add", "--agent", "Writer", "--json-field", "apr"], &rule[..]].concat();
    let prose = [&["guard", "add", "--agent", "Writer", "--extract", r#"apr: number near "APR""#], &rule[..]]
        .concat();
    assert!(dev.says(&field).starts_with("guard writer-field-apr is on Writer;"));
    assert!(dev.says(&prose).starts_with("guard writer-extract-apr is on Writer;"));
    let listed = dev.says(&["guard", "list"]);
    assert!(listed.contains("writer-field-apr") && listed.contains("writer-extract-apr"), "{listed}");
    assert!(dev.says(&field).starts_with("guard writer-field-apr is replaced on Writer;"));
    assert_eq!(dev.says(&["guard", "list"]).lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_neither_forked_nor_retried_and_what_to_do_instead_is_said() {
    let dev = served(&Upstream::start(|_| says("an answer")).await).await;
    let program = Program::open(&dev, "off").await;
    assert_eq!(program.asks("a", r#"{"model":"m","messages":[]}"#).await.0, 200);
    program.ends(&dev, 1).await;
    assert_eq!(program.shown(&dev).await["status"], "failed");
    for words in [&["retry", &program.id][..], &["fork", &program.id, "last"]] {
        let said = dev.fails(words, 5);
        assert!(said.contains(&format!("`omium exec --resume {}`", program.id)), "{said}");
    }
    assert_eq!(dev.says(&["list"]).lines().count(), 2, "no fork has begun");
    let again = Program::attempt(&dev, &program.id).await;
    again.ends(&dev, 0).await;
    let said = dev.fails(&["rollback", &program.id, "last"], 5);
    assert!(said.contains("omium exec") && !said.contains("omium fork"), "{said}");
}

#[test]
fn events_that_are_followed_as_json_come_as_they_happen_a_line_each() {
    let dev = Dev::start();
    let id = dev.started();
    let (url, key) = dev.address();
    let mut child = Command::new(desk::OMIUM)
        .args(["logs", "--follow", "--json", &id, "--url", &url, "--key", &key])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    // The execution waits for a person: nothing but these lines tells of it.
    while next()["kind"] != "StepScheduled" {}
    dev.says(&["cancel", &id]);
    while next()["kind"] != "ExecutionCancelled" {}
    assert!(child.wait().unwrap().success());
}

/// A program whose agent has given an answer that a person has to look at.
async fn suspended(dev: &Dev) -> String {
    let program = Program::open(dev, "approve").await;
    program.asks("a", r#"{"model":"m","messages":[]}"#).await;
    assert_eq!(program.shown(dev).await["status"], "suspended");
    program.id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_adds_to_a_decision_stands_in_the_log() {
    let dev = served(&Upstream::start(|_| says("an answer")).await).await;
    dev.says(&["guard", "add", "--agent", "a", "--rule", "size(output) > 100"]);
    let dismissed = suspended(&dev).await;
    let said = dev.fails(&["approve", &dismissed, "--note", "it helps"], 5);
    assert!(said.contains("takes no note"), "{said}");
    dev.says(&["dismiss", &dismissed, "--note", "short is fine"]);
    assert!(dev.says(&["logs", &dismissed]).contains("short is fine"));
    let refused = suspended(&dev).await;
    dev.says(&["refuse", &refused, "--note", "nobody needs it"]);
    assert!(dev.says(&["logs", &refused]).contains("nobody needs it"));
}
