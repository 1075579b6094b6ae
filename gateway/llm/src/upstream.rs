//! The server that answers for models, and what is passed on to it and back.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, header};
use bytes::Bytes;
use omium_openai::Refused;
use omium_schemas::catalogue::ModelErrorClass;

use crate::port::Failed;

/// The longest answer that is taken.
pub(crate) const LONGEST: usize = 32 << 20;
/// How long a model may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Who answers for models.
#[derive(Clone)]
pub struct Upstream {
    /// With `/v1`, without what comes behind it.
    base_url: String,
    /// The bearer key, instead of the token that the client sends.
    key: Option<String>,
    client: reqwest::Client,
}

// The key reaches no log.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Upstream {
    /// A server at an address that ends with `/v1`.
    pub fn new(base_url: &str, key: Option<String>) -> Upstream {
        // What a model's server redirects to has not been consented to.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        let client = client.build().unwrap_or_default();
        Upstream { base_url: base_url.trim_end_matches('/').to_owned(), key, client }
    }

    /// Sends a request on. The body is the bytes that are given, and the answer's come as they are.
    pub(crate) async fn send(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Option<Bytes>,
    ) -> Result<reqwest::Response, Failed> {
        let url = format!("{}/{path}", self.base_url);
        let request = match body {
            Some(body) => self.client.post(url).body(body),
            None => self.client.get(url),
        };
        let mut passed = HeaderMap::new();
        for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
            passed.append(name.clone(), value.clone());
        }
        let mut request = request.headers(passed);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        request.send().await.map_err(|error| unreached(&error))
    }
}

/// The token is ours, and so is what is said about the connection. Compressed answers could not be judged.
fn passes(name: &HeaderName) -> bool {
    let ours = [header::AUTHORIZATION, header::HOST, header::CONTENT_LENGTH, header::ACCEPT_ENCODING];
    !ours.contains(name) && !is_of_connection(name) && !name.as_str().starts_with("x-omium-")
}

/// What of an answer's headers the client gets: rate limits and ids included.
pub(crate) fn passed_back(headers: &HeaderMap) -> HeaderMap {
    let kept = headers.iter().filter(|(name, _)| **name != header::CONTENT_LENGTH && !is_of_connection(name));
    let mut passed = HeaderMap::new();
    for (name, value) in kept {
        passed.append(name.clone(), value.clone());
    }
    passed
}

fn is_of_connection(name: &HeaderName) -> bool {
    let names = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER];
    names.contains(name) || name.as_str() == "keep-alive" || name.as_str().starts_with("proxy-")
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
    let Refused { class, reason, retryable } = omium_openai::refused(status, body);
    Failed { class, status, reason, retryable }
}
