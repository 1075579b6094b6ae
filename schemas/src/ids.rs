//! Identities. Each prints with a prefix of its own and parses only its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::avro::{Avro, DecodeError, EncodeError, Reader};
use crate::digest::Digest;
use crate::position::{Partition, Seq};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {why}")]
pub struct NotAnId {
    text: String,
    what: &'static str,
    why: &'static str,
}

/// A tenant. Its 16 bytes are the front of the digest of its label, so that every node agrees without asking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct TenantId(pub [u8; 16]);

/// What kind of stream an id names. The kind is the id's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StreamKind {
    /// One run of a workflow.
    Execution = 1,
    /// A tenant's money and limits.
    Account = 2,
    /// What was learned of one workflow of one tenant.
    Lesson = 3,
    /// Tenants, keys, workflow versions, policies, prices.
    Control = 4,
    /// A partition's own records: logic versions, control seen, message numbers, opening balances.
    Book = 5,
}

impl StreamKind {
    const ALL: [StreamKind; 5] = [
        StreamKind::Execution,
        StreamKind::Account,
        StreamKind::Lesson,
        StreamKind::Control,
        StreamKind::Book,
    ];

    fn prefix(self) -> &'static str {
        match self {
            StreamKind::Execution => "ex_",
            StreamKind::Account => "acc_",
            StreamKind::Lesson => "les_",
            StreamKind::Control => "ctl_",
            StreamKind::Book => "book_",
        }
    }
}

/// A stream: one execution, account, lesson, control stream or partition's book.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId([u8; 16]);

impl StreamId {
    /// A stream of this kind, told apart by fifteen bytes.
    pub fn new(kind: StreamKind, rest: [u8; 15]) -> StreamId {
        let mut bytes = [kind as u8; 16];
        bytes[1..].copy_from_slice(&rest);
        StreamId(bytes)
    }

    /// The stream that this kind has under a name.
    pub fn named(kind: StreamKind, name: &str) -> StreamId {
        let mut rest = [0; 15];
        rest.copy_from_slice(&Digest::of(name.as_bytes()).0[..15]);
        StreamId::new(kind, rest)
    }

    /// The one account stream that each tenant has.
    pub fn account() -> StreamId {
        StreamId::new(StreamKind::Account, [0; 15])
    }

    /// The one control stream of an installation (under the tenant of all zeros).
    pub fn control() -> StreamId {
        StreamId::new(StreamKind::Control, [0; 15])
    }

    /// The book of one partition (under the tenant of all zeros). It lives where it says, not where its hash says.
    pub fn book(partition: Partition) -> StreamId {
        let mut rest = [0; 15];
        rest[..2].copy_from_slice(&partition.0.to_be_bytes());
        StreamId::new(StreamKind::Book, rest)
    }

    /// What kind of stream this is.
    pub fn kind(&self) -> StreamKind {
        StreamKind::ALL
            .into_iter()
            .find(|kind| *kind as u8 == self.0[0])
            .expect("a StreamId is only made with one of the kinds")
    }

    /// The sixteen bytes that stand in a frame.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads sixteen bytes from a frame.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<StreamId, DecodeError> {
        if StreamKind::ALL.iter().any(|kind| *kind as u8 == bytes[0]) {
            Ok(StreamId(bytes))
        } else {
            Err(DecodeError::Malformed { what: "a stream id", why: "its first byte names no kind of stream" })
        }
    }

    /// The partition that a tenant's stream lives on; our own hash alone places it.
    pub fn partition(&self, tenant: TenantId, partitions: u16) -> Partition {
        if self.kind() == StreamKind::Book {
            return Partition(u16::from_be_bytes([self.0[1], self.0[2]]));
        }
        if partitions <= 1 {
            return Partition(0);
        }
        let mut key = [0; 33];
        key[..16].copy_from_slice(&tenant.0);
        key[17..].copy_from_slice(&self.0);
        let hash = Digest::of(&key).0;
        let mut front = [0; 8];
        front.copy_from_slice(&hash[..8]);
        Partition((u64::from_le_bytes(front) % u64::from(partitions)) as u16)
    }
}

/// One run of a workflow: a stream of kind execution. Made by the server and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionId(StreamId);

impl ExecutionId {
    /// An execution told apart by fifteen bytes that the server drew.
    pub fn new(rest: [u8; 15]) -> ExecutionId {
        ExecutionId(StreamId::new(StreamKind::Execution, rest))
    }

    /// The stream that holds it.
    pub fn stream(self) -> StreamId {
        self.0
    }
}

/// A step of an execution, numbered in the order in which the execution scheduled it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct StepId(pub u32);

/// A checkpoint: the position after one event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct CheckpointId(pub Seq);

/// A label: `[A-Za-z0-9_.-]{1,64}`, declared not personal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label(String);

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TenantId {
    /// The owner of what belongs to no tenant: the control stream and the books.
    pub const SYSTEM: TenantId = TenantId([0; 16]);

    /// The tenant of this label.
    pub fn named(label: &Label) -> TenantId {
        let mut id = [0; 16];
        id.copy_from_slice(&Digest::of(label.0.as_bytes()).0[..16]);
        TenantId(id)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 || !text.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}

fn refuse(text: &str, what: &'static str, why: &'static str) -> NotAnId {
    NotAnId { text: text.chars().take(80).collect(), what, why }
}

macro_rules! printed {
    ($name:ident, $self:ident, $f:ident, $print:expr) => {
        impl fmt::Display for $name {
            fn fmt(&$self, $f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $print
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

printed!(TenantId, self, f, {
    f.write_str("ten_")?;
    hex(&self.0, f)
});
printed!(StreamId, self, f, {
    f.write_str(self.kind().prefix())?;
    hex(&self.0[1..], f)
});
printed!(ExecutionId, self, f, fmt::Display::fmt(&self.0, f));
printed!(StepId, self, f, write!(f, "step_{}", self.0));
printed!(CheckpointId, self, f, write!(f, "cp_{}", self.0));
printed!(Label, self, f, f.write_str(&self.0));

impl FromStr for TenantId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.strip_prefix("ten_")
            .and_then(unhex)
            .map(TenantId)
            .ok_or_else(|| refuse(text, "a tenant id", "it is `ten_` and 32 hexadecimal digits"))
    }
}

impl FromStr for StreamId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        StreamKind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))
            .and_then(|(kind, rest)| Some(StreamId::new(kind, unhex(rest)?)))
            .ok_or_else(|| {
                refuse(
                    text,
                    "a stream id",
                    "it is `ex_`, `acc_`, `les_`, `ctl_` or `book_` and 30 hexadecimal digits",
                )
            })
    }
}

impl FromStr for ExecutionId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.strip_prefix("ex_")
            .and_then(unhex)
            .map(ExecutionId::new)
            .ok_or_else(|| refuse(text, "an execution id", "it is `ex_` and 30 hexadecimal digits"))
    }
}

impl FromStr for StepId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.strip_prefix("step_")
            .and_then(|rest| rest.parse().ok())
            .map(StepId)
            .ok_or_else(|| refuse(text, "a step id", "it is `step_` and a number"))
    }
}

impl FromStr for CheckpointId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.strip_prefix("cp_")
            .and_then(|rest| rest.parse().ok())
            .map(|seq| CheckpointId(Seq(seq)))
            .ok_or_else(|| refuse(text, "a checkpoint id", "it is `cp_` and a number"))
    }
}

impl FromStr for Label {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Label(text.to_owned()))
        } else {
            Err(refuse(text, "a label", "it has 1 to 64 letters, digits, `_`, `.` or `-`"))
        }
    }
}

impl Avro for TenantId {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.fixed().map(TenantId)
    }
}

impl Avro for StreamId {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        StreamId::from_bytes(reader.fixed()?)
    }
}

impl Avro for StepId {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        i64::from(self.0).write(out)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = i64::read(reader)?;
        u32::try_from(value).map(StepId).map_err(|_| DecodeError::Negative { what: "StepId", value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_parses_only_its_own() {
        let execution = ExecutionId::new([7; 15]);
        assert_eq!(execution.to_string().parse(), Ok(execution));
        assert_eq!(execution.to_string().parse(), Ok(execution.stream()));
        assert!(StreamId::account().to_string().parse::<ExecutionId>().is_err());
        assert!("ten_00".parse::<TenantId>().is_err());
        assert!("step_-1".parse::<StepId>().is_err());
        assert_eq!("step_4".parse(), Ok(StepId(4)));
        assert_eq!("cp_9".parse(), Ok(CheckpointId(Seq(9))));
    }

    #[test]
    fn a_label_has_only_harmless_characters() {
        assert!("loan-decision_2.b".parse::<Label>().is_ok());
        for bad in ["", "a b", "é", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_id_of_no_known_kind_is_refused() {
        assert!(StreamId::from_bytes([0; 16]).is_err());
        assert!(StreamId::from_bytes([9; 16]).is_err());
    }

    #[test]
    fn placement_is_fixed_for_ever() {
        let tenant = TenantId::named(&"default".parse().expect("a label"));
        let placed: Vec<u16> =
            (0..8).map(|n| ExecutionId::new([n; 15]).stream().partition(tenant, 48).0).collect();
        assert_eq!(placed, PLACED_ON_48);
        assert_eq!(StreamId::book(Partition(5)).partition(TenantId::SYSTEM, 8), Partition(5));
    }

    const PLACED_ON_48: [u16; 8] = [27, 7, 41, 11, 1, 11, 26, 15];
}
