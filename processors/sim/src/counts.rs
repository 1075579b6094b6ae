//! What happened in a run. A simulation that does not do what it is for has to be seen doing nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Every kind of fault that is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A node stops between two steps and forgets all that is not durable.
    Crash,
    /// Another leader is named while the old one believes that it still leads.
    StaleLeader,
    /// An append arrives late, perhaps after its sender is gone.
    LateAppend,
    /// An append is in the log twice.
    DoubledAppend,
    /// Two leaders' appends change places.
    ReorderedAppend,
    /// An append is in the log and its sender is told that it failed.
    UnknownAppend,
    /// An append is lost and its sender is told that it failed.
    LostAppend,
    /// The log loses what it had taken and not yet acknowledged.
    LostSuffix,
    /// An answer does not reach its caller.
    LostReply,
    /// An answered request arrives again.
    RepeatedRequest,
    /// A message between partitions is lost.
    LostMessage,
    /// A message between partitions arrives twice.
    RepeatedMessage,
    /// A wall clock jumps.
    ClockJump,
    /// A worker takes longer than its deadline.
    SlowWorker,
    /// A worker dies and that is noticed.
    DeadWorker,
    /// A worker dies and nobody notices.
    SilentWorker,
    /// A crash forgets state that was written and not flushed.
    LostState,
    /// A write stops in its middle.
    TornWrite,
    /// A power cut loses what was written and not synced.
    PowerCut,
    /// A crash leaves what was written in the page cache alone.
    PageCache,
    /// The log has let its front go, and a node that has not read it starts.
    FrontGone,
    /// A tenant tries what is another one's.
    Stranger,
    /// A log holds an event that this program does not know.
    UnknownEvent,
    /// The blob store has no space.
    BlobsFull,
    /// A subject is erased while it is busy: its key is destroyed.
    Erasure,
    /// A partition has no room for one more to wait, and says so before its shell hears of it.
    Busy,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 26] = [
        Fault::Crash,
        Fault::StaleLeader,
        Fault::LateAppend,
        Fault::DoubledAppend,
        Fault::ReorderedAppend,
        Fault::UnknownAppend,
        Fault::LostAppend,
        Fault::LostSuffix,
        Fault::LostReply,
        Fault::RepeatedRequest,
        Fault::LostMessage,
        Fault::RepeatedMessage,
        Fault::ClockJump,
        Fault::SlowWorker,
        Fault::DeadWorker,
        Fault::SilentWorker,
        Fault::LostState,
        Fault::TornWrite,
        Fault::PowerCut,
        Fault::PageCache,
        Fault::FrontGone,
        Fault::Stranger,
        Fault::UnknownEvent,
        Fault::BlobsFull,
        Fault::Erasure,
        Fault::Busy,
    ];
}

/// What happened, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Faults that really happened.
    pub faults: BTreeMap<Fault, u64>,
    /// Commands in the log, by name.
    pub commands: BTreeMap<&'static str, u64>,
    /// Events in the log, by name.
    pub events: BTreeMap<&'static str, u64>,
    /// How often nodes came to lead a partition.
    pub leaders: u64,
}

impl Counts {
    /// How many faults there were in all.
    pub fn total_faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How often this fault happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Counts) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.leaders += other.leaders;
        other.faults.iter().for_each(|(fault, count)| *self.faults.entry(*fault).or_default() += count);
        other.commands.iter().for_each(|(name, count)| *self.commands.entry(name).or_default() += count);
        other.events.iter().for_each(|(name, count)| *self.events.entry(name).or_default() += count);
    }
}

/// Counts names while they are few, faster than a map.
#[derive(Default)]
pub(crate) struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    pub(crate) fn add(&mut self, name: &'static str) {
        // One name may have two addresses: then it has two places here, which come together at the end.
        match self.0.iter_mut().find(|(known, _)| std::ptr::eq(*known, name)) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }

    pub(crate) fn into_counts(self, counts: &mut BTreeMap<&'static str, u64>) {
        self.0.into_iter().for_each(|(name, count)| *counts.entry(name).or_default() += count);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "acknowledged {}, refused {}, times led {}",
            self.acknowledged, self.refused, self.leaders
        )?;
        writeln!(f, "faults {}:", self.total_faults())?;
        self.faults.iter().try_for_each(|(fault, count)| writeln!(f, "  {count:>10}  {fault:?}"))?;
        writeln!(f, "commands:")?;
        self.commands.iter().try_for_each(|(name, count)| writeln!(f, "  {count:>10}  {name}"))?;
        writeln!(f, "events:")?;
        self.events.iter().try_for_each(|(name, count)| writeln!(f, "  {count:>10}  {name}"))
    }
}
