//! Which stream is being decided on, for who watches from outside while it takes long.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use omium_schemas::{StreamId, TenantId};

use crate::key::StreamKey;

/// Written at each decision without waiting for anybody. Read in the middle of a change it may name neither stream, so
/// only what stands there for long means something.
#[derive(Debug, Default)]
pub struct Deciding {
    on: AtomicBool,
    words: [AtomicU64; 4],
}

impl Deciding {
    pub(super) fn begin(&self, key: &StreamKey) {
        let halves = [&key.tenant.0, key.stream.bytes()];
        for (n, word) in self.words.iter().enumerate() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&halves[n / 2][n % 2 * 8..][..8]);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        self.on.store(true, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// The stream.
    pub fn stream(&self) -> Option<StreamKey> {
        if !self.on.load(Ordering::Acquire) {
            return None;
        }
        let mut halves = [[0; 16]; 2];
        for (n, word) in self.words.iter().enumerate() {
            halves[n / 2][n % 2 * 8..][..8].copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        Some(StreamKey::new(TenantId(halves[0]), StreamId::from_bytes(halves[1]).ok()?))
    }
}

/// A stream that somebody has noted.
#[derive(Debug, Default)]
pub(crate) struct Noted(Mutex<Option<StreamKey>>);

impl Noted {
    pub(crate) fn set(&self, key: StreamKey) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(key);
    }

    pub(crate) fn take(&self) -> Option<StreamKey> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}
