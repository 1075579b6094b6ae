//! Each rule catches a violation that is planted for it, and lets the same thing pass where it is right.

use omium_tidy::layout::{self, File};
use omium_tidy::{Graph, Package, arrows, words};

#[test]
fn an_arrow_that_points_up_is_named_with_both_ends() {
    let graph = crates(&[("omium-schemas", &["omium-log"]), ("omium-log", &["omium-schemas"])]);
    assert_eq!(
        arrows::forbidden(&graph),
        ["`omium-schemas` must not know `omium-log`: see the arrows in ARCHITECTURE.md"]
    );
}

#[test]
fn a_crate_without_a_line_in_the_list_is_asked_for_one() {
    let found = arrows::forbidden(&crates(&[("omium-novelty", &[])]));
    assert!(found[0].contains("`omium-novelty` has no line in ARROWS"), "{found:?}");
}

#[test]
fn tests_may_not_reach_into_the_binary() {
    let mut graph = crates(&[("omium-log", &[]), ("omium", &[])]);
    graph.packages.get_mut("omium-log").expect("planted").dev.insert("omium".into());
    assert_eq!(
        arrows::forbidden(&graph),
        ["the tests of `omium-log` must not know `omium`: see the arrows in ARCHITECTURE.md"]
    );
}

#[test]
fn a_runtime_hidden_behind_another_crate_is_found_with_the_way_there() {
    let mut graph = crates(&[("omium-schemas", &["innocent"])]);
    foreign(&mut graph, "innocent", &["tokio"]);
    foreign(&mut graph, "tokio", &[]);
    assert_eq!(
        arrows::impure(&graph),
        ["`omium-schemas` is pure and must not know `tokio`: omium-schemas -> innocent -> tokio"]
    );
}

#[test]
fn a_crate_that_does_io_may_know_a_runtime() {
    let mut graph = crates(&[("omium-log", &["tokio"])]);
    foreign(&mut graph, "tokio", &[]);
    assert!(arrows::impure(&graph).is_empty());
}

#[test]
fn cargo_metadata_is_read_with_its_kinds_of_dependency() {
    let json = serde_json::json!({
        "workspace_root": "/p",
        "workspace_members": ["a"],
        "packages": [
            {"id": "a", "name": "omium-schemas", "manifest_path": "/p/schemas/Cargo.toml"},
            {"id": "b", "name": "tokio", "manifest_path": "/x/Cargo.toml"},
        ],
        "resolve": {"nodes": [{"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": "dev"}, {"kind": "build"}]}]}]},
    });
    let mut graph = Graph::from_json(&json);
    assert_eq!(graph.packages["a"].folder, "schemas");
    assert!(arrows::impure(&graph).is_empty(), "a test may use a runtime");
    graph.packages.get_mut("a").expect("planted").normal.insert("b".into());
    assert_eq!(arrows::impure(&graph).len(), 1);
}

#[test]
fn a_stranger_at_the_top_level_is_named() {
    let found = layout::strangers(&["schemas".into(), ".ci".into(), "notes.md".into()]);
    assert_eq!(found, ["`notes.md` may not stand at the top level, whose entries are fixed"]);
}

#[test]
fn a_file_over_the_limit_is_named_and_one_at_the_limit_is_not() {
    let long = file("a/long.rs", &"line\n".repeat(layout::LONGEST + 1));
    let fits = file("a/fits.rs", &"line\n".repeat(layout::LONGEST));
    let script = file(".ci/long", &format!("#!/bin/sh\n{}", "line\n".repeat(layout::LONGEST)));
    let found = layout::too_long(&[long, fits, script]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a/long.rs has 801 lines"), "{found:?}");
}

#[test]
fn a_module_named_after_nothing_is_found_as_file_and_as_folder() {
    let found = layout::nameless(&[
        file("a/src/utils.rs", ""),
        file("a/common/x.rs", ""),
        file("a/src/commonplace.rs", ""),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn an_empty_crate_is_found_and_one_with_a_function_is_not() {
    let mut graph = crates(&[("omium-log", &[]), ("omium-store", &[])]);
    graph.packages.get_mut("omium-log").expect("planted").folder = "processors/log".into();
    graph.packages.get_mut("omium-store").expect("planted").folder = "processors/store".into();
    let files = [
        file("processors/log/src/lib.rs", "//! Soon."),
        file("processors/store/src/a.rs", "pub fn get() {}"),
    ];
    let found = layout::empty_crates(&graph, &files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("`omium-log` is empty"), "{found:?}");
}

#[test]
fn a_crate_that_architecture_md_forgot_is_found() {
    let mut graph = crates(&[("omium-log", &[])]);
    graph.packages.get_mut("omium-log").expect("planted").folder = "processors/log".into();
    assert_eq!(layout::unlisted(&graph, "about `processors/logistics`").len(), 1);
    assert!(layout::unlisted(&graph, "- `processors/log`: the log").is_empty());
}

#[test]
fn a_guide_to_what_is_not_there_is_found() {
    let files = [file("load/mod.rs", "const BARS: &[Bar] = &[];"), file("load/a.rs", "")];
    let guide = |row: &str| format!("## To add a …, touch …\n\n| to add a | touch |\n|---|---|\n| {row} |\n");
    let untrue = |row: &str| layout::untrue_guides(&guide(row), &files);
    assert!(untrue("bar | a file in `load`, a line of `BARS` in `load/mod.rs`").is_empty());
    assert_eq!(untrue("bar | a line of `BARS` in `load/a.rs`").len(), 1);
    assert_eq!(untrue("bar | `load/b.rs`, `loads`/").len(), 1);
    assert_eq!(layout::untrue_guides("# Architecture", &files).len(), 1);
}

#[test]
fn a_reader_that_leaves_early_is_found_where_it_fails_what_is_before_it() {
    let strict = "#!/usr/bin/env bash\nset -euo pipefail\n";
    let found = layout::early_leavers(&[
        file("a", &format!("{strict}sort x | head -n 3\nps | grep -qx y && z")),
        file("b", &format!("{strict}# sort x | head\nx || head y\nsort x | awk 'NR <= 3' | grep y\nhead x")),
        file("c", "#!/bin/sh\nsort x | head"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a:3: ") && found[1].starts_with("a:4: "), "{found:?}");
}

#[test]
fn words_about_the_making_are_found_whole_and_in_any_case() {
    let found = words::unwanted(&[
        file("a.md", "fine\nA ToDo: later\nmethodology, hackney"),
        file("b.rs", "// FIXME soon"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.md:2: 'todo'") && found[1].starts_with("b.rs:1: 'fixme'"), "{found:?}");
}

#[test]
fn numbered_work_is_found_and_plain_speech_is_not() {
    let found = words::numbered(&[file(
        "a.md",
        "as Issue #12 says\nthe issue is open\na session of 3 days\nsession 4",
    )]);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn paths_of_one_machine_are_found_and_relative_ones_are_not() {
    let found =
        words::homes(&[file("a.sh", "cd /root/x\nls \"/home/me\"\ncat $HOME/root/x\nuse ../work/main")]);
    assert_eq!(found.len(), 2, "{found:?}");
}

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), text: text.into() }
}

/// Crates of the workspace whose ids are their names.
fn crates(list: &[(&str, &[&str])]) -> Graph {
    let mut graph = Graph::default();
    for (name, deps) in list {
        graph.packages.insert((*name).into(), package(name, true, deps));
    }
    graph
}

fn foreign(graph: &mut Graph, name: &str, deps: &[&str]) {
    graph.packages.insert(name.into(), package(name, false, deps));
}

fn package(name: &str, ours: bool, deps: &[&str]) -> Package {
    let normal = deps.iter().map(|dep| (*dep).to_owned()).collect();
    Package { name: name.into(), ours, normal, ..Package::default() }
}
