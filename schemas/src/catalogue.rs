//! Commands and events, generated from `avsc/`: one struct per record, one enum of all commands, one of all events.

use bytes::Bytes;

use crate::avro::{Avro, DecodeError, EncodeError, Reader};
use crate::content::Content;
use crate::digest::Digest;
use crate::frame::TypeId;
use crate::ids::{StepId, StreamId, TenantId};
use crate::money::Money;
use crate::position::{Branch, Epoch, Offset, Partition, Seq, Time};

include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// One version of one record type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The number that names it in frames; never given to another.
    pub id: TypeId,
    /// The record's name, without namespace. All versions share it.
    pub name: &'static str,
    /// 1, 2, 3 …; each version has an id of its own.
    pub version: u16,
    /// The family it belongs to: the directory it lives in.
    pub family: &'static str,
    /// Command or event.
    pub kind: RecordKind,
    /// The self-contained schema: each shared type is written out where it is first used.
    pub json: &'static str,
    /// CRC-64-AVRO of the parsing canonical form.
    pub fingerprint: u64,
}

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// Asks for something.
    Command,
    /// Says that something happened.
    Event,
}

/// The schema of a type, where this program knows it.
pub fn schema(id: TypeId) -> Option<&'static Schema> {
    SCHEMAS.binary_search_by_key(&id.0, |schema| schema.id.0).ok().map(|at| &SCHEMAS[at])
}

/// A fixed run of bytes stands as it is.
impl<const N: usize> Avro for [u8; N] {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self);
        Ok(())
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.fixed()
    }
}
