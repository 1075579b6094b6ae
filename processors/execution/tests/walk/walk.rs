//! One walk: commands are decided and folded, and everything is looked at after each. Only this file knows the calls.

use std::collections::{BTreeMap, BTreeSet};

use omium_execution::{Execution, Phase, Run, State, Status, Step};
use omium_processor::{Context, Due, Processor, Recorded, Refusal};
use omium_schemas::catalogue::{Command, EffectClass, Event};
use omium_schemas::{Branch, Content, ExecutionId, Money, Seq, StepId, StreamId, TenantId, Time};

use crate::chance::Chance;
use crate::checks;

pub(crate) const TENANT: TenantId = TenantId([7; 16]);

pub(crate) fn stream() -> StreamId {
    ExecutionId::new([9; 15]).stream()
}

/// One event as the log holds it.
pub(crate) struct Line {
    pub(crate) seq: Seq,
    time: Time,
    pub(crate) event: Event,
    pub(crate) command: Command,
}

/// What a careful reader knows from the events alone.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) spent: Money,
    pub(crate) spent_on: BTreeMap<StepId, Money>,
    pub(crate) unpriced: u32,
    pub(crate) bytes: u64,
    pub(crate) completed: BTreeSet<(StepId, Branch)>,
    pub(crate) checkpoints: BTreeSet<Seq>,
    pub(crate) calls: BTreeSet<Seq>,
    /// What tools have changed, or may have, with its step.
    pub(crate) writes: BTreeMap<Seq, StepId>,
}

pub(crate) struct Walk {
    pub(crate) chance: Chance,
    pub(crate) now: Time,
    pub(crate) state: State,
    pub(crate) log: Vec<Line>,
    pub(crate) known: Known,
    /// The seq that the next command gets.
    next: u64,
    /// How often what happened, by the names of commands and events.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

impl Walk {
    pub(crate) fn new(chance: Chance) -> Walk {
        Walk {
            chance,
            now: Time::from_millis(1_000),
            state: State::Empty,
            log: Vec::new(),
            known: Known::default(),
            next: 1,
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn run(&self) -> &Run {
        self.state.run().expect("it was started")
    }

    pub(crate) fn due(&self) -> Due {
        Execution::due(&self.state)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.run().status.is_open()
    }

    /// Decides without folding.
    pub(crate) fn decide(&self, command: &Command, entropy: [u8; 16]) -> Result<Vec<Event>, Refusal> {
        let open = |content: &Content| content.plain().cloned();
        let context = Context {
            tenant: TENANT,
            stream: stream(),
            now: self.now,
            seq: Seq(self.next),
            entropy,
            logic: 1,
            control: &[],
            open: &open,
        };
        Execution::decide(&self.state, command, &context)
    }

    /// Decides, folds, and looks at everything.
    pub(crate) fn submit(&mut self, command: impl Into<Command>) -> Result<(), Refusal> {
        let (command, entropy) = (command.into(), self.chance.entropy());
        let decided = self.decide(&command, entropy);
        // Nothing but the state, the command and its circumstances has a say.
        assert_eq!(decided, self.decide(&command, entropy), "deciding {} twice", command.name());
        let events = decided?;
        *self.seen.entry(command.name()).or_default() += 1;
        self.next += 1;
        let stored = postcard::to_stdvec(&self.state).expect("a state can be written");
        let mut kept: State = postcard::from_bytes(&stored).expect("what was written can be read");
        if !events.is_empty() {
            command.contents(&mut |_, content| self.known.bytes += content.length());
        }
        for event in events {
            event.contents(&mut |_, content| self.known.bytes += content.length());
            *self.seen.entry(event.name()).or_default() += 1;
            kept = self.happen(event, &command, kept);
        }
        assert!(kept == self.state, "the store's form of the state folds to something else");
        checks::at_rest(self);
        Ok(())
    }

    fn happen(&mut self, event: Event, command: &Command, kept: State) -> State {
        let line = Line { seq: Seq(self.next), time: self.now, event, command: command.clone() };
        self.next += 1;
        let before = std::mem::take(&mut self.state);
        self.state = line.apply(before.clone());
        self.log.push(line);
        let line = self.log.last().expect("it was just pushed");
        checks::one_event(self, &before, line);
        let kept = line.apply(kept);
        let (seq, event) = (line.seq, line.event.clone());
        self.known.learn(seq, &event, command);
        self.known.learn_of_writes(seq, &event, &before, &self.state);
        kept
    }

    /// The state after the events up to this seq, folded from the first one.
    pub(crate) fn folded(&self, through: Seq) -> State {
        self.log
            .iter()
            .take_while(|line| line.seq <= through)
            .fold(State::default(), |state, line| line.apply(state))
    }

    pub(crate) fn has_ended_for_good(state: &State) -> bool {
        state.run().is_some_and(|run| matches!(run.status, Status::Completed | Status::Cancelled))
    }
}

impl Line {
    fn apply(&self, state: State) -> State {
        let Line { seq, time, event, command } = self;
        let (seq, time) = (*seq, *time);
        Execution::apply(state, &Recorded { tenant: TENANT, stream: stream(), seq, time, event, command })
    }
}

/// What a state becomes when the front of its log goes.
pub(crate) fn carried(state: State, events: &[Event], command: &Command, time: Time) -> State {
    events.iter().zip(1..).fold(state, |state, (event, seq)| {
        let recorded = Recorded { tenant: TENANT, stream: stream(), seq: Seq(seq), time, event, command };
        Execution::apply(state, &recorded)
    })
}

impl Known {
    fn learn(&mut self, seq: Seq, event: &Event, command: &Command) {
        match event {
            Event::CostRecorded(cost) => {
                self.spent.0 += cost.amount.0;
                let step = cost.step.expect("every cost here is one of a step");
                self.spent_on.entry(step).or_default().0 += cost.amount.0;
            }
            Event::StepCompleted(done) => {
                assert!(self.completed.insert((done.step, done.branch)), "{} is completed twice", done.step);
            }
            Event::CheckpointTaken(_) => drop(self.checkpoints.insert(seq)),
            Event::LlmCallStarted(_) | Event::ToolCallStarted(_) => drop(self.calls.insert(seq)),
            Event::LlmCallCompleted(_) => {
                let unpriced = matches!(command, Command::CompleteLlmCall(done) if done.cost.is_none());
                self.unpriced += u32::from(unpriced);
            }
            _ => {}
        }
    }

    fn learn_of_writes(&mut self, seq: Seq, event: &Event, before: &State, after: &State) {
        let asked = before.run().map(|run| run.questions.as_slice()).unwrap_or_default();
        match event {
            Event::ToolCallStarted(call) if call.effect == EffectClass::Read => {}
            Event::ToolCallStarted(call) => {
                self.writes.insert(seq, call.step);
            }
            Event::ToolCallFailed(failed) => {
                self.writes.remove(&failed.call);
            }
            Event::ApprovalGiven(given) => {
                let about = asked.iter().find(|question| question.at == given.approval);
                if let Some(question) = about {
                    self.writes.remove(&question.call);
                }
            }
            // What somebody wanted to be forgotten is.
            Event::BranchRaised(_) => {
                let run = after.run().expect("a run stays one");
                let done = |step| matches!(run.step(step), Some((_, Step { phase: Phase::Done { .. }, .. })));
                self.writes.retain(|at, step| done(*step) || run.calls.iter().any(|call| call.at == *at));
            }
            _ => {}
        }
    }
}
