//! A whole node on the embedded log: decide, seal, chain, append, sync, apply, store, answer.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use omium_runtime::{Answer, Config, Dispatch, Ended, Node, NodeParts, Request, StreamKey, World};
use omium_schemas::catalogue::SignalExecution;
use omium_schemas::{Content, ExecutionId, Partition, TenantId};

use super::callers::{self, Caller};
use super::till::TillSuite;
use crate::machine;
use crate::once::{Figures, Once};

/// The content of each command, as long as a short message.
const BODY: usize = 200;

struct Nobody;

impl World for Nobody {
    fn dispatch(&self, _: Dispatch) {}

    fn ended(&self, partition: Partition, why: Ended) {
        eprintln!("omium-load: partition {partition} has ended: {why}");
        std::process::exit(2);
    }
}

pub(crate) struct TillCaller {
    node: Arc<Node<TillSuite>>,
    keys: bool,
    calls: u64,
    number: usize,
    step: usize,
    streams: usize,
}

impl TillCaller {
    /// With a stream for each caller they keep to their own; with more each walks over its share of them.
    pub(crate) fn new(node: &Arc<Node<TillSuite>>, once: &Once, number: usize) -> TillCaller {
        let (keys, calls, step) = (once.keys, 0, once.callers);
        TillCaller { node: node.clone(), keys, calls, number, step, streams: once.streams.max(once.callers) }
    }
}

impl Caller for TillCaller {
    async fn call(&mut self) -> anyhow::Result<()> {
        self.calls += 1;
        let body = Some(Content::open(vec![7; BODY]));
        let key = stream((self.number + self.calls as usize * self.step) % self.streams);
        let request = Request::new(key, SignalExecution { name: "order".to_owned(), body });
        let request = if self.keys { request.with_key(self.calls.to_be_bytes().to_vec()) } else { request };
        loop {
            match self.node.submit(request.clone()).await {
                Answer::Done(done) if !done.repeated => return Ok(()),
                // A full partition is a named answer; asking again is what it asks for.
                Answer::Busy => tokio::task::yield_now().await,
                other => bail!("the node answered {other:?}"),
            }
        }
    }
}

pub(crate) async fn open(dir: &Path) -> anyhow::Result<Node<TillSuite>> {
    let parts = NodeParts::in_directory(&dir.join("node"), Config::default(), Arc::new(Nobody))?;
    Ok(Node::open(parts).await?)
}

/// The stream of a caller.
pub(crate) fn stream(n: usize) -> StreamKey {
    let mut id = [0; 15];
    id[..8].copy_from_slice(&(n as u64).to_le_bytes());
    StreamKey::new(TenantId([1; 16]), ExecutionId::new(id).stream())
}

pub(crate) fn run(once: &Once) -> anyhow::Result<Figures> {
    callers::runtime()?.block_on(async {
        let node = Arc::new(open(&once.dir).await?);
        let callers = (0..once.callers).map(|number| TillCaller::new(&node, once, number)).collect();
        let mut figures = callers::drive(once.seconds, callers).await?;
        figures.insert("rss_mb".to_owned(), machine::resident_mb());
        node.stop().await?;
        Ok(figures)
    })
}
