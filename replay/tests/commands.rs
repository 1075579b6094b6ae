//! What commands say and do where that is about more than one part of the node.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use desk::Dev;

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
