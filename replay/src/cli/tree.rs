//! An execution as a tree of steps.

use serde_json::Value;

use super::output::text;

pub(crate) fn tree(view: &Value) -> String {
    if view["attempt"].is_number() {
        return program(view);
    }
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

/// A program: its agents with what they asked, its tools, and what was found and done.
fn program(view: &Value) -> String {
    let mut head = format!(
        "{} {} · {}{}",
        text(&view["workflow"]),
        text(&view["id"]),
        text(&view["status"]),
        failure(view)
    );
    head += &format!(" · attempt {}{}{}", view["attempt"], dollars(view), unpriced(view));
    let calls = view["steps"][0]["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    let findings = view["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut parts: Vec<Vec<String>> = agents(calls)
        .into_iter()
        .map(|(agent, calls)| {
            let mut lines = vec![agent_line(&agent, &calls)];
            let of_agent =
                |finding: &&Value| finding["caller"].as_str().is_some_and(|caller| agent_of(caller) == agent);
            lines.extend(findings.iter().filter(of_agent).flat_map(finding_lines));
            lines
        })
        .collect();
    let unknown = findings.iter().filter(|finding| finding["caller"].is_null());
    parts.extend(unknown.map(finding_lines));
    let last = parts.len().saturating_sub(1);
    let mut lines = vec![head];
    for (at, part) in parts.iter().enumerate() {
        for (row, line) in part.iter().enumerate() {
            let branch = match (row, at == last) {
                (0, true) => "└─ ",
                (0, false) => "├─ ",
                (_, true) => "   ",
                (_, false) => "│  ",
            };
            lines.push(format!("{branch}{line}"));
        }
    }
    lines.join("\n")
}

/// Calls by agent, in the order in which agents first asked.
fn agents(calls: &[Value]) -> Vec<(String, Vec<&Value>)> {
    let mut agents: Vec<(String, Vec<&Value>)> = Vec::new();
    for call in calls {
        let agent = agent_of(call["caller"].as_str().unwrap_or_default());
        match agents.iter_mut().find(|(known, _)| *known == agent) {
            Some((_, calls)) => calls.push(call),
            None => agents.push((agent.to_owned(), vec![call])),
        }
    }
    agents
}

/// Without the loop index.
fn agent_of(caller: &str) -> &str {
    caller.rsplit_once('#').map_or(caller, |(agent, _)| agent)
}

fn agent_line(agent: &str, calls: &[&Value]) -> String {
    let of = |kind: &str| calls.iter().filter(|call| call["kind"] == kind).count();
    let sum = |at: usize| calls.iter().filter_map(|call| call["tokens"][at].as_i64()).sum::<i64>();
    let mut line = format!("{agent} · {}", counted(of("model"), "call"));
    if of("tool") > 0 {
        line += &format!(" · {}", counted(of("tool"), "tool call"));
    }
    line += &format!(" · {}→{} tokens", sum(0), sum(1));
    let failed = calls.iter().filter(|call| call["status"] == "failed").count();
    if failed > 0 {
        line += &format!(" · {failed} failed");
    }
    line += &calls.iter().rev().find_map(|call| reason(call)).unwrap_or_default();
    let served = calls.iter().filter(|call| call["served"] == true).count();
    if served > 0 {
        line += &format!(" · {served} served again");
    }
    line
}

/// Why a call has failed, in one line.
fn reason(call: &Value) -> Option<String> {
    let reason = call["reason"].as_str()?.lines().next()?;
    Some(format!(" ({reason})"))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// One call of a model or tool.
pub(super) fn call_line(call: &Value) -> String {
    let mut line = format!("{} · {}", text(&call["caller"]), text(&call["name"]));
    if call["kind"] == "tool" {
        line = format!("{} ⚒ {}", text(&call["caller"]), text(&call["name"]));
    }
    if let (Some(input), Some(output)) = (call["tokens"][0].as_i64(), call["tokens"][1].as_i64()) {
        line += &format!(" · {input}→{output} tokens");
    }
    line += &dollars(call);
    for (flag, word) in [("patched", "patched"), ("condemned", "thrown away"), ("served", "served again")] {
        if call[flag] == true {
            line += &format!(" · {word}");
        }
    }
    if call["status"] == "failed" {
        line += " · failed";
        line += &reason(call).unwrap_or_default();
    }
    line
}

fn dollars(of: &Value) -> String {
    match of["cost_usd"].as_str() {
        None | Some("0") => String::new(),
        Some("unpriced") => " · unpriced".to_owned(),
        Some(cost) => format!(" · ${cost}"),
    }
}

/// What was found, and what was done about it.
pub(super) fn finding_lines(finding: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "✗ {} ({}): {}",
        text(&finding["kind"]),
        text(&finding["detector"]),
        text(&finding["detail"])
    )];
    let chosen = |remedy: &&Value| remedy["number"] == finding["chosen"];
    let remedies = finding["remedies"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let Some(remedy) = remedies.iter().find(chosen) {
        let outcome = match finding["helped"].as_bool() {
            Some(true) => " · ✓ healed",
            Some(false) => " · did not help",
            None => "",
        };
        lines.push(format!("↻ {} ({}){outcome}", text(&remedy["kind"]), remedy["confidence"]));
    } else if finding["dismissed"] == true {
        lines.push("taken as it is".to_owned());
    } else if finding["chosen"].is_null() && finding["severity"] == "fail" {
        for remedy in remedies {
            let said = remedy["text"].as_str().map_or_else(String::new, |text| format!(": {text}"));
            lines.push(format!(
                "? {} {} ({}){said}",
                remedy["number"],
                text(&remedy["kind"]),
                remedy["confidence"]
            ));
        }
    }
    lines
}
