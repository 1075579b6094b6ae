//! `omium log` on a log that a later program has written, with types of records that this one does not know.

use std::path::Path;
use std::process::Command;

use omium_log::disk::RealDisk;
use omium_log::embedded::{Journal, JournalOptions};
use omium_schemas::catalogue::{Event, SchemaTaught, TeachSchemas};
use omium_schemas::{
    Avro, BlockBuilder, BlockHead, BlockKind, BlockNo, Digest, Epoch, FrameBuilder, FrameHead, Partition,
    Seq, StreamId, TenantId, Time, TypeId,
};
use serde_json::{Value, json};

const TRY_LUCK: TypeId = TypeId(60_001);
const LUCK_TRIED: TypeId = TypeId(60_002);
const UNTAUGHT: TypeId = TypeId(60_003);

fn taught(id: TypeId, json: &str) -> (TypeId, Vec<u8>) {
    let event = SchemaTaught { id: i32::from(id.0), fingerprint: 1, json: json.into() };
    let mut body = Vec::new();
    event.write(&mut body).expect("it can be written");
    (SchemaTaught::TYPE_ID, body)
}

/// A log of one block with a frame for each list of records.
fn log_of(root: &Path, frames: &[Vec<(TypeId, Vec<u8>)>]) {
    let (mut block, mut prev, mut seq) = (BlockBuilder::default(), Digest::NONE, 1);
    for records in frames {
        let (tenant, stream) = (TenantId([1; 16]), StreamId::account());
        let head =
            FrameHead { tenant, stream, first: Seq(seq), time: Time(seq), prev, actor: None, trace: None };
        let mut frame = FrameBuilder::new(&head, block.buffer());
        for (kind, body) in records {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(body);
                Ok(())
            };
            frame.record(*kind, 0, write).expect("it fits");
            seq += 1;
        }
        let (length, hash) = frame.finish();
        block.push(length, hash);
        prev = hash;
    }
    let (partition, epoch, no) = (Partition(0), Epoch(0), BlockNo(1));
    let head = BlockHead {
        kind: BlockKind::Frames,
        partition,
        frames: 0,
        epoch,
        no,
        prev: Digest::NONE,
        time: Time(seq),
    };
    let mut journal = Journal::open(RealDisk, JournalOptions::new(root, 1, [7; 16])).expect("a new log");
    journal.write(&[block.close(head).bytes]).expect("written");
    journal.sync().expect("synced");
    journal.close().expect("closed");
}

#[test]
fn records_of_types_that_this_program_does_not_know_are_shown_by_the_schemas_in_the_log() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = dir.path().join("log");
    let try_luck = r#"{"type":"record","name":"TryLuck","namespace":"omium","fields":[
        {"name":"times","type":"long"},{"name":"charm","type":["null","string"]}]}"#;
    let luck_tried = r#"{"type":"record","name":"LuckTried","namespace":"omium","fields":[
        {"name":"how","type":{"type":"enum","name":"How","symbols":["WELL","BADLY"]}},
        {"name":"eyes","type":{"type":"array","items":"int"}}]}"#;
    assert!(Event::decode(LUCK_TRIED, &[2, 4, 12, 10, 0]).is_err(), "this program knows the type");
    log_of(
        &log,
        &[
            vec![
                (TeachSchemas::TYPE_ID, Vec::new()),
                taught(TRY_LUCK, try_luck),
                taught(LUCK_TRIED, luck_tried),
            ],
            // times 21, charm "ring"; BADLY, [6, 5]
            vec![
                (TRY_LUCK, b"\x2a\x02\x08ring".to_vec()),
                (LUCK_TRIED, vec![2, 4, 12, 10, 0]),
                (UNTAUGHT, vec![0xab]),
            ],
        ],
    );
    let omium = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_omium")).args(args).arg(&log).output().expect("the binary runs")
    };
    let shown = omium(&["log", "inspect", "--records"]);
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
    let text = String::from_utf8(shown.stdout).expect("text");
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let found: Vec<(&Value, &Value)> =
        records[3..].iter().map(|record| (&record["type"], &record["body"])).collect();
    assert_eq!(found[0], (&json!("TryLuck"), &json!({ "times": 21, "charm": "ring" })));
    assert_eq!(found[1], (&json!("LuckTried"), &json!({ "how": "BADLY", "eyes": [6, 5] })));
    // What the log itself does not explain is shown as bytes, and said to be unexplained.
    assert_eq!(found[2].1["bytes"], "ab");
    assert!(found[2].1["unread"].as_str().is_some_and(|why| why.contains("60003")), "{:?}", found[2]);
    let verified = omium(&["log", "verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
}
