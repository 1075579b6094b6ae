//! The simulation: how many seeds a core runs, and that they are clean.

use std::time::Instant;

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::machine;

pub(super) const BAR: Bar = Bar {
    name: "sim",
    what: "the simulation: seeds per second and core, every one of them clean",
    prepare: nothing,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let (runs, seeds, cores) = (setting.runs(), if setting.quick { 2_000 } else { 50_000 }, machine::cores());
    let mut finding = Finding::default();
    let (mut rates, mut failed) = (Vec::new(), 0);
    for run in 0..runs as u64 {
        let since = Instant::now();
        let report = omium_sim::run_seeds(run * seeds, seeds, cores);
        rates.push(seeds as f64 / since.elapsed().as_secs_f64() / cores as f64);
        failed += report.failed.len();
        setting.say(&format!("{report}"));
    }
    finding.parts.push(Part::at_least("seeds/s per core", &rates, 500.0));
    finding.parts.push(Part::at_most("seeds that failed", &[failed as f64], 0.0));
    finding.notes.push(format!("{} seeds", runs as u64 * seeds));
    Ok(finding)
}
