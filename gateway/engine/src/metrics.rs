//! What `/metrics` counts, from what the index sees.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use omium_api::views::Counts;
use omium_schemas::TenantId;

use super::index::{Line, Standing};

/// The buckets of durations, in seconds; one more for all that took longer.
const BUCKETS: [f64; 7] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

#[derive(Default)]
pub(super) struct Metrics(Mutex<Sums>);

#[derive(Default)]
struct Sums {
    started: BTreeMap<(String, TenantId), u64>,
    active: BTreeMap<String, i64>,
    durations: BTreeMap<(String, Standing), ([u64; 8], f64)>,
}

impl Metrics {
    pub(super) fn changed(&self, tenant: TenantId, before: Option<&Line>, line: &Line) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was = before.is_some_and(|line| line.status.is_open());
        let framework = &line.framework;
        match (was, line.status.is_open()) {
            (false, true) => *sums.active.entry(framework.clone()).or_default() += 1,
            (true, false) => *sums.active.entry(framework.clone()).or_default() -= 1,
            _ => {}
        }
        if before.is_none() {
            *sums.started.entry((framework.clone(), tenant)).or_default() += 1;
        }
        if let Some(ended) = line.ended {
            let seconds = ended.0.saturating_sub(line.started.0) as f64 / 1e6;
            let (counts, sum) = sums.durations.entry((framework.clone(), line.status)).or_default();
            counts[BUCKETS.iter().position(|most| seconds <= *most).unwrap_or(BUCKETS.len())] += 1;
            *sum += seconds;
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let started = sums
            .started
            .iter()
            .map(|((framework, tenant), count)| (framework.clone(), tenant.to_string(), *count));
        let active = sums.active.iter().map(|(framework, count)| (framework.clone(), (*count).max(0) as u64));
        let durations = sums.durations.iter().map(|((framework, standing), (counts, sum))| {
            (framework.clone(), standing.name().to_owned(), *counts, *sum)
        });
        Counts { started: started.collect(), active: active.collect(), durations: durations.collect() }
    }
}
