//! Bytes that may be in memory at once, on the node and for each tenant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use omium_schemas::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const UNIT: usize = 1 << 10;

/// A number of bytes that many share.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Semaphore>);

/// A part of a budget, given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Budget {
        Budget(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        self.0.clone().try_acquire_many_owned(units).ok()
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

/// A budget for each tenant. Only those whose key was good are asked about.
#[derive(Debug)]
pub(crate) struct Tenants {
    each: usize,
    known: Mutex<BTreeMap<TenantId, Budget>>,
}

impl Tenants {
    pub(crate) fn new(each: usize) -> Tenants {
        Tenants { each, known: Mutex::default() }
    }

    pub(crate) fn of(&self, tenant: TenantId) -> Budget {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(tenant).or_insert_with(|| Budget::new(self.each)).clone()
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
