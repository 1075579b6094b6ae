//! A server on a free port of loopback, and a worker that speaks to it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use omium_api::WorkerTimes;
use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::workers_client::WorkersClient;
use omium_api::proto::{
    EngineMessage, Heartbeat, Perform, Register, Sending, WorkerItem, WorkerMessage, engine_item::Kind,
};
use omium_edge::{Limits, Stop};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::engine::{Memory, Served};

pub(crate) struct Server {
    pub(crate) memory: Arc<Memory>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    serving: tokio::task::JoinHandle<usize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Patience that no test outlasts.
pub(crate) const LONG: WorkerTimes = WorkerTimes {
    heartbeat: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    reconnect: Duration::from_secs(30),
};

pub(crate) async fn serve(times: WorkerTimes) -> Server {
    serve_within(times, Limits::default()).await
}

pub(crate) async fn serve_within(times: WorkerTimes, limits: Limits) -> Server {
    let memory = Arc::new(Memory::default());
    let router = omium_api::router_with(Arc::new(Served(memory.clone())), times);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Stop::default();
    let server = omium_edge::Server::new(listener, router, limits, stop.clone()).unwrap();
    Server { memory, address, stop, serving: tokio::spawn(server.run()) }
}

impl Server {
    /// Returns when the listener has ended.
    pub(crate) async fn ended(mut self) {
        (&mut self.serving).await.unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// A stream that was opened and on which nothing was said.
    pub(crate) async fn open(&self, key: &str) -> Result<Worker, Status> {
        let (say, said) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(said));
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let told = WorkersClient::new(self.channel().await).work(request).await?.into_inner();
        Ok(Worker { say, told, unread: VecDeque::new() })
    }

    pub(crate) async fn worker(&self, session: &str) -> Worker {
        self.worker_with(session, Vec::new()).await.0
    }

    /// A registered worker, and whether it goes on with a session.
    pub(crate) async fn worker_with(&self, session: &str, holding: Vec<Sending>) -> (Worker, bool) {
        let mut worker = self.open("worker").await.unwrap();
        worker.say([Say::Register(Register { holding, ..register(session) })]).await;
        let Kind::Registered(registered) = worker.next().await else { panic!("registered comes first") };
        (worker, registered.resumed)
    }
}

pub(crate) fn register(session: &str) -> Register {
    Register {
        name: "w".to_owned(),
        session: session.to_owned(),
        frameworks: vec!["program".to_owned()],
        capacity: 1,
        ..Register::default()
    }
}

pub(crate) struct Worker {
    say: mpsc::Sender<WorkerMessage>,
    told: Streaming<EngineMessage>,
    unread: VecDeque<Kind>,
}

impl Worker {
    /// Says things in one message, numbered from 1.
    pub(crate) async fn say(&self, kinds: impl IntoIterator<Item = Say>) {
        let items = (1..).zip(kinds).map(|(no, kind)| WorkerItem { no, kind: Some(kind) }).collect();
        self.say.send(WorkerMessage { items }).await.unwrap();
    }

    /// Sends heartbeats as long as the worker is connected.
    pub(crate) fn beat(&self, every: Duration) {
        let say = self.say.clone();
        tokio::spawn(async move {
            let beat = WorkerItem { no: 0, kind: Some(Say::Heartbeat(Heartbeat { nonce: 7 })) };
            while say.send(WorkerMessage { items: vec![beat.clone()] }).await.is_ok() {
                tokio::time::sleep(every).await;
            }
        });
    }

    /// The next thing that is told, heartbeats aside; nothing at the end.
    pub(crate) async fn heard(&mut self) -> Result<Option<Kind>, Status> {
        loop {
            while let Some(kind) = self.unread.pop_front() {
                if !matches!(kind, Kind::Heartbeat(_)) {
                    return Ok(Some(kind));
                }
            }
            let message = tokio::time::timeout(Duration::from_secs(20), self.told.message());
            let Some(message) = message.await.expect("the engine says something within 20 s")? else {
                return Ok(None);
            };
            self.unread.extend(message.items.into_iter().map(|item| item.kind.unwrap()));
        }
    }

    pub(crate) async fn next(&mut self) -> Kind {
        self.heard().await.unwrap().expect("the stream goes on")
    }

    pub(crate) async fn performs(&mut self) -> Perform {
        match self.next().await {
            Kind::Perform(perform) => perform,
            other => panic!("expected a step, heard {other:?}"),
        }
    }

    pub(crate) async fn is_accepted(&mut self, no: u64) {
        match self.next().await {
            Kind::Accepted(accepted) => assert_eq!(accepted.no, no),
            other => panic!("expected `accepted` of {no}, heard {other:?}"),
        }
    }

    /// The code of a refusal.
    pub(crate) async fn is_refused(&mut self, no: u64) -> String {
        match self.next().await {
            Kind::Refused(refused) => {
                assert_eq!(refused.no, no);
                refused.refusal.unwrap().code
            }
            other => panic!("expected `refused` of {no}, heard {other:?}"),
        }
    }

    pub(crate) async fn is_cancelled(&mut self) -> Sending {
        match self.next().await {
            Kind::Cancel(cancel) => cancel.sending.unwrap(),
            other => panic!("expected `cancel`, heard {other:?}"),
        }
    }
}
