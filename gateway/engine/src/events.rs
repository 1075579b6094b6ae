//! Events of an execution, as they are shown and followed.

use std::collections::BTreeMap;
use std::sync::{LazyLock, PoisonError};

use apache_avro::reader::datum::GenericDatumReader;
use async_trait::async_trait;
use omium_api::port::{Caller, Failure, Streams};
use omium_api::views::{DeltaView, EventView};
use omium_runtime::{StreamKey, Told};
use omium_schemas::{Content, Frame, RecordRef, SCHEMAS, Seq};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::{Engine, answers, view};
use crate::readable;

/// About how many bytes of events are shown at once.
const PAGE: usize = 4 << 20;

static READABLE: LazyLock<BTreeMap<u16, apache_avro::Schema>> = LazyLock::new(|| {
    let parsed = SCHEMAS.iter().map(|schema| (schema.id.0, apache_avro::Schema::parse_str(schema.json)));
    parsed.filter_map(|(id, schema)| Some((id, schema.ok()?))).collect()
});

/// Names of schemas are resolved once, and not for each record that is read.
static READERS: LazyLock<BTreeMap<u16, GenericDatumReader<'static>>> = LazyLock::new(|| {
    let built = READABLE.iter().map(|(id, schema)| (*id, GenericDatumReader::builder(schema).build()));
    built.filter_map(|(id, reader)| Some((id, reader.ok()?))).collect()
});

/// Counts what is written to it.
#[derive(Default)]
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Engine {
    async fn shown_frame(&self, key: StreamKey, frame: &Frame) -> Vec<EventView> {
        let Ok(told) = Told::read(frame) else { return Vec::new() };
        let mut contents: Vec<Vec<Content>> = vec![Vec::new()];
        told.command.contents(&mut |_, content| contents[0].push(content.clone()));
        for (_, event) in &told.events {
            let mut of_event = Vec::new();
            event.contents(&mut |_, content| of_event.push(content.clone()));
            contents.push(of_event);
        }
        let blobs = self.opened(key, contents.iter().flatten()).await;
        let mut views = Vec::new();
        for (at, (record, contents)) in frame.records().zip(&contents).enumerate() {
            let mut left = contents.iter();
            let seq = Seq(frame.head.first.0 + at as u64);
            let mut next = || left.next().map(|content| self.viewed(key, seq, &blobs, content));
            let body = body(&record, &mut next);
            views.push(EventView {
                seq: seq.0,
                time: view::time(frame.head.time),
                kind: omium_schemas::schema(record.kind).map_or("?", |schema| schema.name).to_owned(),
                command: at == 0,
                actor: frame.head.actor.clone().filter(|_| at == 0),
                body,
            });
        }
        views
    }
}

#[async_trait]
impl Streams for Engine {
    async fn events(
        &self,
        caller: &Caller,
        execution: &str,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<EventView>, Failure> {
        let key = self.key_of(caller, execution)?;
        self.stream(key).await?;
        let limit = limit.clamp(1, 10_000);
        let frames =
            self.history.raw_frames(&key, from, limit).await.map_err(|error| answers::broken(&error))?;
        let mut views = Vec::new();
        let mut bytes = Length::default();
        for frame in frames {
            let shown = self.shown_frame(key, &frame).await.into_iter().filter(|event| event.seq >= from.0);
            for event in shown {
                // Counting does not fail.
                let _ = serde_json::to_writer(&mut bytes, &event.body);
                views.push(event);
            }
            // A page ends where it is long enough; whoever wants more asks for the next one.
            if bytes.0 >= PAGE || views.len() >= limit {
                break;
            }
        }
        views.truncate(limit);
        Ok(views)
    }

    async fn follow(&self, caller: &Caller, execution: &str) -> Result<watch::Receiver<Seq>, Failure> {
        let key = self.key_of(caller, execution)?;
        let last = self.stream(key).await?.seq;
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|_, sender| sender.receiver_count() > 0);
        let receiver = followed.entry(key).or_insert_with(|| watch::Sender::new(last)).subscribe();
        Ok(receiver)
    }

    async fn read_along(
        &self,
        caller: &Caller,
        execution: &str,
    ) -> Result<broadcast::Receiver<DeltaView>, Failure> {
        let key = self.key_of(caller, execution)?;
        self.stream(key).await?;
        Ok(self.readers.join(key))
    }
}

fn body(record: &RecordRef<'_>, next: &mut dyn FnMut() -> Option<Value>) -> Value {
    let Some(reader) = READERS.get(&record.kind.0) else { return Value::Null };
    let mut body = reader.read_value(&mut &record.body[..]).map_or_else(
        |error| json!({ "unread": error.to_string() }),
        |value| readable::json(value, &mut |_| next()),
    );
    // Keys, entropy and the like are the machinery's; they are in `omium log inspect`.
    if let Value::Object(fields) = &mut body {
        fields.remove("origin");
    }
    body
}
