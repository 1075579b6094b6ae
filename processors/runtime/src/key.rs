//! Keys: of streams in memory, and of everything that a partition keeps in the store.

use std::hash::{BuildHasherDefault, Hasher};

use omium_schemas::{Partition, StreamId, TenantId};
use serde::{Deserialize, Serialize};

/// A stream of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub stream: StreamId,
}

impl StreamKey {
    /// The stream of a tenant.
    pub fn new(tenant: TenantId, stream: StreamId) -> StreamKey {
        StreamKey { tenant, stream }
    }

    /// The book of a partition.
    pub fn book(partition: Partition) -> StreamKey {
        StreamKey::new(TenantId::SYSTEM, StreamId::book(partition))
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.tenant.0);
        bytes[16..].copy_from_slice(self.stream.bytes());
        bytes
    }
}

impl std::hash::Hash for StreamKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut word = [0; 8];
        word.copy_from_slice(&self.stream.bytes()[8..]);
        state.write_u64(u64::from_le_bytes(word));
        word.copy_from_slice(&self.tenant.0[..8]);
        state.write_u64(u64::from_le_bytes(word));
    }
}

/// A hasher without a random seed, so that one seed of the simulation always walks the same way. Stream ids are drawn
/// by the server, so nobody outside can aim for collisions.
#[derive(Clone, Default)]
pub struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// A map for look-ups by key. It is never walked where the order could be seen.
#[expect(clippy::disallowed_types, reason = "look-ups only, and without a random seed")]
pub(crate) type Lookup<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<PlainHasher>>;

/// An idempotency key of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    /// The stream it was used on.
    pub stream: StreamKey,
    /// The key as the caller gave it.
    pub key: Vec<u8>,
}

/// What a row of the store is. The partition stands before it, so that one partition's rows lie together.
#[derive(Clone, Copy)]
enum Space {
    Position = 1,
    Stream = 2,
    Open = 3,
    Window = 4,
}

fn row(partition: Partition, space: Space, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(3 + rest.len());
    key.extend_from_slice(&partition.0.to_be_bytes());
    key.push(space as u8);
    key.extend_from_slice(rest);
    key
}

/// The front that all rows of a partition share.
pub fn partition_prefix(partition: Partition) -> Vec<u8> {
    partition.0.to_be_bytes().to_vec()
}

/// Where a partition's position stands.
pub fn position_key(partition: Partition) -> Vec<u8> {
    row(partition, Space::Position, &[])
}

/// Where a stream's state stands.
pub fn stream_key(partition: Partition, key: &StreamKey) -> Vec<u8> {
    row(partition, Space::Stream, &key.bytes())
}

/// Where it stands that a stream waits for something.
pub fn open_key(partition: Partition, key: &StreamKey) -> Vec<u8> {
    row(partition, Space::Open, &key.bytes())
}

/// The front of all rows that name waiting streams.
pub fn open_prefix(partition: Partition) -> Vec<u8> {
    row(partition, Space::Open, &[])
}

/// The front of all rows that hold streams.
pub fn stream_prefix(partition: Partition) -> Vec<u8> {
    row(partition, Space::Stream, &[])
}

/// Reads the stream from the key of a row that [`open_key`] or [`stream_key`] made.
pub fn stream_of(row: &[u8]) -> Option<StreamKey> {
    let (tenant, stream) = row.get(3..35)?.split_at(16);
    let stream = StreamId::from_bytes(stream.try_into().ok()?).ok()?;
    Some(StreamKey::new(TenantId(tenant.try_into().ok()?), stream))
}

/// Where an idempotency key stands.
pub fn window_key(partition: Partition, key: &WindowKey) -> Vec<u8> {
    let mut row = row(partition, Space::Window, &key.stream.bytes());
    row.extend_from_slice(&key.key);
    row
}
