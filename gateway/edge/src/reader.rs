//! Answers on their way out: in small parts, so that nothing is handed to a connection whose reader does not take it,
//! and with note of when the last part was taken.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::budget::Taken;
use crate::slot::Slot;

/// The largest part.
const PART: usize = 32 << 10;
/// Answers up to this length are not counted.
const SMALL: u64 = 64 << 10;

/// Since when a part, or the answer itself, waits for its reader.
pub(crate) struct Progress {
    born: Instant,
    /// In milliseconds since then, one more than that; 0 where the reader waits and not we.
    given: AtomicU64,
}

impl Progress {
    fn new() -> Progress {
        Progress { born: Instant::now(), given: AtomicU64::new(1) }
    }

    fn gives(&self) {
        self.given.store(self.born.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
    }

    fn waits(&self) {
        self.given.store(0, Ordering::Relaxed);
    }

    pub(crate) fn given_at(&self) -> Option<Instant> {
        let given = self.given.load(Ordering::Relaxed);
        (given > 0).then(|| self.born + Duration::from_millis(given - 1))
    }
}

/// The body of an answer.
pub(crate) struct Leaving {
    body: Body,
    rest: Bytes,
    progress: Arc<Progress>,
    _slot: Option<Slot>,
    _taken: Taken,
}

impl Leaving {
    /// Nothing where too many long answers wait for their readers.
    pub(crate) fn new(body: Body, slot: &Slot) -> Option<Leaving> {
        use http_body::Body as _;
        let mut taken = Taken::default();
        let length = body.size_hint().exact().unwrap_or_default();
        if length > SMALL {
            taken.add(usize::try_from(length).ok()?, [&slot.node().outgoing])?;
        }
        let progress = Arc::new(Progress::new());
        slot.connection().answers(&progress);
        Some(Leaving { body, rest: Bytes::new(), progress, _slot: Some(slot.clone()), _taken: taken })
    }

    /// A short one, of the listener's own.
    pub(crate) fn short(body: Body) -> Leaving {
        let progress = Arc::new(Progress::new());
        Leaving { body, rest: Bytes::new(), progress, _slot: None, _taken: Taken::default() }
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            self.progress.waits();
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        self.progress.gives();
        let length = self.rest.len().min(PART);
        let part = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
