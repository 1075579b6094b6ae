//! Folding what the log holds: what a standby does all the time, and a leader before it leads.

use std::collections::BTreeSet;

use omium_log::Entry;
use omium_processor::{Processors, Recorded};
use omium_schemas::catalogue::{Command, Event, KeyUsed};
use omium_schemas::mutant::Mutant;
use omium_schemas::{
    Block, BlockError, BlockNo, DecodeError, Digest, Frame, KeyId, Origin, Seq, Time, Verdict,
};

use super::front::{Waiting, holds_copies};
use super::{Role, Shell};
use crate::key::{StreamKey, WindowKey};
use crate::port::{Ended, Now, Output};
use crate::sealing::{self, Place};
use crate::snapshot::Used;
use crate::stream::{LastFrame, StreamState};

impl<P: Processors> Shell<P> {
    pub(super) fn entries(&mut self, entries: Vec<Entry>, now: Now) {
        self.folding.extend(entries);
        match self.role {
            Role::Following | Role::Opening(..) => self.fold_on(now),
            Role::Leading(_) => self.prove(now),
            Role::Ended => {}
        }
        if matches!(self.role, Role::Leading(_)) {
            self.folding.clear();
        }
    }

    /// Folds until the entries end or rows of the store are needed.
    pub(super) fn fold_on(&mut self, now: Now) {
        while matches!(self.role, Role::Following | Role::Opening(..)) {
            let Some(entry) = self.folding.front() else { return };
            if entry.offset < self.next {
                self.folding.pop_front();
                continue;
            }
            let entry = entry.clone();
            match self.fold_entry(&entry) {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => return self.end(Ended::Unreadable(format!("offset {}: {why}", entry.offset))),
            }
            self.folding.pop_front();
            self.next = entry.offset.next();
            self.save_folded(now);
            self.begin_if_folded(now);
        }
    }

    /// Folds one record. False where streams have to be loaded first.
    fn fold_entry(&mut self, entry: &Entry) -> Result<bool, String> {
        // A log that may be trusted has compared the checksums while it was read.
        let read = if self.config.verify { Block::parse } else { Block::trusted };
        let block = match read(entry.bytes.clone()) {
            Ok(block) => block,
            Err(BlockError::Magic) => {
                self.pass_over(entry.offset);
                return Ok(true);
            }
            Err(error) => return Err(error.to_string()),
        };
        self.begin_at_front(entry.offset, &block.head);
        if self.filter.judge(&block.head) != Verdict::Counts {
            self.filter.admit(&block.head, None);
            return Ok(true);
        }
        let frames = block.frames().map_err(|error| error.to_string())?;
        let missing: BTreeSet<StreamKey> =
            frames.iter().map(key_of).filter(|key| !self.residents.has(key)).collect();
        // Copies are of streams that the store may have. A reader that began at the log's front has no store.
        let (copies, bare) = (holds_copies(&frames), self.front.is_open());
        let begins = |key: &StreamKey| {
            !copies && frames.iter().any(|frame| key_of(frame) == *key && frame.head.first == Seq(1))
        };
        let (new, stored): (Vec<_>, Vec<_>) = missing.into_iter().partition(|key| bare || begins(key));
        if !stored.is_empty() {
            self.need(stored, Vec::new());
            return Ok(false);
        }
        for key in new {
            self.residents.load(key, StreamState::default(), Time(0));
        }
        let hashes: Vec<Option<Digest>> =
            frames.iter().map(|frame| self.config.verify.then(|| frame.hash())).collect();
        let hash = self.config.verify.then(|| block.hash_of(hashes.iter().flatten()));
        self.filter.admit(&block.head, hash);
        let no = block.head.no;
        self.last_block = Some(block);
        self.figures.blocks += 1;
        for (n, (frame, hash)) in frames.iter().zip(hashes).enumerate() {
            let copied = copies && n > 0;
            self.fold_frame(frame, hash, no, copied)?;
            while let Some(next) = self.next_held(frame) {
                self.fold_frame(&next.frame, next.hash, next.no, true)?;
            }
        }
        Ok(true)
    }

    /// Bytes that do not begin like a block are nobody's of ours: they count for nothing. A block that is damaged is
    /// another matter.
    pub(super) fn pass_over(&mut self, at: omium_schemas::Offset) {
        self.filter.ignored += 1;
        let partition = self.partition;
        self.outputs.push(Output::Alarm(format!(
            "the record at offset {at} of partition {partition} is no block of omium and is ignored; find out who writes \
             to this log"
        )));
    }

    fn next_held(&mut self, frame: &Frame) -> Option<Waiting> {
        let key = key_of(frame);
        if !self.front.is_open() {
            return None;
        }
        let seq = self.seq_of(&key)?;
        self.front.next(key, seq)
    }

    /// Folds a frame. What was `copied`, or held back, has told the book already what it has to tell.
    fn fold_frame(
        &mut self,
        frame: &Frame,
        hash: Option<Digest>,
        no: BlockNo,
        copied: bool,
    ) -> Result<(), String> {
        let key = key_of(frame);
        if self.frozen.contains(&key) {
            return Ok(());
        }
        let slot = self.residents.get(&key).ok_or("a stream was let go while it was being folded")?;
        if frame.last() <= slot.value.seq {
            return Ok(());
        }
        if frame.head.first != slot.value.seq.next() {
            if !self.front.is_open() || frame.head.first <= slot.value.seq {
                return Err(format!(
                    "{} goes on at seq {} after {}",
                    key.stream, frame.head.first, slot.value.seq
                ));
            }
            // Where it fits, the stream begins with it, and its chain too.
            if !self.fits_front(key, Waiting { frame: frame.clone(), hash, no })? {
                return self.read_ahead(key, frame, copied);
            }
        } else if hash.is_some() && slot.last.hash() != frame.head.prev {
            return Err(format!("the chain of {} is broken at seq {}", key.stream, frame.head.first));
        }
        let mut records = frame.records();
        let record = records.next().expect("a frame holds at least its command");
        let (origin, mut command) = Command::decode(record.kind, record.body).map_err(words)?;
        if command.has_content() {
            let keys = settle(key, frame.head.first, &origin, |visit| command.contents_mut(visit));
            self.keys = self.keys.max(keys);
        }
        let mut state = Some(self.residents.take(&key));
        let mut started = None;
        let mut seq = frame.head.first;
        for record in records {
            seq = seq.next();
            let mut event = match Event::decode(record.kind, record.body) {
                Err(DecodeError::UnknownType(_)) if Mutant::SkipUnknown.on() => continue,
                decoded => decoded.map_err(words)?,
            };
            if event.has_content() {
                let keys = settle(key, seq, &origin, |visit| event.contents_mut(visit));
                self.keys = self.keys.max(keys);
            }
            let (tenant, stream, time) = (key.tenant, key.stream, frame.head.time);
            let recorded = Recorded { tenant, stream, seq, time, event: &event, command: &command };
            state = state.and_then(|state| state.apply::<P>(&recorded));
            match &event {
                Event::KeysCarried(carried) => self.use_keys(key, &carried.keys),
                Event::LogStarted(log) => started = Some(log.at),
                _ => {}
            }
            if !copied {
                self.book.apply(&key, seq, &origin.entropy, &event);
            }
        }
        self.figures.records += frame.count();
        self.unsaved_records += frame.count();
        let Some(mut state) = state else {
            self.frozen.insert(key);
            self.outputs
                .push(Output::Alarm(format!("{} is frozen on this node: folding it panicked", key.stream)));
            return Ok(());
        };
        state.seq = frame.last();
        let last = match hash {
            Some(hash) => LastFrame::Hashed(hash),
            None => LastFrame::Bytes(frame.bytes().clone()),
        };
        if let Some(hash) = hash {
            state.hash = hash;
        }
        self.residents.change(&key, state, (last, frame.head.time), self.filter.no);
        self.note_key(key, frame, origin);
        started.map_or(Ok(()), |at| self.close_front(at))
    }

    fn note_key(&mut self, stream: StreamKey, frame: &Frame, origin: Origin) {
        let Some(used) = origin.key else { return };
        let window = WindowKey { stream, key: used.to_vec() };
        let (first, at, request) = (frame.head.first, frame.head.time, origin.request);
        self.use_key(window, Used { first, last: frame.last(), at, request });
    }

    /// What the book and the window learn from a frame that has to wait. Its stream may never fold it: an opening event
    /// may take its place.
    fn read_ahead(&mut self, key: StreamKey, frame: &Frame, copied: bool) -> Result<(), String> {
        let mut records = frame.records();
        let record = records.next().expect("a frame holds at least its command");
        let (origin, _) = Command::decode(record.kind, record.body).map_err(words)?;
        for (record, seq) in records.zip(frame.head.first.0 + 1..) {
            let event = Event::decode(record.kind, record.body).map_err(words)?;
            if !copied {
                self.book.apply(&key, Seq(seq), &origin.entropy, &event);
            }
            if let Event::KeysCarried(carried) = &event {
                self.use_keys(key, &carried.keys);
            }
        }
        self.note_key(key, frame, origin);
        Ok(())
    }

    fn use_keys(&mut self, stream: StreamKey, keys: &[KeyUsed]) {
        for KeyUsed { key, request, last, seq, at } in keys {
            let window = WindowKey { stream, key: key.to_vec() };
            self.use_key(window, Used { first: *seq, last: *last, at: *at, request: *request });
        }
    }
}

fn key_of(frame: &Frame) -> StreamKey {
    StreamKey::new(frame.head.tenant, frame.head.stream)
}

fn words(error: DecodeError) -> String {
    error.to_string()
}

/// Gives content what it takes to be opened later: its place and the entropy. Says the highest number of the keys that
/// it is sealed under.
fn settle(
    stream: StreamKey,
    seq: Seq,
    origin: &Origin,
    visit: impl FnOnce(&mut dyn FnMut(u16, &mut omium_schemas::Content)),
) -> KeyId {
    let mut keys = KeyId(0);
    visit(&mut |field, content| {
        keys = keys.max(content.sealed_under().unwrap_or_default());
        let taken = std::mem::replace(content, omium_schemas::Content::Open(bytes::Bytes::new()));
        *content = sealing::place(taken, &Place { stream, seq, field }, &origin.entropy);
    });
    keys
}

#[cfg(test)]
mod tests {
    use omium_processor::testkit::BankSuite;
    use omium_schemas::{Offset, Partition};

    use super::*;
    use crate::shell::Config;
    use crate::vault::MemoryVault;

    /// A follower that is given these bytes as the first record of its partition.
    fn given(bytes: &'static [u8]) -> (Role, Offset, Vec<String>) {
        let config = Config { partitions: 1, ..Config::default() };
        let vault = std::sync::Arc::new(MemoryVault::new([1; 32]));
        let mut shell: Shell<BankSuite> = Shell::new(Partition(0), config, vault, None);
        let entry = Entry { offset: Offset(0), bytes: bytes.into() };
        shell.handle(crate::port::Input::Entries(vec![entry]), Now::default());
        let alarms = shell.outputs().filter_map(|output| match output {
            Output::Alarm(text) => Some(text),
            _ => None,
        });
        let alarms = alarms.collect();
        (shell.role(), shell.next(), alarms)
    }

    #[test]
    fn what_does_not_begin_like_a_block_is_passed_over_with_an_alarm() {
        for bytes in [&b"x"[..], b"", b"{\"json\": true}", &[0; 600_000]] {
            let (role, next, alarms) = given(bytes);
            assert_eq!((role, next), (Role::Following, Offset(1)), "{} bytes", bytes.len());
            assert!(alarms[0].contains("offset 0") && alarms[0].contains("is ignored"), "{alarms:?}");
        }
    }

    #[test]
    fn a_block_that_is_damaged_is_not_passed_over() {
        assert_eq!(given(b"OMB\x01 and then nothing that fits").0, Role::Ended);
    }
}
