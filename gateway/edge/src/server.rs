//! The listener itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::budget::{Budget, Tenants};
use crate::connection::Connection;
use crate::door::Door;
use crate::limits::Limits;
use crate::refusal::Refusal;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::socket::Socket;
use crate::stop::Stop;

/// How often it is looked for what is overdue.
const SWEEP: Duration = Duration::from_secs(1);
/// How many sweeps there are between two lines about refusals.
const TELL: u32 = 60;
/// The longest head. HTTP/1 answers a longer one with 431.
const HEAD: usize = 64 << 10;
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;

/// What all connections share.
pub(crate) struct Node {
    pub(crate) limits: Limits,
    pub(crate) registry: Arc<Registry>,
    pub(crate) incoming: Budget,
    pub(crate) tenants: Tenants,
    pub(crate) outgoing: Budget,
    pub(crate) following: Budget,
    pub(crate) refusals: Refusals,
    pub(crate) stop: Stop,
    pub(crate) in_flight: watch::Sender<usize>,
    /// It can be reached from this machine only, and so by any page that somebody opens on it.
    pub(crate) loopback: bool,
    http: auto::Builder<TokioExecutor>,
}

impl Node {
    /// Only strangers have a rank.
    pub(crate) fn ranks(&self, connection: &Connection) {
        if !connection.is_known() {
            self.registry.ranks(connection);
        }
    }
}

/// A listener with all that stands behind it.
pub struct Server {
    listener: TcpListener,
    router: Router,
    node: Arc<Node>,
}

impl Server {
    /// A listener that has not begun. It ends some time after `stop` was told to.
    pub fn new(listener: TcpListener, router: Router, limits: Limits, stop: Stop) -> io::Result<Server> {
        let loopback = listener.local_addr()?.ip().is_loopback();
        let node = Node {
            registry: Arc::default(),
            incoming: Budget::new(limits.incoming),
            tenants: Tenants::new(&limits),
            outgoing: Budget::new(limits.outgoing),
            following: Budget::new(limits.following),
            refusals: Refusals::default(),
            stop,
            in_flight: watch::Sender::new(0),
            loopback,
            http: http(),
            limits,
        };
        Ok(Server { listener, router, node: Arc::new(node) })
    }

    /// Serves until it was stopped. Then nothing new is taken, and what is in flight has the grace to end: says how many
    /// requests did not.
    pub async fn run(self) -> usize {
        let Server { listener, router, node } = self;
        let accepts = tokio::spawn(accept(listener, router, node.clone()));
        let sweeps = tokio::spawn(sweep(node.clone()));
        node.stop.begun().await;
        let mut in_flight = node.in_flight.subscribe();
        tokio::select! {
            _ = in_flight.wait_for(|count| *count == 0) => {}
            () = node.stop.over() => {}
            () = tokio::time::sleep(node.limits.grace) => {}
        }
        accepts.abort();
        sweeps.abort();
        node.refusals.tell();
        node.registry.close_all();
        *node.in_flight.borrow()
    }
}

/// Settings under which nobody keeps much for a peer that has not paid for it with a key.
fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Times are kept by the sweep: hyper's own begin with the connection's rest.
    http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(32 << 10)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_frame_size(16 << 10)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    http
}

async fn accept(listener: TcpListener, router: Router, node: Arc<Node>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                begin(stream, &router, &node);
                node.registry.settled().await;
            }
            Err(error) => {
                // One that was reset before it was taken; or no descriptors, which others have to give back first.
                tracing::warn!(%error, connections = node.registry.count(), "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn begin(stream: TcpStream, router: &Router, node: &Arc<Node>) {
    match node.registry.admit(stream, &node.limits) {
        Ok(connection) => {
            let socket = Socket { connection: connection.clone(), registry: node.registry.clone() };
            let door = Door { node: node.clone(), connection, router: router.clone() };
            tokio::spawn(converse(socket, door));
        }
        Err(stream) => {
            let hint = "try again in a moment; fewer connections, each kept open, do too";
            let detail = "this node has as many connections as it takes";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no-connection", detail, hint);
            node.refusals.count(refusal.status, refusal.code);
            let _ = stream.try_write(&refusal.bytes());
        }
    }
}

async fn converse(socket: Socket, door: Door) {
    // Nothing is set up for those who say nothing.
    if door.connection.stream.readable().await.is_err() {
        return;
    }
    let node = door.node.clone();
    let served = node.http.serve_connection_with_upgrades(TokioIo::new(socket), door);
    if let Err(error) = Box::pin(served).await {
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn sweep(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(SWEEP.min(node.limits.head / 2).min(node.limits.stall / 2));
    for tick in 1_u32.. {
        ticks.tick().await;
        node.registry.sweep(&node.limits);
        if tick % TELL == 0 {
            node.refusals.tell();
        }
    }
}
