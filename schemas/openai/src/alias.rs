//! The second key of a request: as the first one, with ids that earlier answers have minted renamed to the order in which
//! they appear, and tools sorted by name. One answer that was made anew brings other ids, and without this all later
//! requests of the conversation would be strangers.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::Request;
use crate::canonical::without_what_says_nothing;

/// Members of a conversation's items that hold ids of the provider.
const IDS: [&str; 3] = ["id", "call_id", "tool_call_id"];

/// The second key; nothing where it says no more than the first one.
pub fn second_key(request: &Request<'_>) -> Option<Vec<u8>> {
    let mut body = without_what_says_nothing(request.body)?;
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let conversation = request.endpoint.conversation();
    for item in body.get_mut(conversation).and_then(Value::as_array_mut).into_iter().flatten() {
        rename(item, &mut names);
        for call in item.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            rename(call, &mut names);
        }
    }
    let sorted = sort_tools(&mut body);
    if names.is_empty() && !sorted {
        return None;
    }
    // Names of objects are sorted by their map, numbers are kept as they were written.
    let mut out = Vec::with_capacity(request.body.len());
    out.extend_from_slice(request.endpoint.path().as_bytes());
    out.push(b'\n');
    serde_json::to_writer(&mut out, &SortedNames(&body)).ok()?;
    Some(out)
}

/// Ids of answers alone: what a program has named itself says something.
fn rename(item: &mut Value, names: &mut BTreeMap<String, usize>) {
    for member in IDS {
        let Some(Value::String(id)) = item.get_mut(member) else { continue };
        let next = names.len();
        let number = *names.entry(std::mem::take(id)).or_insert(next);
        *id = format!("#{number}");
    }
}

/// Lists of tools come from sets and maps of programs whose order means nothing. Says whether there was one to sort.
fn sort_tools(body: &mut Value) -> bool {
    let Some(tools) = body.get_mut("tools").and_then(Value::as_array_mut) else { return false };
    let name = |tool: &Value| {
        let function = if tool["function"].is_object() { &tool["function"] } else { tool };
        function["name"].as_str().unwrap_or_default().to_owned()
    };
    tools.sort_by_cached_key(|tool| (name(tool), tool.to_string()));
    tools.len() > 1
}

/// A value as it is written with the names of its objects sorted; nothing of it is copied.
struct SortedNames<'a>(&'a Value);

impl Serialize for SortedNames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
                sorted.sort_unstable_by_key(|(name, _)| *name);
                serializer.collect_map(sorted.into_iter().map(|(name, value)| (name, SortedNames(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(SortedNames)),
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn key(body: &str) -> Option<Vec<u8>> {
        second_key(&Request::read(Endpoint::Chat, body.as_bytes()).unwrap())
    }

    fn turn(id: &str, city: &str) -> String {
        format!(
            r#"{{"model":"m","messages":[{{"role":"assistant","tool_calls":[{{"id":"{id}","type":"function",
            "function":{{"name":"look","arguments":"{city}"}}}}]}},{{"role":"tool","tool_call_id":"{id}","content":"5"}}]}}"#
        )
    }

    #[test]
    fn names_are_sorted_and_numbers_stay_as_they_were_written() {
        let said = key(
            r#"{"z":{"b":1.0,"a":[{"d":9007199254740993,"c":"ü\n"}]},"messages":[{"id":"x","role":"user"}],"user":"u"}"#,
        );
        let text = "chat/completions\n{\"messages\":[{\"id\":\"#0\",\"role\":\"user\"}],\"z\":{\"a\":[{\"c\":\"ü\\n\",\"d\":9007199254740993}],\"b\":1.0}}";
        assert_eq!(String::from_utf8(said.unwrap()).unwrap(), text);
    }

    #[test]
    fn another_id_of_the_same_call_is_the_same_request_and_anything_else_is_not() {
        assert_eq!(key(&turn("call_a", "Rome")), key(&turn("call_b", "Rome")));
        assert_ne!(key(&turn("call_a", "Rome")), key(&turn("call_a", "Oslo")));
        let crossed = turn("call_a", "Rome").replacen("call_a", "call_b", 1);
        assert_ne!(key(&turn("call_a", "Rome")), key(&crossed), "a result of another call");
    }

    #[test]
    fn the_order_of_tools_says_nothing() {
        let tools = |one: &str, two: &str| {
            format!(
                r#"{{"messages":[],"tools":[{{"function":{{"name":"{one}"}}}},{{"function":{{"name":"{two}"}}}}]}}"#
            )
        };
        assert_eq!(key(&tools("a", "b")), key(&tools("b", "a")));
        assert_ne!(key(&tools("a", "b")), key(&tools("a", "c")));
    }

    #[test]
    fn a_request_without_ids_and_tools_has_no_second_key() {
        assert_eq!(key(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#), None);
    }
}
