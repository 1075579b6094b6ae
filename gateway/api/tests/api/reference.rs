//! The reference of the gRPC protocol, made from the comments of its files.

use crate::document::{kept_text, source};

#[test]
fn the_grpc_reference_in_the_guides_is_that_of_the_protocol() {
    let mut made = String::from(
        "# The gRPC protocol\n\nServed on the same port as REST, in clear HTTP/2. The key goes along as metadata: \
         `authorization: Bearer om_...`. A status carries `omium-code` and `omium-hint` as metadata. \
         The files are in `gateway/api/proto/omium/v1`.\n",
    );
    for file in ["workers", "checkpoints", "values"] {
        reference(&source(&format!("proto/omium/v1/{file}.proto")), &mut made);
    }
    kept_text("grpc.md", &made);
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
                let said = if said.is_empty() { said } else { format!("\n{said}\n") };
                made.push_str(&format!("\n## {kind} {name}\n{said}"));
                fields = false;
            }
            ["rpc", ..] => list(made, &mut fields, line.trim_end_matches(';'), &said),
            ["repeated", kind, name, "=", no, ..] => {
                list(made, &mut fields, &format!("{no} {name}: repeated {kind}"), &said);
            }
            [name, "=", no] if *name != "syntax" => list(made, &mut fields, &format!("{no} {name}"), &said),
            [kind, name, "=", no] if *kind != "package" => {
                list(made, &mut fields, &format!("{no} {name}: {kind}"), &said);
            }
            _ => {}
        }
    }
}

fn list(made: &mut String, fields: &mut bool, what: &str, said: &str) {
    if !std::mem::replace(fields, true) {
        made.push('\n');
    }
    let said = if said.is_empty() { said.to_owned() } else { format!(" - {said}") };
    made.push_str(&format!("- `{what}`{said}\n"));
}
