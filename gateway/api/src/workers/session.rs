//! One worker's session: its seat in the engine, what it holds, and the connection that it has at the moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use omium_schemas::catalogue::LossReason;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::queue::Speaker;
use super::said::{Of, Said, about, of, perform, read, refused, write};
use super::{BATCH, WorkerTimes};
use crate::grpc::proto::worker_item::Kind;
use crate::grpc::proto::{
    Accepted, Cancel, Drained, EngineItem, EngineMessage, Heartbeat, Registered, Sending as Wire, WorkerItem,
    WorkerMessage, engine_item,
};
use crate::port::{Action, Caller, Engine, Failure, FailureKind, Task, ToWorker, ToolBegun, WorkerSeat};
use crate::views::Done;

/// How many things about one sending may wait for the one before them.
const MAX_WAITING: usize = 64;

/// About how many bytes go out in one message; many clients take no more than 4 MiB.
const MAX_BYTES: usize = 1 << 20;

/// A connection.
pub(super) struct Link {
    pub(super) said: Streaming<WorkerMessage>,
    pub(super) out: Speaker,
    /// What came in one message with `register`.
    pub(super) first: Vec<WorkerItem>,
    /// What the worker says it has.
    pub(super) holding: Vec<Wire>,
    pub(super) resumed: bool,
}

/// A step that is with the worker.
struct Held {
    task: Box<Task>,
    /// When it last went on.
    moved: Instant,
    /// Whether something about it is with the engine. One thing at a time keeps their order.
    busy: bool,
    waiting: VecDeque<(u64, Said)>,
}

/// Something that the engine was asked, and its answer.
struct Answered {
    no: u64,
    of: Of,
    asked: Asked,
    answer: Result<ToolBegun, Failure>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    More,
    End,
    Loss(LossReason),
}

/// What is not about a tool.
fn plain(done: Done) -> ToolBegun {
    ToolBegun { done, recorded: None }
}

/// Why a session is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Gone,
    Silent,
    Drained,
    Revoked,
}

/// How often a session asks whether its worker's key still holds.
const RECHECK: Duration = Duration::from_secs(2);

pub(super) struct Session {
    engine: Arc<dyn Engine>,
    caller: Caller,
    times: WorkerTimes,
    seat: Arc<dyn WorkerSeat>,
    steps: mpsc::Receiver<ToWorker>,
    links: mpsc::Receiver<Link>,
    link: Option<Link>,
    /// When something was last heard, or the connection broke.
    heard: Instant,
    held: BTreeMap<Of, Held>,
    /// What was lost for idleness and the worker may still be stuck in.
    stuck: BTreeSet<Of>,
    asked: JoinSet<Answered>,
    out: Vec<EngineItem>,
    draining: bool,
    /// Whether it cannot be known any more what became of something that the engine was asked.
    broken: bool,
}

impl Session {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        caller: Caller,
        times: WorkerTimes,
        seat: Arc<dyn WorkerSeat>,
        steps: mpsc::Receiver<ToWorker>,
        links: mpsc::Receiver<Link>,
    ) -> Session {
        Session {
            engine,
            caller,
            times,
            seat,
            steps,
            links,
            link: None,
            heard: Instant::now(),
            held: BTreeMap::new(),
            stuck: BTreeSet::new(),
            asked: JoinSet::new(),
            out: Vec::new(),
            draining: false,
            broken: false,
        }
    }

    pub(super) async fn run(mut self, link: Link) {
        self.attach(link).await;
        let shortest = self.times.heartbeat.min(self.times.idle).min(self.times.reconnect);
        let mut tick = tokio::time::interval((shortest / 10).clamp(MIN_TICK, MAX_TICK));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut recheck = tokio::time::interval(RECHECK);
        recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        recheck.reset();
        let mut told = Vec::new();
        let over = loop {
            tokio::select! {
                _ = recheck.tick() => if !self.engine.knows(&self.caller).await {
                    break Over::Revoked;
                },
                Some(link) = self.links.recv() => self.attach(link).await,
                said = hear(&mut self.link) => self.listen(said),
                count = self.steps.recv_many(&mut told, BATCH) => {
                    if count == 0 {
                        // The engine has let go of the seat: it is being taken down.
                        break Over::Gone;
                    }
                    told.drain(..).for_each(|told| self.hand_on(told));
                }
                Some(answered) = self.asked.join_next() => self.note(answered),
                _ = tick.tick() => {}
            }
            while let Some(answered) = self.asked.try_join_next() {
                self.note(answered);
            }
            // Who is silent is not merely idle.
            if let Some(over) = self.over() {
                break over;
            }
            self.lose_idle();
            self.flush().await;
        };
        self.end(over).await;
    }

    /// Goes on over a new connection: what was lost on the way is said again.
    async fn attach(&mut self, mut link: Link) {
        if let Some(old) = self.link.take() {
            old.out.try_hang_up(Status::aborted("another connection of this session took over"));
        }
        self.out.clear();
        let ms = |time: Duration| time.as_millis() as u64;
        self.tell(engine_item::Kind::Registered(Registered {
            resumed: link.resumed,
            heartbeat_ms: ms(self.times.heartbeat),
            idle_ms: ms(self.times.idle),
            reconnect_ms: ms(self.times.reconnect),
        }));
        let engine_says = self.seat.holds();
        self.held.retain(|of, held| held.busy || engine_says.contains(of));
        let holding: Vec<Of> = std::mem::take(&mut link.holding).into_iter().map(read).collect();
        let unknown: Vec<_> = holding.iter().filter(|of| !self.held.contains_key(*of)).map(write).collect();
        for sending in unknown {
            self.tell(engine_item::Kind::Cancel(Cancel { sending: Some(sending) }));
        }
        let now = Instant::now();
        let mut again = Vec::new();
        for (of, held) in &mut self.held {
            held.moved = now;
            if !holding.contains(of) && !held.busy {
                again.push(perform(&held.task));
            }
        }
        again.into_iter().for_each(|kind| self.tell(kind));
        self.heard = now;
        let first = std::mem::take(&mut link.first);
        self.link = Some(link);
        self.seat.away(false);
        self.take_all(first);
        self.flush().await;
    }

    fn listen(&mut self, said: Result<Option<WorkerMessage>, Status>) {
        self.heard = Instant::now();
        match said {
            Ok(Some(message)) => self.take_all(message.items),
            // A broken connection and one that was closed are the same: the worker may come back.
            Ok(None) | Err(_) => self.part(),
        }
    }

    fn take_all(&mut self, items: Vec<WorkerItem>) {
        if items.len() > BATCH {
            let text = format!("a message holds {} items; at most {BATCH} are taken", items.len());
            self.hang_up(Status::invalid_argument(text));
            return;
        }
        for item in items {
            self.take(item);
        }
    }

    fn take(&mut self, item: WorkerItem) {
        let no = item.no;
        match item.kind {
            Some(Kind::Heartbeat(Heartbeat { nonce })) => {
                self.tell(engine_item::Kind::Heartbeat(Heartbeat { nonce }));
            }
            Some(Kind::Credit(credit)) => self.seat.grant(credit.more),
            Some(Kind::Drain(drain)) => self.drain(drain.give_back),
            Some(Kind::Register(_)) => self.refuse(no, twice()),
            Some(kind) => match about(kind) {
                Some(Ok((of, said))) => self.take_about(no, of, said),
                Some(Err(failure)) => self.refuse(no, failure),
                None => {}
            },
            None => self.refuse(no, empty()),
        }
    }

    fn take_about(&mut self, no: u64, of: Of, said: Result<Said, Failure>) {
        let Some(held) = self.held.get_mut(&of) else {
            let free = said.as_ref().is_ok_and(Said::is_last) && self.stuck.remove(&of);
            if free {
                self.seat.grant(1);
            }
            if free && matches!(said, Ok(Said::Release)) {
                self.accept(no, NOTHING);
            } else {
                self.refuse(no, not_yours(&of));
            }
            return;
        };
        held.moved = Instant::now();
        match said {
            Err(failure) => self.refuse(no, failure),
            Ok(_) if held.waiting.len() >= MAX_WAITING => self.refuse(no, too_many(&of)),
            Ok(said) => {
                held.waiting.push_back((no, said));
                self.ask_next(&of);
            }
        }
    }

    /// Brings the next thing about a sending to the engine.
    fn ask_next(&mut self, of: &Of) {
        while let Some(held) = self.held.get_mut(of).filter(|held| !held.busy) {
            let Some((no, said)) = held.waiting.pop_front() else { return };
            match said {
                Said::Progress => self.accept(no, NOTHING),
                Said::Release => self.refuse(no, not_lost(of)),
                said => {
                    held.busy = true;
                    self.ask(no, of.clone(), said);
                }
            }
        }
    }

    fn ask(&mut self, no: u64, of: Of, said: Said) {
        let (seat, engine, caller) = (self.seat.clone(), self.engine.clone(), self.caller.clone());
        self.asked.spawn(async move {
            let (execution, sending) = (of.0.as_str(), of.1);
            let asked = if matches!(said, Said::Finish(_)) { Asked::End } else { Asked::More };
            let done = match said {
                Said::CallTool(call) => {
                    let answer = seat.call_tool(execution, sending, call).await;
                    return Answered { no, of, asked, answer };
                }
                Said::Begin => seat.begin(execution, sending).await,
                Said::Finish(outcome) => seat.finish(execution, sending, outcome).await,
                Said::EndTool(call, end) => seat.end_tool(execution, sending, call, end).await,
                Said::Checkpoint(name) => {
                    engine.act(&caller, execution, Action::Checkpoint { name }, None).await
                }
                Said::Progress | Said::Release => Ok(NOTHING),
            };
            let answer = done.map(plain);
            Answered { no, of, asked, answer }
        });
    }

    fn ask_to_lose(&mut self, of: Of, reason: LossReason) {
        let seat = self.seat.clone();
        if let Some(held) = self.held.get_mut(&of) {
            held.busy = true;
        }
        self.asked.spawn(async move {
            let answer = seat.lose(&of.0, of.1, reason).await.map(plain);
            Answered { no: 0, of, asked: Asked::Loss(reason), answer }
        });
    }

    fn note(&mut self, answered: Result<Answered, tokio::task::JoinError>) {
        let Answered { no, of, asked, answer } = match answered {
            Ok(answered) => answered,
            // Which sending it was about is lost with it, so all of them go to others.
            Err(error) => {
                tracing::error!(%error, "asking the engine for a worker ended in a panic");
                self.hang_up(Status::internal("the engine failed; register again"));
                self.broken = true;
                return;
            }
        };
        let open = matches!(&answer, Err(failure) if self.is_still_held(&of, failure));
        if open || asked == Asked::More {
            if let Some(held) = self.held.get_mut(&of) {
                held.busy = false;
            }
        } else if let Some(held) = self.held.remove(&of) {
            held.waiting.into_iter().for_each(|(no, _)| self.refuse(no, not_yours(&of)));
            if let Asked::Loss(reason) = asked {
                if reason == LossReason::Idle {
                    self.stuck.insert(of.clone());
                }
                self.tell(engine_item::Kind::Cancel(Cancel { sending: Some(write(&of)) }));
            }
        }
        match answer {
            _ if matches!(asked, Asked::Loss(_)) => {}
            Ok(ToolBegun { done, recorded }) => self.accept_with(no, done, recorded.as_ref()),
            Err(failure) => self.refuse(no, failure),
        }
        self.ask_next(&of);
    }

    fn is_still_held(&self, of: &Of, failure: &Failure) -> bool {
        matches!(failure.kind, FailureKind::Busy | FailureKind::Full | FailureKind::Unknown)
            || self.seat.holds().contains(of)
    }

    fn hand_on(&mut self, told: ToWorker) {
        match told {
            ToWorker::Perform(task) => {
                self.tell(perform(&task));
                let held = Held { moved: Instant::now(), busy: false, waiting: VecDeque::new(), task };
                self.held.insert(of(&held.task), held);
            }
            ToWorker::Cancel { execution, step, delivery } => {
                let same = |(of, sending): &&Of| {
                    *of == execution && (sending.step, sending.delivery) == (step, delivery)
                };
                let Some(of) = self.held.keys().find(same).cloned() else { return };
                self.tell(engine_item::Kind::Cancel(Cancel { sending: Some(write(&of)) }));
                // What is with the engine at the moment still gets its answer.
                if let Some(held) = self.held.get_mut(&of).filter(|held| !held.busy) {
                    let waiting = std::mem::take(&mut held.waiting);
                    self.held.remove(&of);
                    waiting.into_iter().for_each(|(no, _)| self.refuse(no, not_yours(&of)));
                }
            }
        }
    }

    fn drain(&mut self, give_back: bool) {
        self.draining = true;
        self.seat.drain();
        if give_back {
            for of in self.resting() {
                self.ask_to_lose(of, LossReason::Drained);
            }
        }
    }

    /// What a living worker does not go on with goes to others. While it is away the time to come back counts instead.
    fn lose_idle(&mut self) {
        if self.link.is_none() {
            return;
        }
        let limit = self.times.idle;
        let idle = |held: &Held| !held.busy && held.moved.elapsed() >= limit;
        let idle: Vec<Of> =
            self.held.iter().filter(|(_, held)| idle(held)).map(|(of, _)| of.clone()).collect();
        for of in idle {
            self.ask_to_lose(of, LossReason::Idle);
        }
    }

    fn resting(&self) -> Vec<Of> {
        self.held.iter().filter(|(_, held)| !held.busy).map(|(of, _)| of.clone()).collect()
    }

    fn over(&self) -> Option<Over> {
        let done = self.draining && self.held.is_empty() && self.steps.is_empty();
        if done {
            return Some(Over::Drained);
        }
        match self.link {
            _ if self.broken => Some(Over::Gone),
            Some(_) => (self.heard.elapsed() >= self.times.heartbeat).then_some(Over::Silent),
            None => (self.heard.elapsed() >= self.times.reconnect).then_some(Over::Gone),
        }
    }

    async fn end(mut self, over: Over) {
        // Whoever comes back from here on begins a new session.
        self.links.close();
        self.seat.drain();
        let reason = match over {
            Over::Gone | Over::Revoked => LossReason::Disconnected,
            Over::Silent => LossReason::Silent,
            Over::Drained => LossReason::Drained,
        };
        while let Some(answered) = self.asked.join_next().await {
            self.note(answered);
        }
        while let Ok(told) = self.steps.try_recv() {
            self.hand_on(told);
        }
        for of in self.resting() {
            self.ask_to_lose(of, reason);
        }
        while let Some(answered) = self.asked.join_next().await {
            self.note(answered);
        }
        if over == Over::Drained {
            self.tell(engine_item::Kind::Drained(Drained {}));
        }
        self.flush().await;
        if over == Over::Revoked {
            let text = "the key was revoked or is too old; ask an admin of the tenant for a new one";
            self.hang_up(Status::unauthenticated(text));
        }
        if over == Over::Silent {
            let heartbeat = self.times.heartbeat;
            self.hang_up(Status::deadline_exceeded(format!(
                "nothing was heard for {heartbeat:?}: the steps went to others; send heartbeats and register again"
            )));
        }
        while let Some(late) = self.links.recv().await {
            let text = "the session has just ended; register again";
            late.out.try_hang_up(Status::unavailable(text));
        }
    }

    fn tell(&mut self, kind: engine_item::Kind) {
        self.out.push(EngineItem { kind: Some(kind) });
    }

    fn accept(&mut self, no: u64, done: Done) {
        self.accept_with(no, done, None);
    }

    fn accept_with(&mut self, no: u64, done: Done, recorded: Option<&Result<Value, String>>) {
        if no > 0 {
            let (result, failure) = match recorded {
                Some(Ok(result)) => (Some(result), None),
                Some(Err(reason)) => (None, Some(reason.clone())),
                None => (None, None),
            };
            self.tell(engine_item::Kind::Accepted(Accepted {
                no,
                done: Some(done.into()),
                recorded_json: result.map(Value::to_string).unwrap_or_default(),
                recorded_failure: failure,
            }));
        }
    }

    fn refuse(&mut self, no: u64, failure: Failure) {
        self.out.push(refused(no, failure));
    }

    fn hang_up(&mut self, status: Status) {
        if let Some(link) = &self.link {
            link.out.try_hang_up(status);
        }
        self.part();
    }

    /// The worker is away: from now on it has some time to come back.
    fn part(&mut self) {
        self.link = None;
        self.heard = Instant::now();
        self.seat.away(true);
    }

    /// Sends what there is to say. A worker that does not read for as long as it may be silent is cut off.
    async fn flush(&mut self) {
        let Some(link) = &self.link else { return };
        let (mut broken, since) = (false, Instant::now());
        for items in batches(std::mem::take(&mut self.out)) {
            let said = link.out.say(EngineMessage { items }, self.times.heartbeat).await;
            if said.is_err() {
                broken = true;
                break;
            }
        }
        // Nothing can be heard while this waits for room, which others may take: that is no silence of the worker.
        self.heard += since.elapsed();
        if broken {
            self.part();
        }
    }
}

/// The answer to what changes nothing in the log.
const NOTHING: Done = Done { seq: 0, last: 0, repeated: false };

const MIN_TICK: Duration = Duration::from_millis(5);
const MAX_TICK: Duration = Duration::from_millis(500);

async fn hear(link: &mut Option<Link>) -> Result<Option<WorkerMessage>, Status> {
    match link {
        Some(link) => link.said.message().await,
        None => std::future::pending().await,
    }
}

fn batches(items: Vec<EngineItem>) -> Vec<Vec<EngineItem>> {
    let mut batches: Vec<Vec<EngineItem>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let more = prost::Message::encoded_len(&item);
        let room = batches.last().is_some_and(|last| last.len() < BATCH && bytes + more <= MAX_BYTES);
        match batches.last_mut() {
            Some(last) if room => {
                last.push(item);
                bytes += more;
            }
            _ => {
                batches.push(vec![item]);
                bytes = more;
            }
        }
    }
    batches
}

fn not_yours((execution, sending): &Of) -> Failure {
    let detail = format!(
        "sending {}/{} of {} of `{execution}` is not with this worker",
        sending.epoch, sending.delivery, sending.step
    );
    Failure::new(
        FailureKind::Conflict,
        "not-yours",
        detail,
        "it was taken back, or finished before, or never sent here; drop it",
    )
}

fn not_lost((execution, sending): &Of) -> Failure {
    let detail = format!("{} of `{execution}` is with this worker", sending.step);
    let hint = "send `complete` or `fail`; only what was taken away is released";
    Failure::new(FailureKind::Conflict, "not-lost", detail, hint)
}

fn too_many((execution, sending): &Of) -> Failure {
    let detail =
        format!("{MAX_WAITING} items about {} of `{execution}` wait for the one before them", sending.step);
    Failure::new(FailureKind::Busy, "too-many-items", detail, "wait for `accepted` before sending more")
}

fn twice() -> Failure {
    let hint = "open another stream for another worker";
    Failure::new(FailureKind::Invalid, "registered-twice", "this stream has a worker already", hint)
}

fn empty() -> Failure {
    let hint = "this engine may be older than the worker: compare versions";
    Failure::new(FailureKind::Invalid, "unknown-item", "the item is of no kind that this engine knows", hint)
}
