//! A whole worker: gives each step's input back as its output, and comes back when its connection breaks.
//!
//! `cargo run -p omium-api --example worker -- URL KEY [FRAMEWORK]`, with what `omium dev` wrote to `dev.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use omium_api::proto::worker_item::Kind as Say;
use omium_api::proto::workers_client::WorkersClient;
use omium_api::proto::{
    Complete, Heartbeat, Perform, Register, Sending, WorkerItem, WorkerMessage, engine_item::Kind,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

type Failed = Box<dyn std::error::Error + Send + Sync>;

struct Worker {
    url: String,
    key: String,
    framework: String,
    /// One life of this process: whoever comes back under it keeps its steps.
    session: String,
    /// Outcomes that were not accepted yet, by the number they were sent under.
    open: BTreeMap<u64, Complete>,
    last: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut words = std::env::args().skip(1);
    let (Some(url), Some(key)) = (words.next(), words.next()) else {
        return Err("usage: worker URL KEY [FRAMEWORK]".into());
    };
    let framework = words.next().unwrap_or_else(|| "program".to_owned());
    let session = format!("{}", std::process::id());
    let mut worker = Worker { url, key, framework, session, open: BTreeMap::new(), last: 0 };
    loop {
        match worker.connected().await {
            Ok(()) => return Ok(()),
            Err(error) => {
                let refused = error.downcast_ref::<Status>().map(Status::code);
                // A wrong key or registration is wrong the next time too; all else may pass.
                if matches!(
                    refused,
                    Some(Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument)
                ) {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

impl Worker {
    /// Performs steps until the engine says that there are no more, or the connection breaks.
    async fn connected(&mut self) -> Result<(), Failed> {
        let channel = Channel::from_shared(self.url.clone())?.connect().await?;
        let (say, said) = mpsc::channel(64);
        let mut request = Request::new(ReceiverStream::new(said));
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.key).parse()?);
        let holding = self.open.values().filter_map(|complete| complete.sending.clone()).collect();
        self.tell(&say, self.register(holding)).await?;
        for (no, complete) in &self.open {
            let items = vec![WorkerItem { no: *no, kind: Some(Say::Complete(complete.clone())) }];
            say.send(WorkerMessage { items }).await?;
        }
        let mut told = WorkersClient::new(channel).work(request).await?.into_inner();
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                message = told.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    let mut outcomes = Vec::new();
                    for item in message.items {
                        outcomes.extend(item.kind.and_then(|kind| self.hear(kind)));
                    }
                    if !outcomes.is_empty() {
                        say.send(WorkerMessage { items: outcomes }).await?;
                    }
                }
                _ = beat.tick() => self.tell(&say, Say::Heartbeat(Heartbeat { nonce: 1 })).await?,
            }
        }
    }

    fn register(&self, holding: Vec<Sending>) -> Say {
        Say::Register(Register {
            name: "echo".to_owned(),
            session: self.session.clone(),
            frameworks: vec![self.framework.clone()],
            capacity: 256,
            holding,
            ..Register::default()
        })
    }

    async fn tell(&self, say: &mpsc::Sender<WorkerMessage>, kind: Say) -> Result<(), Failed> {
        say.send(WorkerMessage { items: vec![WorkerItem { no: 0, kind: Some(kind) }] }).await?;
        Ok(())
    }

    fn hear(&mut self, kind: Kind) -> Option<WorkerItem> {
        match kind {
            Kind::Perform(perform) => return Some(self.perform(perform)),
            Kind::Accepted(accepted) => drop(self.open.remove(&accepted.no)),
            Kind::Refused(refused) => {
                let refusal = refused.refusal.unwrap_or_default();
                if !refusal.again {
                    self.open.remove(&refused.no);
                    return None;
                }
                let complete = self.open.get(&refused.no)?.clone();
                return Some(WorkerItem { no: refused.no, kind: Some(Say::Complete(complete)) });
            }
            Kind::Cancel(cancel) => self.open.retain(|_, complete| complete.sending != cancel.sending),
            Kind::Registered(_) | Kind::Heartbeat(_) | Kind::Drained(_) => {}
        }
        None
    }

    /// The work itself. One that takes longer is spawned, and says `progress` as it goes on.
    fn perform(&mut self, perform: Perform) -> WorkerItem {
        self.last += 1;
        let complete =
            Complete { sending: perform.sending, output_json: perform.input_json, cost_usd: String::new() };
        self.open.insert(self.last, complete.clone());
        WorkerItem { no: self.last, kind: Some(Say::Complete(complete)) }
    }
}
