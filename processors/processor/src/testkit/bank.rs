//! The bank decides over accounts, jobs and lessons; the auditor reacts to what it decides.

use omium_schemas::catalogue::{
    Command, CostRecorded, Event, Message, MessageKind, MessageSent, RollBack, SignalExecution,
    TakeCheckpoint, TopUpAccount, TransferMoney,
};
use omium_schemas::{Money, Partition, StreamId, StreamKind};
use serde::{Deserialize, Serialize};

use super::{Account, Job, Lesson};
use crate::{Context, Due, Keep, Processor, Recorded, Refusal, Why};

/// The label under which outcomes are learned; a few, so that a report has an order.
const LABELS: [&str; 5] = ["retry", "wait", "ask", "switch", "trim"];

/// The bank.
pub struct Bank;

/// What the bank keeps of one stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum BankState {
    /// Nothing has happened yet.
    #[default]
    New,
    /// The stream is an account.
    Account(Account),
    /// The stream is a job.
    Job(Box<Job>),
    /// The stream is a lesson.
    Lesson(Lesson),
}

impl BankState {
    /// The account that this is, or an empty one.
    pub fn account(&self) -> Account {
        if let BankState::Account(account) = self { account.clone() } else { Account::default() }
    }

    /// The job that this is, or one that has not started.
    pub fn job(&self) -> Job {
        if let BankState::Job(job) = self { (**job).clone() } else { Job::default() }
    }

    fn of(self, kind: StreamKind) -> BankState {
        match (self, kind) {
            (BankState::New, StreamKind::Account) => BankState::Account(Account::default()),
            (BankState::New, StreamKind::Execution) => BankState::Job(Box::default()),
            (BankState::New, StreamKind::Lesson) => BankState::Lesson(Lesson::default()),
            (state, _) => state,
        }
    }
}

impl Processor for Bank {
    type State = BankState;

    const NAME: &'static str = "bank";
    const LAYOUT: u16 = 1;

    fn decide(state: &BankState, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
        match context.stream.kind() {
            StreamKind::Account => decide_account(state, command, context),
            StreamKind::Execution => decide_job(state, command, context),
            StreamKind::Lesson => decide_lesson(command),
            StreamKind::Control | StreamKind::Book => Ok(Vec::new()),
        }
    }

    fn apply(state: BankState, recorded: &Recorded<'_>) -> BankState {
        let mut state = state.of(recorded.stream.kind());
        match &mut state {
            BankState::New => {}
            BankState::Account(account) => account.apply(recorded.event),
            BankState::Job(job) => job.apply(recorded.event, recorded.seq),
            BankState::Lesson(lesson) => lesson.apply(recorded.event),
        }
        state
    }

    fn due(state: &BankState) -> Due {
        if let BankState::Job(job) = state { job.due() } else { Due::default() }
    }

    fn carry(state: &BankState, _keep: &Keep) -> Option<Vec<Event>> {
        match state {
            BankState::New => None,
            BankState::Account(account) => Some(vec![account.carry()]),
            BankState::Job(job) => job.carry().map(|event| vec![event]),
            BankState::Lesson(lesson) => Some(vec![lesson.carry()]),
        }
    }
}

fn decide_account(
    state: &BankState,
    command: &Command,
    context: &Context<'_>,
) -> Result<Vec<Event>, Refusal> {
    let account = state.account();
    match command {
        Command::TopUpAccount(TopUpAccount { amount }) => account.top_up(*amount),
        Command::TransferMoney(TransferMoney { to, amount }) => {
            within_limit(*amount, context)?;
            account.transfer(context.tenant, *to, *amount)
        }
        Command::DeliverMessage(delivered) => {
            Ok(account.hear(context.tenant, delivered.from, &delivered.message))
        }
        _ => Err(unknown(command, context)),
    }
}

fn decide_job(state: &BankState, command: &Command, context: &Context<'_>) -> Result<Vec<Event>, Refusal> {
    let job = state.job();
    match command {
        Command::StartExecution(start) => job.start(start, context),
        Command::CompleteStep(complete) => job.complete(complete, context),
        Command::FailStep(fail) => job.fail_step(fail, context),
        Command::LoseStep(lost) => job.lose_step(lost),
        Command::MeetDeadline(_) => Ok(job.meet_deadline(context)),
        Command::RollBack(roll_back @ RollBack { .. }) => job.roll_back(roll_back, context),
        Command::CancelExecution(_) => job.cancel(context),
        Command::PauseExecution(_) => job.pause(true),
        Command::ResumeExecution(_) => job.pause(false),
        Command::TakeCheckpoint(TakeCheckpoint { name }) => job.checkpoint(name),
        Command::SignalExecution(SignalExecution { name, .. }) => job.signal(name, context),
        Command::StartLlmCall(_) => job.signal("call", context),
        Command::DeliverMessage(delivered) => Ok(job.hear(&delivered.message, context)),
        _ => Err(unknown(command, context)),
    }
}

fn decide_lesson(command: &Command) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::DeliverMessage(delivered) => Ok(Lesson::hear(&delivered.message)),
        _ => Err(Refusal::new(Why::Invalid, "a lesson only hears messages")),
    }
}

fn unknown(command: &Command, context: &Context<'_>) -> Refusal {
    Refusal::new(Why::Invalid, format!("{} means nothing to {}", command.name(), context.stream))
}

/// The control stream may cap single transfers: its content is the cap in pico-dollars, as decimal digits.
fn within_limit(amount: Money, context: &Context<'_>) -> Result<(), Refusal> {
    let cap = std::str::from_utf8(context.control).ok().and_then(|text| text.parse::<i128>().ok());
    match cap {
        Some(cap) if amount.0 > cap => Err(Refusal::new(
            Why::Exhausted,
            format!("{amount} is above the cap of {} for one transfer", Money(cap)),
        )),
        _ => Ok(()),
    }
}

/// Watches the bank: tells the lesson how jobs end, and adds up what was spent.
pub struct Auditor;

/// What the auditor keeps of one stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The sum of all costs.
    pub spent: Money,
    /// How many events there were.
    pub events: u64,
}

impl Processor for Auditor {
    type State = Ledger;

    const NAME: &'static str = "auditor";
    const LAYOUT: u16 = 1;

    fn react(ledger: &Ledger, event: &Event, context: &Context<'_>) -> Vec<Event> {
        let succeeded = match event {
            Event::ExecutionCompleted(_) => 1,
            Event::ExecutionFailed(_) => 0,
            _ => return Vec::new(),
        };
        let label = LABELS[(ledger.events % LABELS.len() as u64) as usize];
        let message = Message {
            to_tenant: context.tenant,
            to: StreamId::named(StreamKind::Lesson, "bank"),
            kind: MessageKind::OutcomeTold,
            amount: None,
            count: succeeded,
            label: Some(label.to_owned()),
            body: None,
        };
        vec![MessageSent { to_partition: Partition(0), number: 0, message }.into()]
    }

    fn apply(mut ledger: Ledger, recorded: &Recorded<'_>) -> Ledger {
        match recorded.event {
            // What stands for an earlier history starts the count anew, for those who have that history too.
            Event::AccountCarried(_) | Event::LessonCarried(_) | Event::BookCarried(_) => {
                ledger = Ledger::default();
            }
            Event::ExecutionCarried(carried) => ledger = Ledger { spent: carried.spent, events: 0 },
            _ => {}
        }
        ledger.events += 1;
        if let Event::CostRecorded(CostRecorded { amount, .. }) = recorded.event {
            ledger.spent.0 += amount.0;
        }
        ledger
    }

    /// It starts anew from what the bank carries.
    fn carry(_: &Ledger, _keep: &Keep) -> Option<Vec<Event>> {
        Some(Vec::new())
    }
}
