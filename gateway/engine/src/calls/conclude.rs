//! The end of a call on its way into the log. It was paid for, or has changed something: a log that takes nothing for a
//! while is waited for, and nothing is dropped and done again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omium_api::port::Failure;
use omium_runtime::{Done, Request, StreamKey};
use omium_schemas::catalogue::Command;
use omium_schemas::{Digest, Seq};
use omium_telemetry::FutureExt as _;
use tokio::sync::{Semaphore, oneshot};

use crate::{Engine, answers};

/// How long whoever brings the end waits for it to be in the log. After that it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a log that takes nothing is left alone, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// How many bytes of ends wait for a log that takes nothing.
const WAITING: usize = 256 << 20;

/// How many more bytes of ends may wait.
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(WAITING)))
    }
}

/// The key under which the end of a call is told. Keys that rise are known to be new without a look into the store.
fn rising(call: Seq) -> String {
    // No key that a caller may give begins so.
    format!("\0{:020}", call.0)
}

/// A call in flight, as long as this lives.
struct Tracked {
    engine: Arc<Engine>,
    key: StreamKey,
    call: Seq,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.engine.in_flight.untrack(self.key, self.call);
    }
}

impl Engine {
    /// Brings the end of a call into the log. Until it is there the call stays in flight, so that whoever asks the same
    /// waits for it; a caller who has waited for long is told how things are and may come back.
    pub(super) async fn conclude(
        self: &Arc<Self>,
        key: StreamKey,
        call: Seq,
        command: Command,
        digest: Option<Digest>,
    ) -> Result<Done, Failure> {
        let tracked = Tracked { engine: self.clone(), key, call };
        let ended = self.submit_end(key, call, &command, digest).await;
        if !matches!(&ended, Err(failure) if answers::passes(failure)) {
            return ended;
        }
        let mut bytes = 1_u64;
        command.contents(&mut |_, content| bytes = bytes.saturating_add(content.length()));
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = self.room.0.clone().try_acquire_many_owned(wanted) else { return ended };
        let (tell, told) = oneshot::channel();
        let bringing = async move {
            let ended = tracked.engine.submit_until_taken(key, call, command, digest).await;
            drop((room, tracked));
            if let Err(Err(failure)) = tell.send(ended) {
                // Nobody waits for it any more.
                tracing::error!(stream = %key.stream, call = call.0, code = failure.code, "the end of a call was not recorded");
            }
        };
        tokio::spawn(bringing.with_current_context());
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Err(answers::unknown()),
            Err(_) => {
                self.in_flight.told_to_wait(key, call);
                Err(answers::waiting_for_the_log())
            }
        }
    }

    async fn submit_until_taken(
        &self,
        key: StreamKey,
        call: Seq,
        command: Command,
        digest: Option<Digest>,
    ) -> Result<Done, Failure> {
        let mut wait = AGAIN.0;
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
            let ended = self.submit_end(key, call, &command, digest).await;
            if !matches!(&ended, Err(failure) if answers::passes(failure)) || self.ended.borrow().is_some() {
                return ended;
            }
        }
    }

    async fn submit_end(
        &self,
        key: StreamKey,
        call: Seq,
        command: &Command,
        digest: Option<Digest>,
    ) -> Result<Done, Failure> {
        let mut request = Request::new(key, command.clone()).with_key(Bytes::from(rising(call)));
        request.digest = digest;
        answers::decided(self.node().submit(request).await)
    }
}
