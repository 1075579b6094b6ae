//! A source with a queue, that notices when a log breaks the rules.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use omium_log::{Appender, Log, LogError, Refused, Source};
use omium_schemas::{Offset, Partition};
use tokio::sync::watch;

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    in_flight: bool,
    taken: usize,
    broken: Vec<&'static str>,
    outcomes: Vec<Result<Offset, LogError>>,
    refusal: Option<LogError>,
}

/// A source with a queue.
pub(crate) struct Feed {
    state: Mutex<State>,
    settled: watch::Sender<usize>,
    refused: watch::Sender<bool>,
    appender: OnceLock<Box<dyn Appender>>,
}

impl Feed {
    /// A source that is attached to a partition.
    pub(crate) fn attach(log: &dyn Log, partition: u16) -> Arc<Feed> {
        let feed = Feed::detached();
        let appender = log.attach(Partition(partition), feed.clone()).unwrap();
        assert!(feed.appender.set(appender).is_ok());
        feed
    }

    /// A source that nobody takes from yet.
    pub(crate) fn detached() -> Arc<Feed> {
        Arc::new(Feed {
            state: Mutex::default(),
            settled: watch::Sender::new(0),
            refused: watch::Sender::new(false),
            appender: OnceLock::new(),
        })
    }

    /// Puts blocks into the queue and wakes the log once.
    pub(crate) fn push(&self, blocks: impl IntoIterator<Item = Bytes>) {
        self.state.lock().unwrap().queue.extend(blocks);
        if let Some(appender) = self.appender.get() {
            appender.wake();
        }
    }

    /// Appends blocks and gives their offsets, or the first error.
    pub(crate) async fn append(&self, blocks: Vec<Bytes>) -> Result<Vec<Offset>, LogError> {
        let before = self.state.lock().unwrap().outcomes.len();
        let count = blocks.len();
        self.push(blocks);
        self.settled(before + count).await;
        self.state.lock().unwrap().outcomes[before..].iter().cloned().collect()
    }

    /// Waits until so many blocks have settled, or one failed.
    pub(crate) async fn settled(&self, count: usize) {
        let mut settled = self.settled.subscribe();
        let done = |now: &usize| *now >= count || self.outcomes().iter().any(Result::is_err);
        within("blocks settle", settled.wait_for(done)).await.unwrap();
        let broken = self.state.lock().unwrap().broken.clone();
        assert_eq!(broken, Vec::<&str>::new());
    }

    /// Waits until the log asks to refuse new work, or to welcome it again.
    pub(crate) async fn refused(&self, refused: bool) -> Option<LogError> {
        within("a refusal", self.refused.subscribe().wait_for(|now| *now == refused)).await.unwrap();
        self.state.lock().unwrap().refusal.clone()
    }

    pub(crate) fn outcomes(&self) -> Vec<Result<Offset, LogError>> {
        self.state.lock().unwrap().outcomes.clone()
    }

    pub(crate) fn taken(&self) -> usize {
        self.state.lock().unwrap().taken
    }
}

impl Source for Feed {
    fn take(&self) -> Option<Bytes> {
        let mut state = self.state.lock().unwrap();
        if state.in_flight {
            state.broken.push("a block was taken before the one before had settled");
        }
        let block = state.queue.pop_front();
        state.in_flight |= block.is_some();
        state.taken += usize::from(block.is_some());
        block
    }

    fn settled(&self, outcome: Result<Offset, LogError>) {
        let mut state = self.state.lock().unwrap();
        if !state.in_flight {
            state.broken.push("a block settled that was not in flight");
        }
        state.in_flight = false;
        state.outcomes.push(outcome);
        let count = state.outcomes.len();
        drop(state);
        self.settled.send_replace(count);
    }

    fn refuse(&self, refused: Option<Refused>) {
        let why = refused;
        let refused = why.is_some();
        self.state.lock().unwrap().refusal = why.map(|refused| refused.why().clone());
        self.refused.send_replace(refused);
    }
}

/// Waits for what must come, and says what did not.
pub(crate) async fn within<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}
