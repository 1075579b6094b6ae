//! The golden block: `FORMAT.md` explains its bytes, and this reads them by the offsets that stand there, without the
//! crate's own reader.

use omium_schemas::block::epoch_record;
use omium_schemas::catalogue::{CompleteStep, CostRecorded, StepCompleted, TopUpAccount};
use omium_schemas::{
    Block, BlockBuilder, BlockHead, BlockKind, BlockNo, Branch, Command, Content, Digest, Epoch, Event,
    Filter, FrameBuilder, FrameHead, KeyId, Money, Origin, Partition, Seq, StepId, StreamId, StreamKind,
    TenantId, Time, TraceContext, Verdict,
};
use sha2::{Digest as _, Sha256};

use crate::golden::{blessing, directory, hex, load, store, unhex};

const TENANT: TenantId = TenantId([0x11; 16]);
const NOW: Time = Time(1_800_000_000_000_000);

fn head(stream: StreamId, first: u64, prev: Digest) -> FrameHead {
    FrameHead { tenant: TENANT, stream, first: Seq(first), time: NOW, prev, actor: None, trace: None }
}

fn origin(key: Option<&'static [u8]>) -> Origin {
    Origin { key: key.map(Into::into), request: None, entropy: [0x42; 16], control: Seq(3) }
}

/// Adds one frame: the command, then events that it caused.
fn add(
    block: &mut BlockBuilder,
    head: &FrameHead,
    origin: &Origin,
    command: &Command,
    events: &[Event],
) -> Digest {
    let mut frame = FrameBuilder::new(head, block.buffer());
    frame.record(command.type_id(), 0, |out| command.encode(origin, out)).expect("sealed content");
    for event in events {
        frame.record(event.type_id(), 0, |out| event.encode(out)).expect("sealed content");
    }
    let (length, hash) = frame.finish();
    block.push(length, hash);
    hash
}

/// An epoch record, and behind it a block of two frames of one stream and one of another.
fn golden() -> Vec<u8> {
    let opening = epoch_record(Partition(2), Epoch(5), BlockNo(0), Digest::NONE, Time(NOW.0 - 10));
    let execution = StreamId::new(StreamKind::Execution, [0x22; 15]);
    let mut block = BlockBuilder::default();
    let complete = CompleteStep {
        step: StepId(1),
        branch: Branch(0),
        epoch: Epoch(5),
        delivery: 1,
        output: Some(Content::Sealed { key: KeyId(9), bytes: b"cipher text and tag"[..].into() }),
        cost: Money(1_500),
    };
    let completed = StepCompleted { step: StepId(1), branch: Branch(0), output: None };
    let cost = CostRecorded { step: Some(StepId(1)), amount: Money(1_500) };
    let events = [completed.into(), cost.into()];
    let first =
        add(&mut block, &head(execution, 4, Digest([0x33; 32])), &origin(None), &complete.into(), &events);
    let mut traced = head(execution, 7, first);
    traced.actor = Some("user:ann".to_owned());
    traced.trace = Some(TraceContext { trace: [0x44; 16], span: [0x55; 8], flags: 1 });
    let pause = omium_schemas::catalogue::PauseExecution {}.into();
    let paused = [omium_schemas::catalogue::ExecutionPaused {}.into()];
    add(&mut block, &traced, &origin(Some(b"once")), &pause, &paused);
    let top_up = TopUpAccount { amount: Money::dollars(3) }.into();
    let credited = [omium_schemas::catalogue::AccountCredited { amount: Money::dollars(3) }.into()];
    add(&mut block, &head(StreamId::account(), 1, Digest::NONE), &origin(Some(b"gift")), &top_up, &credited);
    let closed = block.close(BlockHead {
        kind: BlockKind::Frames,
        partition: Partition(2),
        frames: 0,
        epoch: Epoch(5),
        no: BlockNo(1),
        prev: Digest::NONE,
        time: NOW,
    });
    [&opening.bytes[..], &closed.bytes].concat()
}

/// Lines of 32 bytes, so that a difference shows where it is.
fn lines(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex(line) + "\n").collect()
}

fn kept() -> Vec<u8> {
    let path = directory().join("block_v1.hex");
    if blessing() && crate::shipped::names().is_empty() {
        store(&path, &lines(&golden()));
    }
    let text =
        load(&path).expect("golden/block_v1.hex; run these tests once with OMIUM_BLESS=1 and commit it");
    unhex(&text.replace('\n', ""))
}

#[test]
fn blocks_are_written_byte_for_byte_as_they_ever_were() {
    assert_eq!(lines(&golden()), lines(&kept()));
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    (u16_at(bytes, at) | u16_at(bytes, at + 2) << 16) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) as u64 | (u32_at(bytes, at + 4) as u64) << 32
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().to_vec()
}

#[test]
fn an_epoch_record_stands_where_the_format_says() {
    let bytes = kept();
    assert_eq!(&bytes[..4], b"OME\x01");
    assert_eq!(u32_at(&bytes, 4), 72);
    assert_eq!((u16_at(&bytes, 8), u16_at(&bytes, 10)), (2, 0));
    assert_eq!((u64_at(&bytes, 12), u64_at(&bytes, 20)), (5, 0));
    assert_eq!(bytes[28..60], [0; 32]);
    assert_eq!(u64_at(&bytes, 60), NOW.0 - 10);
    assert_eq!(u32_at(&bytes, 68) as u32, crc32c::crc32c(&bytes[..68]));
}

#[test]
fn a_block_its_frames_and_their_chain_stand_where_the_format_says() {
    let bytes = &kept()[72..];
    assert_eq!(&bytes[..4], b"OMB\x01");
    assert_eq!(u32_at(bytes, 4), bytes.len());
    assert_eq!((u16_at(bytes, 8), u16_at(bytes, 10)), (2, 3));
    assert_eq!((u64_at(bytes, 12), u64_at(bytes, 20), u64_at(bytes, 60)), (5, 1, NOW.0));
    let end = bytes.len() - 4;
    let crc = crc32c::crc32c(&[&bytes[68..end], &bytes[..68]].concat());
    assert_eq!(u32_at(bytes, end) as u32, crc);

    let mut at = 68;
    let mut hashes = Vec::new();
    for (flags, records, first) in [(0, 3, 4), (3, 2, 7), (0, 2, 1)] {
        let frame = &bytes[at..at + u32_at(bytes, at)];
        assert_eq!((u64::from(frame[4]), u16_at(frame, 5)), (flags, records));
        assert_eq!(frame[7..23], TENANT.0);
        assert_eq!((u64_at(frame, 39), u64_at(frame, 47)), (first, NOW.0));
        hashes.push(sha256(&[frame]));
        at += frame.len();
    }
    assert_eq!(at, end);
    let second = 68 + u32_at(bytes, 68);
    assert_eq!(bytes[second + 55..second + 87], hashes[0], "the chain");
    let block = Block::parse(bytes.to_vec().into()).expect("the golden block");
    assert_eq!(block.hash().expect("its frames").0.to_vec(), sha256(&[&hashes.concat(), &bytes[..68]]));
}

#[test]
fn the_second_frame_holds_actor_trace_and_records_where_the_format_says() {
    let bytes = &kept()[72..];
    let frame = &bytes[68 + u32_at(bytes, 68)..];
    assert_eq!((frame[87], &frame[88..96]), (8, &b"user:ann"[..]));
    assert_eq!((&frame[96..112], &frame[112..120], frame[120]), (&[0x44; 16][..], &[0x55; 8][..], 1));
    let record = &frame[121..];
    assert_eq!((u16_at(record, 0), record[2]), (52, 0));
    let body = &record[4..4 + usize::from(record[3])];
    // Origin: the key in branch 1 of its union, no request, entropy, control seq 3 as zigzag 6.
    assert_eq!(body, [&[2, 8][..], b"once", &[0], &[0x42; 16], &[6]].concat());
    let event = &record[4 + body.len()..];
    assert_eq!((u16_at(event, 0), event[2], event[3]), (1102, 0, 0));
}

#[test]
fn the_filter_takes_the_golden_records_once() {
    let bytes = kept();
    let mut filter = Filter::new();
    let mut verdicts = Vec::new();
    for record in [&bytes[..72], &bytes[72..], &bytes[72..], &bytes[..72]] {
        let block = Block::parse(record.to_vec().into()).expect("a golden record");
        verdicts.push(filter.admit(&block.head, block.hash().ok()));
    }
    assert_eq!(verdicts[..2], [Verdict::Opens, Verdict::Counts]);
    assert!(matches!(verdicts[2..], [Verdict::Ignored(_), Verdict::Ignored(_)]));
}

/// FORMAT.md ends with a table of places in the golden block; a row's first code is the bytes at its place.
#[test]
fn every_row_about_the_golden_block_is_true() {
    let path = directory().join("../FORMAT.md");
    let text = load(&path).expect("FORMAT.md");
    let (_, table) = text.split_once("## Golden block").expect("its last section");
    let bytes = hex(&kept());
    let mut rows = 0;
    for row in table.lines() {
        let mut cells = row.split('|').map(str::trim).skip(1);
        let Some(at) = cells.next().and_then(|at| at.parse::<usize>().ok()) else { continue };
        let code = cells.next().and_then(|cell| cell.split('`').nth(1)).expect("a row shows bytes");
        let digits: String = code.split('…').next().unwrap_or_default().split_whitespace().collect();
        assert_eq!(bytes.get(at * 2..at * 2 + digits.len()), Some(&digits[..]), "{row}");
        rows += 1;
    }
    assert!(rows > 10, "the table was not found");
}

/// HMAC-SHA-256 for keys of at most 64 bytes, as RFC 2104 writes it.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).unwrap_or(&0) ^ with).collect() };
    sha256(&[&pad(0x5c), &sha256(&[&pad(0x36), message])])
}

#[test]
fn the_nonce_of_the_sealed_sample_follows_from_entropy_seq_and_field() {
    let text = load(&directory().join("sealed_v1.json")).expect("golden/sealed_v1.json");
    let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let bytes = |key: &str| unhex(sample[key].as_str().expect("a text"));
    let seq = sample["seq"].as_u64().expect("a number").to_le_bytes();
    let field = (sample["field"].as_u64().expect("a number") as u16).to_le_bytes();
    assert_eq!(hmac(&bytes("entropy"), &[&seq[..], &field].concat())[..12], bytes("nonce"));
    let associated = [&bytes("tenant")[..], &bytes("stream"), &seq, &field].concat();
    assert_eq!(associated, bytes("associated_data"));
    let plain = sample["plain"].as_str().expect("a text").len();
    assert_eq!(bytes("sealed").len(), plain + 16, "cipher text and tag");
}
