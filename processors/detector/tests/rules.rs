//! What is checked without anybody asking for it, as people read it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, and the guide is a file")]

use std::fmt::Write as _;

use omium_detector::RULES;

#[test]
fn the_guide_to_checks_names_all_rules() {
    let mut guide = String::from(
        "# What is checked in answers of models\n\n\
         Answers that programs get through the gate are checked in this order, in the frame that records them. The name\n\
         stands in each finding (`omium show`). What cannot be checked within its budget is told as that, never passed;\n\
         an answer that is too long for all of them, or not at hand, is reported as `size`.\n\n\
         | check | what has to hold | findings |\n|---|---|---|\n",
    );
    for rule in RULES {
        let kinds: Vec<&str> = rule.kinds.iter().map(|kind| kind.symbol()).collect();
        writeln!(guide, "| `{}` | {} | {} |", rule.id, rule.text, kinds.join(", ")).unwrap();
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../gateway/docs/checks.md");
    if std::env::var_os("OMIUM_BLESS").is_some() {
        std::fs::write(file, &guide).unwrap();
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    assert!(kept == guide, "{file} does not name these rules; OMIUM_BLESS=1 writes it again");
}
