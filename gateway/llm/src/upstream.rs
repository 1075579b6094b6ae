//! The server that answers for models, and what is passed on to it and back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use bytes::Bytes;
use omium_openai::Refused as Said;
use omium_schemas::catalogue::ModelErrorClass;
use omium_telemetry::{KeyValue, Work};
use reqwest::Url;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::port::{Failed, Refused};

/// The longest answer that is taken.
pub(crate) const LONGEST: usize = 32 << 20;
/// How long a model may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection may take to open.
const CONNECTS: Duration = Duration::from_secs(10);
/// How many calls are on their way at once where nobody says.
const CALLS: usize = 1_024;

/// Who answers for models.
#[derive(Clone)]
pub struct Upstream {
    /// With `/v1`, without what comes behind it. Nothing where nobody answers for models here.
    base: Option<Url>,
    /// The bearer key, instead of the token that the client sends.
    key: Option<String>,
    client: reqwest::Client,
    calls: Arc<Semaphore>,
}

// The key reaches no log.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.as_ref().map(|base| base.origin().ascii_serialization());
        f.debug_struct("Upstream").field("base", &base).finish_non_exhaustive()
    }
}

/// An answer that has begun to arrive, and its place among the calls.
pub(crate) struct Arriving {
    pub(crate) response: reqwest::Response,
    _place: OwnedSemaphorePermit,
    /// Ends with the answer.
    _work: Work,
}

impl Upstream {
    /// A server at an address that ends with `/v1`. Where that is no address every call is refused, as with [`none`].
    ///
    /// [`none`]: Upstream::none
    pub fn new(base_url: &str, key: Option<String>) -> Upstream {
        let base = Url::parse(base_url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        // What a model's server redirects to has not been consented to.
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECTS)
            .timeout(PATIENCE);
        // A proxy cannot reach this machine, and would be shown prompts and keys.
        if omium_edge::is_loopback(base_url) {
            client = client.no_proxy();
        }
        let client = client.build().unwrap_or_default();
        Upstream { base, key, client, calls: Arc::new(Semaphore::new(CALLS)) }
    }

    /// Nobody: every call is refused.
    pub fn none() -> Upstream {
        Upstream::new("", None)
    }

    /// The same with so many calls on their way at once: each takes a descriptor.
    #[must_use]
    pub fn with_calls(self, calls: usize) -> Upstream {
        Upstream { calls: Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS))), ..self }
    }

    fn base(&self) -> Result<&Url, Refused> {
        self.base.as_ref().ok_or_else(|| {
            let detail = "this node was started without a model's server";
            let hint =
                "start it with --upstream URL or OMIUM_UPSTREAM_URL; `omium dev` brings a scripted model";
            Refused::new(503, "no-upstream", detail, hint)
        })
    }

    /// Whether anybody answers for models here. Said before a call is recorded.
    pub(crate) fn is_there(&self) -> Result<(), Refused> {
        self.base().map(|_| ())
    }

    /// The address of what lies at these segments below the base.
    fn at<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Result<Url, Refused> {
        let mut url = self.base()?.clone();
        let path = url.path_segments_mut();
        path.map_err(|()| self.base().err().unwrap_or_else(bad_base))?.pop_if_empty().extend(segments);
        Ok(url)
    }

    /// Sends a question on. The body is the bytes that are given, and the answer's come as they are.
    pub(crate) async fn send(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Arriving, Failed> {
        let url = self.at(path.split('/')).map_err(|refused| failed(refused.detail, false))?;
        self.ask(self.client.post(url).body(body), headers).await
    }

    /// Asks for what is written below `models`: all, or one by its name.
    pub(crate) async fn models(&self, name: Option<&str>, headers: &HeaderMap) -> Result<Arriving, Refused> {
        let url = self.at(std::iter::once("models").chain(name))?;
        let request = self.client.get(url).timeout(Duration::from_secs(30));
        self.ask(request, headers).await.map_err(|failed| Refused::of_model(&failed))
    }

    async fn ask(&self, request: reqwest::RequestBuilder, headers: &HeaderMap) -> Result<Arriving, Failed> {
        let place = self.calls.clone().try_acquire_owned();
        let place = place.map_err(|_| failed("as many calls as may be are on their way".to_owned(), true))?;
        let work = Work::call("omium.llm");
        let mut kept = kept(headers, TO_MODELS);
        work.hand_on(&mut kept);
        let mut request = request.headers(kept);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| {
            work.failed("the model's server was not reached");
            unreached(&error)
        })?;
        work.note(KeyValue::new("http.response.status_code", i64::from(response.status().as_u16())));
        is_answer(&response).inspect_err(|_| work.failed("it did not answer as a model's server does"))?;
        Ok(Arriving { response, _place: place, _work: work })
    }
}

fn bad_base() -> Refused {
    Refused::new(
        503,
        "no-upstream",
        "the address of the model's server has no path",
        "name another --upstream",
    )
}

/// Whether this is what a client may be given: an answer, or an error that is one. All else would be one thing in the
/// log and another one for the program.
fn is_answer(response: &reqwest::Response) -> Result<(), Failed> {
    let status = response.status();
    let is_none = |reason: String, retryable| {
        Err(Failed { class: ModelErrorClass::MalformedAnswer, status: status.as_u16(), reason, retryable })
    };
    if status.is_redirection() {
        let reason = format!("the model's server sends to another place ({status}), which is not followed");
        return is_none(reason, false);
    }
    if status != StatusCode::OK && !status.is_client_error() && !status.is_server_error() {
        return is_none(format!("the model's server answered {status}, which is no answer"), true);
    }
    let coding = response.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return is_none("the model's server squeezed its answer, which nobody asked for".to_owned(), true);
    }
    Ok(())
}

fn failed(reason: String, retryable: bool) -> Failed {
    Failed { class: ModelErrorClass::Connection, status: 0, reason, retryable }
}

/// What of a program's headers a model's server gets. The token is ours, and so is all that is said about the
/// connection; compressed answers could not be judged. A name that ends with `-` stands for all that begin with it.
const TO_MODELS: &[&str] = &[
    "accept",
    "accept-language",
    "anthropic-",
    "content-type",
    "http-referer",
    "idempotency-key",
    "openai-",
    "user-agent",
    "x-request-id",
    "x-stainless-",
    "x-title",
];

/// What of an answer's headers the client gets: rate limits and ids, and nothing that a browser or a proxy acts on.
const TO_CLIENTS: &[&str] = &[
    "anthropic-",
    "content-type",
    "openai-",
    "ratelimit-",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-",
    "x-request-id",
    "x-should-retry",
];

/// What of an answer's headers the client gets.
pub(crate) fn passed_back(headers: &HeaderMap) -> HeaderMap {
    kept(headers, TO_CLIENTS)
}

fn kept(headers: &HeaderMap, names: &[&str]) -> HeaderMap {
    // What a peer lists there is meant for the next hop alone, whatever its name.
    let hop: Vec<&str> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        let listed =
            |known: &&str| if known.ends_with('-') { name.starts_with(known) } else { name == *known };
        names.iter().any(listed) && !hop.iter().any(|other| other.trim().eq_ignore_ascii_case(name))
    };
    let mut passed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
        passed.append(name.clone(), value.clone());
    }
    passed
}

/// An answer to its end, or to the end that it tells itself.
pub(crate) async fn whole(mut arriving: Arriving, most: usize) -> Result<Bytes, Failed> {
    let streams = crate::tail::is_stream(arriving.response.headers());
    let mut ending = crate::tail::Ending::default();
    let mut body = Vec::new();
    while let Some(part) = ending.next(&mut arriving.response).await? {
        if body.len() + part.len() > most {
            return Err(too_long(most));
        }
        body.extend_from_slice(&part);
        if streams && ending.sees(&part) {
            break;
        }
    }
    Ok(body.into())
}

pub(crate) fn too_long(most: usize) -> Failed {
    let reason = format!("the answer is longer than {most} bytes");
    Failed { class: ModelErrorClass::MalformedAnswer, status: 200, reason, retryable: false }
}

pub(crate) fn unreached(error: &reqwest::Error) -> Failed {
    let (class, what) = if error.is_timeout() {
        (ModelErrorClass::Timeout, "the model did not answer in time")
    } else if error.is_connect() {
        (ModelErrorClass::Connection, "the model's server cannot be reached")
    } else {
        (ModelErrorClass::Connection, "the connection broke in the middle of the model's answer")
    };
    // An error in the middle of an answer does not know its address any more.
    let host = error.url().map(|url| format!(" ({})", url.origin().ascii_serialization()));
    let reason = format!("{what}{}", host.unwrap_or_default());
    Failed { class, status: 0, reason, retryable: true }
}

/// An error that the provider has answered with.
pub(crate) fn refused(status: u16, body: &[u8]) -> Failed {
    let Said { class, reason, retryable } = omium_openai::refused(status, body);
    Failed { class, status, reason, retryable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_below_the_base() {
        let upstream = Upstream::new("http://127.0.0.1:1/v1/?api-version=3", None);
        let at = |segments: &[&str]| upstream.at(segments.iter().copied()).unwrap().to_string();
        assert_eq!(at(&["chat", "completions"]), "http://127.0.0.1:1/v1/chat/completions?api-version=3");
        assert_eq!(
            at(&["models", "org/name?x#y%2F"]),
            "http://127.0.0.1:1/v1/models/org%2Fname%3Fx%23y%252F?api-version=3"
        );
        assert_eq!(at(&["models", ".."]), "http://127.0.0.1:1/v1/models?api-version=3");
    }

    #[test]
    fn headers_pass_by_name_alone() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-ratelimit-remaining-tokens", "3"),
            ("retry-after", "2"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("x-omium-recorded", "7"),
            ("location", "http://evil"),
            ("alt-svc", "h3"),
            ("strict-transport-security", "max-age=1"),
            ("x-request-id", "r"),
            ("connection", "close, X-Request-Id"),
            ("openai-version", "1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let mut passed: Vec<String> = passed_back(&headers).keys().map(ToString::to_string).collect();
        passed.sort();
        assert_eq!(passed, ["content-type", "openai-version", "retry-after", "x-ratelimit-remaining-tokens"]);
    }
}
