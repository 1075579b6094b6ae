//! Content as the log holds it, fetched and opened for who looks at it. What cannot be read is never taken for nothing:
//! a view shows a mark, and whoever acts on it fails by name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use omium_api::port::Failure;
use omium_execution::Run;
use omium_runtime::{StreamKey, Unreadable};
use omium_schemas::{BlobRef, Content};
use serde_json::{Value, json};

use super::view::{Opened, scope};
use super::{Engine, answers, contents};

/// How many bytes of long content one view holds at most.
const VIEW: u64 = 16 << 20;
/// Where content is that a view leaves out.
const LOOK: &str = "ask for the event that brought it by itself: `…/events?from=SEQ&limit=1`";

/// What lay in the blob store.
pub(super) type Fetched = BTreeMap<BlobRef, Result<Bytes, Unreadable>>;

impl Engine {
    /// Content in the blob store, fetched ahead and opened: looking at the rest needs no waiting.
    pub(super) async fn opened(&self, key: StreamKey, contents: impl Iterator<Item = &Content>) -> Fetched {
        let mut fetched = Fetched::new();
        for content in contents {
            let Content::Blob(place) = content else { continue };
            if let Entry::Vacant(room) = fetched.entry(**place) {
                room.insert(self.fetched(key, place).await);
            }
        }
        fetched
    }

    /// The same for a view: the first of them, and others as long as all together are not too much for one answer.
    pub(super) async fn opened_for_view(
        &self,
        key: StreamKey,
        contents: impl Iterator<Item = &Content>,
    ) -> Fetched {
        let mut fetched = Fetched::new();
        let mut room = VIEW;
        for content in contents {
            let Content::Blob(place) = content else { continue };
            let fits = fetched.is_empty() || place.length <= room;
            if fits && !fetched.contains_key(&**place) {
                room = room.saturating_sub(place.length);
                fetched.insert(**place, self.fetched(key, place).await);
            }
        }
        fetched
    }

    async fn fetched(&self, key: StreamKey, place: &BlobRef) -> Result<Bytes, Unreadable> {
        let sealed = self.blobs.get(*place).await.map_err(Unreadable::from)?;
        omium_runtime::open_blob(&*self.vault, &key, place, sealed)
    }

    /// The bytes as they were sealed.
    pub(super) fn plain(
        &self,
        key: StreamKey,
        fetched: &Fetched,
        content: &Content,
    ) -> Result<Bytes, Unreadable> {
        match content {
            Content::Blob(place) => {
                let elsewhere = || Err(Unreadable::Elsewhere(place.clone()));
                fetched.get(&**place).cloned().unwrap_or_else(elsewhere)
            }
            content => omium_runtime::open(&*self.vault, key, content),
        }
    }

    /// The bytes of one content, as they were before they were squeezed and sealed.
    pub(super) async fn content(&self, key: StreamKey, content: &Content) -> Result<Bytes, Failure> {
        let fetched = self.opened(key, std::iter::once(content)).await;
        let plain = self.plain(key, &fetched, content);
        let plain = plain.map_err(|why| answers::unreadable("what is recorded", &why))?;
        omium_openai::unpack(&plain).map(Bytes::from).map_err(|why| {
            answers::broken(&anyhow::anyhow!("content of {} cannot be read: {why}", key.stream))
        })
    }

    /// What content says: JSON, or a text where it is none. For who acts on it.
    pub(super) fn read(
        &self,
        key: StreamKey,
        fetched: &Fetched,
        content: &Content,
    ) -> Result<Value, Unreadable> {
        self.plain(key, fetched, content).map(|bytes| super::shown(&bytes))
    }

    /// What content says, or a mark that says why nobody can tell. For people.
    pub(super) fn viewed(&self, key: StreamKey, fetched: &Fetched, content: &Content) -> Value {
        self.read(key, fetched, content).unwrap_or_else(|why| match why {
            // It is there, and was left out of this answer.
            Unreadable::Elsewhere(place) => {
                json!({ "omium:too-large": { "bytes": place.length, "hint": LOOK } })
            }
            why => json!({ "omium:unreadable": why.to_string() }),
        })
    }

    /// What templates look at, with all of it there.
    pub(super) async fn scope_of(&self, key: StreamKey, run: &Run) -> Result<Value, Unreadable> {
        let fetched = self.opened(key, contents(run)).await;
        let unreadable = RefCell::new(None);
        let read = |content: &Content| {
            self.read(key, &fetched, content).unwrap_or_else(|why| {
                unreadable.borrow_mut().get_or_insert(why);
                Value::Null
            })
        };
        let scope = scope(run, &Opened(&read));
        unreadable.into_inner().map_or(Ok(scope), Err)
    }
}
