//! The idempotency keys that were used and are not in the store yet.

use std::sync::Arc;

use crate::key::{Lookup, WindowKey};
use crate::snapshot::Used;

/// Keys of two ages: those that a snapshot took along, and those that came after it. So neither taking nor forgetting
/// them walks over any, and nobody waits for it.
#[derive(Default)]
pub(super) struct Window {
    fresh: Lookup<WindowKey, Used>,
    saving: Arc<Lookup<WindowKey, Used>>,
}

impl Window {
    pub(super) fn get(&self, key: &WindowKey) -> Option<&Used> {
        self.fresh.get(key).or_else(|| self.saving.get(key))
    }

    pub(super) fn insert(&mut self, key: WindowKey, used: Used) {
        self.fresh.insert(key, used);
    }

    /// All that there is, for a snapshot. It stays known until [`Window::saved`].
    pub(super) fn take(&mut self) -> Arc<Lookup<WindowKey, Used>> {
        debug_assert!(self.saving.is_empty(), "there is never more than one snapshot on its way");
        // As much room as was needed the last time: a map that grows moves all it holds.
        let room = Lookup::with_capacity_and_hasher(self.fresh.len(), Default::default());
        self.saving = Arc::new(std::mem::replace(&mut self.fresh, room));
        self.saving.clone()
    }

    /// What was taken is in the store.
    pub(super) fn saved(&mut self) {
        self.saving = Arc::default();
    }
}
