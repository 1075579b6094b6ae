//! What `/metrics` counts, from what the index sees.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use omium_api::views::Counts;
use omium_schemas::{TenantId, Time};

use super::index::{Line, Standing};

/// The buckets of durations, in seconds; one more for all that took longer.
const BUCKETS: [f64; 7] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

pub(super) struct Metrics {
    /// When this process began to count.
    since: Time,
    sums: Mutex<Sums>,
}

#[derive(Default)]
struct Sums {
    started: BTreeMap<(String, TenantId), u64>,
    durations: BTreeMap<(String, Standing), ([u64; 8], f64)>,
}

impl Metrics {
    pub(super) fn since(since: Time) -> Metrics {
        Metrics { since, sums: Mutex::default() }
    }

    pub(super) fn changed(&self, tenant: TenantId, before: Option<&Line>, line: &Line) {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let framework = &line.framework;
        // An index that is made anew tells all of history once more.
        if before.is_none() && line.started >= self.since {
            *sums.started.entry((framework.clone(), tenant)).or_default() += 1;
        }
        if let Some(ended) = line.ended.filter(|ended| *ended >= self.since) {
            let seconds = ended.0.saturating_sub(line.started.0) as f64 / 1e6;
            let (counts, sum) = sums.durations.entry((framework.clone(), line.status)).or_default();
            counts[BUCKETS.iter().position(|most| seconds <= *most).unwrap_or(BUCKETS.len())] += 1;
            *sum += seconds;
        }
    }

    /// All but what is open now, which the index knows, and what waits for workers.
    pub(super) fn counts(&self) -> Counts {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let started = sums
            .started
            .iter()
            .map(|((framework, tenant), count)| (framework.clone(), tenant.to_string(), *count));
        let durations = sums.durations.iter().map(|((framework, standing), (counts, sum))| {
            (framework.clone(), standing.name().to_owned(), *counts, *sum)
        });
        Counts { started: started.collect(), durations: durations.collect(), ..Counts::default() }
    }
}
