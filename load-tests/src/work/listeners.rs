//! A subscriber of an execution's events, who notes when each came.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
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

/// One follower.
pub(crate) struct Listener {
    /// Which of the executions it listens to.
    pub(crate) execution: usize,
    heard: mpsc::UnboundedReceiver<Heard>,
}

/// All that is read of an event.
#[derive(Deserialize)]
struct Event {
    seq: u64,
}

impl Listener {
    /// Over a WebSocket.
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
                let Ok(Event { seq }) = serde_json::from_str(&text) else { continue };
                if hears.send(Heard { seq, at }).is_err() {
                    return;
                }
            }
        });
        Ok(Listener { execution, heard })
    }

    /// As server-sent events.
    pub(crate) async fn open_events(
        address: &Address,
        execution: usize,
        id: &str,
    ) -> anyhow::Result<Listener> {
        let Address { port, key } = address;
        let mut stream = TcpStream::connect(("127.0.0.1", *port)).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "GET /api/v1/executions/{id}/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\
             accept: text/event-stream\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let (hears, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            // The server sends each event as one chunk, so that none of its lines is cut.
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Some(seq) = line.strip_prefix("id:").and_then(|seq| seq.trim().parse().ok()) else {
                    continue;
                };
                if hears.send(Heard { seq, at: Instant::now() }).is_err() {
                    return;
                }
            }
        });
        Ok(Listener { execution, heard })
    }

    /// Waits for the event with this seq.
    pub(crate) async fn until(&mut self, seq: u64) -> anyhow::Result<Heard> {
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            let heard = heard.with_context(|| {
                format!("nothing came for {} s, and event {seq} had not come", PATIENCE.as_secs())
            })?;
            let heard = heard.context("the stream of events has ended")?;
            if heard.seq == seq {
                return Ok(heard);
            }
        }
    }
}
