//! Who waits for the end of an execution, and how it ended.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use omium_api::port::Failure;
use omium_api::views::Ended;
use omium_runtime::StreamKey;
use tokio::sync::Notify;

use super::view::{self, Opened};
use super::{Engine, contents};

/// Those who wait. They are told of ends only, not of every event as followers are.
#[derive(Default)]
pub(super) struct Ends(Mutex<BTreeMap<StreamKey, Arc<Notify>>>);

/// One who waits; dropped, it does so no more.
pub(super) struct Waiting<'e> {
    ends: &'e Ends,
    key: StreamKey,
    pub(super) told: Arc<Notify>,
}

impl Ends {
    pub(super) fn wait(&self, key: StreamKey) -> Waiting<'_> {
        let told = self.lock().entry(key).or_default().clone();
        Waiting { ends: self, key, told }
    }

    /// An execution has ended.
    pub(super) fn tell(&self, key: &StreamKey) {
        if let Some(told) = self.lock().remove(key) {
            told.notify_waiters();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<StreamKey, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut table = self.ends.lock();
        // Under the lock nobody joins; two are this one and the table's.
        if let Entry::Occupied(there) = table.entry(self.key)
            && Arc::ptr_eq(there.get(), &self.told)
            && Arc::strong_count(&self.told) == 2
        {
            there.remove();
        }
    }
}

impl Engine {
    pub(super) async fn end_of(&self, key: StreamKey) -> Result<Option<Ended>, Failure> {
        let stream = self.stream(key).await?;
        let run = stream.state.0.run().expect("`stream` gives runs only");
        if run.status.is_open() {
            return Ok(None);
        }
        let definition = self.definition_of(key.tenant, run).await?;
        let blobs = self.opened_for_view(key, contents(run)).await;
        let opened = Opened(&|content| self.viewed(key, stream.seq, &blobs, content));
        Ok(Some(view::ended(run, definition.as_deref(), &opened)))
    }
}

#[cfg(test)]
mod tests {
    use omium_schemas::{StreamId, TenantId};

    use super::*;

    #[tokio::test]
    async fn all_who_wait_are_told_and_nobody_is_remembered_who_does_not() {
        let (ends, key) = (Ends::default(), StreamKey::new(TenantId([1; 16]), StreamId::control()));
        let (one, two, gone) = (ends.wait(key), ends.wait(key), ends.wait(key));
        drop(gone);
        let (first, second) = (one.told.notified(), two.told.notified());
        ends.tell(&key);
        first.await;
        second.await;
        let late = ends.wait(key);
        drop((one, two));
        assert_eq!(ends.lock().len(), 1, "whoever waits for the next end still does");
        drop(late);
        assert!(ends.lock().is_empty());
    }
}
