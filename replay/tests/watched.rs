//! `omium run --watch`, whole: plain in a pipe, drawn in place on a terminal.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

mod desk;

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use desk::{Dev, OMIUM};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const TREES: [&str; 3] = [
    "review ID · running\n├─ ? check · asking\n└─ · sign · blocked",
    "review ID · running\n├─ ✓ check · done\n└─ ? sign · asking",
    "review ID · completed\n├─ ✓ check · done\n└─ ✓ sign · done",
];
const RESULT: &str = "{\"by\":\"Ann\",\"ok\":true}\n";

fn watch(dev: &Dev, stderr: Stdio, no_color: &str) -> Child {
    let file = dev.data.path().join("review.yaml");
    Command::new(OMIUM)
        .args(["run", file.to_str().unwrap(), "--watch", "--input", r#"{"amount": 1}"#])
        .env("OMIUM_DATA", dev.data.path())
        .env("NO_COLOR", no_color)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

/// Reads all of it and says what the run waits for whenever that is seen.
fn seen(dev: &Dev, mut from: impl Read) -> String {
    let (mut text, mut said) = (Vec::new(), 0);
    let mut piece = [0; 4096];
    // A terminal whose other side is closed ends with an error.
    while let Ok(length @ 1..) = from.read(&mut piece) {
        text.extend_from_slice(&piece[..length]);
        let so_far = String::from_utf8_lossy(&text).replace('\r', "");
        let Some(id) = so_far.split_whitespace().find(|word| word.starts_with("ex_")) else { continue };
        let waits = ["└─ · sign · blocked\n", "└─ ? sign · asking\n"];
        if waits.get(said).is_some_and(|line| so_far.contains(line)) {
            let (name, body) = [("check", "1"), ("sign", r#"{"ok": true, "by": "Ann"}"#)][said];
            dev.says(&["signal", id, name, body]);
            said += 1;
        }
    }
    String::from_utf8(text).unwrap()
}

fn without_id(text: &str) -> String {
    let id = text.split_whitespace().find(|word| word.starts_with("ex_")).unwrap();
    text.replace(id, "ID")
}

/// What came to stdout, after the end.
#[track_caller]
fn ended(mut child: Child) -> String {
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    out
}

#[test]
fn in_a_pipe_each_change_is_written_once_and_nothing_is_drawn_over() {
    let dev = Dev::start();
    let mut child = watch(&dev, Stdio::piped(), "");
    let text = seen(&dev, child.stderr.take().unwrap());
    let version = text.lines().next().unwrap().to_owned();
    assert_eq!(version, "published review@1");
    assert_eq!(without_id(&text), format!("{version}\n{}\n", TREES.join("\n")));
    assert_eq!(ended(child), RESULT);
}

/// A terminal: our side, and the one for a process.
fn terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(name).unwrap();
    (File::from(ours), theirs)
}

#[test]
fn on_a_terminal_the_tree_is_drawn_again_in_its_place_unless_that_is_not_wanted() {
    let dev = Dev::start();
    let again = "\u{1b}[3A\u{1b}[J";
    // What stands there already is not published again, and nobody is told so.
    for (no_color, between, published) in [("", again, "published review@1\n"), ("1", "", "")] {
        let (ours, theirs) = terminal();
        let child = watch(&dev, theirs.into(), no_color);
        let text = seen(&dev, ours);
        let drawn = TREES.map(|tree| format!("{tree}\n")).join(between);
        assert_eq!(without_id(&text), format!("{published}{drawn}").replace('\n', "\r\n"));
        assert_eq!(ended(child), RESULT);
    }
}
