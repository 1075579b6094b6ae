//! kill -9 of programs, of their server, and of both, at the last call: what was paid for is not paid for again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use omium_agents::mock::{self, Script};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::machine;
use crate::work::programs::{examples, without_omium};
use crate::work::resumes::{Outcome, Trial, Victim};
use crate::work::{callers, peers, server};

pub(super) const BAR: Bar = Bar {
    name: "resume-exec",
    what: "kill -9 of programs of four frameworks, of their server, of both: at most 1 new call, nothing done again",
    prepare: || server::prepare().and_then(|()| peers::prepared::<1>("frameworks").map(drop)),
    run,
};

const PROGRAMS: [&str; 8] = [
    "crew",
    "graph",
    "team",
    "kernel",
    "crew_parallel",
    "graph_parallel",
    "team_parallel",
    "kernel_parallel",
];
const VICTIMS: [Victim; 3] = [Victim::Program, Victim::Server, Victim::Both];
/// How often each program is killed in each way.
const TIMES: usize = 20;
/// Each framework, each victim and both shapes once: what a minute has room for.
const QUICK: [Trial; 4] = [
    Trial { program: "graph_parallel", victim: Victim::Both },
    Trial { program: "team", victim: Victim::Program },
    Trial { program: "kernel_parallel", victim: Victim::Server },
    Trial { program: "crew", victim: Victim::Both },
];

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

fn trials(quick: bool) -> Vec<Trial> {
    if quick {
        return QUICK.to_vec();
    }
    let every = VICTIMS.iter().flat_map(|victim| PROGRAMS.map(|program| Trial { program, victim: *victim }));
    (0..TIMES).flat_map(|_| every.clone()).collect()
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let [python] = peers::prepared("frameworks")?;
    let story = std::fs::read_to_string(examples().join("story.yaml"))?;
    let script = Script::parse(&story).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let model = mock::serve(script, TcpListener::bind(("127.0.0.1", 0)).await?).await?;
    let stage = Arc::new(Stage {
        dir: setting.dir.clone(),
        model: model.address().port(),
        python,
        // Most of what a program does is to import its framework, which keeps one core busy.
        at_once: Semaphore::new(machine::cores()),
    });
    let trials = trials(setting.quick);
    setting.say(&format!("{} programs are cut off, and go on", trials.len()));
    let (expected, ended) = tokio::try_join!(stage.clone().expected(&trials), stage.all(&trials, setting))?;
    model.stop().await;
    found(&expected, &ended)
}

/// What all trials share.
struct Stage {
    dir: PathBuf,
    model: u16,
    python: PathBuf,
    at_once: Semaphore,
}

impl Stage {
    /// What each program ends with where nothing happens to it, without any Omium.
    async fn expected(self: Arc<Self>, trials: &[Trial]) -> anyhow::Result<BTreeMap<&'static str, String>> {
        let mut results: BTreeMap<&'static str, String> =
            trials.iter().map(|trial| (trial.program, String::new())).collect();
        let mut tasks = JoinSet::new();
        for program in results.keys().copied() {
            let stage = self.clone();
            tasks.spawn(async move {
                let _turn = stage.at_once.acquire().await?;
                let result = without_omium(program, stage.model, &stage.python).await?;
                anyhow::Ok((program, result))
            });
        }
        while let Some(done) = tasks.join_next().await {
            let (program, result) = done??;
            results.insert(program, result);
        }
        Ok(results)
    }

    async fn all(
        self: &Arc<Self>,
        trials: &[Trial],
        setting: &Setting,
    ) -> anyhow::Result<Vec<(Trial, Outcome)>> {
        let mut tasks = JoinSet::new();
        for (number, trial) in trials.iter().copied().enumerate() {
            let stage = self.clone();
            tasks.spawn(async move {
                let _turn = stage.at_once.acquire().await?;
                let place = stage.dir.join(format!("trial-{number}"));
                let outcome = trial.run(&place, stage.model, &stage.python).await;
                let outcome = outcome
                    .with_context(|| format!("{} with its {:?} killed", trial.program, trial.victim))?;
                drop_place(&place)?;
                anyhow::Ok((trial, outcome))
            });
        }
        let mut ended = Vec::new();
        while let Some(done) = tasks.join_next().await {
            ended.push(done??);
            if ended.len() % 24 == 0 {
                setting.say(&format!("{} of {} have gone on", ended.len(), trials.len()));
            }
        }
        Ok(ended)
    }
}

/// Hundreds of data folders would fill the disk that is measured.
fn drop_place(place: &Path) -> anyhow::Result<()> {
    Ok(std::fs::remove_dir_all(place)?)
}

fn found(expected: &BTreeMap<&'static str, String>, ended: &[(Trial, Outcome)]) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let most = ended.iter().map(|(_, outcome)| outcome.new_calls).max().context("there are trials")?;
    finding.parts.push(Part::at_most(
        "new calls of a running lane after a kill, the most",
        &[most as f64],
        1.0,
    ));
    let sum = |figure: fn(&Outcome) -> usize| ended.iter().map(|(_, outcome)| figure(outcome)).sum::<usize>();
    let mut none = |what: &str, count: usize| {
        finding.parts.push(Part::at_most(what, &[count as f64], 0.0));
    };
    none("recorded calls that were asked again", sum(|outcome| outcome.asked_again));
    none("tools that ran again", sum(|outcome| outcome.tools_again));
    none(
        "programs that were cut off and looked as if they had ended well",
        sum(|outcome| usize::from(outcome.looked_well)),
    );
    let other = |trial: &Trial, outcome: &Outcome| {
        outcome.result.as_deref() != Some(expected[trial.program].as_str())
    };
    let others: Vec<_> = ended.iter().filter(|(trial, outcome)| other(trial, outcome)).collect();
    none("programs with another result than undisturbed", others.len());
    finding.notes.push(format!(
        "{} kills, {} calls made after them",
        ended.len(),
        sum(|outcome| outcome.new_calls)
    ));
    let told = |(trial, outcome): &&(Trial, Outcome)| {
        let result = outcome.result.as_ref().unwrap_or(&outcome.complaint);
        format!("{} with its {:?} killed ended otherwise: {result}", trial.program, trial.victim)
    };
    finding.notes.extend(others.iter().take(10).map(told));
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_full_each_program_is_killed_twenty_times_in_each_way() {
        assert_eq!(trials(false).len(), 480);
    }

    #[test]
    fn another_result_than_undisturbed_misses_the_bar() {
        let expected = BTreeMap::from([("graph", "fine".to_owned())]);
        let trial = Trial { program: "graph", victim: Victim::Both };
        let outcome = |result: &str| Outcome { result: Some(result.to_owned()), ..Outcome::default() };
        let found = |result: &str| found(&expected, &[(trial, outcome(result))]).unwrap().pass();
        assert!(found("fine"));
        assert!(!found("other"));
    }
}
