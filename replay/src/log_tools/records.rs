//! Every record of a log as JSON, decoded by the schemas that the log was taught: this program need not know its types.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use apache_avro::reader::datum::GenericDatumReader;
use bytes::Bytes;
use omium_log::LogError;
use omium_log::disk::RealDisk;
use omium_log::embedded::verify_and_read;
use omium_schemas::catalogue::{Event, SchemaTaught};
use omium_schemas::{Block, BlockKind, Frame, Offset, Partition, Seq, TypeId};
use serde_json::{Value, json};

use omium_engine::readable::{self, hex};

/// What one record may take while it is decoded: no record is larger than a block.
const MOST: usize = omium_schemas::MAX_BLOCK;

/// Prints every record, one line each. Says how many things were wrong with the log.
pub(super) fn print(dir: &Path, only: Option<u16>) -> Result<usize, LogError> {
    apache_avro::util::max_allocation_bytes(MOST);
    let mut schemas = Schemas::default();
    verify_and_read(&RealDisk, dir, &mut |_, _, bytes| schemas.learn(bytes))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut broken = None;
    let verified = verify_and_read(&RealDisk, dir, &mut |partition, offset, bytes| {
        if only.is_some_and(|only| only != partition.0) || broken.is_some() {
            return;
        }
        let printed =
            lines(&schemas, partition, offset, bytes).iter().try_for_each(|line| writeln!(out, "{line}"));
        broken = printed.err();
    })?;
    // Whoever reads may stop reading, as `head` does; that is no failure.
    let _ = out.flush();
    Ok(verified.problems.len())
}

/// The schemas that stand in the log, by the number of the type.
#[derive(Default)]
struct Schemas(BTreeMap<u16, Result<apache_avro::Schema, String>>);

impl Schemas {
    fn learn(&mut self, bytes: &Bytes) {
        for frame in frames(bytes) {
            for record in frame.records().skip(1).filter(|record| record.kind == SchemaTaught::TYPE_ID) {
                let Ok(Event::SchemaTaught(taught)) = Event::decode(record.kind, record.body) else {
                    continue;
                };
                let schema = apache_avro::Schema::parse_str(&taught.json).map_err(|error| error.to_string());
                self.0.insert(taught.id as u16, schema);
            }
        }
    }

    fn name(&self, kind: TypeId) -> String {
        match self.0.get(&kind.0) {
            Some(Ok(schema)) => {
                schema.name().map_or_else(|| kind.0.to_string(), |name| name.name().to_string())
            }
            _ => kind.0.to_string(),
        }
    }

    /// The record as JSON, or why it cannot be read, and its bytes.
    fn decode(&self, kind: TypeId, body: &[u8]) -> Value {
        let unread = |why: String| json!({ "unread": why, "bytes": hex(body) });
        match self.0.get(&kind.0) {
            None => unread(format!("the log was not taught the schema of type {}", kind.0)),
            Some(Err(why)) => unread(format!("the schema in the log is not one: {why}")),
            Some(Ok(schema)) => {
                let reader = GenericDatumReader::builder(schema).build();
                let read = reader.and_then(|reader| reader.read_value(&mut &body[..]));
                read.map_or_else(
                    |error| unread(error.to_string()),
                    |value| readable::json(value, &mut |_| None),
                )
            }
        }
    }
}

fn frames(bytes: &Bytes) -> Vec<Frame> {
    Block::parse(bytes.clone()).and_then(|block| block.frames()).unwrap_or_default()
}

fn lines(schemas: &Schemas, partition: Partition, offset: Offset, bytes: &Bytes) -> Vec<Value> {
    let Ok(block) = Block::parse(bytes.clone()) else { return Vec::new() };
    let head = block.head;
    let place = |mut line: Value| {
        line["partition"] = json!(partition.0);
        line["offset"] = json!(offset.0);
        line["no"] = json!(head.no.0);
        line
    };
    if head.kind == BlockKind::Epoch {
        return vec![place(json!({ "type": "epoch", "epoch": head.epoch.0, "time": head.time.0 }))];
    }
    let mut lines = Vec::new();
    for frame in frames(bytes) {
        for (n, record) in frame.records().enumerate() {
            lines.push(place(json!({
                "tenant": frame.head.tenant.to_string(),
                "stream": frame.head.stream.to_string(),
                "seq": Seq(frame.head.first.0 + n as u64).0,
                "time": frame.head.time.0,
                "actor": frame.head.actor,
                "type": schemas.name(record.kind),
                "cause": record.cause,
                "body": schemas.decode(record.kind, record.body),
            })));
        }
    }
    lines
}
