//! What control says reaches the log of every partition before anything there is decided by it: a start carries the seq of
//! control that it was made by, and waits for that.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::{Engine, control_key};

/// Tells the partitions until the engine ends; at once, too: a crash may have come before they were told.
pub(super) fn watch(engine: &Arc<Engine>) {
    let (weak, mut ended, mut moves) =
        (Arc::downgrade(engine), engine.stopped(), engine.control_moves.subscribe());
    let task = tokio::spawn(async move {
        loop {
            moves.borrow_and_update();
            let Some(engine) = weak.upgrade() else { return };
            match engine.node().view(control_key()).await {
                Ok(Some(stream)) => engine.node().control(stream.seq, stream.digest(), &Bytes::new()),
                Ok(None) => {}
                Err(answer) => tracing::warn!(
                    ?answer,
                    "control cannot be read now; partitions are told with its next change"
                ),
            }
            drop(engine);
            tokio::select! {
                changed = moves.changed() => if changed.is_err() { return },
                _ = ended.wait_for(Option::is_some) => return,
            }
        }
    });
    engine.followers.lock().unwrap_or_else(PoisonError::into_inner).push(task);
}
