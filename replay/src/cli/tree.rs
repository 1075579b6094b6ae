//! An execution as a tree of steps.

use serde_json::Value;

use super::output::text;

pub(crate) fn tree(view: &Value) -> String {
    let mut lines = vec![format!(
        "{} {} · {}{}",
        text(&view["workflow"]),
        text(&view["id"]),
        text(&view["status"]),
        failure(view)
    )];
    let steps = view["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (at, step) in steps.iter().enumerate() {
        let branch = if at + 1 == steps.len() { "└─" } else { "├─" };
        let mut line = format!(
            "{branch} {} {} · {}",
            sign(&step["status"]),
            text(&step["agent"]),
            text(&step["status"])
        );
        if step["attempts"].as_i64().unwrap_or_default() > 1 {
            line += &format!(" · attempt {}", step["attempts"]);
        }
        if step["cost_usd"].as_str().is_some_and(|cost| cost != "0") {
            line += &format!(" · ${}", text(&step["cost_usd"]));
        }
        line += &unpriced(step);
        line += &failure(step);
        lines.push(line);
    }
    lines.join("\n")
}

fn sign(status: &Value) -> &'static str {
    match status.as_str().unwrap_or_default() {
        "done" => "✓",
        "failed" => "✗",
        "running" | "waiting" => "▸",
        "asking" => "?",
        _ => "·",
    }
}

/// Calls without a price: what they cost is in no sum.
pub(super) fn unpriced(of: &Value) -> String {
    match of["unpriced_calls"].as_u64() {
        None | Some(0) => String::new(),
        Some(1) => " · 1 unpriced call".to_owned(),
        Some(many) => format!(" · {many} unpriced calls"),
    }
}

fn failure(of: &Value) -> String {
    match (of["failure"].as_str(), of["reason"].as_str()) {
        (Some(class), Some(reason)) => format!(" ({class}: {reason})"),
        (Some(class), None) => format!(" ({class})"),
        _ => String::new(),
    }
}
