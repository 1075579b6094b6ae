//! A request as it came, and what the gate has to know of it.

use serde_json::Value;

use crate::Endpoint;
use crate::canonical::{SECRETS, TOOLS, canonical_of, is_checksum, without_checksum};
use crate::place::{Bad, Kind, Place};

/// A request whose parts are known by their places.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The body as it came.
    pub body: &'a str,
    /// Its parts.
    pub place: Place,
}

impl<'a> Request<'a> {
    /// Reads a body. It has to be a JSON object; what stands in it is the provider's business.
    pub fn read(endpoint: Endpoint, body: &'a [u8]) -> Result<Request<'a>, Bad> {
        let body = std::str::from_utf8(body)
            .map_err(|why| Bad(format!("the body is not UTF-8: byte {} is wrong", why.valid_up_to())))?;
        let place = Place::of(body)?;
        if !place.is_object() {
            return Err(Bad("the body is JSON, but no object".to_owned()));
        }
        Ok(Request { endpoint, body, place })
    }

    /// The canonical form, without reading the body once more.
    pub fn canonical(&self) -> Vec<u8> {
        canonical_of(self.endpoint.path(), self.body, &self.place)
    }

    /// The model, as the client names it.
    pub fn model(&self) -> Option<String> {
        self.place.get("model")?.text(self.body)
    }

    /// How many tokens the answers may have together; `each` where the request does not limit them. A number that is none
    /// limits nothing.
    pub fn most_tokens(&self, each: u64) -> u64 {
        let number = |name: &str| {
            let text = self.place.get(name)?.raw(self.body);
            (text != "null").then(|| text.parse::<u64>().unwrap_or(u64::MAX))
        };
        let names = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
        let most = names.into_iter().find_map(number).unwrap_or(each);
        let choices = number("n").unwrap_or(1).max(number("best_of").unwrap_or(1)).max(1);
        let prompts = match self.endpoint {
            Endpoint::Completions => self.messages().len().max(1) as u64,
            Endpoint::Embeddings => return 0,
            Endpoint::Chat | Endpoint::Responses => 1,
        };
        most.saturating_mul(choices).saturating_mul(prompts)
    }

    /// Whether the answer is to come in parts.
    pub fn streams(&self) -> bool {
        self.place.get("stream").is_some_and(|place| place.raw(self.body) == "true")
    }

    /// Whether the client wants to be told at the end of a stream what was used.
    pub fn wants_usage(&self) -> bool {
        let options = self.place.get("stream_options");
        options
            .and_then(|options| options.get("include_usage"))
            .is_some_and(|place| place.raw(self.body) == "true")
    }

    /// The messages of the conversation, each as it stands in the body. A conversation that is one text is one message.
    pub fn messages(&self) -> Vec<&'a str> {
        let Some(conversation) = self.place.get(self.endpoint.conversation()) else { return Vec::new() };
        match conversation.items() {
            [] => vec![conversation.raw(self.body)],
            items => items.iter().map(|item| item.raw(self.body)).collect(),
        }
    }

    /// The request without its messages: what else it says, with an empty list in their place, and with credentials of
    /// tools taken out.
    pub fn parameters(&self) -> String {
        let mut changes: Vec<(usize, usize, &str)> = Vec::new();
        match self.place.get(self.endpoint.conversation()) {
            Some(place) if place.items().is_empty() => changes.push((place.start, place.end, "null")),
            Some(place) => changes.push((place.start, place.end, "[]")),
            None => {}
        }
        for tool in TOOLS.iter().filter_map(|tools| self.place.get(tools)).flat_map(Place::items) {
            let Kind::Object(members) = &tool.kind else { continue };
            let secret = members.iter().filter(|(name, _)| SECRETS.contains(&name.as_str()));
            changes.extend(secret.map(|(_, place)| (place.start, place.end, "\"(removed)\"")));
        }
        changes.sort_unstable();
        let (mut out, mut from) = (String::with_capacity(self.body.len()), 0);
        for (start, end, instead) in changes.into_iter().filter(|(start, end, _)| start <= end) {
            out.push_str(self.body.get(from..start).unwrap_or_default());
            out.push_str(instead);
            from = end;
        }
        out.push_str(self.body.get(from..).unwrap_or_default());
        out
    }

    /// Who speaks, where the program does not say: the name that the first message carries.
    pub fn speaker(&self) -> Option<String> {
        let first = self.place.get("messages")?.items().first()?;
        first.get("name")?.text(self.body).filter(|name| !name.trim().is_empty())
    }

    /// The first system message, which tells unnamed agents apart. What a client says there about one request alone is
    /// passed over.
    pub fn instructions(&self) -> Option<String> {
        if self.endpoint == Endpoint::Responses {
            return self.place.get("instructions")?.text(self.body);
        }
        let messages = self.place.get(self.endpoint.conversation())?.items();
        let mut said = messages.iter().filter(|message| self.instructs(message));
        said.find_map(|message| self.lasting(message.get("content")?))
    }

    /// A content as it stands, without blocks of one request alone; nothing where nothing else is in it.
    fn lasting(&self, content: &Place) -> Option<String> {
        let text = |place: &Place| place.text(self.body).filter(|text| is_checksum(text));
        let blocks = content.items();
        let checksums: Vec<&Place> =
            blocks.iter().filter(|block| block.get("text").and_then(text).is_some()).collect();
        match (text(content), checksums.as_slice()) {
            (Some(said), _) => without_checksum(&said).map(str::to_owned),
            (None, []) => Some(content.raw(self.body).to_owned()),
            (None, _) => {
                let left = blocks.iter().filter(|block| !checksums.contains(block));
                let left: String = left.map(|block| block.raw(self.body)).collect();
                Some(left).filter(|left| !left.is_empty())
            }
        }
    }

    pub(crate) fn instructs(&self, message: &Place) -> bool {
        let role = message.get("role").and_then(|role| role.text(self.body));
        matches!(role.as_deref(), Some("system" | "developer"))
    }

    /// Whether a schema for the answer may be added: there is none yet, and the operation knows such a thing.
    pub fn takes_schema(&self) -> bool {
        self.endpoint == Endpoint::Chat && self.place.get("response_format").is_none()
    }
}

/// What a request wants of its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// It has to be JSON.
    pub json: bool,
    /// The schema that it has to fit.
    pub schema: Option<Value>,
    /// The tools that it may call, with the schemas of their arguments.
    pub tools: Vec<(String, Value)>,
    /// No answer at all: the request is there to make the next ones cheaper.
    pub nothing: bool,
}

impl Wanted {
    /// Reads it from a request, with or without its messages.
    pub fn of(request: &Value) -> Wanted {
        let format = match &request["response_format"] {
            format @ Value::Object(_) => format,
            _ => &request["text"]["format"],
        };
        let kind = format["type"].as_str();
        let schema = [&format["json_schema"]["schema"], &format["schema"]]
            .into_iter()
            .find(|schema| schema.is_object());
        let tools = request["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
        Wanted {
            json: matches!(kind, Some("json_object" | "json_schema")),
            schema: schema.filter(|_| kind == Some("json_schema")).cloned(),
            tools: tools.iter().filter_map(tool).collect(),
            nothing: crate::ends::asks_for_nothing(request),
        }
    }
}

fn tool(tool: &Value) -> Option<(String, Value)> {
    let function = if tool["function"].is_object() { &tool["function"] } else { tool };
    Some((function["name"].as_str()?.to_owned(), function["parameters"].clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_was_read_has_the_canonical_form_of_its_body() {
        let body =
            r#"{ "b" : "\u00fc\n", "messages":[{"role":"user","content":"a\/b"}], "stream":true, "a":1.0 }"#;
        let request = Request::read(Endpoint::Chat, body.as_bytes()).unwrap();
        let form = request.canonical();
        assert_eq!(form, crate::canonical(Endpoint::Chat.path(), body.as_bytes()));
        let text = "2 chat/completions\n{\"a\":1.0,\"b\":\"ü\\n\",\"messages\":[{\"content\":\"a/b\",\"role\":\"user\"}]}";
        assert_eq!(String::from_utf8(form).unwrap(), text);
    }

    #[test]
    fn what_is_kept_of_a_request_has_no_messages_and_no_credentials() {
        let body = r#"{"tools":[{"type":"mcp","authorization":"planted-1","headers":{"x":"planted-2"}}],"messages":[{"content":"hi"}],"a":1}"#;
        let kept = Request::read(Endpoint::Chat, body.as_bytes()).unwrap().parameters();
        assert_eq!(
            kept,
            r#"{"tools":[{"type":"mcp","authorization":"(removed)","headers":"(removed)"}],"messages":[],"a":1}"#
        );
    }

    #[test]
    fn the_longest_answer_counts_all_choices() {
        let most = |body: &str| Request::read(Endpoint::Chat, body.as_bytes()).unwrap().most_tokens(100);
        assert_eq!(most(r#"{"max_tokens":10,"n":3}"#), 30);
        assert_eq!(most(r#"{"max_completion_tokens":7}"#), 7);
        assert_eq!(most(r#"{"n":128}"#), 12_800);
        assert_eq!(most(r#"{"max_tokens":null}"#), 100);
        assert_eq!(most(r#"{"max_tokens":1e5}"#), u64::MAX, "what is no number of tokens limits nothing");
        let prompts = r#"{"prompt":["a","b","c"],"max_tokens":5,"best_of":2}"#;
        let request = Request::read(Endpoint::Completions, prompts.as_bytes()).unwrap();
        assert_eq!(request.most_tokens(100), 30);
    }
}
