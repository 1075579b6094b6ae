//! Every planted bug is found, within a thousand seeds, by the number of an invariant and not by a panic.

use std::panic::catch_unwind;

use omium_schemas::mutant::{Mutant, plant};
use omium_sim::run_seed;

/// The simulation asks for memory all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many seeds a planted bug may survive.
const SEEDS: u64 = 1_000;

/// The first seed that finds the bug by one of these invariants, and which one it breaks.
fn hunt(mutant: Mutant, by: impl Fn(u8) -> bool) -> Option<(u64, u8, String)> {
    plant(Some(mutant));
    let found = (0..SEEDS).find_map(|seed| {
        let run =
            catch_unwind(|| run_seed(seed)).unwrap_or_else(|_| panic!("{mutant:?} panics at seed {seed}"));
        let violation = run.violation.filter(|violation| by(violation.invariant))?;
        Some((seed, violation.invariant, violation.text))
    });
    plant(None);
    found
}

#[track_caller]
fn check(mutant: Mutant) {
    let Some((seed, invariant, text)) = hunt(mutant, |_| true) else {
        panic!("{mutant:?} survived {SEEDS} seeds")
    };
    eprintln!("{mutant:?}: seed {seed}, invariant {invariant}: {text}");
    assert!((1..=13).contains(&invariant), "{invariant} is no invariant");
    assert_eq!(run_seed(seed).violation, None, "seed {seed} fails without {mutant:?} too");
}

#[test]
fn a_stream_without_its_tenant_shows_what_is_another_ones() {
    let found = hunt(Mutant::TenantForgotten, |invariant| invariant == 13);
    assert!(found.is_some(), "no stranger sees anything within {SEEDS} seeds");
}

macro_rules! caught {
    ($($name:ident: $mutant:ident,)*) => {
        $(#[test]
        fn $name() {
            check(Mutant::$mutant);
        })*

        #[test]
        fn no_planted_bug_is_left_out() {
            assert_eq!([$(Mutant::$mutant),*].len(), Mutant::ALL.len());
        }
    };
}

caught! {
    an_answer_before_the_sync: AckBeforeSync,
    an_answer_without_proof_of_acceptance: AckWithoutProof,
    no_fence: NoFence,
    a_filter_that_does_not_count: FilterWithoutNumber,
    acting_before_folding_through_the_own_epoch: ActBeforeFold,
    keys_that_are_forgotten: NoDedupe,
    a_checksum_that_is_not_compared: NoChecksum,
    a_command_in_several_frames: SplitFrame,
    opening_without_a_sync: OpenWithoutSync,
    a_position_written_apart_from_its_state: PositionApart,
    a_refusal_sent_early: RefuseEarly,
    publishing_from_memory: PublishFromMemory,
    a_delivery_number_in_the_effect_key: DeliveryInKey,
    a_rollback_on_the_same_branch: BranchNotRaised,
    messages_without_numbers: MessageWithoutNumber,
    a_budget_that_belongs_to_another: ForeignBudget,
    an_unknown_event_passed_over: SkipUnknown,
    work_that_is_not_sent_again: NoRedispatch,
    an_unordered_map_in_apply: UnorderedApply,
    a_snapshot_off_by_one: SnapshotOffByOne,
    streams_without_their_tenant: TenantForgotten,
    content_that_is_sealed_in_name_only: SealedInName,
    content_that_is_missing_taken_for_nothing: MissingIsNull,
}
