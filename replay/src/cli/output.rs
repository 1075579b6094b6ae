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

/// `-` is standard input, `@file` a file, all else JSON itself; what is no JSON counts as a text.
pub(super) fn value(text: &str) -> Result<Value, Trouble> {
    let read = |place: &str, outcome: std::io::Result<String>| {
        outcome.map_err(|error| Trouble::Here(format!("{place} cannot be read: {error}")))
    };
    let text = match text.strip_prefix('@') {
        _ if text == "-" => read("standard input", std::io::read_to_string(std::io::stdin()))?,
        Some(file) => read(file, std::fs::read_to_string(file))?,
        None => text.to_owned(),
    };
    if matches!(text.trim_start().chars().next(), Some('{' | '[')) {
        return serde_json::from_str(&text)
            .map_err(|error| Trouble::Here(format!("this is not JSON: {error}")));
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
