//! How the clients of the broker are set up, and what their errors mean.

use std::time::Duration;

use omium_schemas::Partition;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset as At, TopicPartitionList};

use super::KafkaOptions;
use crate::LogError;

/// No record of ours is larger than a block; the rest is for Kafka's own framing.
pub(super) const LARGEST_RECORD: u32 = 1024 * 1024;

/// What one consumer may hold in memory before its owner takes it.
const FETCHED_AHEAD_KIB: u32 = 4 * 1024;

/// Settings that all clients share.
pub(super) fn base(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.bootstrap)
        .set("client.id", "omium")
        .set("allow.auto.create.topics", "false")
        .set("socket.nagle.disable", "true")
        .set("socket.timeout.ms", millis(options.timeout))
        .set("socket.connection.setup.timeout.ms", millis(options.timeout))
        // Leaders move and brokers restart: try again soon, the time-outs above say when it is too late.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.fast.interval.ms", "50")
        // The default waits half a minute for a topic that has vanished.
        .set("topic.metadata.propagation.max.ms", millis(options.timeout));
    for (name, value) in &options.extra {
        config.set(name, value);
    }
    config
}

/// Settings of a producer that one attached source has to itself.
pub(super) fn producer(options: &KafkaOptions) -> ClientConfig {
    let mut config = base(options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "1")
        .set("message.timeout.ms", millis(options.timeout))
        .set("request.timeout.ms", millis(options.timeout))
        .set("message.max.bytes", (2 * LARGEST_RECORD).to_string())
        .set("batch.size", LARGEST_RECORD.to_string())
        // A block already is a group commit; waiting for a second one only adds latency.
        .set("linger.ms", "0")
        .set("compression.type", "none");
    config
}

/// A consumer of one partition from one offset, which is told when that offset is not there.
pub(super) fn consumer(
    options: &KafkaOptions,
    partition: Partition,
    from: u64,
) -> Result<StreamConsumer, LogError> {
    let mut config = base(options);
    config
        // The client refuses to assign without a group; nothing is ever committed to it.
        .set("group.id", "omium-log-reader")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "false")
        .set("check.crcs", "true")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.min.bytes", "1")
        .set("fetch.message.max.bytes", (2 * LARGEST_RECORD).to_string())
        .set("queued.max.messages.kbytes", FETCHED_AHEAD_KIB.to_string())
        // The default of a second would stall every reader that lets the queue fill up.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "50");
    let consumer: StreamConsumer = config.create().map_err(|error| broken("creating a consumer", &error))?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(&options.topic, i32::from(partition.0), At::Offset(signed(from)))
        .map_err(|error| broken("choosing an offset", &error))?;
    consumer.assign(&assignment).map_err(|error| broken("assigning a partition", &error))?;
    Ok(consumer)
}

/// An offset as the client writes it.
pub(super) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// An offset as we write it.
pub(super) fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

/// The client's error in our words.
pub(super) fn broken(doing: &'static str, error: &KafkaError) -> LogError {
    LogError::Broker { doing, why: error.to_string() }
}

/// Whether a consumer's error ends its use. All others pass: the client reconnects and finds the new leader by itself.
pub(super) fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    match error {
        KafkaError::MessageConsumptionFatal(_) => true,
        KafkaError::MessageConsumption(code) => matches!(
            code,
            Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::LogTruncation
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopicId
                | Code::TopicAuthorizationFailed
                | Code::InvalidTopic
                | Code::InvalidMessage
                | Code::BadMessage
                | Code::InvalidRecord
        ),
        _ => false,
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
