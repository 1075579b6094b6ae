//! What `omium dev` and `omium serve` are told on the command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use omium_engine::{Shown, Topics};
use omium_log::KafkaOptions;

use crate::config::{self, Config};

/// Where it answers, if that is free.
pub(crate) const PORT: u16 = 7460;

/// Runs everything in one process, reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// Brings a workflow and some runs of it, to look at.
    #[arg(long)]
    pub(super) sample: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
}

/// What `dev` and `serve` have in common.
#[derive(Args, Debug)]
pub(super) struct NodeOptions {
    /// The port; else 7460 or the next free one.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// The data folder; else $OMIUM_DATA, else the one of the desktop's conventions.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Who answers for models: an OpenAI-compatible address that ends with /v1. Without it `omium dev` brings a scripted
    /// model, and `omium serve` refuses calls of models.
    #[arg(long, value_name = "URL", env = "OMIUM_UPSTREAM_URL", value_parser = upstream_url)]
    pub(super) upstream: Option<String>,
    /// A name, beside those of loopback, under which it may be asked; may be given more than once.
    #[arg(long, value_name = "NAME")]
    pub(super) host_name: Vec<String>,
    /// How long calls in flight may take to end once the process is told to (30s); a second signal ends it at once.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) grace: Option<Duration>,
    /// How long executions are kept after they have ended (90d), a day at least; a workflow may say otherwise. Without it
    /// everything is kept.
    #[arg(long, value_name = "TIME", value_parser = kept)]
    pub(super) keep: Option<Duration>,
    /// What is granted to tools of workflows, and settings; else omium.toml in the data folder, if it is there.
    #[arg(long, value_name = "FILE", env = "OMIUM_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

pub(crate) fn kept(text: &str) -> Result<Duration, String> {
    let keep = humantime::parse_duration(text).map_err(|why| format!("{why}; write 90d"))?;
    if keep < omium_engine::SHORTEST_KEEP {
        return Err("what has ended is kept for a day at least; write 1d or more".to_owned());
    }
    Ok(keep)
}

pub(crate) fn upstream_url(text: &str) -> Result<String, String> {
    let url = reqwest::Url::parse(text).map_err(|why| format!("{why}; write http://HOST:PORT/v1"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(text.to_owned()),
        _ => Err("write http://HOST:PORT/v1 or https://HOST/v1".to_owned()),
    }
}

/// Runs one node; its log may be on Kafka. Reachable from this machine only.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(super) node: NodeOptions,
    /// Where the log is: `kafka://HOST:PORT[,HOST:PORT…]`; else in the data folder.
    #[arg(long, value_name = "URL")]
    pub(super) log: Option<String>,
    /// The topic of the log.
    #[arg(long, default_value = "omium.log", requires = "log")]
    pub(super) topic: String,
    /// How many partitions the topic has; fixed when it is made.
    #[arg(long, default_value_t = 48, requires = "log")]
    pub(super) partitions: u16,
    /// On how many brokers each partition is.
    #[arg(long, default_value_t = 3, requires = "log")]
    pub(super) replication: u16,
    /// The schema registry's Confluent API; with it the log's events are published as Avro.
    #[arg(long, value_name = "URL", requires = "log")]
    registry: Option<String>,
    /// The topic of published events.
    #[arg(long, default_value = "omium.events", value_name = "TOPIC", requires = "registry")]
    events_topic: String,
    /// The topic of results.
    #[arg(long, default_value = "omium.results", value_name = "TOPIC", requires = "log")]
    results_topic: String,
    /// How much of a result is published; outputs are readable for all who may read the topic.
    #[arg(long, value_enum, default_value = "whole", requires = "log")]
    results: Shown,
}

impl Serve {
    pub(super) fn topics(&self) -> Topics {
        let Serve { registry, events_topic, results_topic, results, .. } = self;
        Topics {
            registry: registry.clone(),
            events: events_topic.clone(),
            results: results_topic.clone(),
            shown: *results,
        }
    }
}

/// What a node is for.
pub(super) enum Kind {
    /// To try things out: what is missing is brought along.
    Dev { sample: bool },
    /// To work: what is missing is refused.
    Serve { kafka: Option<KafkaOptions>, topics: Topics },
}

impl Kind {
    pub(super) fn is_dev(&self) -> bool {
        matches!(self, Kind::Dev { .. })
    }

    pub(super) fn log(&self) -> String {
        match self {
            Kind::Serve { kafka: Some(kafka), .. } => format!("kafka topic {}", kafka.topic),
            Kind::Serve { kafka: None, .. } | Kind::Dev { .. } => "in the data folder".to_owned(),
        }
    }
}

/// What the operator's file says. On a machine with one developer more is granted where it says nothing.
pub(super) fn configured(options: &NodeOptions, kind: &Kind, data: &Path) -> anyhow::Result<Config> {
    let config = Config::load(config::place(options.config.as_deref(), data).as_deref())?;
    Ok(if kind.is_dev() { config.for_one_developer() } else { config })
}
