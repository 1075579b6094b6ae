//! The one form of a request that its digest is made of, however a client writes it.

use std::collections::BTreeMap;

use serde_json::Value;

/// What changes nothing about the answer.
const WITHOUT: &[&str] = &["stream", "stream_options", "user", "metadata"];

/// Sorted keys, numbers as text, without what changes nothing about the answer.
pub fn canonical(request: &Value) -> Vec<u8> {
    let mut out = String::new();
    match request {
        Value::Object(entries) => {
            object(entries.iter().filter(|(key, _)| !WITHOUT.contains(&key.as_str())), &mut out);
        }
        other => write(other, &mut out),
    }
    out.into_bytes()
}

fn write(value: &Value, out: &mut String) {
    match value {
        // As text, so that 1.0 that went through a client's floats is told from 1, and 64 bits survive.
        Value::Number(number) => {
            out.push('#');
            out.push_str(&number.to_string());
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(entries) => object(entries.iter(), out),
        other => out.push_str(&other.to_string()),
    }
}

fn object<'v>(entries: impl Iterator<Item = (&'v String, &'v Value)>, out: &mut String) {
    out.push('{');
    for (key, value) in entries.collect::<BTreeMap<_, _>>() {
        out.push_str(&Value::from(key.as_str()).to_string());
        out.push(':');
        write(value, out);
        out.push(',');
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::canonical;

    #[test]
    fn what_changes_nothing_about_the_answer_changes_nothing_about_the_request() {
        let plain = json!({"model": "m", "messages": [{"role": "user", "content": "1"}]});
        let mut streamed = plain.clone();
        for key in ["stream", "user", "metadata"] {
            streamed[key] = "x".into();
        }
        assert_eq!(canonical(&plain), canonical(&streamed));
        let mut other = plain.clone();
        other["messages"][0]["content"] = 1.into();
        assert_ne!(canonical(&plain), canonical(&other));
        other["messages"][0]["content"] = "#1".into();
        assert_ne!(canonical(&plain), canonical(&other));
    }
}
