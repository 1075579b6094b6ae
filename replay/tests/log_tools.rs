//! `omium log` on the log of a demo and on copies that were damaged, by the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

fn omium(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_omium")).args(args).arg(dir).output().expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The data folder of one demo, which is run once for all tests.
fn demo() -> &'static Path {
    static DEMO: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DEMO.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let told = omium(&["demo", "--keep"], dir.path());
        assert!(told.status.success(), "{}", err(&told));
        dir
    });
    dir.path()
}

/// A copy of its log that a test may damage.
fn copy() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("log");
    let copied = Command::new("cp").arg("-r").arg(demo().join("log")).arg(&log).status().expect("cp runs");
    assert!(copied.success());
    (dir, log)
}

fn segments(log: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(log.join("journal")).expect("a journal");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    files
}

/// Numbers differ from run to run; everything else does not.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if plain.ends_with('N') => {}
            '0'..='9' => plain.push('N'),
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn a_sound_log_is_verified_and_summed_up() {
    let (_dir, log) = copy();
    let verified = omium(&["log", "verify"], &log);
    assert_eq!((verified.status.code(), err(&verified)), (Some(0), String::new()));
    let partition = "partition N: offsets N..N, N blocks (last N), N frames, N records, N epochs (current N), N ignored\n";
    let expected = format!("{}N segments, N bytes, closed well\nsound\n", partition.repeat(4));
    assert_eq!(without_numbers(&out(&verified)), expected);
    let json: Value = serde_json::from_str(&out(&omium(&["log", "verify", "--json"], &log))).expect("JSON");
    assert_eq!((&json["sound"], &json["clean"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(json["partitions"].as_array().map(Vec::len), Some(4));
}

#[test]
fn every_record_is_shown_by_the_schemas_that_the_log_holds() {
    let (_dir, log) = copy();
    let shown = omium(&["log", "inspect", "--records"], &log);
    assert_eq!((shown.status.code(), err(&shown)), (Some(0), String::new()));
    let records: Vec<Value> =
        out(&shown).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(records.iter().all(|record| record["body"].get("unread").is_none()), "a record is not readable");
    let of_type = |name: &str| records.iter().filter(|record| record["type"] == name).collect::<Vec<_>>();
    assert_eq!(of_type("StepCompleted").len(), 3);
    assert_eq!(of_type("ExecutionStarted")[0]["body"]["workflow"], "loan-decision");
    let amount = &of_type("CostRecorded")[0]["body"]["amount"];
    assert!(
        amount.as_str().is_some_and(|amount| amount.bytes().all(|byte| byte.is_ascii_digit())),
        "{amount}"
    );
    assert!(of_type("epoch").len() >= 8, "two lives of four partitions");
    assert!(!out(&shown).contains("Dear customer"), "content is sealed");
    let one = omium(&["log", "inspect", "--records", "--partition", "0"], &log);
    assert!(out(&one).lines().all(|line| line.contains(r#""partition":0"#)));
}

#[test]
fn a_summary_names_the_files_and_what_is_in_them() {
    let (_dir, log) = copy();
    let shown = omium(&["log", "inspect"], &log);
    assert_eq!((shown.status.code(), err(&shown)), (Some(0), String::new()));
    let text = out(&shown);
    assert!(text.contains("4 partitions") && text.contains("closed well"), "{text}");
    let json: Value = serde_json::from_str(&out(&omium(&["log", "inspect", "--json"], &log))).expect("JSON");
    assert_eq!((json["partitions"].as_u64(), json["clean"].as_bool()), (Some(4), Some(true)));
    assert_eq!(json["segments"].as_array().map(Vec::len), Some(segments(&log).len()));
}

#[test]
fn a_flipped_bit_is_found_named_and_not_repaired() {
    let (_dir, log) = copy();
    let first = &segments(&log)[0];
    let mut bytes = std::fs::read(first).expect("a segment");
    bytes[20_000] ^= 1;
    std::fs::write(first, &bytes).expect("a writable segment");
    let verified = omium(&["log", "verify"], &log);
    assert_eq!(verified.status.code(), Some(1));
    assert!(out(&verified).contains(&format!("problem: {}", first.display())), "{}", out(&verified));
    for how in ["--dry-run", "--apply"] {
        let repaired = omium(&["log", "repair", how], &log);
        assert_eq!((repaired.status.code(), out(&repaired)), (Some(1), String::new()));
        assert!(
            err(&repaired).contains("is damaged at byte") && err(&repaired).contains("nothing was changed")
        );
    }
    assert_eq!(std::fs::read(first).expect("a segment"), bytes);
    let shown = omium(&["log", "inspect", "--records"], &log);
    assert_eq!(shown.status.code(), Some(1));
    assert!(err(&shown).contains("omium log verify"), "{}", err(&shown));
}

#[test]
fn a_repair_needs_to_be_told_how_and_a_sound_log_needs_none() {
    let (_dir, log) = copy();
    let bare = omium(&["log", "repair"], &log);
    assert_eq!(bare.status.code(), Some(2));
    assert!(err(&bare).contains("--dry-run") || err(&bare).contains("--apply"), "{}", err(&bare));
    let planned = omium(&["log", "repair", "--dry-run"], &log);
    assert_eq!((planned.status.code(), out(&planned).as_str()), (Some(0), "nothing else to repair\n"));
    let json: Value =
        serde_json::from_str(&out(&omium(&["log", "repair", "--apply", "--json"], &log))).expect("JSON");
    assert_eq!((json["applied"].as_bool(), json["copied"].as_u64()), (Some(true), Some(0)));
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("missing");
    for place in [dir.path(), &missing] {
        for tool in [
            &["log", "verify"][..],
            &["log", "inspect"],
            &["log", "inspect", "--records"],
            &["log", "repair", "--apply"],
        ] {
            let output = omium(tool, place);
            assert_eq!((output.status.code(), out(&output)), (Some(2), String::new()), "{tool:?}");
            assert!(
                err(&output).starts_with("omium: ") && err(&output).contains(&place.display().to_string())
            );
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0, "looking makes nothing");
}
