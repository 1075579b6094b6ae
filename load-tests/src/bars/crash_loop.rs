//! kill -9 at random instants under load: what was acknowledged is there, and what was answered is not asked again.

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::crashes::{Crashes, Judged};
use crate::work::server::prepare;

pub(super) const BAR: Bar = Bar {
    name: "crash-loop",
    what: "kill -9 under load of native agents: nothing acknowledged lost, no answered call asked again",
    prepare,
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(async {
        let kills = if setting.quick { 10 } else { 200 };
        let mut crashes = Crashes::new(&setting.dir)?;
        for kill in 1..=kills {
            crashes.live_and_die().await?;
            setting.say(&format!("{kill} kills, {} executions acknowledged", crashes.acknowledged()));
        }
        setting.say("letting everything end");
        Ok(found(&crashes.judge().await?, kills))
    })
}

fn found(judged: &Judged, kills: u64) -> Finding {
    let mut finding = Finding::default();
    let none = |what: &str, count: u64| Part::at_most(what, &[count as f64], 0.0);
    finding.parts.push(none("acknowledged executions that are lost or have not completed", judged.lost));
    finding.parts.push(none("executions beside those that were asked for", judged.doubled));
    finding.parts.push(none("calls asked again although their answer was durable", judged.asked_again));
    finding.parts.push(none("calls asked twice in one life of the process", judged.twice_in_a_life));
    finding.parts.push(none("lanes that repeated more than one call after a kill", judged.lanes_over));
    finding.parts.push(none("calls asked again that are not flagged", judged.unflagged));
    finding.notes.push(format!(
        "{kills} kills, {} executions, {} calls, {} of them repeated",
        judged.executions, judged.calls, judged.repeated
    ));
    // Without a kill in the middle of a call the run has proved nothing.
    finding.parts.push(Part::at_least("calls that a kill cut off", &[judged.repeated as f64], 1.0));
    finding
}
