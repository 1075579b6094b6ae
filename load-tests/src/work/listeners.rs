//! A subscriber of an execution's events, who notes when each came.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;

use super::http::Address;

/// Whoever waits longer for an event will not get it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event, and when it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) seq: u64,
    pub(crate) at: Instant,
}

/// One WebSocket.
pub(crate) struct Listener {
    /// Which of the executions it listens to.
    pub(crate) execution: usize,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Listener {
    pub(crate) async fn open(address: &Address, execution: usize, id: &str) -> anyhow::Result<Listener> {
        let Address { port, key } = address;
        let stream = TcpStream::connect(("127.0.0.1", *port)).await?;
        stream.set_nodelay(true)?;
        let place = format!("ws://127.0.0.1:{port}/api/v1/executions/{id}/stream?key={key}");
        let (mut socket, _) = tokio_tungstenite::client_async(place, stream).await?;
        let (hears, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = socket.next().await {
                let at = Instant::now();
                let Message::Text(text) = message else { continue };
                let event: Option<Value> = serde_json::from_str(&text).ok();
                let Some(seq) = event.and_then(|event| event["seq"].as_u64()) else { continue };
                if hears.send(Heard { seq, at }).is_err() {
                    return;
                }
            }
        });
        Ok(Listener { execution, heard })
    }

    /// Waits for the event with this seq.
    pub(crate) async fn until(&mut self, seq: u64) -> anyhow::Result<Heard> {
        let wanted = async {
            loop {
                let heard = self.heard.recv().await.context("the stream of events has ended")?;
                if heard.seq == seq {
                    return anyhow::Ok(heard);
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, wanted).await;
        heard.with_context(|| format!("event {seq} did not come within {} s", PATIENCE.as_secs()))?
    }
}
