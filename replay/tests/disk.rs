//! What a node makes of its disk: one that is full, one that may not be written, and files that are damaged.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use std::cell::Cell;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use desk::node::Node;
use desk::{OMIUM, REVIEW};
use serde_json::Value;

/// A file system of its own; nothing where mounting is not allowed.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "omium"]).arg(dir.path()).output();
        if mount.is_ok_and(|said| said.status.success()) {
            return Some(Small(dir));
        }
        let why = "mounting is not allowed here";
        eprintln!("skipped: {why}");
        if let Some(list) = std::env::var_os("OMIUM_SKIPS") {
            let mut list = File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "mount: {why}").unwrap();
        }
        None
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn fill(&self) {
        let mut filler =
            File::options().create(true).append(true).open(self.0.path().join("filler")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }

    fn remount(&self, how: &str) {
        let how = format!("remount,{how}");
        assert!(Command::new("mount").args(["-o", &how]).arg(self.0.path()).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// What is done with a node whose disk is full.
trait Works {
    fn published(&self);
    fn start_one(&self) -> (u16, String);
    fn tell(&self, id: &str) -> u16;
    fn started(&self) -> String;
    fn shows(&self, id: &str, status: &str);
    fn ends(&mut self, heard: impl Fn(&str)) -> String;
}

impl Works for Node {
    fn published(&self) {
        assert_eq!(self.ask("POST /api/v1/workflows", REVIEW).0, 201);
    }

    fn start_one(&self) -> (u16, String) {
        let body = r#"{"workflow": "review", "inputs": {"amount": 1}}"#;
        self.ask("POST /api/v1/executions", body)
    }

    /// Tells an execution something long, of characters that do not squeeze.
    fn tell(&self, id: &str) -> u16 {
        let text: String =
            (0..20_000_u64).map(|n| char::from(b'a' + (n * n * 7 + n / 3) as u8 % 26)).collect();
        let body = serde_json::json!({ "name": "n", "body": text }).to_string();
        self.ask(&format!("POST /api/v1/executions/{id}/signal"), &body).0
    }

    fn started(&self) -> String {
        let (status, body) = self.start_one();
        assert_eq!(status, 201, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn shows(&self, id: &str, status: &str) {
        let (code, body) = self.ask(&format!("GET /api/v1/executions/{id}"), "");
        assert_eq!(code, 200, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["status"], status);
        // Events first: they wait until the index has seen all of the log, which the list does not.
        let (code, body) = self.ask(&format!("GET /api/v1/executions/{id}/events"), "");
        assert!(code == 200 && body.contains("ExecutionStarted"), "{body}");
        let (code, body) = self.ask("GET /api/v1/executions?limit=100", "");
        assert!(code == 200 && body.contains(id), "{body}");
    }

    /// Tells it to stop, and gives what it says from then on, line by line; it has to end with 0.
    fn ends(&mut self, heard: impl Fn(&str)) -> String {
        let (code, said) = self.stop(heard);
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

/// Looks again and again: nothing outside of the server tells it.
fn until(what: &str, right: impl Fn() -> bool) {
    let since = Instant::now();
    while !right() {
        assert!(since.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_is_killed_on_a_full_disk_starts_reads_cancels_and_goes_on_once_there_is_room() {
    let Some(small) = Small::mount() else { return };
    let mut node = Node::start(&small.data());
    node.published();
    let ids: Vec<String> = (0..4).map(|_| node.started()).collect();
    let reserve = small.data().join("log/journal/reserve");
    until("a reserve", || reserve.exists());
    small.fill();
    // The log has room that it took beforehand: that is used up too.
    while node.tell(&ids[3]) == 200 {}
    for (round, id) in ids.iter().enumerate().take(3) {
        if round == 2 {
            // As if it had been used up before.
            std::fs::remove_file(&reserve).unwrap();
        }
        node.kill();
        small.fill();
        node = Node::start(&small.data());
        // What a segment that was being made had taken is free now, and may be enough for a smaller one.
        until("a full log", || {
            small.fill();
            node.tell(&ids[3]) == 507 && node.ask("GET /ready", "").0 == 503
        });
        let ready = node.ask("GET /ready", "").1;
        for part in
            ["no room on the disk", "the next segment needs ", " MiB", "`omium cancel` works meanwhile"]
        {
            assert!(ready.contains(part), "{part}: {ready}");
        }
        assert_eq!(node.ask("GET /ready?for=read", "").0, 200);
        let (status, refused) = node.start_one();
        assert!(status == 507 && refused.contains("the next segment needs "), "{status} {refused}");
        node.shows(id, "running");
        assert_eq!(node.ask(&format!("POST /api/v1/executions/{id}/cancel"), "").0, 200);
        node.shows(id, "cancelled");
    }
    small.free();
    until("it to go on", || node.start_one().0 == 201 && node.ask("GET /ready", "").0 == 200);
    node.kill();
    let node = Node::start(&small.data());
    node.shows(&ids[2], "cancelled");
    node.shows(&ids[3], "running");
}

#[test]
fn a_server_with_no_room_for_keys_alone_is_not_ready_says_so_and_goes_on_once_there_is_room() {
    let Some(small) = Small::mount() else { return };
    let data = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(small.0.path().join("keys"), data.path().join("keys")).unwrap();
    let node = Node::start(data.path());
    node.published();
    let id = node.started();
    small.fill();
    until("no room for a key", || node.start_one().0 == 507);
    let (status, ready) = node.ask("GET /ready", "");
    assert!(status == 503 && ready.contains("no keys can be written"), "{status} {ready}");
    assert_eq!(node.ask(&format!("POST /api/v1/executions/{id}/cancel"), "").0, 200);
    node.shows(&id, "cancelled");
    small.free();
    // Also where nobody starts anything on a node that is not ready.
    until("it to be ready", || node.ask("GET /ready", "").0 == 200);
    node.started();
}

#[test]
fn a_server_that_is_stopped_while_its_disk_is_full_or_just_was_ends_well_and_loses_nothing() {
    let Some(small) = Small::mount() else { return };
    let mut node = Node::start(&small.data());
    node.published();
    for freed in [true, false] {
        let id = node.started();
        small.fill();
        until("a full log", || node.tell(&id) == 507);
        let full = Cell::new(true);
        let said = node.ends(|line| {
            if freed && line.contains("could not be saved") && full.take() {
                small.free();
            }
        });
        assert!(said.contains("stopped; what was acknowledged is in the log"), "{said}");
        assert_eq!(said.contains("is folded again at the next start"), !freed, "{said}");
        if !freed {
            small.free();
        }
        node = Node::start(&small.data());
        node.shows(&id, "running");
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_with_what_to_do() {
    let Some(small) = Small::mount() else { return };
    let mut node = Node::start(&small.data());
    node.kill();
    small.remount("ro");
    let refused =
        Command::new(OMIUM).args(["serve", "--port", "0", "--data"]).arg(small.data()).output().unwrap();
    small.remount("rw");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    for part in
        ["cannot be written", "Read-only file system", "Make it writable", "cp -a", "omium log verify"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("delete"), "{text}");
}

#[test]
fn state_and_index_whose_current_file_is_garbage_are_made_again_from_the_log_with_an_alarm() {
    let data = tempfile::tempdir().unwrap();
    let mut node = Node::start(data.path());
    node.published();
    let id = node.started();
    node.shows(&id, "running");
    node.kill();
    for folder in ["state", "index"] {
        std::fs::write(data.path().join(folder).join("CURRENT"), "garbage").unwrap();
    }
    let node = Node::start(data.path());
    node.shows(&id, "running");
    for folder in ["state", "index"] {
        assert!(node.said.contains(&format!("{folder} is damaged; it was moved to")), "{}", node.said);
        assert!(data.path().join(format!("{folder}.damaged/CURRENT")).exists());
    }
}

#[test]
fn state_and_index_with_a_damaged_row_are_made_again_from_the_log_with_an_alarm() {
    let data = tempfile::tempdir().unwrap();
    let mut node = Node::start(data.path());
    node.published();
    let id = node.started();
    node.shows(&id, "running");
    node.ends(|_| {});
    for folder in ["state", "index"] {
        for entry in std::fs::read_dir(data.path().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "sst") {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[4] ^= 1;
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
    let node = Node::start(data.path());
    node.shows(&id, "running");
    for folder in ["state", "index"] {
        assert!(node.said.contains(&format!("{folder} is damaged; it was moved to")), "{}", node.said);
    }
}
