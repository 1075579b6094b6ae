//! The blob store of a simulated world: all nodes share it, and what it has taken is durable. It may be full, and slow.

use std::collections::BTreeMap;

use bytes::Bytes;
use omium_runtime::{AtHand, Input, Needs, StreamKey, Unreadable, Vault as _, open_blob, seal_blob};
use omium_schemas::{BlobId, BlobRef, Content, Digest, Partition};

use crate::counts::Fault;
use crate::erasing::OUTPUT;
use crate::world::{Action, Life, World};

/// How long an output is that does not fit its frame.
const LONG: usize = 70_000;

/// What lies in it.
#[derive(Debug, Default)]
pub(crate) struct Blobs(BTreeMap<BlobId, Bytes>);

impl World {
    /// A worker's output; now and then a long one.
    pub(crate) fn said(&mut self) -> Content {
        if !self.chance.per_mille(400) {
            return Content::open(OUTPUT);
        }
        let mut long = OUTPUT.as_bytes().to_vec();
        long.resize(LONG, b' ');
        Content::open(long)
    }

    /// What a shell needs comes after a while. A caller may hear that there is no space; others wait until there is.
    pub(crate) fn provide(&mut self, life: Life, partition: Partition, key: StreamKey, needs: Needs) {
        let full = self.faulty && self.chance.per_mille(150);
        if full {
            self.fault(Fault::BlobsFull);
        }
        if full && needs.patient {
            return self.soon(400_000, Action::Provide(life, partition, key, needs));
        }
        let mut given = AtHand::default();
        for place in &needs.fetch {
            let fetched =
                if full { Err(Unreadable::NotNow("full".to_owned())) } else { self.fetch(&key, place) };
            given.fetched.push((*place, fetched));
        }
        if full && !needs.store.is_empty() {
            given.full = Some("full".to_owned());
        } else if let Some(data) = self.vault.sealing(&key).filter(|_| !needs.store.is_empty()) {
            let blob = BlobId(self.chance.bytes());
            let (whole, refs) = seal_blob(&data, &key, blob, &needs.store);
            self.blobs.0.insert(blob, whole.into());
            given.stored = needs.store.iter().map(|plain| Digest::of(plain)).zip(refs).collect();
        }
        self.feed(life, partition, Input::AtHand(key, given));
    }

    fn fetch(&self, key: &StreamKey, place: &BlobRef) -> Result<Bytes, Unreadable> {
        let whole = self.blobs.0.get(&place.blob).ok_or_else(|| Unreadable::Blob("missing".to_owned()))?;
        let run = whole.slice(place.at as usize..(place.at + place.length) as usize);
        open_blob(&*self.vault, key, place, run)
    }
}
