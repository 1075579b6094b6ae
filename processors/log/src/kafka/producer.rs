//! Appending for one attached source, with an idempotent producer of its own.
//!
//! One record is in flight. Whatever goes wrong with it ends the attachment: whether the record is in the topic is then
//! unknown, sending it again from here could put it there twice, and only its leader, by reading, can tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use omium_schemas::{Offset, Partition};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::KafkaOptions;
use super::client::{broken, producer, unsigned};
use super::place::Place;
use crate::{LogError, Source};

/// A source and the task that appends for it.
#[derive(Default)]
pub(super) struct Attachment {
    /// Something may be there to take, or the source is detached. Keeps one ring while nobody listens.
    bell: Notify,
    detached: AtomicBool,
    /// Ends the wait for a record in flight.
    given_up: Notify,
}

impl Attachment {
    /// Appends for `source` whenever it is woken.
    pub(super) fn start(
        runtime: &Handle,
        options: &KafkaOptions,
        partition: Partition,
        place: Arc<Place>,
        source: Arc<dyn Source>,
    ) -> Result<Arc<Self>, LogError> {
        let producer: FutureProducer =
            producer(options).create().map_err(|error| broken("creating a producer", &error))?;
        let line = Line { producer, topic: options.topic.clone(), partition };
        let attachment = Arc::new(Attachment::default());
        let own = attachment.clone();
        runtime.spawn(async move {
            own.run(&line, &place, source.as_ref()).await;
            // Closing a client waits for its threads.
            tokio::task::spawn_blocking(move || drop(line));
        });
        Ok(attachment)
    }

    /// There is something to take.
    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    /// The source hears nothing more. Does not wait for a record in flight: the filter deals with what still arrives.
    pub(super) fn detach(&self) {
        self.detached.store(true, Ordering::SeqCst);
        self.bell.notify_one();
        self.given_up.notify_one();
    }

    async fn run(&self, line: &Line, place: &Place, source: &dyn Source) {
        loop {
            self.bell.notified().await;
            while let Some(bytes) = self.take(source) {
                let outcome = tokio::select! {
                    outcome = line.append(&bytes) => outcome,
                    () = self.given_up.notified() => return,
                };
                match &outcome {
                    Ok(offset) => place.acknowledged(*offset),
                    Err(error) => {
                        tracing::warn!(partition = line.partition.0, %error, "an append failed; its leader's epoch is over");
                    }
                }
                if self.is_detached() {
                    return;
                }
                let failed = outcome.is_err();
                source.settled(outcome);
                if failed {
                    return;
                }
            }
            if self.is_detached() {
                return;
            }
        }
    }

    fn take(&self, source: &dyn Source) -> Option<Bytes> {
        if self.is_detached() { None } else { source.take() }
    }

    fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }
}

/// The way of one partition's records to the broker.
struct Line {
    producer: FutureProducer,
    topic: String,
    partition: Partition,
}

impl Line {
    /// Appends one record and waits for what became of it. The client repeats a request by itself, which idempotence
    /// makes harmless, until the time-out of the message ends that.
    async fn append(&self, bytes: &Bytes) -> Result<Offset, LogError> {
        let record = FutureRecord::<(), [u8]>::to(&self.topic)
            .partition(i32::from(self.partition.0))
            .payload(bytes.as_ref());
        let sent = self.producer.send_result(record).map_err(|(error, _)| broken("appending", &error))?;
        match sent.await {
            Ok(Ok(delivery)) => Ok(Offset(unsigned(delivery.offset))),
            Ok(Err((error, _))) => Err(broken("appending", &error)),
            Err(_) => Err(LogError::Closed),
        }
    }
}
