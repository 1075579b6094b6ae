//! The whole shell on the embedded log.

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::once::{Figures, Once, Side};
use crate::series::Series;

pub(super) const BAR: Bar = Bar {
    name: "shell",
    what: "a node on the embedded log: command + 3 events, sealed, chained, synced, stored; 256 callers",
    prepare: nothing,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let (runs, seconds) = if setting.quick { (1, 10.0) } else { (5, 60.0) };
    setting.say("256 callers, every command with an idempotency key");
    let once = Once { keys: true, ..Once::new(Side::Shell, 256, seconds) };
    let figures: Vec<Figures> = (0..runs).map(|_| once.apart(&setting.dir)).collect::<Result<_, _>>()?;
    let of = |name: &str| -> Vec<f64> { figures.iter().filter_map(|run| run.get(name).copied()).collect() };
    let events: Vec<f64> = of("per_second").iter().map(|frames| frames * 3.0).collect();
    finding.parts.push(Part::at_least("events/s at 256 callers", &events, 500_000.0));
    finding.parts.push(Part::at_most("p99 in us", &of("p99_us"), 5_000.0));
    finding.parts.push(Part::at_most("CPU us per frame", &of("cpu_us"), 6.0));
    finding.parts.push(Part::at_most("RSS in MB at the end", &of("rss_mb"), 200.0));
    setting.say("64 callers, against the plain probe");
    let seconds = if setting.quick { 2.0 } else { 10.0 };
    let side = |side| Once { keys: true, ..Once::new(side, 64, seconds) }.figure(&setting.dir, "per_second");
    let series = Series::alternate(setting.runs(), || side(Side::Shell), || side(Side::Plain))?;
    finding.parts.push(Part::share(
        "frames/s at 64 callers, against the plain probe's records/s",
        &series,
        0.65,
    ));
    Ok(finding)
}
