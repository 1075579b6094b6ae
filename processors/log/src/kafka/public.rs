//! Derived topics: what others read. The log alone is the truth; these can be made from it again.

use std::sync::{Arc, Mutex, PoisonError};

use omium_schemas::Time;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::KafkaOptions;
use super::client::{base, broken, producer};
use super::topic;
use crate::LogError;

/// How many records are on their way at once.
const AT_ONCE: usize = 1_000;

/// A record for readers outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What places it: records of one key stay in order.
    pub key: String,
    /// What a reader may look at without decoding anything.
    pub headers: Vec<(&'static str, String)>,
    /// What it says; nothing where a topic that keeps the newest of each key lets go of this key.
    pub payload: Option<Vec<u8>>,
    /// When that happened.
    pub time: Time,
}

/// A topic that is written to.
pub struct KafkaTopic {
    options: KafkaOptions,
    producer: Mutex<FutureProducer>,
}

impl KafkaTopic {
    /// Opens the topic, and makes it with these settings where it is missing. One that is there is taken as it is: what
    /// of it is kept for how long is for its owner to say.
    pub async fn open(options: KafkaOptions, settings: &[(&str, &str)]) -> Result<KafkaTopic, LogError> {
        let config = base(&options);
        let admin: AdminClient<DefaultClientContext> =
            config.create().map_err(|error| broken("creating a client", &error))?;
        let asker: BaseConsumer = config.create().map_err(|error| broken("creating a client", &error))?;
        topic::derived(&options, settings, &admin, &Arc::new(asker)).await?;
        let producer = Mutex::new(create(&options)?);
        Ok(KafkaTopic { options, producer })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.topic
    }

    /// Writes records in their order and returns when all are acknowledged. After an error any of them may be there:
    /// whoever sends them again doubles some and loses none.
    pub async fn publish(&self, records: &[Outgoing]) -> Result<(), LogError> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for part in records.chunks(AT_ONCE) {
            let sent = part.iter().map(|record| self.send(&producer, record)).collect::<Result<Vec<_>, _>>();
            let sent = sent.map_err(|error| self.failed(&producer, &error))?;
            for delivery in sent {
                match delivery.await {
                    Ok(Ok(_)) => {}
                    Ok(Err((error, _))) => return Err(self.failed(&producer, &error)),
                    Err(_) => return Err(LogError::Closed),
                }
            }
        }
        Ok(())
    }

    fn send(
        &self,
        producer: &FutureProducer,
        record: &Outgoing,
    ) -> Result<rdkafka::producer::future_producer::DeliveryFuture, KafkaError> {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
        let millis = i64::try_from(record.time.0 / 1_000).unwrap_or(i64::MAX);
        let mut outgoing =
            FutureRecord::to(&self.options.topic).key(&record.key).headers(headers).timestamp(millis);
        outgoing.payload = record.payload.as_ref();
        producer.send_result(outgoing).map_err(|(error, _)| error)
    }

    /// A producer that has failed for good is replaced, so that the next try is made with another one.
    fn failed(&self, used: &FutureProducer, error: &KafkaError) -> LogError {
        let fatal = used.client().fatal_error().is_some()
            || error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal);
        if fatal && let Ok(next) = create(&self.options) {
            let old =
                std::mem::replace(&mut *self.producer.lock().unwrap_or_else(PoisonError::into_inner), next);
            // Closing a client waits for its threads.
            tokio::task::spawn_blocking(move || drop(old));
        }
        broken("publishing", error)
    }
}

fn create(options: &KafkaOptions) -> Result<FutureProducer, LogError> {
    let mut config: ClientConfig = producer(options);
    config
        // Idempotence keeps the order with up to five requests under way.
        .set("max.in.flight.requests.per.connection", "5")
        .set("linger.ms", "5")
        // As Java's clients place keys, so that topics of both can be joined.
        .set("partitioner", "murmur2_random");
    config.create().map_err(|error| broken("creating a producer", &error))
}
