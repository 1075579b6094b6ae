//! Durable steps that do nothing, on Omium and on Restate in turn.

use std::path::Path;

use super::disk_overhead::bytes;
use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::once::Figures;
use crate::series::Series;
use crate::work::steps::{Shape, idle, omium};
use crate::work::{callers, peers, restate, server};

pub(super) const BAR: Bar = Bar {
    name: "restate-steps",
    what: "workflows of 3 and 10 steps by an external worker, at 1, 10 and 100 clients, against Restate",
    prepare: || server::prepare().and_then(|()| peers::prepared::<2>("restate").map(drop)),
    run,
};

/// The runs of one shape, the two sides in turn.
#[derive(Default)]
struct Both {
    ours: Vec<Figures>,
    theirs: Vec<Figures>,
    /// Bytes of a log in which no workflow has run.
    empty: u64,
    /// Bytes of log for each of our steps, beginning and end of their workflow included.
    bytes: Vec<f64>,
}

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let (runs, seconds) = if setting.quick { (1, 1.5) } else { (5, 5.0) };
    // The headline first.
    for clients in [100, 10, 1] {
        for steps in [3, 10] {
            setting.say(&format!("{clients} clients, {steps} steps"));
            let shape = Shape { steps, clients, seconds };
            let empty = bytes(&idle(&setting.dir, shape).await?)?;
            let mut both = Both { empty, ..Both::default() };
            for _ in 0..runs {
                both.theirs.push(restate::run(&setting.dir, shape).await?);
                both.run_ours(&setting.dir, shape).await?;
            }
            finding.parts.extend(both.parts(shape));
            finding.notes.push(both.note(shape));
        }
    }
    Ok(finding)
}

impl Both {
    async fn run_ours(&mut self, dir: &Path, shape: Shape) -> anyhow::Result<()> {
        let ran = omium(dir, shape).await?;
        let used = bytes(&ran.log)?.saturating_sub(self.empty);
        self.bytes.push(used as f64 / (ran.workflows * shape.steps) as f64);
        self.ours.push(ran.figures);
        Ok(())
    }

    fn series(&self, figure: &str) -> Series {
        let of = |runs: &[Figures]| runs.iter().filter_map(|run| run.get(figure).copied()).collect();
        Series::of(of(&self.ours), of(&self.theirs))
    }

    fn parts(&self, shape: Shape) -> Vec<Part> {
        let Shape { steps, clients, .. } = shape;
        let rate = format!("workflows/s of {steps} steps, {clients} clients");
        let late = |p: &str| format!("{p} in us of {steps} steps, {clients} clients");
        let mut parts = match clients {
            100 => vec![
                Part::times(&rate, &self.series("per_second"), 8.0),
                Part::fraction(&late("p99"), &self.series("p99_us"), 0.2),
            ],
            10 => vec![Part::times(&rate, &self.series("per_second"), 5.0)],
            _ => vec![Part::fraction(&late("p50"), &self.series("p50_us"), 0.25)],
        };
        // Over ten steps a workflow's beginning and end weigh as much as they do in use.
        let most = match (steps, clients) {
            (10, 1) => Some(300.0),
            (10, 100) => Some(220.0),
            _ => None,
        };
        let what = format!("bytes of log per step of {steps}, {clients} clients");
        parts.extend(most.map(|most| Part::at_most(&what, &self.bytes, most)));
        parts
    }

    fn note(&self, shape: Shape) -> String {
        let (rate, p50, p99) = (self.series("per_second"), self.series("p50_us"), self.series("p99_us"));
        format!(
            "{} steps, {} clients: {:.0} against {:.0} workflows/s, p50 {:.1} against {:.1} ms, p99 {:.1} against {:.1} ms",
            shape.steps,
            shape.clients,
            rate.value(),
            rate.reference(),
            p50.value() / 1e3,
            p50.reference() / 1e3,
            p99.value() / 1e3,
            p99.reference() / 1e3,
        )
    }
}
