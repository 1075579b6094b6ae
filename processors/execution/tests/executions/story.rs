//! A run told as commands: each is decided and folded; only this file knows the calls.

use omium_execution::{Execution, Phase, Run, State, Status};
use omium_processor::{Context, Effect, Processor, Recorded, Refusal};
use omium_schemas::catalogue::{
    Command, CompleteStep, Event, FailStep, FailureClass, MeetDeadline, OnFailure, PlannedStep,
    StartExecution,
};
use omium_schemas::{Branch, Content, Epoch, ExecutionId, Money, Seq, StepId, StreamId, TenantId, Time};

pub(crate) fn stream() -> StreamId {
    ExecutionId::new([9; 15]).stream()
}

/// A step that any worker performs, after these.
pub(crate) fn step(agent: &str, after: &[i32]) -> PlannedStep {
    PlannedStep {
        agent: agent.into(),
        framework: "program".into(),
        after: after.to_vec(),
        attempts: 3,
        backoff_ms: 100,
        timeout_ms: 10_000,
        budget: None,
        require: None,
        ensure: None,
        signal: None,
    }
}

pub(crate) fn human(agent: &str, after: &[i32]) -> PlannedStep {
    PlannedStep { framework: "human".into(), signal: Some(agent.into()), timeout_ms: 0, ..step(agent, after) }
}

pub(crate) fn start(plan: Vec<PlannedStep>) -> StartExecution {
    StartExecution {
        workflow: "w".into(),
        workflow_version: None,
        inputs: Some(Content::open(r#"{"amount": 7}"#)),
        account: None,
        steps: 0,
        plan,
        on_failure: OnFailure::FinishOthers,
        slice: None,
        timeout_ms: None,
        price_list: None,
        keep_ms: None,
    }
}

#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) state: State,
    pub(crate) log: Vec<(Seq, Time, Event, Command)>,
    seq: u64,
    pub(crate) now: Time,
}

impl Story {
    pub(crate) fn new() -> Story {
        Story { state: State::Empty, log: Vec::new(), seq: 1, now: Time::from_millis(1_000) }
    }

    pub(crate) fn of(plan: Vec<PlannedStep>) -> Story {
        let mut story = Story::new();
        story.does(start(plan));
        story
    }

    pub(crate) fn run(&self) -> &Run {
        self.state.run().expect("it was started")
    }

    /// Decides and folds; the names of the events.
    #[track_caller]
    pub(crate) fn does(&mut self, command: impl Into<Command>) -> Vec<&'static str> {
        match self.tries(command) {
            Ok(names) => names,
            Err(refusal) => panic!("refused: {refusal}"),
        }
    }

    #[track_caller]
    pub(crate) fn refuses(&mut self, command: impl Into<Command>, text: &str) {
        let before = self.state.clone();
        let refusal = self.tries(command).expect_err("it should be refused");
        assert!(refusal.text.contains(text), "{refusal}");
        assert!(before == self.state, "a refusal changes nothing");
    }

    pub(crate) fn tries(&mut self, command: impl Into<Command>) -> Result<Vec<&'static str>, Refusal> {
        let command = command.into();
        let open = |content: &Content| content.plain().cloned();
        let context = Context {
            tenant: TenantId([7; 16]),
            stream: stream(),
            now: self.now,
            seq: Seq(self.seq),
            entropy: [3; 16],
            logic: 1,
            control: &[],
            open: &open,
        };
        let events = Execution::decide(&self.state, &command, &context)?;
        self.seq += 1;
        let names = events.iter().map(Event::name).collect();
        for event in events {
            self.log.push((Seq(self.seq), self.now, event, command.clone()));
            self.seq += 1;
        }
        self.state = self.folded(Seq(self.seq));
        Ok(names)
    }

    /// The state after the events before this seq, folded from the first one.
    pub(crate) fn folded(&self, before: Seq) -> State {
        self.log.iter().filter(|(seq, ..)| *seq < before).fold(
            State::default(),
            |state, (seq, time, event, command)| {
                let recorded = Recorded {
                    tenant: TenantId([7; 16]),
                    stream: stream(),
                    seq: *seq,
                    time: *time,
                    event,
                    command,
                };
                Execution::apply(state, &recorded)
            },
        )
    }

    /// The steps that are to be performed, with their attempts.
    pub(crate) fn owed(&self) -> Vec<(u32, i32)> {
        let effects = Execution::due(&self.state).effects;
        effects.into_iter().map(|Effect { step, attempt, .. }| (step.0, attempt)).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        Execution::due(&self.state).deadline
    }

    #[track_caller]
    pub(crate) fn completes(&mut self, step: u32) -> Vec<&'static str> {
        let done = complete(step, self.run().branch, &format!("{{\"by\": {step}}}"));
        self.does(done)
    }

    #[track_caller]
    pub(crate) fn fails(&mut self, step: u32, retryable: bool) -> Vec<&'static str> {
        let branch = self.run().branch;
        let class = FailureClass::ToolError;
        let (step, epoch) = (StepId(step), Epoch(1));
        self.does(FailStep {
            step,
            branch,
            epoch,
            delivery: 1,
            class,
            reason: None,
            retryable,
            retry_after_ms: None,
            cost: None,
        })
    }

    #[track_caller]
    pub(crate) fn meets_deadline(&mut self) -> Vec<&'static str> {
        let at = self.deadline().expect("there is one");
        self.now = self.now.max(at);
        self.does(MeetDeadline { at })
    }

    pub(crate) fn phase(&self, step: u32) -> &Phase {
        &self.run().step(StepId(step)).expect("there is such a step").1.phase
    }

    pub(crate) fn status(&self) -> Status {
        self.run().status
    }

    /// As if the stream were this long.
    pub(crate) fn grows_to(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// The last checkpoint after this step.
    pub(crate) fn mark(&self, at: usize) -> Seq {
        self.run().marks[at].at
    }
}

pub(crate) fn complete(step: u32, branch: Branch, output: &str) -> CompleteStep {
    let output = Some(Content::open(output.to_owned()));
    CompleteStep { step: StepId(step), branch, epoch: Epoch(1), delivery: 1, output, cost: Money::ZERO }
}
