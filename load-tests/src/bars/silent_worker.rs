//! Workers that do nothing: how soon that is found, and what becomes of their steps.

use std::time::Duration;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::server::prepare;
use crate::work::silence::{Found, Silence, watch};

pub(super) const BAR: Bar = Bar {
    name: "silent-worker",
    what: "a worker that is silent, and one whose step hangs: found, said, given to another one, late calls refused",
    prepare,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let runtime = callers::runtime()?;
    let idle = Duration::from_secs(if setting.quick { 2 } else { 8 });
    let (mut mute, mut hangs) = (Vec::new(), Vec::new());
    for run in 1..=setting.runs() {
        setting.say(&format!("a worker that says nothing any more, run {run}"));
        mute.push(runtime.block_on(watch(&setting.dir, Silence::Mute))?);
        setting.say(&format!("a worker whose step hangs, run {run}"));
        hangs.push(runtime.block_on(watch(&setting.dir, Silence::Hangs { idle }))?);
    }
    Ok(found(&mute, &hangs, idle))
}

fn found(mute: &[Found], hangs: &[Found], idle: Duration) -> Finding {
    let of = |all: &[Found], figure: fn(&Found) -> f64| all.iter().map(figure).collect::<Vec<f64>>();
    let mut finding = Finding::default();
    let noticed = worst(&of(mute, |found| found.noticed));
    finding.parts.push(Part::at_most("s until silence is found, the longest", &noticed, 10.0));
    let noticed = worst(&of(hangs, |found| found.noticed));
    let most = idle.as_secs_f64() + 1.0;
    let what = format!("s until a step is found that hangs, idle limit {} s, the longest", idle.as_secs());
    finding.parts.push(Part::at_most(&what, &noticed, most));
    for (who, all) in [("a silent worker", mute), ("one that hangs", hangs)] {
        let moved = worst(&of(all, |found| found.moved));
        let what = format!("s until the step of {who} is with another one, the longest");
        finding.parts.push(Part::at_most(&what, &moved, 15.0));
    }
    let all = || mute.iter().chain(hangs);
    let not = |what: &str, well: fn(&Found) -> bool| {
        let count = all().filter(|found| !well(found)).count();
        Part::at_most(what, &[count as f64], 0.0)
    };
    finding.parts.push(not("losses that no event tells the reason of", |found| found.told));
    finding.parts.push(not("late calls that were not refused", |found| found.refused));
    finding.parts.push(not("outcomes that are not the other worker's alone", |found| found.kept));
    finding.notes.push(format!("{} trials", all().count()));
    finding
}

/// All must keep to such a bar, not the median.
fn worst(values: &[f64]) -> [f64; 1] {
    [values.iter().copied().fold(0.0, f64::max)]
}
