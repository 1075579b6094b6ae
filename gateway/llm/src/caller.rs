//! Who asks: as the program's instrumentation says, else as the request shows.

use axum::http::HeaderMap;
use omium_openai::Request;
use omium_schemas::Digest;

/// The longest name of a caller, in bytes.
const LONGEST: usize = 256;

/// An agent's name, with and without its loop index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) agent: String,
    pub(crate) caller: String,
}

/// Reads `x-omium-step`; without it the name of the first message, then the digest of the instructions tell agents apart.
pub(crate) fn name<E>(
    headers: &HeaderMap,
    request: &Request<'_>,
    digest: impl Fn(&[u8]) -> Result<Digest, E>,
) -> Result<Name, E> {
    let told = headers.get("x-omium-step").and_then(|value| value.to_str().ok());
    if let Some(name) = told.and_then(named) {
        return Ok(name);
    }
    if let Some(name) = request.speaker().and_then(|speaker| named(&speaker)) {
        return Ok(name);
    }
    let agent = match request.instructions() {
        Some(instructions) => format!("agent-{}", &digest(instructions.as_bytes())?.hex()[..8]),
        None => "unnamed".to_owned(),
    };
    Ok(Name { caller: format!("{agent}#0"), agent })
}

/// The longest position, in bytes.
const POSITION: usize = 128;

/// Reads `x-omium-position`: where in its framework's own count a program stands. What is too long says nothing.
pub(crate) fn position(headers: &HeaderMap) -> Option<String> {
    let told = headers.get("x-omium-position").and_then(|value| value.to_str().ok())?;
    fitting(&decoded(told))
}

/// The same as a tool's caller says it.
pub(crate) fn fitting(position: &str) -> Option<String> {
    let position = position.trim();
    let fits = !position.is_empty() && position.len() <= POSITION && !position.contains(char::is_control);
    fits.then(|| position.to_owned())
}

/// The agent of a name that may carry a loop index.
pub(crate) fn agent_of(caller: &str) -> &str {
    match caller.rsplit_once('#') {
        Some((agent, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
            agent.trim()
        }
        _ => caller,
    }
}

/// `Writer#2`, percent-encoded.
fn named(text: &str) -> Option<Name> {
    let text = decoded(text);
    let text = text.trim();
    let (agent, index) = match text.rsplit_once('#') {
        Some((agent, index)) if !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit()) => {
            (agent.trim(), index)
        }
        _ => (text, "0"),
    };
    let fits = !agent.is_empty() && agent.len() + index.len() < LONGEST && !agent.contains(char::is_control);
    fits.then(|| Name { agent: agent.to_owned(), caller: format!("{agent}#{index}") })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use omium_openai::Endpoint;

    use super::*;

    #[track_caller]
    fn check(header: Option<&str>, body: &str, expected: (&str, &str)) {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("x-omium-step", HeaderValue::from_str(header).unwrap());
        }
        let request = Request::read(Endpoint::Chat, body.as_bytes()).unwrap();
        let name = name(&headers, &request, |bytes| Ok::<_, ()>(Digest::of(bytes))).unwrap();
        assert_eq!((name.agent.as_str(), name.caller.as_str()), expected);
    }

    #[test]
    fn the_header_says_it_with_or_without_an_index() {
        check(Some("Writer#2"), "{}", ("Writer", "Writer#2"));
        check(Some("Senior%20Writer%20"), "{}", ("Senior Writer", "Senior Writer#0"));
        check(Some("Sch%C3%B6n%23x#1"), "{}", ("Schön#x", "Schön#x#1"));
    }

    #[test]
    fn without_it_the_request_shows_who_asks() {
        check(
            None,
            r#"{"messages":[{"role":"user","name":"Critic","content":"x"}]}"#,
            ("Critic", "Critic#0"),
        );
        check(None, "{}", ("unnamed", "unnamed#0"));
        check(Some("%00"), "{}", ("unnamed", "unnamed#0"));
        let digest = Digest::of(b"\"You write.\"").hex();
        let agent = format!("agent-{}", &digest[..8]);
        let body = r#"{"messages":[{"role":"system","content":"You write."}]}"#;
        check(None, body, (&agent, &format!("{agent}#0")));
    }
}
