//! Keys that follow from a seed: for tests and the simulation, where the same seed has to give the same bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use omium_schemas::{Digest, KeyId};

use crate::key::{Lookup, StreamKey};
use crate::sealing::{DataKey, Vault};

/// How many keys are kept ready; more are made again when they are needed.
const READY: usize = 10_000;

/// A vault whose keys are SHA-256 of (seed, tenant, stream).
pub struct MemoryVault {
    seed: [u8; 32],
    keys: Mutex<Lookup<StreamKey, Option<Arc<DataKey>>>>,
}

impl MemoryVault {
    /// The vault of this seed. Two vaults of one seed hold the same keys, what was destroyed aside.
    pub fn new(seed: [u8; 32]) -> MemoryVault {
        MemoryVault { seed, keys: Mutex::default() }
    }

    /// Destroys the key of a stream, for as long as this vault lives.
    pub fn destroy(&self, stream: &StreamKey) {
        self.keys().insert(*stream, None);
    }

    fn key(&self, stream: &StreamKey) -> Option<DataKey> {
        let mut keys = self.keys();
        if let Some(key) = keys.get(stream) {
            return key.as_deref().cloned();
        }
        if keys.len() >= READY {
            keys.retain(|_, key| key.is_none());
        }
        let key = self.derive(stream);
        keys.insert(*stream, Some(Arc::new(key.clone())));
        Some(key)
    }

    fn derive(&self, stream: &StreamKey) -> DataKey {
        let mut from = [0; 64];
        from[..32].copy_from_slice(&self.seed);
        from[32..48].copy_from_slice(&stream.tenant.0);
        from[48..].copy_from_slice(stream.stream.bytes());
        DataKey::new(KeyId(1), Digest::of(&from).0)
    }

    fn keys(&self) -> MutexGuard<'_, Lookup<StreamKey, Option<Arc<DataKey>>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vault for MemoryVault {
    fn sealing(&self, stream: &StreamKey) -> Option<DataKey> {
        self.key(stream)
    }

    fn opening(&self, stream: &StreamKey, id: KeyId) -> Option<DataKey> {
        self.key(stream).filter(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::{Place, Unreadable, open, seal};
    use omium_schemas::{Seq, StreamId, StreamKind, TenantId};

    fn stream(name: &str) -> StreamKey {
        StreamKey::new(TenantId([1; 16]), StreamId::named(StreamKind::Account, name))
    }

    #[test]
    fn one_seed_gives_one_key_per_stream() {
        let digest = |seed, name| {
            MemoryVault::new([seed; 32]).sealing(&stream(name)).expect("not destroyed").digest(b"x")
        };
        assert_eq!(digest(1, "a"), digest(1, "a"));
        assert_ne!(digest(1, "a"), digest(1, "b"));
        assert_ne!(digest(1, "a"), digest(2, "a"));
    }

    #[test]
    fn what_was_sealed_under_a_destroyed_key_cannot_be_opened() {
        let vault = MemoryVault::new([1; 32]);
        let place = |name| Place { stream: stream(name), seq: Seq(2), field: 0 };
        let sealed = |name| seal(&vault.sealing(&stream(name)).expect("a key"), &place(name), &[3; 16], b"x");
        let (erased, kept) = (sealed("erased"), sealed("kept"));
        vault.destroy(&stream("erased"));
        assert_eq!(open(&vault, stream("erased"), &erased), Err(Unreadable::NoKey));
        assert!(vault.sealing(&stream("erased")).is_none());
        assert_eq!(open(&vault, stream("kept"), &kept).as_deref(), Ok(&b"x"[..]));
    }
}
