//! Steps inside the process: completed, checkpointed and the next one scheduled, which is one frame.

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::once::{Figures, Once, Side};

pub(super) const BAR: Bar = Bar {
    name: "native-steps",
    what: "steps completed inside the process: at least 120,000 durable ones a second",
    prepare: nothing,
    run,
};

/// Executions that go on at the same time.
const EXECUTIONS: usize = 1_024;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let (runs, seconds) = if setting.quick { (3, 4.0) } else { (5, 20.0) };
    let once = Once::new(Side::Native, EXECUTIONS, seconds);
    let mut figures: Vec<Figures> = Vec::new();
    for run in 1..=runs {
        setting.say(&format!("{EXECUTIONS} executions at once, run {run} of {runs}"));
        figures.push(once.apart(&setting.dir)?);
    }
    let of = |name: &str| -> Vec<f64> { figures.iter().filter_map(|run| run.get(name).copied()).collect() };
    let mut finding = Finding::default();
    finding.parts.push(Part::at_least("durable steps/s", &of("per_second"), 120_000.0));
    let middle = |name: &str| crate::series::median(&of(name));
    finding.notes.push(format!(
        "a step takes {:.1} us of CPU; p50 {:.1} ms, p99 {:.1} ms; {:.0} MB of memory at the end",
        middle("cpu_us"),
        middle("p50_us") / 1e3,
        middle("p99_us") / 1e3,
        middle("rss_mb"),
    ));
    Ok(finding)
}
