//! A node that is not open yet, or may not be, and what whoever asks it is told.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use desk::node::Node;
use desk::{Dev, OMIUM};

/// A folder that a node has worked in, and has left in order.
fn used() -> tempfile::TempDir {
    let dev = Dev::start_as(&["serve"]);
    dev.started();
    dev.left()
}

#[test]
fn whoever_asks_a_node_that_is_being_opened_is_told_how_far_it_is() {
    let data = used();
    let gate = data.path().join("master.key");
    let key = std::fs::read(&gate).unwrap();
    hold_up(data.path());
    let node = Node::opening(data.path());
    let (status, again, body) = node.get("/ready");
    assert_eq!(
        (status, body["code"].as_str(), again.as_deref()),
        (503, Some("opening"), Some("1")),
        "{body}"
    );
    assert!(body["detail"].as_str().unwrap().contains("the log is being opened"), "{body}");
    let (status, _, body) = node.get("/health");
    assert_eq!((status, body["status"].as_str()), (200, Some("ok")), "{body}");
    for path in ["/metrics", "/api/v1/executions", "/x/ex_1/v1/models", "/nothing"] {
        let (status, again, body) = node.get(path);
        assert_eq!((status, body["code"].as_str()), (503, Some("opening")), "{path}: {body}");
        assert!(again.is_some(), "{path}");
    }
    let said = desk::omium_with(data.path(), &["doctor"], &[("OMIUM_URL", &node.url)]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!said.status.success() && text.contains("the log is being opened"), "{text}");
    let mut waiting = Command::new(OMIUM)
        .arg("list")
        .env("OMIUM_DATA", data.path())
        .env("OMIUM_URL", &node.url)
        .env("OMIUM_KEY", std::fs::read_to_string(data.path().join("dev.key")).unwrap().trim())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    OpenOptions::new().write(true).open(&gate).unwrap().write_all(&key).unwrap();
    let listed = waiting.wait().unwrap();
    assert!(listed.success(), "a command waits until the node is open");
    node.until(200, "");
    assert_eq!(node.get("/metrics").0, 200);
}

/// Puts a pipe in the place of the master key: whoever opens it waits for its other end.
fn hold_up(data: &Path) {
    let gate = data.join("master.key");
    std::fs::remove_file(&gate).unwrap();
    assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
}

#[test]
fn a_node_whose_disk_keeps_it_waiting_while_it_opens_still_stops_when_it_is_told_to() {
    let data = used();
    hold_up(data.path());
    let mut node = Node::opening(data.path());
    assert_eq!(node.get("/ready").0, 503);
    let second = desk::omium(data.path(), &["serve", "--port", "0"]);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    let first = format!("is in use by another omium process {} (since 20", node.child.id());
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains(&first) && text.contains(&format!(", {})", node.url)), "{text}");
    assert!(!text.contains("opening the log"), "it is told at once: {text}");
    // It has noted nothing yet, and loopback has many names.
    let url = node.url.replace("127.0.0.1", "localhost");
    let doctor = desk::omium_with(data.path(), &["doctor"], &[("OMIUM_URL", &url)]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("disk:") && text.contains("the log is being opened"), "{text}");
    node.signal();
    assert_eq!(node.code(), Some(0));
}

#[test]
fn a_node_with_an_older_file_of_keys_says_so_and_serves_nothing() {
    let data = used();
    let older = data.path().join("older");
    std::fs::copy(data.path().join("keys"), &older).unwrap();
    let mut node = Node::opening(data.path());
    node.until(200, "");
    let run = desk::omium(
        data.path(),
        &["run", data.path().join("review.yaml").to_str().unwrap(), "--input", "{\"amount\":1}"],
    );
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    node.kill();
    std::fs::rename(&older, data.path().join("keys")).unwrap();
    let mut node = Node::opening(data.path());
    let said = node.until(503, "other-ages");
    assert!(said["detail"].as_str().unwrap().contains("keys is older than the log"), "{said}");
    assert_eq!(node.get("/api/v1/executions").0, 503);
    assert_eq!(node.get("/health").0, 200);
    let doctor = desk::omium_with(data.path(), &["doctor"], &[("OMIUM_URL", &node.url)]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(!doctor.status.success() && text.contains("keys is older than the log"), "{text}");
    assert_eq!(node.stop(|_| {}).0, Some(1));
}

#[test]
fn a_node_with_a_log_that_is_older_than_its_state_stays_and_says_so() {
    let data = used();
    let copy = |from: &str, to: &str| {
        let paths = [data.path().join(from), data.path().join(to)];
        assert!(Command::new("cp").arg("-a").args(paths).status().unwrap().success());
    };
    copy("log", "older");
    let mut node = Node::opening(data.path());
    node.until(200, "");
    let run = desk::omium(
        data.path(),
        &["run", data.path().join("review.yaml").to_str().unwrap(), "--input", "{\"amount\":1}"],
    );
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(node.stop(|_| {}).0, Some(0));
    std::fs::remove_dir_all(data.path().join("log")).unwrap();
    copy("older", "log");
    let mut node = Node::opening(data.path());
    let said = node.until(503, "other-ages");
    assert!(said["detail"].as_str().unwrap().contains("older than what lies beside it"), "{said}");
    for key in ["", "om_other"] {
        node.key = key.to_owned();
        let text = node.get("/ready").2.to_string();
        assert!(text.contains("parts of the data folder are older"), "{text}");
        assert!(!text.contains(data.path().to_str().unwrap()), "a stranger is told no paths: {text}");
    }
}

#[test]
fn doctor_looks_at_this_machine_only_where_the_server_is_its_own() {
    let dev = Dev::start();
    let (url, _) = dev.address();
    let elsewhere = tempfile::tempdir().unwrap();
    let doctor = |data: &Path, url: &str| {
        let said = desk::omium_with(data, &["doctor"], &[("OMIUM_URL", url)]);
        (said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let (fine, text) = doctor(elsewhere.path(), &url);
    assert!(
        fine && text.contains(&format!("{url} answers and is ready")) && text.contains("here and there"),
        "{text}"
    );
    for local in ["disk:", "port:", "tools:", "clock:"] {
        assert!(!text.contains(local), "{text}");
    }
    let (fine, text) = doctor(dev.data.path(), &url);
    assert!(fine && text.contains("disk:") && text.contains("port:"), "its own: {text}");
    std::fs::remove_file(dev.data.path().join("dev.json")).unwrap();
    let (_, text) = doctor(dev.data.path(), &url.replace("127.0.0.1", "localhost"));
    assert!(text.contains("disk:") && text.contains("port:"), "its own, under another name: {text}");
    std::fs::write(elsewhere.path().join("dev.json"), format!(r#"{{"url":"{url}","key":"","pid":1}}"#))
        .unwrap();
    let (_, text) = doctor(elsewhere.path(), &url);
    assert!(!text.contains("disk:"), "another server answers where its own was: {text}");
    std::fs::remove_file(elsewhere.path().join("dev.json")).unwrap();
    drop(dev);
    let (fine, text) = doctor(elsewhere.path(), &url);
    assert!(
        !fine && text.contains("none answers at") && !text.contains("dev.json") && !text.contains("disk:"),
        "{text}"
    );
}
