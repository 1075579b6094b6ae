//! What is printed: text for people, one JSON document for programs.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

use super::connection::Trouble;

/// Prints to stdout. Whoever reads may stop reading, as `head` does; that is no failure.
pub(super) fn print(text: &str) {
    raw(format!("{text}\n").as_bytes());
}

/// Prints bytes as they are.
pub(super) fn raw(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            // What could not be said may have been a key that is said once: nobody may take this for a success.
            let _ = writeln!(std::io::stderr(), "error: standard output cannot be written: {error}");
            std::process::exit(74);
        }
        _ => {}
    }
}

pub(super) fn document(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Columns as wide as what stands in them; plain, and never cut.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

/// Whether colours and lines that are drawn again make sense.
pub(super) fn lively() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text of a file here.
pub(super) fn read_file(file: &str) -> Result<String, Trouble> {
    let bytes = std::fs::read(file).map_err(|error| unread(file, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let (line, column) = place(&String::from_utf8_lossy(before));
        Trouble::Here(format!("{file}:{line}:{column}: this is not UTF-8; save the file as UTF-8"))
    })
}

fn unread(place: &str, error: &std::io::Error) -> Trouble {
    Trouble::Here(format!("{place} cannot be read: {error}"))
}

/// Line and column behind a text.
fn place(before: &str) -> (usize, usize) {
    let last = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, last.chars().count() + 1)
}

/// `-` is standard input, `@file` a file, all else JSON itself; what is no JSON counts as a text.
pub(super) fn value(text: &str) -> Result<Value, Trouble> {
    let (name, text) = match text.strip_prefix('@') {
        _ if text == "-" => {
            let read = std::io::read_to_string(std::io::stdin());
            (Some("standard input"), read.map_err(|error| unread("standard input", &error))?)
        }
        Some(file) => (Some(file), read_file(file)?),
        None => (None, text.to_owned()),
    };
    if matches!(text.trim_start().chars().next(), Some('{' | '[')) {
        return serde_json::from_str(&text).map_err(|error| {
            let (name, why) = (name.unwrap_or("the argument"), error.to_string());
            // It names its place at the end, and not as files are named.
            let why = why.split(" at line ").next().unwrap_or_default();
            Trouble::Here(format!("{name}:{}:{}: this is not JSON: {why}", error.line(), error.column()))
        });
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
