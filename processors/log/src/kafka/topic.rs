//! Making the topic, and refusing one whose settings could lose what was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use super::KafkaOptions;
use super::client::{LARGEST_RECORD, broken};
use crate::LogError;

/// A setting that the log depends on: what is written when we make the topic, and what is accepted when we find it.
struct Setting {
    name: &'static str,
    made: fn(&KafkaOptions) -> String,
    accepted: fn(&KafkaOptions, &str) -> bool,
    because: &'static str,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        made: |_| "delete".into(),
        accepted: |_, value| value == "delete",
        because: "compaction removes records from the middle of the log",
    },
    Setting {
        name: "retention.ms",
        made: |_| "-1".into(),
        accepted: |_, value| value == "-1",
        because: "the broker would drop acknowledged records by age",
    },
    Setting {
        name: "retention.bytes",
        made: |_| "-1".into(),
        accepted: |_, value| value == "-1",
        because: "the broker would drop acknowledged records by size",
    },
    Setting {
        name: "min.insync.replicas",
        made: |options| least_in_sync(options).to_string(),
        accepted: |options, value| value.parse::<u16>().is_ok_and(|found| found >= least_in_sync(options)),
        because: "a record would be acknowledged by fewer brokers than it must be on",
    },
    Setting {
        name: "unclean.leader.election.enable",
        made: |_| "false".into(),
        accepted: |_, value| value == "false",
        because: "a broker that lacks acknowledged records could become leader",
    },
    Setting {
        name: "max.message.bytes",
        made: |_| (2 * LARGEST_RECORD).to_string(),
        accepted: |_, value| value.parse::<u32>().is_ok_and(|found| found >= LARGEST_RECORD),
        because: "a block could be refused for its size",
    },
];

/// Finds the topic, or makes it, and checks it.
pub(super) async fn ready(
    options: &KafkaOptions,
    admin: &AdminClient<DefaultClientContext>,
    asker: &Arc<BaseConsumer>,
) -> Result<(), LogError> {
    let shape = match shape(options, asker).await? {
        Some(shape) => shape,
        None if options.create => {
            let settings: Vec<(&str, String)> =
                SETTINGS.iter().map(|setting| (setting.name, (setting.made)(options))).collect();
            make(options, &settings, admin).await?;
            made(options, asker).await?
        }
        None => {
            return Err(foreign(options, "it does not exist; create it, or allow omium to".into()));
        }
    };
    if shape.partitions != usize::from(options.partitions) {
        return Err(LogError::OtherPartitions {
            place: format!("topic {}", options.topic),
            found: u16::try_from(shape.partitions).unwrap_or(u16::MAX),
            wanted: options.partitions,
        });
    }
    let mut wrong = Vec::new();
    if shape.replicas < usize::from(options.replication) {
        wrong.push(format!(
            "a partition is on {} brokers only, not on {}",
            shape.replicas, options.replication
        ));
    }
    wrong.extend(wrong_settings(options, &describe(options, admin).await?));
    if wrong.is_empty() { Ok(()) } else { Err(foreign(options, wrong.join("; "))) }
}

/// Finds a topic that is only written to, or makes it with these settings.
pub(super) async fn derived(
    options: &KafkaOptions,
    settings: &[(&str, &str)],
    admin: &AdminClient<DefaultClientContext>,
    asker: &Arc<BaseConsumer>,
) -> Result<(), LogError> {
    if shape(options, asker).await?.is_some() {
        return Ok(());
    }
    let settings: Vec<(&str, String)> =
        settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    make(options, &settings, admin).await?;
    made(options, asker).await.map(|_| ())
}

/// How long calls of the administrator may take.
pub(super) fn admin_options(options: &KafkaOptions) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(options.timeout)).operation_timeout(Some(options.timeout))
}

/// Partitions, and the fewest replicas that one of them has.
struct Shape {
    partitions: usize,
    replicas: usize,
}

/// What the topic looks like; nothing while it does not exist or some partition has no leader yet.
async fn shape(options: &KafkaOptions, asker: &Arc<BaseConsumer>) -> Result<Option<Shape>, LogError> {
    let (asker, topic, patience) = (asker.clone(), options.topic.clone(), options.timeout);
    let ask = move || asker.fetch_metadata(Some(&topic), patience);
    let answer = tokio::task::spawn_blocking(ask).await.map_err(|_| LogError::Closed)?;
    let metadata = answer.map_err(|error| LogError::Broker {
        doing: "asking for the topic",
        why: format!("{error}; is a broker listening at {}?", options.bootstrap),
    })?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == options.topic) else {
        return Ok(None);
    };
    if found.error().is_some() || found.partitions().iter().any(|partition| partition.leader() < 0) {
        return Ok(None);
    }
    let replicas = found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
    Ok((replicas > 0).then_some(Shape { partitions: found.partitions().len(), replicas }))
}

async fn make(
    options: &KafkaOptions,
    settings: &[(&str, String)],
    admin: &AdminClient<DefaultClientContext>,
) -> Result<(), LogError> {
    let replication = TopicReplication::Fixed(i32::from(options.replication));
    let topic = settings.iter().fold(
        NewTopic::new(&options.topic, i32::from(options.partitions), replication),
        |topic, (name, value)| topic.set(name, value),
    );
    let results = admin
        .create_topics([&topic], &admin_options(options))
        .await
        .map_err(|error| broken("creating the topic", &error))?;
    match results.into_iter().next() {
        // Another node was faster; whether it made the same is checked like any other topic.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
        Some(Err((_, code))) => {
            Err(LogError::Broker { doing: "creating the topic", why: format!("{}: {code}", options.topic) })
        }
    }
}

/// Brokers learn of a new topic one after another and announce it to nobody: ask until its leaders are there.
async fn made(options: &KafkaOptions, asker: &Arc<BaseConsumer>) -> Result<Shape, LogError> {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        loop {
            again.tick().await;
            if let Some(shape) = shape(options, asker).await? {
                return Ok(shape);
            }
        }
    };
    tokio::time::timeout(options.timeout, asking).await.unwrap_or_else(|_| {
        Err(LogError::Broker {
            doing: "creating the topic",
            why: format!("{} has no leaders after {:?}", options.topic, options.timeout),
        })
    })
}

/// What the topic's settings are. A broker that has not heard of a new topic yet knows of no settings at all: one that
/// has always names them, so an answer without any is asked for again.
async fn describe(
    options: &KafkaOptions,
    admin: &AdminClient<DefaultClientContext>,
) -> Result<ConfigResource, LogError> {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        loop {
            again.tick().await;
            let described = described(options, admin).await?;
            if !described.entries.is_empty() {
                return Ok(described);
            }
        }
    };
    tokio::time::timeout(options.timeout, asking).await.unwrap_or_else(|_| {
        let why = format!("no broker told them for {:?}", options.timeout);
        Err(LogError::Broker { doing: "asking for the topic's settings", why })
    })
}

async fn described(
    options: &KafkaOptions,
    admin: &AdminClient<DefaultClientContext>,
) -> Result<ConfigResource, LogError> {
    let doing = "asking for the topic's settings";
    let topic = ResourceSpecifier::Topic(&options.topic);
    let answer = admin
        .describe_configs([&topic], &admin_options(options))
        .await
        .map_err(|error| broken(doing, &error))?;
    match answer.into_iter().next() {
        Some(Ok(resource)) => Ok(resource),
        Some(Err(code)) => Err(LogError::Broker { doing, why: code.to_string() }),
        None => Err(LogError::Broker { doing, why: "the broker gave no answer".into() }),
    }
}

fn wrong_settings(options: &KafkaOptions, found: &ConfigResource) -> Vec<String> {
    SETTINGS
        .iter()
        .filter_map(|setting| {
            let value = found.get(setting.name).and_then(|entry| entry.value.as_deref()).unwrap_or("unset");
            let wanted = (setting.made)(options);
            (!(setting.accepted)(options, value))
                .then(|| format!("{} is {value}, and {}: set it to {wanted}", setting.name, setting.because))
        })
        .collect()
}

/// With one replica there is one; with more, the record must survive the loss of a broker.
fn least_in_sync(options: &KafkaOptions) -> u16 {
    options.replication.clamp(1, 2)
}

fn foreign(options: &KafkaOptions, why: String) -> LogError {
    LogError::Foreign { place: format!("topic {}", options.topic), why }
}
