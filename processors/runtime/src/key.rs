//! Keys: of streams in memory, and of everything that a partition keeps in the store.

use std::hash::{BuildHasherDefault, Hasher};

use omium_schemas::mutant::Mutant;
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
        // All four words: which of them differ between the streams of a partition is up to whoever names streams.
        for half in
            [&self.stream.bytes()[..8], &self.stream.bytes()[8..], &self.tenant.0[..8], &self.tenant.0[8..]]
        {
            let mut word = [0; 8];
            word.copy_from_slice(half);
            state.write_u64(u64::from_le_bytes(word));
        }
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
        // Both halves of the product: each bit of the word then reaches every bit of the result. Of a plain product the
        // low bits would know nothing of the word's high ones, and keys that count up in them would all collide.
        let product =
            u128::from(self.0.rotate_left(29) ^ word ^ 0xa076_1d64_78bd_642f) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
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
    let tenant = if Mutant::TenantForgotten.on() { TenantId::SYSTEM } else { key.tenant };
    row(partition, Space::Stream, &StreamKey { tenant, ..*key }.bytes())
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

/// Reads the stream from the key of a row that [`open_key`], [`stream_key`] or [`window_key`] made.
pub fn stream_of(row: &[u8]) -> Option<StreamKey> {
    let (tenant, stream) = row.get(3..35)?.split_at(16);
    let stream = StreamId::from_bytes(stream.try_into().ok()?).ok()?;
    Some(StreamKey::new(TenantId(tenant.try_into().ok()?), stream))
}

/// The front of all rows that hold idempotency keys.
pub(crate) fn window_prefix(partition: Partition) -> Vec<u8> {
    row(partition, Space::Window, &[])
}

/// Where an idempotency key stands.
pub fn window_key(partition: Partition, key: &WindowKey) -> Vec<u8> {
    window_row(partition, &key.stream, &key.key)
}

pub(crate) fn window_row(partition: Partition, stream: &StreamKey, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(35 + key.len());
    row.extend_from_slice(&partition.0.to_be_bytes());
    row.push(Space::Window as u8);
    row.extend_from_slice(&stream.bytes());
    row.extend_from_slice(key);
    row
}

#[cfg(test)]
mod tests {
    use omium_schemas::ExecutionId;

    use super::*;

    /// What a table of 65,536 places and 128 tags sees of a key.
    fn seen(key: impl std::hash::Hash) -> (u64, u64) {
        let mut hasher = PlainHasher::default();
        key.hash(&mut hasher);
        (hasher.finish() & 0xffff, hasher.finish() >> 57)
    }

    #[test]
    fn streams_that_count_up_do_not_collide_wherever_they_count() {
        for at in 0..8 {
            let counted = |n: u64| {
                let mut id = [0; 15];
                id[at..at + 8].copy_from_slice(&n.to_le_bytes());
                StreamKey::new(TenantId([1; 16]), ExecutionId::new(id).stream())
            };
            let places: std::collections::BTreeSet<_> = (0..10_000).map(|n| seen(counted(n)).0).collect();
            // 10,000 random ones would fill 9,274 of 65,536 places.
            assert!(places.len() > 9_000, "{} where they count from byte {at} on", places.len());
        }
    }

    #[test]
    fn keys_that_count_up_do_not_collide_wherever_they_count() {
        let stream = StreamKey::new(TenantId([1; 16]), StreamId::account());
        let counted = |bytes: [u8; 8]| WindowKey { stream, key: bytes.to_vec() };
        for count in [u64::to_le_bytes, u64::to_be_bytes] {
            let places: std::collections::BTreeSet<_> =
                (0..10_000_u64).map(|n| seen(counted(count(n))).0).collect();
            // 10,000 random ones would fill 9,274 of 65,536 places.
            assert!(places.len() > 9_000, "{}", places.len());
            let tags: std::collections::BTreeSet<_> =
                (0..10_000_u64).map(|n| seen(counted(count(n))).1).collect();
            assert_eq!(tags.len(), 128);
        }
    }
}
