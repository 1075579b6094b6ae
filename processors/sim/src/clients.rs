//! Clients: they ask, wait, give up, and ask again with the same key until they know.

use bytes::Bytes;
use omium_runtime::{Answer, Done, Input, StreamKey, Submission, Ticket};
use omium_schemas::catalogue::{
    AdoptLogic, CancelExecution, Command, Origin, PauseExecution, QuarantineStream, ReleaseStream,
    ResumeExecution, RollBack, SignalExecution, StartExecution, TakeCheckpoint, TopUpAccount, TransferMoney,
};
use omium_schemas::{ExecutionId, Money, Partition, Seq, StreamId, StreamKind, TenantId};

use crate::counts::Fault;
use crate::truth::broken;
use crate::world::{Action, Asked, Asker, World};

/// What the control stream says now.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) seq: Seq,
    pub(crate) body: Bytes,
}

/// A client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    tenant: TenantId,
    number: u64,
    /// Which of its plans is the last one. Two that both ask again would become four.
    turn: u64,
    question: Option<Question>,
    jobs: Vec<StreamKey>,
    paused: Vec<StreamKey>,
}

impl Client {
    /// Whether it has asked something and does not know yet.
    pub(crate) fn waits(&self) -> bool {
        self.question.is_some()
    }
}

/// What a client wants to know the end of.
#[derive(Clone, Debug)]
struct Question {
    number: u64,
    key: StreamKey,
    command: Command,
    /// Without a key it is asked once and never again.
    idempotency: Option<Bytes>,
    control: Seq,
    /// What an earlier answer said, where more than one arrived.
    done: Option<(Seq, Seq)>,
}

/// Of a hundred wishes, how many are of each kind. What is left of the hundred begins jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    top_up: u64,
    transfer: u64,
    adopt: u64,
    interfere: u64,
}

/// Runs differ in what they are about: what is rare in one is common in another.
pub(crate) const MIXES: [Mix; 3] = [
    Mix { top_up: 90, transfer: 4, adopt: 1, interfere: 1 },
    Mix { top_up: 72, transfer: 22, adopt: 1, interfere: 1 },
    Mix { top_up: 64, transfer: 6, adopt: 1, interfere: 14 },
];

const CLIENTS: usize = 12;
/// Of a thousand wishes, how many are for what belongs to others.
const STRANGE: u64 = 12;
const ACCOUNTS: u8 = 6;

fn account(n: u8) -> StreamId {
    StreamId::new(StreamKind::Account, [n; 15])
}

impl World {
    pub(crate) fn hire_clients(&mut self) {
        for n in 0..CLIENTS {
            let tenant = TenantId([1 + (n % 2) as u8; 16]);
            self.clients.push(Client { tenant, ..Client::default() });
            self.soon(20_000, Action::Client(n, 0));
        }
    }

    /// Clients ask for new things, or do not.
    pub(crate) fn keep_busy(&mut self, busy: bool) {
        self.busy = busy;
        let idle = (0..self.clients.len()).filter(|n| self.clients[*n].question.is_none());
        if busy {
            idle.collect::<Vec<_>>().into_iter().for_each(|n| self.plan(n, 1_000));
        }
    }

    /// A client asks its question, and makes one up where it has none.
    pub(crate) fn client(&mut self, n: usize, turn: u64) {
        if self.clients[n].turn != turn {
            return;
        }
        if self.clients[n].question.is_none() {
            if !self.busy {
                return;
            }
            self.clients[n].number += 1;
            let question = self.make_up(n);
            self.clients[n].question = Some(question);
        }
        let Some(question) = self.clients[n].question.clone() else { return };
        self.ask(n, &question);
        if self.faulty && question.idempotency.is_some() && self.chance.per_mille(40) {
            self.fault(Fault::RepeatedRequest);
            self.ask(n, &question);
        }
        self.after(1_500_000, Action::GiveUp(n, turn));
    }

    fn ask(&mut self, n: usize, question: &Question) {
        let Question { number, key, command, idempotency, control, .. } = question.clone();
        let origin = Origin { key: idempotency, request: None, entropy: self.chance.bytes(), control };
        self.submit(key, command, origin, Asker::Client(n, number));
    }

    pub(crate) fn submit(&mut self, key: StreamKey, command: Command, origin: Origin, asker: Asker) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.asked.insert(ticket, Asked { asker, key, seen: Seq(0) });
        let partition = key.stream.partition(key.tenant, self.config.partitions);
        if self.faulty && self.chance.per_mille(10) {
            self.fault(Fault::Busy);
            return self.answered(partition, ticket, Answer::Busy);
        }
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        // Every second one was looked up before it came in, and what was found may be old by then.
        let used = origin.key.clone().filter(|_| ticket.0.is_multiple_of(2));
        let found = used.and_then(|used| self.find(life, partition, &key, &used));
        let (ticket, actor) = (Some(ticket), Some("sim".into()));
        let submission = Submission { ticket, key, actor, trace: None, origin, found, command };
        self.soon(400, Action::Feed(life, partition, Input::Submit(Box::new(submission))));
    }

    pub(crate) fn give_up(&mut self, n: usize, turn: u64) {
        if self.clients[n].turn == turn && self.clients[n].question.is_some() {
            self.retry(n, 1_000);
        }
    }

    fn retry(&mut self, n: usize, within: u64) {
        match &self.clients[n].question {
            Some(question) if question.idempotency.is_some() => self.plan(n, within),
            _ => self.next(n),
        }
    }

    fn next(&mut self, n: usize) {
        self.clients[n].question = None;
        self.plan(n, 1_000);
    }

    fn plan(&mut self, n: usize, within: u64) {
        self.clients[n].turn += 1;
        let turn = self.clients[n].turn;
        self.soon(within, Action::Client(n, turn));
    }

    pub(crate) fn answered(&mut self, partition: Partition, ticket: Ticket, answer: Answer) {
        let Some(asked) = self.asked.remove(&ticket) else { return };
        self.mark(ticket.0);
        if let Asker::Trimmer(start) = asked.asker {
            return self.let_go(partition, start, &answer);
        }
        self.check_strangers(partition, &asked, &answer);
        match &answer {
            Answer::Done(done) => self.check_done(partition, &asked, done),
            Answer::Refused(_) => self.check_refusal(partition, &asked),
            Answer::Frozen => {
                let text = format!("a processor panicked while {} was folded", asked.key.stream);
                self.check(Err(broken(4, text)));
            }
            _ => {}
        }
        match asked.asker {
            Asker::Client(n, number) => self.client_hears(n, number, answer),
            Asker::Worker(dispatch, outcome, times) => self.worker_hears(dispatch, outcome, times, &answer),
            Asker::Stranger | Asker::Trimmer(_) => {}
        }
    }

    /// What is acknowledged is in the log, at this moment.
    fn check_done(&mut self, partition: Partition, asked: &Asked, done: &Done) {
        let truth = &self.truths[usize::from(partition.0)];
        let there = truth.frame(&asked.key, done.first).is_some_and(|frame| frame.last <= done.last)
            && truth.end(&asked.key) >= done.last;
        if !there {
            let Done { first, last, .. } = done;
            let text =
                format!("{first}–{last} of {} were acknowledged and are not in the log", asked.key.stream);
            self.check(Err(broken(1, text)));
        }
    }

    /// A refusal tells about a state, so that state has to be in the log.
    fn check_refusal(&mut self, partition: Partition, asked: &Asked) {
        let end = self.truths[usize::from(partition.0)].end(&asked.key);
        if end < asked.seen {
            let text = format!("a refusal saw seq {} of {}, the log has {end}", asked.seen, asked.key.stream);
            self.check(Err(broken(1, text)));
        }
    }

    fn client_hears(&mut self, n: usize, number: u64, answer: Answer) {
        if self.faulty && self.chance.per_mille(20) {
            return self.fault(Fault::LostReply);
        }
        let Some(question) = self.clients[n].question.as_mut().filter(|question| question.number == number)
        else {
            return;
        };
        match answer {
            Answer::Done(Done { first, last, .. }) => {
                let said = *question.done.get_or_insert((first, last));
                if said != (first, last) {
                    let text = format!("one key was answered with {said:?} and with {:?}", (first, last));
                    self.check(Err(broken(7, text)));
                }
                self.counts.acknowledged += 1;
                self.next(n);
            }
            Answer::Refused(_) => {
                self.counts.refused += 1;
                self.next(n);
            }
            Answer::Quarantined(_) => self.release(n),
            _ => self.retry(n, 60_000),
        }
    }

    /// Who finds a stream quarantined releases it and asks no more.
    fn release(&mut self, n: usize) {
        if let Some(question) = &mut self.clients[n].question {
            let number = question.number;
            question.command = ReleaseStream {}.into();
            question.idempotency = Some(Bytes::from(format!("release/{n}/{number}")));
        }
        self.retry(n, 1_000);
    }

    fn make_up(&mut self, n: usize) -> Question {
        if self.chance.per_mille(STRANGE) {
            return self.make_up_strange(n);
        }
        let (key, command) = self.wish(n);
        let client = &self.clients[n];
        let once = matches!(command, Command::SignalExecution(_));
        let idempotency = (!once).then(|| Bytes::from(format!("{n}/{}", client.number)));
        let control = if self.chance.per_mille(100) { self.control.seq } else { Seq(0) };
        Question { number: self.clients[n].number, key, command, idempotency, control, done: None }
    }

    /// What is another one's is tried under that one's keys too.
    fn make_up_strange(&mut self, n: usize) -> Question {
        let other = self.chance.below(CLIENTS as u64) as usize;
        let stream = match self.clients[other].jobs.last() {
            Some(job) if self.chance.per_mille(300) => job.stream,
            _ => account(self.chance.below(u64::from(ACCOUNTS)) as u8),
        };
        let to = account(self.chance.below(u64::from(ACCOUNTS)) as u8);
        let (key, command) = self.try_as_stranger(stream, to);
        let theirs = self.chance.between(1, self.clients[other].number + 1);
        let idempotency = Some(Bytes::from(format!("{other}/{theirs}")));
        let number = self.clients[n].number;
        Question { number, key, command, idempotency, control: Seq(0), done: None }
    }

    fn wish(&mut self, n: usize) -> (StreamKey, Command) {
        let tenant = self.clients[n].tenant;
        let mine = StreamKey::new(tenant, account(self.chance.below(u64::from(ACCOUNTS)) as u8));
        let amount = Money(i128::from(self.chance.between(1, 900)) * 1_000_000_000);
        let Mix { top_up, transfer, adopt, interfere } = self.mix;
        if !self.clients[n].jobs.is_empty() && self.chance.per_mille(60) {
            let job = *self.chance.pick(&self.clients[n].jobs);
            return (job, SignalExecution { name: "read".into(), body: None }.into());
        }
        let dice = self.chance.below(100);
        match dice {
            _ if dice < top_up => (mine, TopUpAccount { amount: Money(amount.0 * 3) }.into()),
            _ if dice < top_up + transfer => {
                let to = account(self.chance.below(u64::from(ACCOUNTS)) as u8);
                (mine, TransferMoney { to, amount }.into())
            }
            _ if dice < top_up + transfer + adopt => {
                let book =
                    StreamKey::book(Partition(self.chance.below(u64::from(self.config.partitions)) as u16));
                (book, AdoptLogic { logic: 1 }.into())
            }
            _ if dice < top_up + transfer + adopt + interfere && !self.clients[n].jobs.is_empty() => {
                let job = *self.chance.pick(&self.clients[n].jobs);
                (job, self.interfere(n, job))
            }
            _ => self.start(n, mine.stream),
        }
    }

    fn start(&mut self, n: usize, payer: StreamId) -> (StreamKey, Command) {
        let job = StreamKey::new(self.clients[n].tenant, ExecutionId::new(self.chance.bytes()).stream());
        self.clients[n].jobs.push(job);
        let paid = self.chance.per_mille(600);
        let slice = Money(i128::from(self.chance.between(100, 400)) * 1_000_000_000);
        let start = StartExecution {
            workflow: "bank".into(),
            workflow_version: None,
            inputs: self.chance.per_mille(200).then(|| omium_schemas::Content::open(crate::erasing::INPUT)),
            account: paid.then_some(payer),
            steps: self.chance.between(1, 4) as i32,
            plan: Vec::new(),
            on_failure: omium_schemas::catalogue::OnFailure::FinishOthers,
            slice: paid.then_some(slice),
            timeout_ms: None,
            price_list: None,
            keep_ms: None,
        };
        (job, start.into())
    }

    fn interfere(&mut self, n: usize, job: StreamKey) -> Command {
        if let Some(paused) = self.clients[n].paused.pop() {
            let _ = paused;
            return ResumeExecution {}.into();
        }
        match self.chance.below(12) {
            0..5 => self.roll_back(job),
            5..7 => TakeCheckpoint { name: "mine".into() }.into(),
            7..9 => SignalExecution { name: "go".into(), body: None }.into(),
            9 => {
                self.clients[n].paused.push(job);
                PauseExecution {}.into()
            }
            10 => QuarantineStream { reason: "an operator wants to look".into() }.into(),
            _ => CancelExecution {}.into(),
        }
    }

    /// Back to one of the checkpoints that the leader knows.
    fn roll_back(&mut self, job: StreamKey) -> Command {
        let partition = job.stream.partition(job.tenant, self.config.partitions);
        let life = self.life(self.leaders[usize::from(partition.0)].0, partition);
        let marks = self.shell(life, partition).and_then(|shell| shell.resident(&job));
        let marks: Vec<Seq> =
            marks.map_or(Vec::new(), |state| state.state.0.job().marks.iter().map(|mark| mark.at).collect());
        let to = if marks.is_empty() { Seq(3) } else { *self.chance.pick(&marks) };
        RollBack { to, cancel_running: true, over_writes: false }.into()
    }
}
