//! Bytes that may be in memory at once, on the node and for each tenant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use omium_schemas::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;

/// What one permit stands for.
const UNIT: usize = 1 << 10;

/// A number of bytes that many share.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    units: usize,
}

/// A part of budgets, given back when it is dropped.
#[derive(Debug, Default)]
pub struct Taken(Vec<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Budget {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        Budget { room: Arc::new(Semaphore::new(units)), units }
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        self.room.clone().try_acquire_many_owned(units).ok()
    }

    /// Waits for room. What is larger than the whole budget takes all of it.
    async fn wait(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT).min(self.units)).ok()?;
        self.room.clone().acquire_many_owned(units).await.ok()
    }

    /// Whether hardly any room is left.
    pub(crate) fn is_crowded(&self) -> bool {
        self.room.available_permits() < self.units.div_ceil(8)
    }
}

impl Taken {
    /// Takes more; nothing where one of the budgets has no room.
    pub(crate) fn add<'b>(
        &mut self,
        bytes: usize,
        budgets: impl IntoIterator<Item = &'b Budget>,
    ) -> Option<()> {
        let more: Option<Vec<_>> = budgets.into_iter().map(|budget| budget.take(bytes)).collect();
        for (index, permit) in more?.into_iter().enumerate() {
            match self.0.get_mut(index) {
                Some(taken) => taken.merge(permit),
                None => self.0.push(permit),
            }
        }
        Some(())
    }
}

/// Room for what waits for those who follow something: their tenant's, and the node's.
#[derive(Clone, Debug)]
pub struct Following(Vec<Budget>);

impl Following {
    /// Room of so many bytes that nobody else has a part of.
    pub fn with_room(bytes: usize) -> Following {
        Following(vec![Budget::new(bytes)])
    }

    pub(crate) fn of(node: &Budget, tenant: Option<&Share>) -> Following {
        Following(tenant.map(|share| share.following.clone()).into_iter().chain([node.clone()]).collect())
    }

    /// Takes room for so many bytes, as soon as there is some.
    pub async fn take(&self, bytes: usize) -> Taken {
        let mut taken = Taken::default();
        for budget in &self.0 {
            taken.0.extend(budget.wait(bytes).await);
        }
        taken
    }

    /// Whether hardly any room is left.
    pub fn is_crowded(&self) -> bool {
        self.0.iter().any(Budget::is_crowded)
    }
}

/// What one tenant has of the node's budgets.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) incoming: Budget,
    pub(crate) following: Budget,
}

/// A share for each tenant. Only those whose key was good are asked about.
#[derive(Debug)]
pub(crate) struct Tenants {
    limits: Limits,
    known: Mutex<BTreeMap<TenantId, Share>>,
}

impl Tenants {
    pub(crate) fn new(limits: &Limits) -> Tenants {
        Tenants { limits: limits.clone(), known: Mutex::default() }
    }

    pub(crate) fn of(&self, tenant: TenantId) -> Share {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let share = || Share {
            incoming: Budget::new(self.limits.incoming_of_tenant),
            following: Budget::new(self.limits.following_of_tenant),
        };
        known.entry(tenant).or_insert_with(share).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let (node, tenant) = (Budget::new(100 << 10), Budget::new(50 << 10));
        let mut taken = Taken::default();
        assert!(taken.add(40 << 10, [&node, &tenant]).is_some());
        assert!(taken.add(20 << 10, [&node, &tenant]).is_none());
        assert!(taken.add(10 << 10, [&node, &tenant]).is_some());
        assert!(Taken::default().add(51 << 10, [&node]).is_none());
        drop(taken);
        assert!(Taken::default().add(100 << 10, [&node]).is_some());
    }
}
