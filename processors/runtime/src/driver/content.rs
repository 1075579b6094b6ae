//! Long content on its way to the blob store and back, on the time of whoever brings or needs it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omium_log::blobs::MAX_BLOB;
use omium_log::{BlobError, Blobs};
use omium_processor::{Refusal, Why};
use omium_schemas::catalogue::Command;
use omium_schemas::{BlobId, BlobRef, Content, Digest, Moved};

use super::clock;
use crate::key::StreamKey;
use crate::port::{Answer, AtHand, Needs};
use crate::sealing::{Unreadable, Vault, open_blob, seal_blob};
use crate::shell::IN_PLACE;

/// How many bytes of content a command may bring in its frame: half of what a frame holds, so that what the command
/// causes has room too.
const IN_FRAME: usize = 256 * 1024;
/// What is shorter stays in its frame: a reference to it would be as long.
const SHORT: usize = 256;
/// The least room that sealing adds to a value.
const TAG: usize = 16;
/// After how long a store that took nothing is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The blob store, and the keys of what lies there.
#[derive(Clone)]
pub(super) struct Contents {
    pub(super) vault: Arc<dyn Vault>,
    pub(super) blobs: Arc<dyn Blobs>,
}

/// Why values were not stored.
enum NotStored {
    /// The subject's key is destroyed.
    Erased,
    TooLong(String),
    Full(String),
}

impl Contents {
    /// Moves out of a command what is too long for its frame. Gives the blobs that it made.
    pub(super) async fn move_out(
        &self,
        stream: &StreamKey,
        command: &mut Command,
    ) -> Result<Vec<BlobId>, Answer> {
        let chosen = chosen(command);
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = Vec::new();
        each_open(command, &chosen, |content, plain| {
            values.push(plain.clone());
            *content = Content::Open(plain);
        });
        let refs = match self.store(stream, values).await {
            Ok(refs) => refs,
            // Whoever decides says so.
            Err(NotStored::Erased) => return Ok(Vec::new()),
            Err(NotStored::TooLong(why)) => return Err(Answer::Refused(Refusal::new(Why::Invalid, why))),
            Err(NotStored::Full(why)) => return Err(Answer::Full(why)),
        };
        let mut made: Vec<BlobId> = refs.iter().map(|place| place.blob).collect();
        made.dedup();
        let mut refs = refs.into_iter();
        each_open(command, &chosen, |content, plain| {
            let to = refs.next().expect("every chosen value has its place");
            *content = Content::Moved(Box::new(Moved { plain, to }));
        });
        Ok(made)
    }

    /// Removes what no frame will name. What cannot be removed now is swept some day.
    pub(super) async fn remove(&self, blobs: Vec<BlobId>) {
        for blob in blobs {
            if let Err(error) = self.blobs.remove(blob).await {
                tracing::warn!(%error, "a blob that nobody needs stays for now");
            }
        }
    }

    /// Fetches and stores what a command needs.
    pub(super) async fn provide(
        &self,
        stream: &StreamKey,
        needs: &Needs,
        goes_on: impl Fn() -> bool,
    ) -> AtHand {
        let mut given = AtHand::default();
        for place in &needs.fetch {
            let mut fetched = self.fetch(stream, place).await;
            while needs.patient && matches!(fetched, Err(Unreadable::NotNow(_))) && goes_on() {
                tokio::time::sleep(AGAIN).await;
                fetched = self.fetch(stream, place).await;
            }
            given.fetched.push((*place, fetched));
        }
        if needs.store.is_empty() {
            return given;
        }
        loop {
            match self.store(stream, needs.store.clone()).await {
                Ok(refs) => {
                    let digests = needs.store.iter().map(|plain| Digest::of(plain));
                    given.stored = digests.zip(refs).collect();
                }
                // Deciding again finds the same.
                Err(NotStored::Erased) => {}
                Err(NotStored::Full(why)) if needs.patient && goes_on() => {
                    tracing::error!(%why, "long content of {} cannot be stored; this is tried again", stream.stream);
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(NotStored::TooLong(why) | NotStored::Full(why)) => given.full = Some(why),
            }
            return given;
        }
    }

    async fn fetch(&self, stream: &StreamKey, place: &BlobRef) -> Result<Bytes, Unreadable> {
        let sealed = self.blobs.get(*place).await.map_err(Unreadable::from)?;
        open_blob(&*self.vault, stream, place, sealed)
    }

    async fn store(&self, stream: &StreamKey, values: Vec<Bytes>) -> Result<Vec<BlobRef>, NotStored> {
        let mut refs = Vec::new();
        for values in whole_blobs(values)? {
            let (vault, stream, blob) = (self.vault.clone(), *stream, BlobId(clock::random()));
            let seal = move || Some(seal_blob(&vault.sealing(&stream)?, &stream, blob, &values));
            let sealed = tokio::task::spawn_blocking(seal).await;
            let sealed = sealed.map_err(|error| NotStored::Full(error.to_string()))?;
            let (bytes, places) = sealed.ok_or(NotStored::Erased)?;
            self.blobs.put(blob, bytes.into()).await.map_err(|error| match error {
                BlobError::TooLarge { .. } => NotStored::TooLong(error.to_string()),
                error => NotStored::Full(error.to_string()),
            })?;
            refs.extend(places);
        }
        Ok(refs)
    }
}

/// Which of a command's contents move out, by their order: all that are long, and the largest others until the rest fits.
fn chosen(command: &Command) -> Vec<usize> {
    let (mut lengths, mut at) = (Vec::new(), 0);
    command.contents(&mut |_, content| {
        if let Content::Open(plain) = content {
            lengths.push((plain.len(), at));
        }
        at += 1;
    });
    let mut rest: usize = lengths.iter().map(|(length, _)| length).sum();
    if rest <= IN_PLACE {
        return Vec::new();
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let moves = |(length, _): &(usize, usize)| {
        let moves = *length > IN_PLACE || (rest > IN_FRAME && *length > SHORT);
        rest -= if moves { *length } else { 0 };
        moves
    };
    lengths.retain(moves);
    let mut chosen: Vec<usize> = lengths.into_iter().map(|(_, at)| at).collect();
    chosen.sort_unstable();
    chosen
}

/// Visits the chosen contents in order.
fn each_open(command: &mut Command, chosen: &[usize], mut visit: impl FnMut(&mut Content, Bytes)) {
    let mut at = 0;
    command.contents_mut(&mut |_, content| {
        if let (Ok(_), Content::Open(plain)) = (chosen.binary_search(&at), &*content) {
            let plain = plain.clone();
            visit(content, plain);
        }
        at += 1;
    });
}

/// Values in groups that fit a blob each.
fn whole_blobs(values: Vec<Bytes>) -> Result<Vec<Vec<Bytes>>, NotStored> {
    let (mut groups, mut room) = (Vec::new(), 0);
    for value in values {
        let length = value.len() + TAG;
        if length > MAX_BLOB {
            let size = value.len() as u64;
            return Err(NotStored::TooLong(BlobError::TooLarge { size }.to_string()));
        }
        if length > room {
            groups.push(Vec::new());
            room = MAX_BLOB;
        }
        room -= length;
        groups.last_mut().expect("one was pushed where there was none").push(value);
    }
    Ok(groups)
}

/// Whether the answer says that the command is not in the log: then nobody names what was stored for it.
pub(super) fn left_out(answer: &Answer) -> bool {
    match answer {
        Answer::Done(done) => done.repeated,
        Answer::Unknown => false,
        Answer::Refused(_)
        | Answer::OtherRequest
        | Answer::Busy
        | Answer::Full(_)
        | Answer::NotLeading
        | Answer::Quarantined(_)
        | Answer::Frozen => true,
    }
}
