//! Tools behind HTTP.

use std::error::Error;
use std::time::Duration;

use omium_limits::{Limits, Room, json, told};
use omium_schemas::catalogue::{EffectClass, ToolErrorClass};
use omium_telemetry::Work;
use omium_workflow::{Part, Template};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Map, Value, json};

use super::address::{Private, PrivateAddress};
use super::secret::{Used, Written};
use super::shape::{Shape, known, mapping, text};
use super::toolbox::{Called, Context, Invocation};
use crate::native::Ask;

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
/// How much of an error's body the model is told.
const REASON: usize = 1_000;
const MOST_REASON: usize = 4_000;
/// How long a URL may be, and all headers and the body together.
const MOST_URL: usize = 64 << 10;
const MOST_REQUEST: usize = 16 << 20;
/// What an answer may cost once it is built.
const LIMITS: Limits = Limits { bytes: 16 << 20, nodes: 1_000_000, memory: 128 << 20, ..Limits::VALUES };

/// A request with placeholders.
#[derive(Debug)]
pub(super) struct Http {
    method: Method,
    url: Vec<Part>,
    headers: Vec<(HeaderName, Written)>,
    body: Option<Written>,
    private: Private,
    max_bytes: usize,
}

/// A request that is ready to be sent.
struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
}

impl Http {
    pub(super) fn read(entries: &Map<String, Value>, shape: &Shape) -> Result<Http, String> {
        known(entries, &["method", "url", "headers", "body"], "`http`")?;
        let method = text(entries, "method")?.unwrap_or_else(|| "GET".to_owned()).to_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return Err(format!("`method: {}` is not one of {}", told(&method), METHODS.join(", ")));
        }
        let url = url(&text(entries, "url")?.ok_or("`http` needs a `url`")?)?;
        let mut headers = Vec::new();
        for (name, value) in mapping(entries, "headers")?.unwrap_or_default() {
            let parsed = HeaderName::try_from(name.as_str())
                .map_err(|_| format!("`{}` is no header's name", told(&name)))?;
            headers.push((parsed, Written::read(&value)?));
        }
        Ok(Http {
            method: Method::from_bytes(method.as_bytes()).map_err(|why| why.to_string())?,
            url,
            headers,
            body: entries.get("body").map(Written::read).transpose()?,
            private: shape.private.clone(),
            max_bytes: shape.max_bytes,
        })
    }

    /// What it needs of the machine. Its host is written out before the first placeholder.
    pub(super) fn asks(&self) -> Vec<Ask<'_>> {
        let secrets = self.headers.iter().map(|(_, value)| value).chain(&self.body);
        let secrets = secrets.flat_map(Written::secrets).map(Ask::Secret);
        let url = match self.url.first() {
            Some(Part::Literal(first)) => first.parse::<Url>().ok(),
            _ => None,
        };
        let private = url.filter(|url| self.private.asks(url)).map(Ask::Private);
        secrets.chain(private).collect()
    }

    /// What its method means, where the definition does not say it.
    pub(super) fn effect(&self) -> EffectClass {
        match self.method.as_str() {
            "GET" | "HEAD" => EffectClass::Read,
            "PUT" | "DELETE" => EffectClass::Idempotent,
            _ => EffectClass::Write,
        }
    }

    /// The arguments that its placeholders name, for definitions without `parameters`.
    pub(super) fn guessed_parameters(&self) -> Value {
        let path = |part: &Part| match part {
            Part::Path(path) => path.get(1).cloned(),
            Part::Literal(_) => None,
        };
        let in_headers = self.headers.iter().flat_map(|(_, value)| value.arguments());
        let in_body = self.body.iter().flat_map(Written::arguments);
        let mut names: Vec<String> =
            self.url.iter().filter_map(path).chain(in_headers).chain(in_body).collect();
        names.sort();
        names.dedup();
        let properties: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({}))).collect();
        json!({"type": "object", "properties": properties, "required": names})
    }

    pub(super) async fn call(
        &self,
        invocation: &Invocation,
        context: &Context<'_>,
        within: Duration,
    ) -> Called {
        let mut used = Used::default();
        let request = match self.request(invocation, context, &mut used) {
            Ok(request) => request,
            Err(reason) => {
                return Called::failed(
                    ToolErrorClass::InvalidArguments,
                    used.taken_out_of(&reason, MOST_REASON),
                );
            }
        };
        match self.send(request, invocation.effect, within, context).await {
            Ok(response) => self.answer(response, invocation.effect, &used).await,
            Err(called) => called,
        }
    }

    fn request(
        &self,
        invocation: &Invocation,
        context: &Context<'_>,
        used: &mut Used,
    ) -> Result<Request, String> {
        let scope = json!({"inputs": invocation.arguments, "input": invocation.arguments});
        let (mut url, mut room) = (String::new(), Room::of(MOST_URL));
        for part in &self.url {
            match part {
                Part::Literal(literal) => url.push_str(literal),
                Part::Path(_) => url.push_str(&encoded(&filled(part, &scope, &mut room)?)),
            }
            if url.len() > MOST_URL {
                return Err(format!("the URL gets longer than {MOST_URL} bytes"));
            }
        }
        let room = &mut Room::of(MOST_REQUEST);
        let url: Url = url.parse().map_err(|why| format!("the URL cannot be read: {why}"))?;
        let mut headers = HeaderMap::new();
        for (name, written) in &self.headers {
            let text = plain(written.fill(&scope, &context.grants.secrets, used, room)?);
            let mut value =
                HeaderValue::try_from(text).map_err(|_| format!("header `{name}` holds a line break"))?;
            value.set_sensitive(written.is_secret());
            headers.insert(name.clone(), value);
        }
        if invocation.effect != EffectClass::Read {
            let key = HeaderValue::try_from(context.effect_key).map_err(|why| why.to_string())?;
            headers.insert("idempotency-key", key);
        }
        let body = self
            .body
            .as_ref()
            .map(|body| body.fill(&scope, &context.grants.secrets, used, room))
            .transpose()?;
        let body = body.map(|body| match body {
            Value::String(text) => text,
            value => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                value.to_string()
            }
        });
        Ok(Request { method: self.method.clone(), url, headers, body })
    }

    /// Sends it. Where the server sends to another place the definition has to name that place: what stands there may be
    /// somebody else's answer.
    async fn send(
        &self,
        request: Request,
        effect: EffectClass,
        within: Duration,
        context: &Context<'_>,
    ) -> Result<reqwest::Response, Called> {
        let client = self.private.client(&request.url, &context.grants.private);
        let client = client.map_err(|why| Called::failed(ToolErrorClass::Forbidden, why.to_string()))?;
        let Request { method, url, mut headers, body } = request;
        let work = Work::call("omium.tool");
        work.hand_on(&mut headers);
        let mut builder = client.request(method, url).headers(headers).timeout(within);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        let response = builder.send().await.map_err(|error| {
            work.failed("the tool was not reached");
            unreached(&error, effect)
        })?;
        if response.status().is_redirection() {
            let reason = format!(
                "the server answered {} and sends to another place, which is not followed; write that address in the tool",
                response.status()
            );
            return Err(Called::failed(ToolErrorClass::Other, reason));
        }
        Ok(response)
    }

    async fn answer(&self, mut response: reqwest::Response, effect: EffectClass, used: &Used) -> Called {
        let status = response.status();
        let mut bytes = Vec::new();
        let mut longer = false;
        while !longer {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return unreached(&error, effect),
            }
            longer = bytes.len() > self.max_bytes;
        }
        bytes.truncate(self.max_bytes);
        let text = used.taken_out_of(&String::from_utf8_lossy(&bytes), self.max_bytes);
        if status.is_client_error() || status.is_server_error() {
            return refused(status, &text, effect);
        }
        if longer {
            return Called::Answered(json!({"cut_after_bytes": self.max_bytes, "text": text}));
        }
        // What is no JSON, or would come back as something else, is a text.
        Called::Answered(json::parse(text.as_bytes(), &LIMITS).unwrap_or_else(|_| text.into()))
    }
}

/// The URL's parts. Its host is written out: an argument must not choose whom a secret goes to.
fn url(text: &str) -> Result<Vec<Part>, String> {
    let parts = match Template::text(text)? {
        Template::Text(parts) => parts,
        _ => vec![Part::Literal(text.to_owned())],
    };
    let Some(Part::Literal(first)) = parts.first() else {
        return Err("`url` begins with its scheme and host, without placeholders".to_owned());
    };
    let rest = first.strip_prefix("https://").or_else(|| first.strip_prefix("http://"));
    let rest = rest.ok_or("`url` begins with `https://` or `http://`")?;
    if parts.len() > 1 && !rest.contains(['/', '?', '#']) {
        return Err("`url` has a placeholder in its host; write the host out".to_owned());
    }
    if parts.len() == 1 {
        first.parse::<Url>().map_err(|why| format!("`url` cannot be read: {why}"))?;
    }
    Ok(parts)
}

fn filled(part: &Part, scope: &Value, room: &mut Room) -> Result<String, String> {
    let value =
        Template::Text(vec![part.clone()]).render_within(scope, room).map_err(|why| why.to_string())?;
    Ok(plain(value))
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Percent-encoded, so that an argument stays within its place: no further path, no further parameter.
fn encoded(text: &str) -> String {
    // A dot alone would climb a path.
    if text.chars().all(|c| c == '.') {
        return text.replace('.', "%252E");
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn unreached(error: &reqwest::Error, effect: EffectClass) -> Called {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(private) = cause.downcast_ref::<PrivateAddress>() {
            return Called::failed(ToolErrorClass::Forbidden, private.to_string());
        }
        source = cause.source();
    }
    let host = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    if error.is_connect() {
        return Called::failed(ToolErrorClass::Connection, format!("{host} cannot be reached"));
    }
    if error.is_timeout() {
        return Called::lost(effect, ToolErrorClass::Timeout, format!("{host} did not answer in time"));
    }
    Called::lost(
        effect,
        ToolErrorClass::Connection,
        format!("the connection to {host} broke before its answer was whole"),
    )
}

fn refused(status: StatusCode, text: &str, effect: EffectClass) -> Called {
    let class = match status.as_u16() {
        400 | 422 => ToolErrorClass::InvalidArguments,
        401 => ToolErrorClass::Unauthenticated,
        403 => ToolErrorClass::Forbidden,
        404 | 410 => ToolErrorClass::NotFound,
        408 => ToolErrorClass::Timeout,
        409 => ToolErrorClass::Conflict,
        429 => ToolErrorClass::RateLimited,
        502..=504 => ToolErrorClass::Unavailable,
        500.. => ToolErrorClass::Internal,
        _ => ToolErrorClass::Other,
    };
    let said: String = text.chars().take(REASON).collect();
    let reason = format!("the server answered {}: {said}", status.as_u16());
    match status.as_u16() {
        // A gateway says so when it lost the server, which may have done it.
        502 | 504 => Called::lost(effect, class, reason),
        _ => Called::failed(class, reason),
    }
}
