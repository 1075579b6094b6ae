//! Workers: they perform what leaders send out, quickly, slowly, twice or never.

use std::collections::{BTreeMap, BTreeSet};

use omium_runtime::{Answer, Dispatch, Input, StreamKey};
use omium_schemas::catalogue::{Command, CompleteStep, FailStep, FailureClass, LoseStep, LossReason, Origin};
use omium_schemas::{Branch, Money, Seq, StepId};

use crate::counts::Fault;
use crate::truth::broken;
use crate::world::{Action, Asker, Life, World};

/// How a performance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done and has cost this much.
    Done(Money),
    /// It was not.
    Failed,
    /// Whoever had it is gone, and somebody noticed.
    Lost,
}

/// What the world has done: with an effect's key it does a thing at most once.
#[derive(Debug, Default)]
pub(crate) struct Performed {
    keys: BTreeSet<String>,
    pub(crate) things: BTreeMap<(StreamKey, StepId, Branch), u32>,
}

const QUICK: u8 = 0;
const SLOW: u8 = 1;
const DEAD: u8 = 2;
const SILENT: u8 = 3;
const FAILS: u8 = 4;

impl World {
    /// Gives a dispatch to a worker, whose fate is decided now.
    pub(crate) fn hire(&mut self, life: Life, dispatch: Dispatch) {
        let dice = if self.faulty { self.chance.below(1000) } else { 0 };
        let (fate, delay) = match dice {
            0..880 => (QUICK, self.chance.between(1_000, 60_000)),
            880..900 => (SLOW, self.chance.between(15_000_000, 45_000_000)),
            900..930 => (DEAD, self.chance.between(5_000, 500_000)),
            930..940 => (SILENT, 0),
            _ => (FAILS, self.chance.between(1_000, 40_000)),
        };
        match fate {
            SLOW => self.fault(Fault::SlowWorker),
            SILENT => return self.fault(Fault::SilentWorker),
            _ => {}
        }
        self.after(delay, Action::Perform(life, dispatch, fate));
    }

    pub(crate) fn perform(&mut self, life: Life, dispatch: Dispatch, fate: u8) {
        if fate == DEAD {
            self.fault(Fault::DeadWorker);
            // Most losses are written down before the work goes out again; some are only noticed.
            return if self.chance.per_mille(700) {
                self.tell(dispatch, Outcome::Lost, 0);
            } else {
                self.notice(life, &dispatch);
            };
        }
        let outcome = if fate == FAILS { Outcome::Failed } else { self.do_it(&dispatch) };
        self.tell(dispatch, outcome, 0);
    }

    fn do_it(&mut self, dispatch: &Dispatch) -> Outcome {
        if self.performed.keys.insert(dispatch.effect_key()) {
            let thing = (dispatch.key, dispatch.effect.step, dispatch.effect.branch);
            let times = self.performed.things.entry(thing).or_default();
            *times += 1;
            if *times > 1 {
                let text = format!(
                    "{} of {} was done twice in the world",
                    dispatch.effect.step, dispatch.key.stream
                );
                self.check(Err(broken(3, text)));
            }
        }
        Outcome::Done(Money(i128::from(self.chance.between(0, 130)) * 1_000_000_000))
    }

    fn notice(&mut self, life: Life, dispatch: &Dispatch) {
        let (key, effect) = (dispatch.key, dispatch.effect);
        let partition = key.stream.partition(key.tenant, self.config.partitions);
        let lost = Input::Lost(key, effect.step, effect.branch, dispatch.epoch, dispatch.delivery);
        self.feed(life, partition, lost);
    }

    pub(crate) fn tell(&mut self, dispatch: Dispatch, outcome: Outcome, times: u8) {
        let (step, branch) = (dispatch.effect.step, dispatch.effect.branch);
        let (epoch, delivery) = (dispatch.epoch, dispatch.delivery);
        let command: Command = match outcome {
            Outcome::Done(cost) => {
                let output = self.chance.per_mille(500).then(|| self.said());
                CompleteStep { step, branch, epoch, delivery, output, cost }.into()
            }
            Outcome::Failed => {
                let class = FailureClass::ToolError;
                FailStep {
                    step,
                    branch,
                    epoch,
                    delivery,
                    class,
                    reason: None,
                    retryable: true,
                    retry_after_ms: None,
                    cost: None,
                }
                .into()
            }
            Outcome::Lost => {
                let (worker, reason) = ("w".into(), LossReason::Silent);
                LoseStep { step, branch, epoch, delivery, worker, reason }.into()
            }
        };
        let origin = Origin { key: None, request: None, entropy: self.chance.bytes(), control: Seq(0) };
        self.submit(dispatch.key, command, origin, Asker::Worker(dispatch, outcome, times));
    }

    pub(crate) fn worker_hears(&mut self, dispatch: Dispatch, outcome: Outcome, times: u8, answer: &Answer) {
        match answer {
            Answer::Done(_) => {
                self.counts.acknowledged += 1;
                if outcome == Outcome::Lost {
                    let partition =
                        dispatch.key.stream.partition(dispatch.key.tenant, self.config.partitions);
                    let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
                    self.notice(life, &dispatch);
                }
            }
            Answer::Refused(_) => self.counts.refused += 1,
            _ if times < 4 => self.soon(300_000, Action::Tell(dispatch, outcome, times + 1)),
            _ => {}
        }
    }
}
