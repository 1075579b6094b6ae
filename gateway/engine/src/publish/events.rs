//! One record per event: Avro in the Confluent wire format, its content sealed as the log holds it.

use anyhow::Context as _;
use async_trait::async_trait;
use omium_log::{KafkaTopic, Outgoing, Registry};
use omium_schemas::confluent::frame_public;
use omium_schemas::{Frame, RecordRef, Seq, StreamKind};

use super::Publication;

/// How the topic is made: how long its records are kept is the broker's default.
pub(super) const SETTINGS: [(&str, &str); 2] =
    [("cleanup.policy", "delete"), ("max.message.bytes", "2097152")];

pub(super) struct Events {
    pub(super) topic: KafkaTopic,
    pub(super) registry: Registry,
}

#[async_trait]
impl Publication for Events {
    fn topic(&self) -> &KafkaTopic {
        &self.topic
    }

    async fn records(&self, frames: &[Frame]) -> anyhow::Result<Vec<Outgoing>> {
        let mut records = Vec::new();
        for frame in frames.iter().filter(|frame| is_public(frame)) {
            for (record, seq) in frame.records().zip(frame.head.first.0..).skip(1) {
                records.push(self.record(frame, &record, Seq(seq)).await?);
            }
        }
        Ok(records)
    }
}

impl Events {
    async fn record(&self, frame: &Frame, record: &RecordRef<'_>, seq: Seq) -> anyhow::Result<Outgoing> {
        let kind = record.kind;
        let schema = omium_schemas::schema(kind).with_context(|| {
            format!("record type {} is unknown here: a newer omium wrote it, upgrade", kind.0)
        })?;
        let id = self.registry.register(schema).await?;
        let stream = frame.head.stream;
        let mut headers = vec![
            ("tenant", frame.head.tenant.to_string()),
            ("stream", stream.to_string()),
            ("seq", seq.0.to_string()),
            ("type", schema.name.to_owned()),
            ("time", frame.head.time.0.to_string()),
        ];
        if stream.kind() == StreamKind::Execution {
            headers.push(("execution", stream.to_string()));
        }
        let payload = frame_public(id, record.body);
        Ok(Outgoing { key: stream.to_string(), headers, payload: Some(payload), time: frame.head.time })
    }
}

/// What belongs to a tenant. Keys and the machinery's own records stay private.
fn is_public(frame: &Frame) -> bool {
    match frame.head.stream.kind() {
        StreamKind::Execution | StreamKind::Account | StreamKind::Lesson => true,
        StreamKind::Control | StreamKind::Book => false,
    }
}
