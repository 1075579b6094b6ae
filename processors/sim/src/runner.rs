//! Running seeds, one or many.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::counts::{Counts, Fault};
use crate::faults::{COMMANDS, CRASHES, FAULTS};
use crate::truth::{Violation, broken};
use crate::world::World;

/// How long a run may be without having seen enough, in microseconds of its own time.
const PATIENCE: u64 = 240_000_000;
/// How many things may happen: a world that is busy with itself alone never ends.
const STEPS: u64 = 400_000;
/// How long everything gets to come to rest: as many attempts as a step has, each as late as a clock may be off.
const REST: u64 = 240_000_000;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// What happened.
    pub counts: Counts,
    /// The first thing that did not hold.
    pub violation: Option<Violation>,
    /// A digest of everything that happened, in order.
    pub trace: u64,
}

/// Runs one seed.
pub fn run_seed(seed: u64) -> Run {
    let mut world = World::new(seed);
    while world.violation.is_none() && !world.has_seen_enough() && world.step() {
        world.keep_faulting();
        if world.now > PATIENCE || world.steps() > STEPS {
            world.check(Err(broken(10, "the clients get no answers any more")));
        }
    }
    if world.violation.is_none() {
        world.heal();
        come_to_rest(&mut world);
        while world.violation.is_none() && world.counts.acknowledged < COMMANDS {
            world.keep_busy(true);
            while world.violation.is_none() && world.counts.acknowledged < COMMANDS && world.step() {
                world.limit_steps();
            }
            world.keep_busy(false);
            come_to_rest(&mut world);
        }
    }
    if world.violation.is_none() {
        let outcome = world.check_at_rest();
        world.check(outcome);
    }
    Run { seed, counts: world.counts, violation: world.violation, trace: world.trace }
}

fn come_to_rest(world: &mut World) {
    let end = world.now + REST;
    while world.violation.is_none() && world.now < end && !world.is_at_rest() && world.step() {
        world.limit_steps();
    }
}

impl World {
    fn limit_steps(&mut self) {
        if self.steps() > STEPS {
            let (pending, roles) = (self.pending(), self.roles());
            let text = format!("the world does not come to rest: {pending:?}, {roles:?}");
            self.check(Err(broken(10, text)));
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, trace {:016x}", self.seed, self.trace)?;
        write!(f, "{}", self.counts)?;
        match &self.violation {
            None => writeln!(f, "everything holds"),
            Some(Violation { invariant, text }) => writeln!(f, "INVARIANT {invariant} is broken: {text}"),
        }
    }
}

/// Many runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many there were.
    pub seeds: u64,
    /// What happened in all of them.
    pub counts: Counts,
    /// Those in which something did not hold, by seed.
    pub failed: Vec<Run>,
    /// Seeds that ended without having seen as much as a run has to.
    pub thin: Vec<u64>,
}

impl Report {
    fn add(&mut self, run: Run) {
        self.seeds += 1;
        self.counts.add(&run.counts);
        let crashes = run.counts.of(Fault::Crash);
        let enough =
            run.counts.acknowledged >= COMMANDS && run.counts.total_faults() >= FAULTS && crashes >= CRASHES;
        if run.violation.is_none() && !enough {
            self.thin.push(run.seed);
        }
        if run.violation.is_some() {
            self.failed.push(run);
        }
    }

    /// What happened fewer than `least` times, of all that can happen.
    pub fn rare(&self, least: u64) -> Vec<String> {
        let faults = Fault::ALL.iter().map(|fault| (format!("fault {fault:?}"), self.counts.of(*fault)));
        let commands =
            COMMAND_KINDS.iter().map(|name| (format!("command {name}"), count(&self.counts.commands, name)));
        let events =
            EVENT_KINDS.iter().map(|name| (format!("event {name}"), count(&self.counts.events, name)));
        let all = faults.chain(commands).chain(events).filter(|(_, count)| *count < least);
        all.map(|(what, count)| format!("{what} happened {count} times")).collect()
    }
}

fn count(counts: &std::collections::BTreeMap<&'static str, u64>, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or(0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} failed, {} saw too little",
            self.seeds,
            self.failed.len(),
            self.thin.len()
        )?;
        write!(f, "{}", self.counts)?;
        self.failed.iter().take(5).try_for_each(|run| write!(f, "{run}"))
    }
}

/// Runs seeds `from`, `from + 1` … on so many threads. Each seed is a world of its own.
pub fn run_seeds(from: u64, count: u64, threads: usize) -> Report {
    let next = AtomicU64::new(from);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let run = run_seed(seed);
                    report.lock().unwrap_or_else(PoisonError::into_inner).add(run);
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failed.sort_by_key(|run| run.seed);
    report
}

/// The commands that shells and the bank know.
pub(crate) const COMMAND_KINDS: [&str; 23] = [
    "AcknowledgeMessages",
    "AdoptLogic",
    "CancelExecution",
    "CarryStream",
    "CompleteStep",
    "DeliverMessage",
    "FailStep",
    "LoseStep",
    "MeetDeadline",
    "OpenBook",
    "PauseExecution",
    "QuarantineStream",
    "ReleaseStream",
    "ResumeExecution",
    "RollBack",
    "SeeControl",
    "SignalExecution",
    "StartExecution",
    "TakeCheckpoint",
    "TeachSchemas",
    "TopUpAccount",
    "TransferMoney",
    "TrimLog",
];

/// The events that shells and the bank cause.
pub(crate) const EVENT_KINDS: [&str; 38] = [
    "AccountCarried",
    "AccountCredited",
    "AccountDebited",
    "BookCarried",
    "BookOpened",
    "BranchRaised",
    "CheckpointTaken",
    "ControlSeen",
    "CostRecorded",
    "ExecutionCancelled",
    "ExecutionCarried",
    "ExecutionCompleted",
    "ExecutionFailed",
    "ExecutionPaused",
    "ExecutionResumed",
    "ExecutionStarted",
    "KeysCarried",
    "LessonCarried",
    "LogStarted",
    "LogicAdopted",
    "MessageCarried",
    "MessageReceived",
    "MessageSent",
    "MessagesAcknowledged",
    "OutcomeLearned",
    "SchemaTaught",
    "SignalReceived",
    "SliceGranted",
    "SliceReceived",
    "SliceRefused",
    "SliceReturned",
    "StepCompleted",
    "StepFailed",
    "StepLost",
    "StepScheduled",
    "StepTimedOut",
    "StreamQuarantined",
    "StreamReleased",
];
