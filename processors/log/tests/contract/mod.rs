//! What every log promises, as tests over the trait. `contract_suite!(make)` turns them into tests of one log.
#![allow(dead_code, unused_imports, reason = "each log's tests use a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod blocks;
mod cases;
mod feed;

pub(crate) use blocks::{Chain, frames_of};
pub(crate) use cases::*;
pub(crate) use feed::Feed;

use std::any::Any;
use std::sync::Arc;

use omium_log::Log;

/// A log to be tested, with two partitions at least and empty, and what has to live as long.
pub(crate) struct Subject {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) keep: Box<dyn Any + Send + Sync>,
}

/// Makes one test per promise. `$make` is an async function without arguments that gives a [`Subject`], or
/// perhaps one.
#[macro_export]
macro_rules! contract_suite {
    ($make:path) => {
        $crate::contract_suite!($make =>
            records_read_back_in_order_byte_for_byte,
            reading_begins_at_any_position,
            a_read_gives_about_the_bytes_asked_for_and_at_least_one_record,
            a_frame_is_there_whole_or_not_at_all,
            blocks_are_numbered_and_chained_and_every_reader_counts_them,
            a_stale_leaders_blocks_change_nothing,
            a_doubled_block_counts_once,
            a_follower_is_told_and_need_not_ask,
            at_most_one_block_of_a_partition_is_in_flight,
            one_wake_is_enough_for_all_that_is_open,
            partitions_do_not_disturb_each_other,
            a_replaced_source_hears_nothing_more,
            a_dropped_appender_detaches_its_source,
            trimming_moves_the_start_and_nothing_else,
            what_was_trimmed_is_refused_with_the_start,
            a_partition_that_does_not_exist_is_named,
            reading_at_the_tail_gives_nothing,
        );
    };
    ($make:path => $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                // A log whose server cannot be had here gives none, and says so itself.
                let Some(subject) = Option::<contract::Subject>::from($make().await) else { return };
                contract::$case(subject.log.clone()).await;
                drop(subject);
            }
        )*
    };
}
