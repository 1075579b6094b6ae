//! Finds the running Omium and speaks to it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{End, Target};

/// How long a command waits for a node that opens its log, and how often it asks.
const OPENS: Duration = Duration::from_secs(60);
const LOOKS: Duration = Duration::from_millis(100);

/// Where `omium dev` answers, as it notes in its data folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) pid: u32,
}

/// The data folder: $OMIUM_DATA, else the one that the desktop's conventions name.
pub(crate) fn data_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(data) = set("OMIUM_DATA") {
        return data;
    }
    let base = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    base.unwrap_or_else(std::env::temp_dir).join("omium")
}

/// Where `omium dev` notes where it answers.
pub(crate) fn note_path(data: &std::path::Path) -> PathBuf {
    data.join("dev.json")
}

/// Which server has noted itself in the data folder.
pub(crate) fn noted() -> Option<Running> {
    serde_json::from_slice(&std::fs::read(note_path(&data_dir())).ok()?).ok()
}

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nobody answers.
    Unreachable { url: String, why: String },
    /// It was answered with a problem.
    Refused { status: u16, body: Value },
    /// Something here is wrong: a file, an argument.
    Here(String),
}

impl Trouble {
    pub(crate) fn end(&self) -> End {
        match self {
            Trouble::Unreachable { .. } => End::Unreachable,
            Trouble::Refused { status: 404, .. } => End::NotFound,
            Trouble::Refused { status: 400..500, .. } => End::Refused,
            Trouble::Refused { .. } | Trouble::Here(_) => End::Failed,
        }
    }

    pub(crate) fn tell(&self, json: bool) {
        match self {
            Trouble::Unreachable { url, why } => {
                let hint = match url.strip_prefix("https://") {
                    // A node itself speaks no TLS; what stands before it may.
                    Some(rest) => format!(
                        "Omium itself speaks http: try http://{rest}; https:// is for a proxy that stands before it"
                    ),
                    None => "start one with `omium dev`, or name another with --url or OMIUM_URL".to_owned(),
                };
                eprintln!("error: no Omium answers at {url}: {why}\nhint: {hint}");
            }
            Trouble::Refused { body, .. } if json => eprintln!("{body}"),
            Trouble::Refused { status, body } => {
                let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
                let detail = text("detail");
                eprintln!("error: {}", if detail.is_empty() { format!("status {status}") } else { detail });
                if !text("hint").is_empty() {
                    eprintln!("hint: {}", text("hint"));
                }
            }
            Trouble::Here(text) => eprintln!("error: {text}"),
        }
    }
}

/// Whether a URL is one that an Omium can answer at.
pub(super) fn checked(name: &str, url: &str) -> Result<(), Trouble> {
    let parsed = reqwest::Url::parse(url).ok();
    let fits = parsed.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    if fits {
        return Ok(());
    }
    Err(Trouble::Here(format!(
        "{name} is `{url}`, which is no address of an Omium\nhint: write http://HOST:PORT, for example http://127.0.0.1:7460"
    )))
}

/// Whether two URLs lead to one server: loopback has many names.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let parsed = |url: &str| reqwest::Url::parse(url).ok();
    let (Some(one_url), Some(other_url)) = (parsed(one), parsed(other)) else { return false };
    let loopback = omium_edge::is_loopback(one) && omium_edge::is_loopback(other);
    one_url.scheme() == other_url.scheme()
        && one_url.port_or_known_default() == other_url.port_or_known_default()
        && (loopback || one_url.host() == other_url.host())
}

/// A way to a running Omium.
#[derive(Clone)]
pub(crate) struct Connection {
    client: reqwest::Client,
    url: String,
    key: String,
    /// Whether a node that opens its log is waited for.
    patient: bool,
}

/// What is asked.
pub(crate) enum Ask<'a> {
    Get,
    /// A JSON body.
    Post(Value),
    /// The same, in place of what was there.
    Put(Value),
    /// Nothing but the path.
    Remove,
    /// A text as it is.
    Text(&'a str),
}

/// A proxy cannot reach this machine, and would be shown the key.
fn client(url: &str) -> reqwest::Client {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = if omium_edge::is_loopback(url) { client.no_proxy() } else { client };
    client.build().unwrap_or_default()
}

impl Connection {
    pub(crate) fn new(target: &Target) -> Connection {
        let noted = noted();
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = target
            .url
            .clone()
            .or_else(|| env("OMIUM_URL"))
            .or_else(|| noted.as_ref().map(|noted| noted.url.clone()));
        let key = target.key.clone().or_else(|| env("OMIUM_KEY")).or_else(|| noted.map(|noted| noted.key));
        let url = url.unwrap_or_else(|| "http://127.0.0.1:7460".to_owned());
        Connection {
            client: client(&url),
            url: url.trim_end_matches('/').to_owned(),
            key: key.unwrap_or_default(),
            patient: true,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.ask(path, Ask::Get, None).await
    }

    /// The same of a node as it is now, also where it is being opened.
    pub(super) async fn get_now(&self, path: &str) -> Result<Value, Trouble> {
        Connection { patient: false, ..self.clone() }.get(path).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, Trouble> {
        self.ask(path, Ask::Post(body), None).await
    }

    pub(crate) async fn remove(&self, path: &str) -> Result<(), Trouble> {
        self.send(path, Ask::Remove, None, None).await.map(|_| ())
    }

    pub(super) fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn ask(
        &self,
        path: &str,
        ask: Ask<'_>,
        idempotency: Option<&str>,
    ) -> Result<Value, Trouble> {
        let response = self.send(path, ask, idempotency, None).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes)
            .map_err(|_| Trouble::Here(format!("{} answers, but not as an Omium does", self.url)))
    }

    /// Events from a seq on, as they happen: a stream that goes on until it is dropped. Parts of answers are left out, so
    /// that looking on does not make models stream.
    pub(crate) async fn events(&self, execution: &str, from: u64) -> Result<reqwest::Response, Trouble> {
        let path = format!("/api/v1/executions/{}/events?from={from}&deltas=false", segment(execution));
        self.send(&path, Ask::Get, None, Some("text/event-stream")).await
    }

    /// What lies there, as it is.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Vec<u8>, Trouble> {
        let response = self.send(path, Ask::Get, None, None).await?;
        response.bytes().await.map(Into::into).map_err(|error| self.unreachable(&error))
    }

    async fn send(
        &self,
        path: &str,
        ask: Ask<'_>,
        idempotency: Option<&str>,
        accept: Option<&str>,
    ) -> Result<reqwest::Response, Trouble> {
        let url = format!("{}{path}", self.url);
        let request = match ask {
            Ask::Get => self.client.get(&url),
            Ask::Remove => self.client.delete(&url),
            Ask::Post(body) => {
                self.client.post(&url).header("content-type", "application/json").body(body.to_string())
            }
            Ask::Put(body) => {
                self.client.put(&url).header("content-type", "application/json").body(body.to_string())
            }
            Ask::Text(text) => {
                self.client.post(&url).header("content-type", "text/yaml").body(text.to_owned())
            }
        };
        let mut request = request.bearer_auth(&self.key);
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let since = Instant::now();
        loop {
            let again = request.try_clone();
            let response = request.send().await.map_err(|error| self.unreachable(&error))?;
            if response.status().is_success() {
                return Ok(response);
            }
            let status = response.status().as_u16();
            let body = response.bytes().await.unwrap_or_default();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            // Nothing was done yet, and soon can be. Whoever asks how the node is wants to know it now.
            let patient = self.patient && !path.starts_with("/ready") && !path.starts_with("/health");
            let opens = patient && status == 503 && body["code"] == "opening";
            match again.filter(|_| opens && since.elapsed() < OPENS) {
                Some(again) => request = again,
                None => return Err(Trouble::Refused { status, body }),
            }
            tokio::time::sleep(LOOKS).await;
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(deeper) = source {
            why = deeper.to_string();
            source = deeper.source();
        }
        Trouble::Unreachable { url: self.url.clone(), why }
    }
}

/// One segment of a path, whatever somebody typed.
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'@' | b':' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_one_server_whatever_it_is_called() {
        let noted = "http://127.0.0.1:7460";
        for same in ["http://localhost:7460", "http://[::1]:7460/", "http://127.0.0.1:7460/"] {
            assert!(is_same(noted, same), "{same}");
        }
        for other in ["http://localhost:7461", "http://10.0.0.1:7460", "https://127.0.0.1:7460", "nothing"] {
            assert!(!is_same(noted, other), "{other}");
        }
        assert!(is_same("http://omium.example", "http://omium.example:80/"));
    }
}
