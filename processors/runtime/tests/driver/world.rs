//! A world that tests listen to, and a node together with what it has told it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use omium_processor::Processors;
use omium_runtime::{Answer, Dispatch, Done, Ended, Node, Request, StreamKey, StreamState, World};
use omium_schemas::catalogue::{Command, CompleteStep, Event, FailStep, FailureClass};
use omium_schemas::{Block, Content, Digest, Money, Partition, Seq};
use tokio::sync::mpsc;

/// How long a test waits for something that must come, before it fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the node told the world.
#[derive(Debug)]
pub(crate) enum Told {
    Dispatched(Dispatch),
    Published(Bytes),
    Ended(Partition, Ended),
    Retaken(Ended),
}

/// Passes on what it is told.
pub(crate) struct TestWorld(mpsc::UnboundedSender<Told>);

impl TestWorld {
    pub(crate) fn new() -> (Arc<TestWorld>, mpsc::UnboundedReceiver<Told>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(TestWorld(sender)), receiver)
    }

    fn tell(&self, told: Told) {
        // A test that has ended does not listen any more.
        let _ = self.0.send(told);
    }
}

impl World for TestWorld {
    fn dispatch(&self, dispatch: Dispatch) {
        self.tell(Told::Dispatched(dispatch));
    }

    fn publish(&self, _: Partition, block: Bytes) {
        self.tell(Told::Published(block));
    }

    fn retaken(&self, _: Partition, why: &Ended) {
        self.tell(Told::Retaken(why.clone()));
    }

    fn ended(&self, partition: Partition, why: Ended) {
        self.tell(Told::Ended(partition, why));
    }
}

/// What a worker of a test does with a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Succeed,
    FailOnce,
    GoAway,
}

/// One record as it was published.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) key: StreamKey,
    pub(crate) name: &'static str,
}

/// A node that runs.
pub(crate) struct Running<P: Processors> {
    pub(crate) node: Node<P>,
    told: mpsc::UnboundedReceiver<Told>,
    pub(crate) dispatched: Vec<Dispatch>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) ended: Vec<(Partition, Ended)>,
    pub(crate) retaken: Vec<Ended>,
}

impl<P: Processors> Running<P> {
    pub(crate) fn new(node: Node<P>, told: mpsc::UnboundedReceiver<Told>) -> Running<P> {
        Running {
            node,
            told,
            dispatched: Vec::new(),
            seen: Vec::new(),
            ended: Vec::new(),
            retaken: Vec::new(),
        }
    }

    /// Submits a command without extras.
    pub(crate) async fn submit(&self, key: StreamKey, command: impl Into<Command>) -> Answer {
        tokio::time::timeout(PATIENCE, self.node.submit(Request::new(key, command))).await.expect("an answer")
    }

    /// Submits a command that must be taken.
    #[track_caller]
    pub(crate) fn done(&self, key: StreamKey, command: impl Into<Command>) -> impl Future<Output = Done> {
        let (place, answer) = (std::panic::Location::caller(), self.submit(key, command));
        async move {
            match answer.await {
                Answer::Done(done) => done,
                other => panic!("{place}: {other:?}"),
            }
        }
    }

    /// Submits a command with an idempotency key, again and again while the answer is that nobody knows.
    pub(crate) async fn insist(&self, request: Request) -> Done {
        let partition = request.key.stream.partition(request.key.tenant, self.node.partitions());
        let insisting = async {
            loop {
                match self.node.submit(request.clone()).await {
                    Answer::Done(done) => return done,
                    Answer::Unknown | Answer::NotLeading | Answer::Busy => {
                        assert!(self.node.is_led(partition).await, "the partition has ended");
                        tokio::task::yield_now().await;
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, insisting).await.expect("an answer")
    }

    /// Takes in one thing that the world was told.
    pub(crate) async fn hear(&mut self) {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("news from the node");
        self.take_in(told.expect("the node lives"));
    }

    fn take_in(&mut self, told: Told) {
        match told {
            Told::Dispatched(dispatch) => self.dispatched.push(dispatch),
            Told::Published(block) => self.seen.extend(records(block)),
            Told::Retaken(why) => self.retaken.push(why),
            Told::Ended(partition, why) => self.ended.push((partition, why)),
        }
    }

    /// Takes in everything that the world has been told so far.
    pub(crate) fn catch_up(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.take_in(told);
        }
    }

    /// Waits until a stream is as it should be, looking again whenever something was published.
    pub(crate) async fn until(&mut self, key: StreamKey, right: impl Fn(&P::State) -> bool) -> P::State {
        loop {
            self.catch_up();
            let view = self.node.view(key).await.expect("a view").filter(|stream| right(&stream.state));
            if let Some(stream) = view {
                return stream.state.clone();
            }
            self.hear().await;
        }
    }

    /// Waits until an event of this name was published for a stream.
    pub(crate) async fn until_seen(&mut self, key: StreamKey, name: &str) -> Seen {
        loop {
            let found = self.seen.iter().rev().find(|seen| seen.key == key && seen.name == name);
            if let Some(seen) = found {
                return seen.clone();
            }
            self.hear().await;
        }
    }

    pub(crate) async fn next_dispatch(&mut self) -> Dispatch {
        while self.dispatched.is_empty() {
            self.hear().await;
        }
        self.dispatched.remove(0)
    }

    /// Performs a step the way a worker would.
    pub(crate) async fn perform(&self, dispatch: &Dispatch, outcome: Outcome) -> Option<Answer> {
        let (step, branch, epoch) = (dispatch.effect.step, dispatch.effect.branch, dispatch.epoch);
        let delivery = dispatch.delivery;
        match outcome {
            Outcome::Succeed => {
                let output = Some(Content::open(format!("output of {step}")));
                let done = CompleteStep { step, branch, epoch, delivery, output, cost: Money(3) };
                Some(self.submit(dispatch.key, done).await)
            }
            Outcome::FailOnce => {
                let (class, reason) = (FailureClass::ToolError, None);
                let failed = FailStep {
                    step,
                    branch,
                    epoch,
                    delivery,
                    class,
                    reason,
                    retryable: true,
                    retry_after_ms: None,
                    cost: None,
                };
                Some(self.submit(dispatch.key, failed).await)
            }
            Outcome::GoAway => {
                self.node.lost(dispatch.key, step, branch, epoch, delivery);
                None
            }
        }
    }

    /// Performs whatever comes until the stream is as it should be.
    pub(crate) async fn work_until(&mut self, key: StreamKey, right: impl Fn(&P::State) -> bool) {
        loop {
            let view = self.node.view(key).await.expect("a view");
            if view.is_some_and(|stream| right(&stream.state)) {
                return;
            }
            self.hear().await;
            while let Some(dispatch) = self.dispatched.pop() {
                self.perform(&dispatch, Outcome::Succeed).await;
            }
        }
    }

    /// The hash of every stream of these.
    pub(crate) async fn hashes(&self, keys: &BTreeSet<StreamKey>) -> Vec<(StreamKey, Option<(Seq, Digest)>)> {
        let mut hashes = Vec::new();
        for key in keys {
            let view = self.node.view(*key).await.expect("a view");
            hashes.push((*key, view.map(|stream: Arc<StreamState<_>>| (stream.seq, stream.digest()))));
        }
        hashes
    }
}

/// The records of a block, the command of each frame first.
pub(crate) fn records(block: Bytes) -> Vec<Seen> {
    let frames = Block::parse(block).expect("a whole block").frames().expect("whole frames");
    let mut seen = Vec::new();
    for frame in &frames {
        let key = StreamKey::new(frame.head.tenant, frame.head.stream);
        for (depth, record) in frame.records().enumerate() {
            let name = if depth == 0 {
                Command::decode(record.kind, record.body).expect("a command").1.name()
            } else {
                Event::decode(record.kind, record.body).expect("an event").name()
            };
            seen.push(Seen { key, name });
        }
    }
    seen
}
