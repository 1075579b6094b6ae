//! Appending for one attached source, with an idempotent producer of its own.
//!
//! One record is in flight. Whatever goes wrong with it ends the attachment: whether the record is in the topic is then
//! unknown, sending it again from here could put it there twice, and only its leader, by reading, can tell.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use omium_schemas::{Offset, Partition};
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::KafkaOptions;
use super::client::{broken, producer, unsigned};
use crate::{LogError, Source};

/// How long the thread listens at a time while a record is in flight; a report ends the wait at once.
const LISTEN: Duration = Duration::from_millis(200);

/// A source and the thread that appends for it.
pub(super) struct Attachment {
    bell: Mutex<Bell>,
    rung: Condvar,
}

#[derive(Default)]
struct Bell {
    woken: bool,
    detached: bool,
}

impl Attachment {
    /// Starts appending for `source`, as soon as it is woken.
    pub(super) fn start(
        options: &KafkaOptions,
        partition: Partition,
        source: Arc<dyn Source>,
    ) -> Result<Arc<Self>, LogError> {
        let producer = producer(options)
            .create_with_context(Reports::default())
            .map_err(|error| broken("creating a producer", &error))?;
        let attachment = Arc::new(Attachment { bell: Mutex::default(), rung: Condvar::new() });
        let line = Line { producer, topic: options.topic.clone(), partition };
        let own = attachment.clone();
        std::thread::Builder::new()
            .name(format!("omium-kafka-{partition}"))
            .spawn(move || own.run(&line, source.as_ref()))
            .map_err(|error| LogError::Io {
                doing: "starting a thread for",
                place: format!("partition {partition}"),
                why: error.to_string(),
            })?;
        Ok(attachment)
    }

    /// There is something to take.
    pub(super) fn wake(&self) {
        self.bell().woken = true;
        self.rung.notify_one();
    }

    /// The source hears nothing more. Does not wait for a record in flight: the filter deals with what still arrives.
    pub(super) fn detach(&self) {
        self.bell().detached = true;
        self.rung.notify_one();
    }

    fn run(&self, line: &Line, source: &dyn Source) {
        while self.next_wake() {
            while let Some(bytes) = self.take(source) {
                let outcome = line.append(&bytes, || self.bell().detached);
                let failed = outcome.is_err();
                if self.bell().detached {
                    return;
                }
                if let Err(error) = &outcome {
                    tracing::warn!(partition = line.partition.0, %error, "an append failed; its leader's epoch is over");
                }
                source.settled(outcome);
                if failed {
                    self.bell().detached = true;
                    return;
                }
            }
        }
    }

    /// Waits until there may be something to take; false when nobody wants it any more.
    fn next_wake(&self) -> bool {
        let mut bell = self
            .rung
            .wait_while(self.bell(), |bell| !bell.woken && !bell.detached)
            .unwrap_or_else(PoisonError::into_inner);
        bell.woken = false;
        !bell.detached
    }

    fn take(&self, source: &dyn Source) -> Option<Bytes> {
        if self.bell().detached { None } else { source.take() }
    }

    fn bell(&self) -> MutexGuard<'_, Bell> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of one partition's records to the broker.
struct Line {
    producer: BaseProducer<Reports>,
    topic: String,
    partition: Partition,
}

impl Line {
    /// Appends one record and waits for what became of it. The client repeats a request by itself, which idempotence
    /// makes harmless, until the time-out of the message ends that.
    fn append(&self, bytes: &Bytes, given_up: impl Fn() -> bool) -> Result<Offset, LogError> {
        let record = BaseRecord::<(), [u8], ()>::with_opaque_to(&self.topic, ())
            .partition(i32::from(self.partition.0))
            .payload(bytes.as_ref());
        self.producer.send(record).map_err(|(error, _)| broken("appending", &error))?;
        loop {
            if let Some(report) = self.producer.context().take() {
                return report.map_err(|error| broken("appending", &error));
            }
            if given_up() {
                return Err(LogError::Closed);
            }
            self.producer.poll(LISTEN);
        }
    }
}

/// Keeps the report of the one record in flight.
#[derive(Default)]
struct Reports {
    report: Mutex<Option<Result<Offset, KafkaError>>>,
}

impl Reports {
    fn take(&self) -> Option<Result<Offset, KafkaError>> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => Ok(Offset(unsigned(message.offset()))),
            Err((error, _)) => Err(error.clone()),
        };
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }
}
