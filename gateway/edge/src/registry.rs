//! All connections of a listener, and who yields where there is no room for another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use omium_schemas::TenantId;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connection::{Connection, Rank};
use crate::limits::Limits;

/// How many closed connections may still have to let go of their descriptors.
const CLOSING: usize = 64;

/// The connections.
#[derive(Default)]
pub(crate) struct Registry {
    all: Mutex<All>,
    freed: Notify,
}

#[derive(Default)]
struct All {
    next: u64,
    open: BTreeMap<u64, (Arc<Connection>, Option<Rank>)>,
    strangers: BTreeSet<Rank>,
    /// How many are open for each tenant.
    callers: BTreeMap<TenantId, usize>,
    /// Closed, and not gone yet.
    closing: usize,
}

impl Registry {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in; where there is no room a stranger yields. Gives it back where nobody can.
    pub(crate) fn admit(&self, stream: TcpStream, limits: &Limits) -> Result<Arc<Connection>, TcpStream> {
        let mut all = self.all();
        if all.open.len() >= limits.connections && !all.yields() {
            return Err(stream);
        }
        all.next += 1;
        let connection = Arc::new(Connection::new(all.next, stream));
        let rank = connection.rank();
        all.strangers.extend(rank);
        all.open.insert(connection.id, (connection.clone(), rank));
        Ok(connection)
    }

    /// Counts a connection for its caller's tenant. Whether the tenant may have one more; one that is counted stays.
    pub(crate) fn counts_for(&self, connection: &Connection, tenant: TenantId, most: usize) -> bool {
        let mut all = self.all();
        // One that has yielded meanwhile is not counted: it is about to go.
        if connection.is_known() || !all.open.contains_key(&connection.id) {
            return true;
        }
        let count = all.callers.entry(tenant).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        connection.becomes_known(tenant);
        all.ranks(connection);
        true
    }

    /// Waits until those that yielded have let go of their descriptors.
    pub(crate) async fn settled(&self) {
        loop {
            let freed = self.freed.notified();
            if self.all().closing < CLOSING {
                return;
            }
            freed.await;
        }
    }

    /// Notes that a connection's rank may be another one now.
    pub(crate) fn ranks(&self, connection: &Connection) {
        self.all().ranks(connection);
    }

    /// A connection's socket is about to go.
    pub(crate) fn gone(&self, id: u64) {
        let mut all = self.all();
        match all.open.remove(&id) {
            Some((connection, rank)) => {
                if let Some(rank) = rank {
                    all.strangers.remove(&rank);
                }
                if let Some(tenant) = connection.tenant() {
                    all.one_less(tenant);
                }
            }
            None => {
                all.closing -= 1;
                drop(all);
                self.freed.notify_waiters();
            }
        }
    }

    /// Closes what is overdue.
    pub(crate) fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        let known: Vec<_> = self.all().open.values().map(|(connection, _)| connection.clone()).collect();
        for connection in known {
            if let Some(why) = connection.overdue(now, limits) {
                tracing::debug!(connection = connection.id, why, "closed");
                connection.close();
            }
        }
    }

    pub(crate) fn close_all(&self) {
        self.all().open.values().for_each(|(connection, _)| connection.close());
    }

    pub(crate) fn count(&self) -> usize {
        self.all().open.len()
    }
}

impl All {
    fn ranks(&mut self, connection: &Connection) {
        let Some((_, kept)) = self.open.get_mut(&connection.id) else { return };
        let rank = connection.rank();
        if let Some(old) = std::mem::replace(kept, rank) {
            self.strangers.remove(&old);
        }
        self.strangers.extend(rank);
    }

    fn one_less(&mut self, tenant: TenantId) {
        if let Some(count) = self.callers.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                self.callers.remove(&tenant);
            }
        }
    }

    fn yields(&mut self) -> bool {
        let Some((.., id)) = self.strangers.pop_first() else { return false };
        if let Some((connection, _)) = self.open.remove(&id) {
            connection.close();
            self.closing += 1;
        }
        true
    }
}
