//! The reference of the gRPC protocol, made from the comments of its files.

use crate::document::{kept_text, source};

#[test]
fn the_grpc_reference_in_the_guides_is_that_of_the_protocol() {
    let said = "Served on the same port as REST, in clear HTTP/2. The key goes along as metadata: \
        `authorization: Bearer om_...`. A status carries `omium-code` and `omium-hint` as metadata. \
        The files are in `gateway/api/proto/omium/v1`.";
    let mut made = format!("# The gRPC protocol\n\n{}\n", wrapped(said, ""));
    for file in ["workers", "checkpoints", "values"] {
        reference(&source(&format!("proto/omium/v1/{file}.proto")), &mut made);
    }
    assert!(made.lines().all(|line| line.chars().count() <= WIDTH), "a word is longer than a line");
    kept_text("grpc.md", &made);
}

/// How long a line of the guides may be, in letters.
const WIDTH: usize = 120;

/// A text in lines, with this before all but the first one. What stands between backticks stays whole, and no line begins
/// with a hyphen, which would begin a list.
fn wrapped(text: &str, indent: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut code = false;
    for word in text.split(' ') {
        match words.last_mut() {
            Some(last) if code || word == "-" => *last += &format!(" {word}"),
            _ => words.push(word.to_owned()),
        }
        code ^= word.matches('`').count() % 2 == 1;
    }
    let (mut lines, mut line) = (String::new(), String::new());
    for word in words {
        if !line.trim_start().is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{line}\n");
            line = format!("{indent}{word}");
        } else if line.is_empty() {
            line = word;
        } else {
            line += &format!(" {word}");
        }
    }
    lines + &line
}

#[test]
fn prose_wraps_and_code_stays_whole() {
    let text = format!("- {} `two words` - then", "x".repeat(105));
    assert_eq!(wrapped(&text, "  "), format!("- {}\n  `two words` - then", "x".repeat(105)));
    let text = format!("{} - y", "x".repeat(118));
    assert_eq!(wrapped(&text, ""), format!("{} -\ny", "x".repeat(118)));
}

/// Turns a file into sections: one for each service, message and enum, one line for each of their parts.
fn reference(text: &str, made: &mut String) {
    let mut comment: Vec<&str> = Vec::new();
    let mut fields = false;
    for line in text.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("// ") {
            comment.push(said);
            continue;
        }
        let said = std::mem::take(&mut comment).join(" ");
        let words: Vec<&str> = line.split([' ', '{', '}', ';']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [kind @ ("service" | "message" | "enum"), name, ..] => {
                assert!(!said.is_empty() || *kind == "message", "`{kind} {name}` says nothing about itself");
                let said = if said.is_empty() { said } else { format!("\n{}\n", wrapped(&said, "")) };
                made.push_str(&format!("\n## {kind} {name}\n{said}"));
                fields = false;
            }
            ["rpc", ..] => list(made, &mut fields, line.trim_end_matches(';'), &said),
            ["repeated", kind, name, "=", no, ..] => {
                list(made, &mut fields, &format!("{no} {name}: repeated {kind}"), &said);
            }
            ["optional", kind, name, "=", no] => {
                list(made, &mut fields, &format!("{no} {name}: optional {kind}"), &said);
            }
            ["syntax", "=", _] => {}
            [name, "=", no] => list(made, &mut fields, &format!("{no} {name}"), &said),
            [kind, name, "=", no] => {
                list(made, &mut fields, &format!("{no} {name}: {kind}"), &said);
            }
            _ => assert!(!line.contains('='), "`{line}` is nothing that the reference knows how to tell"),
        }
    }
}

fn list(made: &mut String, fields: &mut bool, what: &str, said: &str) {
    if !std::mem::replace(fields, true) {
        made.push('\n');
    }
    let said = if said.is_empty() { said.to_owned() } else { format!(" - {said}") };
    made.push_str(&format!("{}\n", wrapped(&format!("- `{what}`{said}"), "  ")));
}
