//! What an execution holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use omium_schemas::catalogue::{
    FailureClass, FindingKind, GateVerdict, OnFailure, PlannedStep, RemedyKind, Severity, SuspendReason,
    Usage,
};
use omium_schemas::{Branch, Content, Digest, Money, Seq, StepId, StreamId, Time};
use serde::{Deserialize, Serialize};

use crate::control::Control;

/// What one stream holds, by its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Nothing has happened on it, or nothing that concerns workflows.
    #[default]
    Empty,
    /// A run of a workflow.
    Run(Box<Run>),
    /// Tenants, keys and workflow versions.
    Control(Box<Control>),
}

impl State {
    /// The run, where it is one.
    pub fn run(&self) -> Option<&Run> {
        match self {
            State::Run(run) => Some(run),
            State::Empty | State::Control(_) => None,
        }
    }

    /// What control holds, where it is the control stream.
    pub fn control(&self) -> Option<&Control> {
        match self {
            State::Control(control) => Some(control),
            State::Empty | State::Run(_) => None,
        }
    }
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It goes on.
    #[default]
    Running,
    /// Somebody stopped it for a while: what runs may end, nothing new begins.
    Paused,
    /// It ended well. Final.
    Completed,
    /// It failed. Only a retry or a rollback by decision leaves this.
    Failed(FailureClass),
    /// Somebody ended it. Final.
    Cancelled,
}

impl Status {
    /// Whether steps may still be done.
    pub fn is_open(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }
}

/// A run of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The workflow's name.
    pub workflow: String,
    /// The version it is pinned to.
    pub version: Option<Digest>,
    /// The version of the price list that its calls are charged by.
    pub price_list: Option<Digest>,
    /// What it does, in order. Shared: a state is copied whenever it changes, a plan never changes.
    pub plan: Arc<[PlannedStep]>,
    /// What becomes of the other lanes when a step has failed for good.
    pub on_failure: Cancelling,
    /// What it was given (sealed).
    pub inputs: Option<Content>,
    /// Where it stands.
    pub status: Status,
    /// When it was paused.
    pub paused_at: Option<Time>,
    /// When it began.
    pub started: Time,
    /// When it ended, where it has.
    pub ended: Option<Time>,
    /// When it fails if it has not ended.
    pub deadline: Option<Time>,
    /// How long its records are kept after it has ended, where its workflow says so.
    pub keep_ms: Option<u64>,
    /// Its records are gone, all but that it ended.
    pub let_go: bool,
    /// The generation of its effects.
    pub branch: Branch,
    /// Its steps, in the plan's order.
    pub steps: Vec<Step>,
    /// The most it may cost.
    pub budget: Option<Money>,
    /// What it has cost, over all branches.
    pub spent: Money,
    /// How many answered calls had no price: what these cost is not in `spent`.
    pub unpriced: u32,
    /// What was kept aside for calls whose end nobody knows: a provider may have charged it.
    pub lost: Money,
    /// Where it can go back to, in order.
    pub marks: Vec<Mark>,
    /// What it was told from outside.
    pub signals: Vec<Signal>,
    /// Calls of steps that run: what a step that begins again need not ask again. Shared, as there are many, and most
    /// commands change one of them.
    pub calls: Vec<Arc<Call>>,
    /// What its tools have changed in the world, or may have: going back does not undo it.
    pub writes: Vec<Arc<Write>>,
    /// What a person is asked, in order.
    pub questions: Vec<Question>,
    /// How many bytes of content it has brought into the log, over all branches.
    pub bytes: u64,
    /// Its last event.
    pub last: Seq,
    /// Where it came from, if it is a fork.
    pub source: Option<(StreamId, Seq)>,
    /// Why it is suspended, and the finding or approval that it waits for.
    pub suspended: Option<(SuspendReason, Option<Seq>)>,
    /// Models without a price may be asked under its budget: somebody has said so.
    pub unpriced_allowed: bool,
    /// What it has beside its one step, where it is a program that decides its own steps.
    pub program: Option<Box<Program>>,
}

/// What a program has that decides its own steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The attempt that runs or ran last, from 1; 0 before the first.
    pub attempt: i64,
    /// The digests of the messages that the log holds already.
    pub messages: Arc<BTreeSet<Digest>>,
    /// What detectors have seen in its answers.
    pub findings: Vec<FindingState>,
    /// The approval that is asked for.
    pub asked: Option<Seq>,
    /// How often a resumed attempt asked for something else than the one before.
    pub drifts: u32,
}

/// What a detector has seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FindingState {
    /// Its event.
    pub at: Seq,
    /// The call whose answer it is about.
    pub call: Option<Seq>,
    /// What was seen.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// Who saw it.
    pub detector: String,
    /// In words (sealed).
    pub detail: Option<Content>,
    /// What can be done about it, the best first.
    pub suggested: Vec<Suggested>,
    /// The number of what was chosen.
    pub chosen: Option<i32>,
    /// Whether it helped, once that is known.
    pub helped: Option<bool>,
    /// Somebody said that it is none.
    pub dismissed: bool,
}

/// Something that can be done about a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suggested {
    /// Which suggestion, from 1.
    pub number: i32,
    /// What would be done.
    pub kind: RemedyKind,
    /// How confident recovery is, in thousandths.
    pub confidence: i32,
    /// What would be added to the instructions.
    pub text: Option<String>,
}

/// Whether the other lanes are cancelled when a step has failed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelling(pub bool);

impl From<OnFailure> for Cancelling {
    fn from(said: OnFailure) -> Cancelling {
        Cancelling(said == OnFailure::CancelOthers)
    }
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where it stands.
    pub phase: Phase,
    /// How many attempts were decided on this branch.
    pub attempts: i32,
    /// How often the present attempt was lost by a worker.
    pub losses: u32,
    /// What it has cost, over all attempts.
    pub spent: Money,
    /// How many answered calls had no price.
    pub unpriced: u32,
}

/// Where a step stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Others come before it.
    #[default]
    Blocked,
    /// An attempt is owed or on its way.
    Waiting {
        /// When it was decided.
        since: Time,
        /// When it may begin.
        not_before: Time,
        /// When it counts as failed.
        timeout_at: Option<Time>,
        /// When a worker said that it began.
        begun: Option<Time>,
    },
    /// It is done.
    Done {
        /// The event that says so.
        at: Seq,
        /// When.
        time: Time,
        /// Its result (sealed).
        output: Option<Content>,
    },
    /// Its last attempt failed; whether it is tried again follows from the plan.
    Failed {
        /// The event that says so.
        at: Seq,
        /// Why.
        class: FailureClass,
        /// Whether another attempt could help.
        retryable: bool,
        /// In words (sealed).
        reason: Option<Content>,
    },
    /// It will not be done, because one before it failed.
    Skipped,
    /// It was running when the execution was ended.
    Cancelled,
}

/// A checkpoint: a position in the stream. What was there follows from the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Where it was taken.
    pub at: Seq,
    /// When.
    pub time: Time,
    /// How somebody named it.
    pub name: Option<String>,
}

/// Something that was said from outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// Where it was received.
    pub at: Seq,
    /// What came with it (sealed).
    pub body: Option<Content>,
    /// The event of the step that took it.
    pub taken: Option<Seq>,
}

/// Something that only a person can say: what came of a call that must not be made twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The event that asks; its name from then on.
    pub at: Seq,
    /// The step that waits for the answer.
    pub step: StepId,
    /// The call that it is about.
    pub call: Seq,
    /// Since when.
    pub since: Time,
    /// When no answer counts as giving up.
    pub expires_at: Option<Time>,
    /// In words (sealed).
    pub text: Option<Content>,
}

/// A tool that changes something was called, and did it for all that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// The event that began the call.
    pub at: Seq,
    /// The step.
    pub step: StepId,
    /// The tool.
    pub tool: String,
    /// Whether it said that it did it; if not, nobody knows.
    pub answered: bool,
}

/// A model or tool call of a step that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The event that began it; its name from then on.
    pub at: Seq,
    /// The step.
    pub step: StepId,
    /// The branch.
    pub branch: Branch,
    /// What kind of call.
    pub kind: CallKind,
    /// Who asks, as calls are found again.
    pub agent: String,
    /// Who asks, with the loop index: for people, and for order.
    pub caller: String,
    /// The digest of what is asked.
    pub request: Digest,
    /// The digest of what is asked with minted ids renamed, where there are any.
    pub alias: Option<Digest>,
    /// The framework's own step number, where that survives its checkpoints.
    pub position: Option<String>,
    /// How often the same was asked before by the same caller, from 1.
    pub occurrence: i32,
    /// What became of it.
    pub outcome: Outcome,
    /// The event that says so.
    pub done: Option<Seq>,
    /// The attempt that began while nobody had said, and whoever would have been told was gone: a tool of a program.
    pub lost: Option<Seq>,
    /// The attempt of a program, or the sending of a step, that has made it or was served it last.
    pub taken: i64,
    /// The event by which it was served last.
    pub served: Option<Seq>,
    /// It is never served again.
    pub condemned: bool,
    /// It was to be served next once, and something else was asked for.
    pub passed_over: bool,
    /// The client has read the answer.
    pub released: bool,
    /// What the gate did with the answer, where it did not just let it pass.
    pub verdict: Option<GateVerdict>,
    /// The patches that were in force.
    pub patch_set: Option<Digest>,
    /// The digest of the whole conversation.
    pub thread: Option<Digest>,
    /// What was used.
    pub usage: Option<Usage>,
    /// What it cost, where it was answered and its model has a price.
    pub cost: Option<Money>,
    /// What is kept aside for it while it is open.
    pub reserved: Money,
}

/// What kind of call it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CallKind {
    /// A model was asked.
    Model(String),
    /// A tool was called. `repeatable` says that calling it twice does no harm.
    Tool {
        /// Its name.
        tool: String,
        /// Whether calling it twice does no harm.
        repeatable: bool,
    },
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nobody has said. After a crash: unknown.
    Open,
    /// It was answered (sealed).
    Answered(Option<Content>),
    /// It failed.
    Failed {
        /// Whether asking again could help.
        retryable: bool,
        /// In words (sealed).
        reason: Option<Content>,
    },
}

impl Run {
    /// A step by its number.
    pub fn step(&self, step: StepId) -> Option<(&PlannedStep, &Step)> {
        let at = usize::try_from(step.0).ok()?.checked_sub(1)?;
        Some((self.plan.get(at)?, self.steps.get(at)?))
    }

    pub(crate) fn step_mut(&mut self, step: StepId) -> Option<&mut Step> {
        self.steps.get_mut(usize::try_from(step.0).ok()?.checked_sub(1)?)
    }

    /// The numbers of all steps.
    pub fn ids(&self) -> impl Iterator<Item = StepId> + use<> {
        (1..=self.steps.len() as u32).map(StepId)
    }

    /// The checkpoint at a seq.
    pub fn mark(&self, at: Seq) -> Option<&Mark> {
        self.marks.iter().find(|mark| mark.at == at)
    }
}
