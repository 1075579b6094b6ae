//! The processes of the story: a node with the bank, and a worker that performs the steps of a job.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use omium_processor::testkit::BankSuite;
use omium_runtime::{Answer, Config, Dispatch, Ended, Node, NodeParts, Request, StreamKey, World};
use omium_schemas::catalogue::{
    Command, CompleteStep, Event, FailStep, FailureClass, MessageKind, StartExecution, TopUpAccount,
};
use omium_schemas::{Block, Branch, Content, ExecutionId, Money, Partition, Seq, StepId, StreamId, TenantId};
use tokio::sync::mpsc;

use super::line::Line;
use super::{Act, Life};

const TENANT: TenantId = TenantId([1; 16]);
const PARTITIONS: u16 = 4;

/// The streams of the story, by the names that it gives them.
pub(super) fn streams() -> [(&'static str, StreamKey); 2] {
    [("job", job()), ("account", StreamKey::new(TENANT, StreamId::account()))]
}

fn job() -> StreamKey {
    StreamKey::new(TENANT, ExecutionId::new([1; 15]).stream())
}

enum Told {
    Dispatched(Dispatch),
    Published(Bytes),
    Ended(Ended),
}

struct Ears(mpsc::UnboundedSender<Told>);

impl World for Ears {
    fn dispatch(&self, dispatch: Dispatch) {
        let _ = self.0.send(Told::Dispatched(dispatch));
    }

    fn publish(&self, _: Partition, block: Bytes) {
        let _ = self.0.send(Told::Published(block));
    }

    fn ended(&self, _: Partition, why: Ended) {
        let _ = self.0.send(Told::Ended(why));
    }
}

/// Plays one life of the story's process.
pub(super) fn act(act: &Act) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(play(act))
}

pub(super) fn config() -> Config {
    Config { partitions: PARTITIONS, ..Config::default() }
}

async fn play(act: &Act) -> anyhow::Result<()> {
    let (sender, told) = mpsc::unbounded_channel();
    let parts = NodeParts::in_directory(&act.dir, config(), Arc::new(Ears(sender)))?;
    let node: Node<BankSuite> = Node::open(parts).await?;
    if act.life == Life::First {
        begin(&node).await?;
    }
    Actor { node: &node, told, life: act.life, sent: Vec::new(), scheduled: BTreeSet::new() }.work().await?;
    for (name, key) in streams() {
        let view = node.view(key).await.ok().flatten().context("a stream of the story is gone")?;
        say(&Line::Hash { stream: name.to_owned(), seq: view.seq, hash: view.digest() });
    }
    node.stop().await?;
    Ok(())
}

async fn begin(node: &Node<BankSuite>) -> anyhow::Result<()> {
    let account = streams()[1].1;
    expect(node.submit(Request::new(account, TopUpAccount { amount: Money::dollars(10) })).await)?;
    let start = StartExecution {
        workflow: "write-report".to_owned(),
        workflow_version: None,
        inputs: Some(Content::open("the quarter's figures")),
        account: Some(account.stream),
        steps: 4,
        plan: Vec::new(),
        on_failure: omium_schemas::catalogue::OnFailure::FinishOthers,
        slice: Some(Money::dollars(1)),
        timeout_ms: None,
        price_list: None,
        keep_ms: None,
    };
    expect(node.submit(Request::new(job(), start)).await)
}

fn expect(answer: Answer) -> anyhow::Result<()> {
    match answer {
        Answer::Done(_) => Ok(()),
        other => bail!("the node answered {other:?}"),
    }
}

#[expect(clippy::print_stdout, reason = "the narrator listens there")]
fn say(line: &Line) {
    println!("{line}");
}

struct Actor<'a> {
    node: &'a Node<BankSuite>,
    told: mpsc::UnboundedReceiver<Told>,
    life: Life,
    /// Sent out, but their scheduling is not reported yet: the story is told in order.
    sent: Vec<Dispatch>,
    scheduled: BTreeSet<(StepId, i32)>,
}

impl Actor<'_> {
    /// Performs steps until the job has ended and the account has its rest back.
    async fn work(&mut self) -> anyhow::Result<()> {
        while let Some(told) = self.told.recv().await {
            match told {
                Told::Dispatched(dispatch) => self.sent.push(dispatch),
                Told::Published(block) => {
                    if self.report(block)? {
                        return Ok(());
                    }
                }
                Told::Ended(why) => bail!("a partition has ended: {why}"),
            }
            for dispatch in std::mem::take(&mut self.sent) {
                if self.is_told(&dispatch) {
                    self.perform(&dispatch).await?
                } else {
                    self.sent.push(dispatch)
                }
            }
        }
        bail!("the node is gone")
    }

    fn is_told(&self, dispatch: &Dispatch) -> bool {
        // What the first life left unfinished was scheduled there.
        let inherited = self.life == Life::Second && self.scheduled.is_empty();
        inherited || self.scheduled.contains(&(dispatch.effect.step, dispatch.effect.attempt))
    }

    async fn perform(&self, dispatch: &Dispatch) -> anyhow::Result<()> {
        let (step, attempt) = (dispatch.effect.step, dispatch.effect.attempt);
        let (number, key) = (step.0, dispatch.effect_key());
        let key = key.split_once('/').map_or("", |(_, rest)| rest);
        let doing = format!(
            "step {number}, attempt {attempt}, delivery {} (effect key .../{key})",
            dispatch.delivery
        );
        let (answer, text) = match (self.life, step.0, attempt) {
            (Life::First, 3, _) => (None, "begins"),
            (_, 2, 1) => (Some(failed(dispatch)), "the tool answers 503"),
            _ => (Some(done(dispatch)), "succeeds"),
        };
        say(&Line::Work(format!("{doing}: {text}")));
        match answer {
            Some(command) => expect(self.node.submit(Request::new(dispatch.key, command)).await),
            // This one is under way when the process dies.
            None => {
                say(&Line::Cut);
                Ok(())
            }
        }
    }

    /// Says what a durable block holds. True once the story is over.
    fn report(&mut self, block: Bytes) -> anyhow::Result<bool> {
        let mut over = false;
        for frame in Block::parse(block)?.frames()? {
            let key = StreamKey::new(frame.head.tenant, frame.head.stream);
            let Some((stream, _)) = streams().into_iter().find(|(_, known)| *known == key) else { continue };
            for (record, n) in frame.records().zip(0..).skip(1) {
                let event = Event::decode(record.kind, record.body)?;
                over |= matches!(event, Event::SliceReturned(_));
                if let Event::StepScheduled(step) = &event {
                    self.scheduled.insert((step.step, step.attempt));
                }
                let (stream, name, detail) = (stream.to_owned(), event.name().to_owned(), detail(&event));
                say(&Line::Event { stream, seq: Seq(frame.head.first.0 + n), name, detail });
            }
        }
        Ok(over)
    }
}

fn done(dispatch: &Dispatch) -> Command {
    let (step, branch, epoch, delivery) = sending(dispatch);
    let output = Some(Content::open(format!("the output of {step}")));
    CompleteStep { step, branch, epoch, delivery, output, cost: Money(50_000_000_000) }.into()
}

fn failed(dispatch: &Dispatch) -> Command {
    let (step, branch, epoch, delivery) = sending(dispatch);
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

fn sending(dispatch: &Dispatch) -> (StepId, Branch, omium_schemas::Epoch, i64) {
    (dispatch.effect.step, dispatch.effect.branch, dispatch.epoch, dispatch.delivery)
}

fn detail(event: &Event) -> String {
    match event {
        Event::AccountCredited(credited) => dollars(credited.amount),
        Event::ExecutionStarted(started) => format!("{}, {} steps", started.workflow, started.steps),
        Event::MessageSent(sent) => message(sent.message.kind, sent.message.amount),
        Event::MessageReceived(received) => {
            format!("number {} from partition {}", received.number, received.from_partition)
        }
        Event::SliceGranted(granted) => dollars(granted.amount),
        Event::SliceReceived(received) => dollars(received.amount),
        Event::SliceReturned(returned) => dollars(returned.amount),
        Event::StepScheduled(step) => format!("step {}, attempt {}", step.step.0, step.attempt),
        Event::StepCompleted(step) => format!("step {}", step.step.0),
        Event::StepFailed(step) => {
            format!("step {}, {}", step.step.0, step.class.symbol().to_lowercase().replace('_', " "))
        }
        Event::CostRecorded(cost) => dollars(cost.amount),
        _ => String::new(),
    }
}

fn message(kind: MessageKind, amount: Option<Money>) -> String {
    let what = match kind {
        MessageKind::SliceAsked => "asks the account for",
        MessageKind::SliceGranted => "grants the job",
        MessageKind::SliceReturned => "gives back",
        MessageKind::OutcomeTold => return "tells the lesson how it went".to_owned(),
        _ => "",
    };
    format!("{what} {}", amount.map(dollars).unwrap_or_default())
}

fn dollars(amount: Money) -> String {
    let cents = amount.nano_dollars() / 10_000_000;
    format!("${}.{:02}", cents / 100, cents % 100)
}
