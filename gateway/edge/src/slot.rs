//! What one request takes up: its place on the connection and the node, and the bytes of its body.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use omium_schemas::TenantId;

use crate::budget::{Following, Share, Taken};
use crate::connection::Connection;
use crate::refusal::Refusal;
use crate::server::Node;
use crate::stop::Stop;

/// The place of one request, in its extensions. It is in flight as long as anybody has a copy, also where its client is
/// gone: whoever works on after the answer keeps one.
#[derive(Clone)]
pub struct Slot(Arc<Place>);

struct Place {
    node: Arc<Node>,
    connection: Arc<Connection>,
    tenant: OnceLock<Share>,
    taken: Mutex<Taken>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("connection", &self.0.connection.id).finish_non_exhaustive()
    }
}

impl Slot {
    pub(crate) fn new(node: Arc<Node>, connection: Arc<Connection>, http2: bool) -> Slot {
        connection.request_begins(http2);
        node.in_flight.send_modify(|count| *count += 1);
        node.ranks(&connection);
        let (tenant, taken) = (OnceLock::new(), Mutex::default());
        Slot(Arc::new(Place { node, connection, tenant, taken }))
    }

    /// The request has a good key: its connection does not yield to strangers any more, and counts for the key's tenant.
    /// Where that one has as many as one tenant may have, the request is refused and the connection ends.
    pub fn belongs_to(&self, tenant: TenantId) -> Result<(), Refusal> {
        let Place { node, connection, tenant: share, .. } = &*self.0;
        if !node.registry.counts_for(connection, tenant, node.limits.connections_of_tenant) {
            connection.turn_away();
            return Err(Refusal::too_many_connections(node.limits.connections_of_tenant));
        }
        share.get_or_init(|| node.tenants.of(tenant));
        Ok(())
    }

    /// The room for what waits for those who follow something. Having it does not keep the request in flight.
    pub fn following(&self) -> Following {
        let Place { node, tenant, .. } = &*self.0;
        Following::of(&node.following, tenant.get())
    }

    /// Tells whoever follows something for this request when to stop.
    pub fn stop(&self) -> &Stop {
        &self.0.node.stop
    }

    /// Takes room for bytes of the body, until the request is over. Whether there was any.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        let Place { node, tenant, taken, .. } = &*self.0;
        let budgets = std::iter::once(&node.incoming).chain(tenant.get().map(|share| &share.incoming));
        taken.lock().unwrap_or_else(PoisonError::into_inner).add(bytes, budgets).is_some()
    }

    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connection.request_ends();
        self.node.ranks(&self.connection);
        self.node.in_flight.send_modify(|count| *count -= 1);
    }
}
