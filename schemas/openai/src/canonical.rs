//! The form by which equal requests are known: names sorted, numbers as they were written, and nothing of what only says
//! how the answer travels or for whom it is.

use crate::place::{Kind, Place};

/// The version of the lists below, which stands in each key: another list is another version.
const CANONICAL: &str = "2 ";

/// What does not change the answer, or differs between two runs of the same program.
const IGNORED: [&str; 11] = [
    "background",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "stream",
    "stream_options",
    "user",
    "diagnostics",
];

/// Members of a tool that hold credentials: short-lived, and nobody's business.
pub(crate) const SECRETS: [&str; 3] = ["authorization", "authorization_token", "headers"];

/// Where tools with credentials are listed.
pub(crate) const TOOLS: [&str; 2] = ["tools", "mcp_servers"];

/// With this a client begins a system message that holds a checksum of the request: another one each time.
const CHECKSUM: &str = "x-anthropic-billing-header:";

pub(crate) fn is_checksum(text: &str) -> bool {
    text.trim_start().starts_with(CHECKSUM)
}

/// What stands behind the line of the checksum, where something does.
pub(crate) fn without_checksum(text: &str) -> Option<&str> {
    let (_, rest) = text.trim_start().split_once('\n')?;
    Some(rest.trim_start()).filter(|rest| !rest.is_empty())
}

/// A body as a value, without what is no part of a key.
pub(crate) fn without_what_says_nothing(body: &str) -> Option<serde_json::Value> {
    let mut body = omium_limits::json::parse(body.as_bytes(), &crate::answer::LIMITS).ok()?;
    body.as_object_mut()?.retain(|name, _| !IGNORED.contains(&name.as_str()));
    for tools in TOOLS {
        let listed = body.get_mut(tools).and_then(serde_json::Value::as_array_mut);
        for tool in listed.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
            tool.retain(|name, _| !SECRETS.contains(&name.as_str()));
        }
    }
    Some(body)
}

/// The canonical form of a request at a path behind `/v1/`. What is no JSON stands for itself.
pub fn canonical(path: &str, body: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(body).ok();
    if let Some((text, place)) = text.and_then(|text| Some((text, Place::of(text).ok()?))) {
        return canonical_of(path, text, &place);
    }
    let mut out = begun(path, body.len());
    out.extend_from_slice(body);
    out
}

/// The same for a body whose parts are known already.
pub(crate) fn canonical_of(path: &str, body: &str, place: &Place) -> Vec<u8> {
    let mut out = begun(path, body.len());
    write(place, body, Level::Body, &mut out);
    out
}

fn begun(path: &str, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(CANONICAL.len() + path.len() + 1 + length);
    out.extend_from_slice(CANONICAL.as_bytes());
    out.extend_from_slice(path.as_bytes());
    out.push(b'\n');
    out
}

/// How deep a value lies: what is left out is left out at its own place alone.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Body,
    Tools,
    Tool,
    Messages,
    Message,
    /// What instructs a model.
    System,
    Other,
}

impl Level {
    fn leaves_out(self, name: &str) -> bool {
        match self {
            Level::Body => IGNORED.contains(&name),
            Level::Tool => SECRETS.contains(&name),
            _ => false,
        }
    }

    fn below(self, name: &str) -> Level {
        match (self, name) {
            (Level::Body, name) if TOOLS.contains(&name) => Level::Tools,
            (Level::Body, "messages" | "input") => Level::Messages,
            (Level::Body, "system") | (Level::System, "content" | "text") => Level::System,
            _ => Level::Other,
        }
    }
}

/// The canonical form of a tool call. Whoever calls the tool, the same call has the same form.
pub fn canonical_tool(tool: &str, arguments: &serde_json::Value) -> Vec<u8> {
    let call = serde_json::json!({ "arguments": arguments, "tool": tool });
    canonical("tool", call.to_string().as_bytes())
}

fn write(place: &Place, text: &str, level: Level, out: &mut Vec<u8>) {
    match &place.kind {
        Kind::Object(members) => {
            let instructs = level == Level::Message && is_system(place, text);
            let level = if instructs { Level::System } else { level };
            let mut members: Vec<&(String, Place)> =
                members.iter().filter(|(name, _)| !level.leaves_out(name)).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            list(out, b"{}", members.into_iter(), |(name, value), out| {
                write_text(name, out);
                out.push(b':');
                write(value, text, level.below(name), out);
            });
        }
        Kind::Array(items) => {
            let level = match level {
                Level::Tools => Level::Tool,
                Level::Messages => Level::Message,
                Level::System => Level::System,
                _ => Level::Other,
            };
            list(out, b"[]", items.iter(), |item, out| write(item, text, level, out));
        }
        // Two ways to escape the same letter are the same text.
        Kind::Text => {
            let plain = place.text(text).unwrap_or_default();
            let lasting = level != Level::System || !is_checksum(&plain);
            let plain = if lasting { plain.as_str() } else { without_checksum(&plain).unwrap_or_default() };
            write_text(plain, out);
        }
        Kind::Other => out.extend_from_slice(place.raw(text).as_bytes()),
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing to memory does not fail, and a text is always JSON.
    let _ = serde_json::to_writer(out, text);
}

fn is_system(message: &Place, text: &str) -> bool {
    let role = message.get("role").and_then(|role| role.text(text));
    matches!(role.as_deref(), Some("system" | "developer"))
}

fn list<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(brackets[0]);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        each(item, out);
    }
    out.push(brackets[1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(one: &str, other: &str, expected: bool) {
        let [one, other] = [one, other].map(|body| canonical("chat/completions", body.as_bytes()));
        assert_eq!(one == other, expected, "{}", String::from_utf8_lossy(&one));
    }

    #[test]
    fn order_spacing_escapes_and_how_the_answer_travels_do_not_matter() {
        same(r#"{"a":1,"b":"ü"}"#, r#"{ "b" : "\u00fc", "a":1, "stream":true, "user":"x" }"#, true);
        same(r#"{"a":{"stream":true}}"#, r#"{"a":{}}"#, false);
    }

    #[test]
    fn credentials_of_tools_and_hints_about_caches_are_no_part_of_a_key() {
        same(
            r#"{"tools":[{"type":"mcp","authorization":"a","headers":{"x":"1"}}],"prompt_cache_key":"s1"}"#,
            r#"{"tools":[{"type":"mcp"}],"safety_identifier":"u"}"#,
            true,
        );
        same(r#"{"headers":1}"#, r#"{}"#, false);
        same(r#"{"tools":[{"function":{"headers":1}}]}"#, r#"{"tools":[{"function":{}}]}"#, false);
    }

    #[test]
    fn a_checksum_of_the_request_in_its_own_instructions_is_no_part_of_a_key() {
        let header = |sum: &str| format!("x-anthropic-billing-header: cc_version=2; cch={sum};");
        let asked = |role: &str, sum: &str, rest: &str| {
            let text = serde_json::Value::from(header(sum) + rest);
            format!(
                r#"{{"messages":[{{"role":"{role}","content":{text}}},{{"role":"user","content":"x"}}]}}"#
            )
        };
        same(&asked("system", "aaaaa", "\nBe brief."), &asked("system", "bbbbb", "\nBe brief."), true);
        same(&asked("system", "aaaaa", "\nBe brief."), &asked("system", "aaaaa", "\nBe long."), false);
        same(&asked("user", "aaaaa", ""), &asked("user", "bbbbb", ""), false);
        let blocks = |sum: &str| {
            let text = serde_json::Value::from(header(sum));
            format!(r#"{{"system":[{{"type":"text","text":{text}}},{{"type":"text","text":"Be brief."}}]}}"#)
        };
        same(&blocks("aaaaa"), &blocks("bbbbb"), true);
    }

    #[test]
    fn numbers_are_what_was_written() {
        same(r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false);
        same(r#"{"a":1.0}"#, r#"{"a":1}"#, false);
    }

    #[test]
    fn what_nests_without_end_stands_for_itself() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(canonical("p", deep.as_bytes()).len(), deep.len() + "2 p\n".len());
    }

    #[test]
    fn what_is_no_json_stands_for_itself_and_the_path_belongs_to_it() {
        assert_eq!(canonical("p", &[255, 1]), [b'2', b' ', b'p', b'\n', 255, 1]);
        assert_ne!(canonical("a", b"{}"), canonical("b", b"{}"));
    }
}
