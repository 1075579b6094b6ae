//! Becoming the leader: an epoch record in the log, everything folded through it, and only then a decision.

use bytes::Bytes;
use omium_processor::Processors;
use omium_schemas::catalogue::{OpenBook, QuarantineStream, SeeControl, TeachSchemas};
use omium_schemas::{Digest, Epoch, Schema, Seq};

use super::{Ahead, Role, Shell};
use crate::key::StreamKey;
use crate::port::{Ended, Now, Output};

impl<P: Processors> Shell<P> {
    pub(super) fn lead(&mut self, epoch: Epoch, seed: [u8; 16]) {
        if self.role == Role::Following {
            self.role = Role::Opening(epoch, None);
            self.seed = (seed, 0);
            self.outputs.push(Output::Ready);
        }
    }

    /// Looks whether all is folded through the own epoch record, and whether that epoch is still the current one.
    pub(super) fn begin_if_folded(&mut self, now: Now) {
        let Role::Opening(epoch, Some(at)) = self.role else { return };
        if self.next <= at {
            return;
        }
        if self.filter.epoch == epoch {
            self.begin(epoch, now)
        } else {
            self.end(Ended::Superseded(self.filter.epoch))
        }
    }

    pub(super) fn begin(&mut self, epoch: Epoch, now: Now) {
        if self.book.logic > self.config.logic {
            let text = format!(
                "the log decides by logic {}, this program knows up to {}",
                self.book.logic, self.config.logic
            );
            return self.end(Ended::Unreadable(format!("{text}; upgrade omium")));
        }
        if self.book.partitions != 0 && self.book.partitions != self.config.partitions {
            let (found, wanted) = (self.book.partitions, self.config.partitions);
            return self.end(Ended::Unreadable(format!(
                "the log has {found} partitions, not {wanted}; start with {found}"
            )));
        }
        if let Some(from) = self.front.from() {
            return self.end(Ended::Unreadable(format!(
                "the log begins at offset {from}, but what was before was not carried forward; restore a backup"
            )));
        }
        let prev = self.last_hash();
        self.ahead = Ahead { no: self.filter.no, prev, time: self.filter.time };
        self.role = Role::Leading(epoch);
        self.clocks = Some(now);
        self.outputs.push(Output::Led(epoch));
        self.open_book(now);
        self.quarantine_suspects(now);
        self.redispatch(now);
        self.send_anew();
    }

    fn open_book(&mut self, now: Now) {
        let book = StreamKey::book(self.partition);
        if self.book.partitions == 0 {
            let (partitions, partition) = (i32::from(self.config.partitions), self.partition);
            self.issue(book, OpenBook { partitions, partition }, now);
        }
        // One frame holds a part of them, so that it fits a block.
        for _ in 0..self.untaught().count().div_ceil(100) {
            self.issue(book, TeachSchemas {}, now);
        }
    }

    fn quarantine_suspects(&mut self, now: Now) {
        for key in self.suspects.clone() {
            let reason = "three processes in a row have ended while they worked on it".to_owned();
            self.outputs.push(Output::Alarm(format!("{} is quarantined: {reason}", key.stream)));
            self.issue(key, QuarantineStream { reason }, now);
        }
    }

    /// The schemas that the log does not hold yet. A directory is readable without the program that wrote it.
    pub(super) fn untaught(&self) -> impl Iterator<Item = &'static Schema> {
        let taught = self.book.taught.clone();
        self.config
            .schemas
            .iter()
            .filter(move |schema| taught.get(&schema.id.0) != Some(&(schema.fingerprint as i64)))
    }

    pub(super) fn see_control(&mut self, seq: Seq, digest: Digest, body: Bytes, now: Now) {
        if matches!(self.role, Role::Leading(_)) && seq > self.book.control.0 {
            self.issue(StreamKey::book(self.partition), SeeControl { seq, digest, body }, now);
        }
    }

    pub(super) fn control_arrived(&mut self, now: Now) {
        for submission in std::mem::take(&mut self.awaiting_control) {
            self.submit(submission, now);
        }
    }
}
