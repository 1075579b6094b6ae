//! The form by which equal requests are known: names sorted, numbers as they were written, and nothing of what only says
//! how the answer travels or for whom it is.

use crate::place::{Kind, Place};

/// What does not change the answer, or differs between two runs of the same program.
const IGNORED: [&str; 4] = ["stream", "stream_options", "user", "metadata"];

/// The canonical form of a request at a path behind `/v1/`. What is no JSON stands for itself.
pub fn canonical(path: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + path.len() + 1);
    out.extend_from_slice(path.as_bytes());
    out.push(b'\n');
    let text = std::str::from_utf8(body).ok();
    match text.and_then(|text| Some((text, Place::of(text).ok()?))) {
        Some((text, place)) => write(&place, text, true, &mut out),
        None => out.extend_from_slice(body),
    }
    out
}

fn write(place: &Place, text: &str, top: bool, out: &mut Vec<u8>) {
    match &place.kind {
        Kind::Object(members) => {
            let mut members: Vec<&(String, Place)> =
                members.iter().filter(|(name, _)| !(top && IGNORED.contains(&name.as_str()))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            list(out, b"{}", members.into_iter(), |(name, value), out| {
                out.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes());
                out.push(b':');
                write(value, text, false, out);
            });
        }
        Kind::Array(items) => list(out, b"[]", items.iter(), |item, out| write(item, text, false, out)),
        // Two ways to escape the same letter are the same text.
        Kind::Text => {
            let plain = place.text(text).unwrap_or_default();
            out.extend_from_slice(serde_json::Value::from(plain).to_string().as_bytes());
        }
        Kind::Other => out.extend_from_slice(place.raw(text).as_bytes()),
    }
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
    fn numbers_are_what_was_written() {
        same(r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false);
        same(r#"{"a":1.0}"#, r#"{"a":1}"#, false);
    }

    #[test]
    fn what_nests_without_end_stands_for_itself() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(canonical("p", deep.as_bytes()).len(), deep.len() + 2);
    }

    #[test]
    fn what_is_no_json_stands_for_itself_and_the_path_belongs_to_it() {
        assert_eq!(canonical("p", &[255, 1]), [b'p', b'\n', 255, 1]);
        assert_ne!(canonical("a", b"{}"), canonical("b", b"{}"));
    }
}
