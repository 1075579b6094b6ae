//! Work that is done to its end, whether or not whoever asked for it stays.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use omium_telemetry::FutureExt as _;
use tokio::runtime::Handle;

/// Runs in the task of whoever waits for it, and in one of its own from the moment at which nobody does any more. A task
/// of its own from the start would cost every request two more wake-ups. Gives nothing where the work panicked.
pub(crate) struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> ToTheEnd<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> ToTheEnd<T> {
        // Also in a task of its own it belongs to the trace of whoever asked.
        ToTheEnd(Some(Box::pin(work.with_current_context())))
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(work) = &mut self.0 else { return Poll::Ready(None) };
        let done = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(done) => Some(ready!(done)),
            Err(_) => None,
        };
        self.0 = None;
        Poll::Ready(done)
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is about to end, and what is open in the log is asked for again.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_in_the_middle_is_done_all_the_same() {
        let (go, gone) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut work = ToTheEnd::new(async move {
            gone.await.unwrap();
            tell.send("done").unwrap();
        });
        assert!(
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut work).poll(context).is_pending())).await
        );
        drop(work);
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn what_panics_gives_nothing_and_takes_nobody_along() {
        let work: ToTheEnd<u8> = ToTheEnd::new(async { panic!("a fault of the test") });
        assert_eq!(work.await, None);
        assert_eq!(ToTheEnd::new(async { 3 }).await, Some(3));
    }
}
