//! The rules, held against the project as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use omium_tidy::layout::{self, File};
use omium_tidy::{Graph, arrows, words};

#[test]
fn crates_know_only_what_stands_below_them() {
    none(arrows::forbidden(&graph()));
}

#[test]
fn pure_crates_are_linked_with_nothing_that_waits_stores_talks_or_rolls_dice() {
    none(arrows::impure(&graph()));
}

#[test]
fn the_binary_is_linked_with_no_test_kit() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--package=omium", "--edges=normal", "--format={p} {f}"])
        .current_dir(root())
        .output()
        .expect("cargo tree starts");
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.contains("omium-processor"), "the tree is read: {tree}");
    none(tree.lines().filter(|line| line.contains("testkit")).map(str::to_owned).collect());
}

#[test]
fn the_top_level_is_fixed() {
    let mut entries: Vec<String> =
        paths().iter().map(|path| path.split('/').next().unwrap_or(path).to_owned()).collect();
    entries.dedup();
    none(layout::strangers(&entries));
}

#[test]
fn source_files_stay_short_and_are_named_after_an_idea() {
    none(layout::too_long(&files()));
    none(layout::nameless(&files()));
}

#[test]
fn no_script_fails_because_a_reader_left_early() {
    none(layout::early_leavers(&files()));
}

#[test]
fn no_crate_is_empty_and_all_are_in_architecture_md() {
    none(layout::empty_crates(&graph(), &files()));
    let architecture =
        std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read");
    none(layout::unlisted(&graph(), &architecture));
    none(layout::untrue_guides(&architecture, &files()));
}

#[test]
fn no_text_speaks_of_how_it_came_to_be_or_of_one_machine() {
    let files: Vec<File> = files().into_iter().filter(|file| !states_the_rules(file)).collect();
    none(words::unwanted(&files));
    none(words::numbered(&files));
    none(words::homes(&files));
}

#[test]
fn crates_without_their_own_clippy_list_are_held_to_the_strict_one() {
    const DO_IO: &[&str] = &[
        "connectors/agents",
        "processors/log",
        "processors/store",
        "gateway/engine",
        "gateway/telemetry",
        "replay",
        "load-tests",
        "infra/tidy",
    ];
    for package in graph().ours() {
        let own = root().join(&package.folder).join(".clippy.toml").exists();
        assert_eq!(
            own,
            DO_IO.contains(&package.folder.as_str()),
            "{}: only crates that do I/O keep a .clippy.toml",
            package.folder
        );
    }
    let strict = std::fs::read_to_string(root().join(".clippy.toml")).expect("the strict list can be read");
    for ban in
        ["SystemTime::now", "Instant::now", "collections::HashMap", "collections::HashSet", "thread::sleep"]
    {
        assert!(strict.contains(ban), "the strict list lost {ban}");
    }
    for line in strict.lines().filter(|line| line.contains("path = ")) {
        assert!(line.contains("reason = "), "a ban without a reason: {line}");
    }
}

#[track_caller]
fn none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn graph() -> Graph {
    Graph::of(&root()).expect("cargo metadata answers")
}

/// The paths of all files that belong to the project: what git tracks, or would.
fn paths() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .ok()
        .filter(|answer| answer.status.success());
    let mut paths = match listed {
        Some(answer) => String::from_utf8_lossy(&answer.stdout).lines().map(str::to_owned).collect(),
        None => walk(&root(), ""),
    };
    paths.retain(|path: &String| root().join(path).is_file());
    paths.sort();
    paths
}

/// Without git (an exported archive) every file counts, except what builds leave behind.
fn walk(root: &Path, below: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(below)).expect("a folder of the project can be read").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if matches!(name.as_str(), "target" | "node_modules" | ".git" | ".venv") {
            continue;
        }
        if entry.path().is_dir() { found.extend(walk(root, &path)) } else { found.push(path) }
    }
    found
}

fn files() -> Vec<File> {
    paths()
        .into_iter()
        .filter_map(|path| Some(File { text: std::fs::read_to_string(root().join(&path)).ok()?, path }))
        .collect()
}

/// The rules name what they forbid, and so does the list of lints; licences and lock files are other people's text.
fn states_the_rules(file: &File) -> bool {
    file.path.starts_with("infra/tidy/")
        || matches!(file.path.as_str(), "LICENSE" | "Cargo.lock" | "Cargo.toml")
}
