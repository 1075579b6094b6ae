//! What travels: appends to the brokers, messages between partitions, and the news of the control stream.

use bytes::Bytes;
use omium_runtime::{Input, Parcel};
use omium_schemas::{Digest, Partition, Seq};

use crate::counts::Fault;
use crate::logs::Logs;
use crate::world::{Action, Append, World};

impl World {
    /// Sends an append to the brokers, and decides what becomes of it.
    pub(crate) fn append(&mut self, append: Append) {
        let delay = self.chance.between(200, 2_500);
        let dice = if self.faulty { self.chance.below(1000) } else { 999 };
        let (from, partition) = (append.from, append.partition);
        let told = |world: &mut World, after: u64| {
            let error = Input::Settled(Err("the request timed out".into()));
            world.after(after, Action::Feed(from, partition, error));
        };
        match dice {
            0..5 => {
                self.fault(Fault::LateAppend);
                let late = self.chance.between(100_000, 4_000_000);
                told(self, 250_000);
                self.after(late, Action::Arrive(Append { answered: false, ..append }));
            }
            5..35 => {
                self.fault(Fault::DoubledAppend);
                let later = self.chance.between(delay, 1_500_000);
                self.after(later, Action::Arrive(Append { answered: false, ..append.clone() }));
                self.after(delay, Action::Arrive(append));
            }
            35..38 => {
                self.fault(Fault::UnknownAppend);
                told(self, 250_000);
                self.after(delay, Action::Arrive(Append { answered: false, ..append }));
            }
            38..41 => {
                self.fault(Fault::LostAppend);
                told(self, 250_000);
            }
            41..43 => {
                // It was taken by a broker that then lost it; nobody else ever saw it.
                self.fault(Fault::LostSuffix);
                told(self, delay);
            }
            _ => self.after(delay, Action::Arrive(append)),
        }
    }

    pub(crate) fn arrive(&mut self, append: Append) {
        let Logs::Brokers(brokers) = &mut self.logs else { return };
        let at = usize::from(append.partition.0);
        if brokers[at].overtaken(append.sent, append.from) {
            self.fault(Fault::ReorderedAppend);
        }
        let Logs::Brokers(brokers) = &mut self.logs else { return };
        let offset = brokers[at].append(append.bytes, append.sent, append.from);
        self.committed(append.partition);
        if append.answered {
            let delay = self.chance.between(50, 1_000);
            self.after(delay, Action::Feed(append.from, append.partition, Input::Settled(Ok(offset))));
        }
    }

    /// A message leaves for another partition.
    pub(crate) fn post(&mut self, parcel: Parcel) {
        let dice = if self.faulty { self.chance.below(1000) } else { 999 };
        if dice < 30 {
            return self.fault(Fault::LostMessage);
        }
        if dice < 60 {
            self.fault(Fault::RepeatedMessage);
            self.soon(200_000, Action::Deliver(parcel.clone()));
        }
        self.soon(1_500, Action::Deliver(parcel));
    }

    pub(crate) fn deliver(&mut self, parcel: Parcel) {
        let to = parcel.to_partition;
        self.tell_leader(to, Input::Message(Box::new(parcel)));
    }

    pub(crate) fn acknowledge(&mut self, by: Partition, to: Partition, through: i64) {
        self.tell_leader(to, Input::Acknowledged(by, through));
    }

    pub(crate) fn tell_leader(&mut self, partition: Partition, input: Input) {
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        self.feed(life, partition, input);
    }

    /// The control stream goes on: single transfers get another cap.
    pub(crate) fn go_on_with_control(&mut self) {
        if !self.busy {
            return;
        }
        self.control.seq = Seq(self.control.seq.0 + 1);
        let cap = self.chance.between(500, 100_000) * 1_000_000_000;
        self.control.body = Bytes::from(cap.to_string());
        self.soon(5_000_000, Action::Control);
    }

    pub(crate) fn hear_control(&mut self) {
        let (seq, body) = (self.control.seq, self.control.body.clone());
        if seq == Seq(0) {
            return;
        }
        for partition in (0..self.config.partitions).map(Partition) {
            self.tell_leader(partition, Input::Control(seq, Digest::of(&body), body.clone()));
        }
        // Leaders change; whoever leads now hears it again.
        let pause = if self.faulty { 400_000 } else { 2_000_000 };
        self.soon(pause, Action::HearControl);
    }
}
