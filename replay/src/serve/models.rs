//! Who answers for models.

use std::net::Ipv4Addr;

use omium_agents::mock::Script;
use omium_agents::native::Upstream;
use tokio::net::TcpListener;

use super::options::Kind;
use crate::config;

/// Who answers for models.
pub(super) enum Models {
    At {
        url: String,
        key: Option<String>,
    },
    /// A server of our own, which lives as long as this.
    Scripted(omium_agents::mock::Server),
    Nobody,
}

impl Models {
    pub(super) async fn of(upstream: Option<&String>, kind: &Kind) -> anyhow::Result<Models> {
        let key = std::env::var(config::UPSTREAM_KEY).ok().filter(|key| !key.is_empty());
        match (upstream, kind) {
            (Some(url), _) => Ok(Models::At { url: url.clone(), key }),
            (None, Kind::Dev { .. }) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                Ok(Models::Scripted(omium_agents::serve_and_forget(Script::demo(), listener).await?))
            }
            (None, Kind::Serve { .. }) => Ok(Models::Nobody),
        }
    }

    pub(super) fn gate(&self) -> omium_llm::Upstream {
        match self {
            Models::At { url, key } => omium_llm::Upstream::new(url, key.clone()),
            Models::Scripted(server) => omium_llm::Upstream::new(&server.url(), None),
            Models::Nobody => omium_llm::Upstream::none(),
        }
    }

    pub(super) fn native(&self) -> Option<Upstream> {
        let at = |base_url: String, key: Option<String>| Upstream { base_url, key, headers: Vec::new() };
        match self {
            Models::At { url, key } => Some(at(url.clone(), key.clone())),
            Models::Scripted(server) => Some(at(server.url(), None)),
            Models::Nobody => None,
        }
    }

    /// For the log: the server's name without what else may stand in its address.
    pub(super) fn shown(&self) -> String {
        match self {
            Models::At { url, key } => {
                let origin = reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization());
                let with = if key.is_some() { "with OPENAI_API_KEY" } else { "without a key" };
                format!("{} {with}", origin.unwrap_or_default())
            }
            Models::Scripted(_) => "scripted model; name a real one with --upstream".to_owned(),
            Models::Nobody => "none: calls of models are refused; name one with --upstream".to_owned(),
        }
    }
}
