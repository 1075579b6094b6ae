//! Nobody waits for ever: a caller whose answer does not come is told so.

use std::sync::Arc;
use std::time::Duration;

use omium_processor::Processors;
use tokio::sync::watch;

use super::carrier::{Phase, reaches};
use super::cell::Cell;

/// How many times per deadline callers are looked through: an answer is late by this part of it at most.
const PARTS: u64 = 16;

/// Ends waiting that takes longer than this many microseconds. A task of its own, because what holds an answer up may
/// hold up the task of its partition too.
pub(super) async fn keep<P: Processors>(
    cells: Vec<Arc<Cell<P>>>,
    limit: u64,
    mut phase: watch::Receiver<Phase>,
) {
    let mut rounds = tokio::time::interval(Duration::from_micros((limit / PARTS).max(1_000)));
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = reaches(&mut phase, Phase::Over) => return,
            _ = rounds.tick() => cells.iter().for_each(|cell| cell.expire(limit)),
        }
    }
}
