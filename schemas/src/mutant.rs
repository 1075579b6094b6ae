//! Planted bugs. Each changes one line of production code and exists only behind the feature `mutants`, so that the
//! simulation can show that it would have been caught. Without the feature every switch is a constant `false`.

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Answers leave when their block is written, not when it is durable.
    AckBeforeSync,
    /// An acknowledged offset is taken as proof that the filter accepts the block.
    AckWithoutProof,
    /// Blocks of any epoch count.
    NoFence,
    /// Neither the number nor the predecessor of a block is looked at.
    FilterWithoutNumber,
    /// A leader acts before it has folded through its own epoch record.
    ActBeforeFold,
    /// A key that was seen before is decided again.
    NoDedupe,
    /// The checksum of a block is not compared.
    NoChecksum,
    /// The events of one command are written as several frames.
    SplitFrame,
    /// The tail that an unclean stop left is not synced before it is folded.
    OpenWithoutSync,
    /// The position is flushed without the state that belongs to it.
    PositionApart,
    /// A refusal leaves before the state that it saw is durable.
    RefuseEarly,
    /// Publications leave when their block is closed, not when it is durable.
    PublishFromMemory,
    /// The delivery number is part of an effect's key.
    DeliveryInKey,
    /// A rollback does not raise the branch.
    BranchNotRaised,
    /// A message is taken whatever its number.
    MessageWithoutNumber,
    /// The balance is read from another partition's live state instead of from the slice.
    ForeignBudget,
    /// An event that this program does not know is passed over.
    SkipUnknown,
    /// Outstanding effects are not sent again after a change of leader.
    NoRedispatch,
    /// `apply` walks a map without order.
    UnorderedApply,
    /// A snapshot says that it holds one block more than it does.
    SnapshotOffByOne,
    /// The store keeps streams by their ids alone, whoever's they are.
    TenantForgotten,
    /// Content is called sealed and is not.
    SealedInName,
    /// Content that is not at hand is taken for nothing.
    MissingIsNull,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 23] = [
        Mutant::AckBeforeSync,
        Mutant::AckWithoutProof,
        Mutant::NoFence,
        Mutant::FilterWithoutNumber,
        Mutant::ActBeforeFold,
        Mutant::NoDedupe,
        Mutant::NoChecksum,
        Mutant::SplitFrame,
        Mutant::OpenWithoutSync,
        Mutant::PositionApart,
        Mutant::RefuseEarly,
        Mutant::PublishFromMemory,
        Mutant::DeliveryInKey,
        Mutant::BranchNotRaised,
        Mutant::MessageWithoutNumber,
        Mutant::ForeignBudget,
        Mutant::SkipUnknown,
        Mutant::NoRedispatch,
        Mutant::UnorderedApply,
        Mutant::SnapshotOffByOne,
        Mutant::TenantForgotten,
        Mutant::SealedInName,
        Mutant::MissingIsNull,
    ];

    /// Whether this bug is switched on for the current thread.
    #[inline(always)]
    pub fn on(self) -> bool {
        #[cfg(feature = "mutants")]
        return ACTIVE.get() == Some(self);
        #[cfg(not(feature = "mutants"))]
        false
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Switches one bug on for the current thread, or all off.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
