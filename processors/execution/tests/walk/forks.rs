//! Forks: another run begins where this one was.

use omium_execution::{Phase, Run};
use omium_schemas::catalogue::{ForkedStep, StartFork};
use omium_schemas::{Digest, StepId};

use crate::chance::Chance;
use crate::plans;
use crate::walk::{Walk, stream};

impl Walk {
    /// A walk that begins at one of this one's checkpoints.
    pub(crate) fn fork(&mut self) -> Option<Walk> {
        let at = self.chance.pick(&self.run().marks.clone())?.at;
        let there = self.folded(at);
        let there = there.run()?;
        let mut fork = Walk::new(Chance::new(self.chance.draw()));
        fork.now = self.now;
        let begin = StartFork {
            source: stream(),
            at,
            state_hash: Digest::of(b"state"),
            workflow: "w".into(),
            workflow_version: there.version,
            inputs: there.inputs.clone(),
            plan: there.plan.to_vec(),
            on_failure: plans::on_failure(&mut self.chance),
            slice: None,
            timeout_ms: self.chance.percent(20).then_some(60_000),
            price_list: there.price_list,
            keep_ms: None,
            done: done(there),
        };
        for (broken, why) in broken(&begin, there) {
            assert!(fork.decide(&broken.into(), [2; 16]).is_err(), "a fork begins with {why}");
        }
        fork.submit(begin).unwrap_or_else(|refusal| panic!("a fork of {at} is refused: {refusal}"));
        is_the_same(fork.run(), there);
        Some(fork)
    }
}

fn done(run: &Run) -> Vec<ForkedStep> {
    let outputs = run.ids().zip(&run.steps).filter_map(|(step, state)| match &state.phase {
        Phase::Done { output, .. } => Some(ForkedStep { step, output: output.clone() }),
        _ => None,
    });
    outputs.collect()
}

/// What no checkpoint holds.
fn broken(fork: &StartFork, run: &Run) -> Vec<(StartFork, &'static str)> {
    let with = |step: StepId| {
        let done = fork.done.iter().cloned().chain([ForkedStep { step, output: None }]).collect();
        StartFork { done, ..fork.clone() }
    };
    let known = |step: i32| fork.done.iter().any(|done| done.step.0 == step as u32);
    let early = run.ids().find(|step| {
        run.step(*step).is_some_and(|(plan, _)| !plan.after.iter().all(|before| known(*before)))
    });
    let mut broken = vec![(with(StepId(run.steps.len() as u32 + 1)), "a step that there is not")];
    broken.extend(fork.done.first().map(|done| (with(done.step), "a step that is done twice")));
    broken.extend(early.map(|step| (with(step), "a step that is done before those that it comes after")));
    broken
}

/// What was done there is done here, with the same results.
fn is_the_same(fork: &Run, there: &Run) {
    for (step, then) in fork.steps.iter().zip(&there.steps) {
        if let Phase::Done { output: wanted, .. } = &then.phase {
            let Phase::Done { output, .. } = &step.phase else { panic!("a fork forgets what was done") };
            assert_eq!(output, wanted, "a fork's result of what was done");
        }
    }
}
