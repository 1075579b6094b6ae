//! Bytes from an enemy are refused or read, and never cost more than a small multiple of their length.

use omium_schemas::avro::write_varint;
use omium_schemas::{Avro, Command, DecodeError, Event, Origin, RecordKind, SCHEMAS, Schema, Seq, TypeId};

use crate::arbitrary::{Dice, Fill, value};
use crate::oracle::{parsed, written};

/// Reads as one type; what comes back is only looked at.
fn attempt(schema: &Schema, bytes: &[u8]) -> Option<String> {
    match schema.kind {
        RecordKind::Event => Event::decode(schema.id, bytes).ok().map(|event| format!("{event:?}")),
        RecordKind::Command => Command::decode(schema.id, bytes).ok().map(|command| format!("{command:?}")),
    }
}

#[test]
fn random_bytes_over_every_type_never_panic() {
    for schema in SCHEMAS {
        for round in 0..400 {
            let mut dice = Dice(u64::from(schema.id.0) << 20 | round);
            let length = dice.below(120);
            let bytes = dice.bytes(length);
            attempt(schema, &bytes);
            // Mostly small bytes: these get further, because they look like short lengths and known branches.
            let small: Vec<u8> = bytes.iter().map(|byte| byte % 8).collect();
            attempt(schema, &small);
        }
    }
}

#[test]
fn every_cut_of_a_record_is_refused_and_every_flip_is_survived() {
    for schema in SCHEMAS {
        let made = value(schema.json, Fill::Full, &mut Dice(u64::from(schema.id.0)));
        let bytes = written(&parsed(schema), made);
        for end in 0..bytes.len() {
            assert_eq!(attempt(schema, &bytes[..end]), None, "{} cut at {end}", schema.name);
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            attempt(schema, &flipped);
        }
    }
}

#[test]
fn bytes_behind_a_record_are_refused() {
    for schema in SCHEMAS {
        let mut bytes = written(&parsed(schema), value(schema.json, Fill::Least, &mut Dice(1)));
        bytes.push(0);
        let refused = match schema.kind {
            RecordKind::Event => Event::decode(schema.id, &bytes).err(),
            RecordKind::Command => Command::decode(schema.id, &bytes).err(),
        };
        assert_eq!(refused, Some(DecodeError::Trailing(1)), "{}", schema.name);
    }
}

#[test]
fn a_length_or_count_of_any_size_is_refused_where_the_bytes_are_not_there() {
    // Every length in every record is replaced by huge and negative ones, wherever a byte could be one.
    for schema in SCHEMAS {
        let made = value(schema.json, Fill::Full, &mut Dice(9));
        let bytes = written(&parsed(schema), made);
        for hostile in [i64::MAX, i64::MIN, -1, 1 << 40] {
            let mut number = Vec::new();
            hostile.write(&mut number).expect("a long always encodes");
            for at in 0..bytes.len() {
                let planted = [&bytes[..at], &number, &bytes[at + 1..]].concat();
                attempt(schema, &planted);
            }
        }
    }
}

#[test]
fn a_list_of_items_without_bytes_cannot_be_longer_than_the_input() {
    // OpenVote's list of choices: each takes at least its length byte, so a million of them needs a megabyte.
    let mut bytes = Vec::new();
    let origin = Origin { key: None, request: None, entropy: [0; 16], control: Seq(0) };
    origin.write(&mut bytes).expect("an origin always encodes");
    None::<i64>.write(&mut bytes).expect("no question always encodes");
    (1_000_000_i64).write(&mut bytes).expect("a long always encodes");
    bytes.extend_from_slice(&[0; 100]);
    let refused = Command::decode(omium_schemas::catalogue::OpenVote::TYPE_ID, &bytes);
    assert_eq!(refused, Err(DecodeError::Short { wanted: 1_000_000, left: 100 }));
}

/// Empty texts have the worst ratio of all lists in the catalogue: one byte on the wire, 24 and more in memory.
#[test]
fn the_longest_list_that_a_block_can_hold_stays_under_64_mib() {
    let count = omium_schemas::MAX_BLOCK;
    let mut bytes = Vec::new();
    let origin = Origin { key: None, request: None, entropy: [0; 16], control: Seq(0) };
    origin.write(&mut bytes).expect("an origin always encodes");
    None::<i64>.write(&mut bytes).expect("no question always encodes");
    vec![String::new(); count].write(&mut bytes).expect("a list of texts always encodes");
    // No voters, a quorum of 0, no end.
    bytes.extend_from_slice(&[0; 3]);
    let (_, command) =
        Command::decode(omium_schemas::catalogue::OpenVote::TYPE_ID, &bytes).expect("a long vote");
    let Command::OpenVote(vote) = command else { panic!("OpenVote was read as something else") };
    assert_eq!(vote.choices.len(), count);
    assert!(vote.choices.capacity() * size_of::<String>() <= 64 << 20);
}

#[test]
fn deep_unions_and_unknown_branches_are_refused_by_name() {
    let mut bytes = Vec::new();
    write_varint(2 << 1, &mut bytes);
    let refused = Event::decode(omium_schemas::catalogue::CheckpointTaken::TYPE_ID, &bytes);
    assert_eq!(refused, Err(DecodeError::Branch { what: "an optional value", index: 2 }));
    let failed = Event::decode(omium_schemas::catalogue::ExecutionFailed::TYPE_ID, &[200, 1]);
    assert_eq!(failed, Err(DecodeError::Branch { what: "omium.FailureClass", index: 100 }));
}

#[test]
fn a_type_that_this_program_does_not_know_asks_for_an_upgrade() {
    for id in [0, 999, 1099, 60_000, u16::MAX] {
        assert_eq!(Event::decode(TypeId(id), &[]), Err(DecodeError::UnknownType(id)));
        assert_eq!(Command::decode(TypeId(id), &[]), Err(DecodeError::UnknownType(id)));
    }
    assert!(DecodeError::UnknownType(7).to_string().contains("upgrade omium"));
    let event = omium_schemas::catalogue::ExecutionPaused::TYPE_ID;
    assert_eq!(Command::decode(event, &[]), Err(DecodeError::UnknownType(event.0)));
}
