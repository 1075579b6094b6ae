//! Latencies in little memory: 64 steps per doubling, so that a quantile is right to within 2%.

const STEPS: u64 = 64;
const BUCKETS: usize = 64 * 26;

/// How long things took, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    buckets: Vec<u32>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { buckets: vec![0; BUCKETS], count: 0 }
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, micros: u64) {
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
    }

    pub(crate) fn add(&mut self, other: &Latencies) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(ours, theirs)| *ours += theirs);
        self.count += other.count;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that this share of all does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return upper(bucket) as f64;
            }
        }
        f64::NAN
    }
}

fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let doublings = u64::from(63 - micros.leading_zeros()) - 6;
    let step = (micros >> doublings) - STEPS;
    ((doublings + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

fn upper(bucket: usize) -> u64 {
    let (doublings, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if doublings == 0 { step } else { ((STEPS + step + 1) << (doublings - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_within_two_percent() {
        let mut latencies = Latencies::default();
        (1..=100_000).for_each(|micros| latencies.record(micros));
        for share in [0.5, 0.9, 0.99, 0.999] {
            let (found, right) = (latencies.quantile(share), 100_000.0 * share);
            assert!((found / right - 1.0).abs() < 0.02, "{share}: {found}");
        }
    }
}
