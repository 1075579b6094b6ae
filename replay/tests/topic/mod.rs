//! Reads a topic as a stranger does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

/// How long it may take until all is there.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) payload: Vec<u8>,
}

/// All records from the beginning until what was read is enough, or until it has taken too long.
pub(crate) fn read(bootstrap: &str, topic: &str, enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "a-stranger")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut records, began) = (Vec::new(), Instant::now());
    while !enough(&records) && began.elapsed() < PATIENCE {
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        records.push(record(&message.unwrap()));
    }
    records
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    let headers = message.headers().unwrap();
    Record {
        key: text(message.key()),
        headers: headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect(),
        payload: message.payload().unwrap_or_default().to_vec(),
    }
}
