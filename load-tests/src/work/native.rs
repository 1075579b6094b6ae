//! The engine's own speed: executions whose steps are completed inside the process, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use omium_detector::Detector;
use omium_execution::Execution;
use omium_recovery::Recovery;
use omium_runtime::{Answer, Config, Dispatch, Ended, Node, NodeParts, Request, StreamKey, World};
use omium_schemas::catalogue::{CompleteStep, OnFailure, PlannedStep, StartExecution};
use omium_schemas::{Content, ExecutionId, Money, Partition, TenantId};
use tokio::sync::mpsc;

use super::callers;
use crate::latency::Latencies;
use crate::machine;
use crate::once::{Figures, Once};

/// Steps of an execution, one after the other. The next execution begins when the last one of them is done.
const STEPS: usize = 10;
/// How many dispatches are taken from the queue at once.
const BATCH: usize = 256;

type Suite = (Execution, Detector, Recovery);

struct Hands(mpsc::UnboundedSender<(Instant, Dispatch)>);

impl World for Hands {
    fn dispatch(&self, dispatch: Dispatch) {
        // Nobody takes any once the run is over.
        let _ = self.0.send((Instant::now(), dispatch));
    }

    fn ended(&self, partition: Partition, why: Ended) {
        if why != Ended::Halted {
            eprintln!("omium-load: partition {partition} has ended: {why}");
            std::process::exit(2);
        }
    }
}

/// What all tasks share.
struct Line {
    node: Node<Suite>,
    plan: Vec<PlannedStep>,
    begun: AtomicU64,
    counts: AtomicBool,
    over: AtomicBool,
}

pub(crate) fn run(once: &Once) -> anyhow::Result<Figures> {
    callers::runtime()?.block_on(drive(once))
}

async fn drive(once: &Once) -> anyhow::Result<Figures> {
    let (hands, dispatched) = mpsc::unbounded_channel();
    let parts = NodeParts::in_directory(&once.dir.join("node"), Config::default(), Arc::new(Hands(hands)))?;
    let node = Node::open(parts).await?;
    let line = Arc::new(Line {
        node,
        plan: (1..=STEPS as i32).map(planned).collect(),
        begun: AtomicU64::new(0),
        counts: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let works = tokio::spawn(work(line.clone(), dispatched));
    for _ in 0..once.callers {
        tokio::spawn(begin(line.clone()));
    }
    tokio::time::sleep(Duration::from_secs_f64(once.seconds / 10.0)).await;
    line.counts.store(true, Ordering::Relaxed);
    let (since, used) = (Instant::now(), machine::cpu_seconds());
    tokio::time::sleep(Duration::from_secs_f64(once.seconds)).await;
    line.counts.store(false, Ordering::Relaxed);
    let (took, used) = (since.elapsed().as_secs_f64(), machine::cpu_seconds() - used);
    line.over.store(true, Ordering::Relaxed);
    let latencies = works.await?;
    line.node.stop().await?;
    Ok(Figures::from([
        ("per_second".to_owned(), latencies.count() as f64 / took),
        ("p50_us".to_owned(), latencies.quantile(0.5)),
        ("p99_us".to_owned(), latencies.quantile(0.99)),
        ("cpu_us".to_owned(), used * 1e6 / latencies.count() as f64),
        ("rss_mb".to_owned(), machine::resident_mb()),
    ]))
}

/// Completes what is dispatched until nothing more is.
async fn work(line: Arc<Line>, mut dispatched: mpsc::UnboundedReceiver<(Instant, Dispatch)>) -> Latencies {
    let (done, mut took) = mpsc::unbounded_channel();
    let mut batch = Vec::with_capacity(BATCH);
    let mut latencies = Latencies::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = dispatched.recv_many(&mut batch, BATCH) => {
                for (since, dispatch) in batch.drain(..) {
                    tokio::spawn(complete(line.clone(), since, dispatch, done.clone()));
                }
            }
            Some(micros) = took.recv() => {
                latencies.record(micros);
                while let Ok(micros) = took.try_recv() {
                    latencies.record(micros);
                }
            }
            _ = ticks.tick() => if line.over.load(Ordering::Relaxed) {
                return latencies;
            },
        }
    }
}

/// As the engine completes a step for whoever performed it.
async fn complete(line: Arc<Line>, since: Instant, dispatch: Dispatch, done: mpsc::UnboundedSender<u64>) {
    if line.over.load(Ordering::Relaxed) {
        return;
    }
    let Dispatch { key, effect, epoch, delivery } = dispatch;
    let (step, branch) = (effect.step, effect.branch);
    let command = CompleteStep { step, branch, epoch, delivery, output: None, cost: Money::ZERO };
    line.submit(Request::new(key, command)).await;
    if line.counts.load(Ordering::Relaxed) {
        // The receiver goes when the run is over.
        let _ = done.send(since.elapsed().as_micros() as u64);
    }
    if step.0 as usize == STEPS {
        begin(line).await;
    }
}

async fn begin(line: Arc<Line>) {
    let mut id = [0; 15];
    id[..8].copy_from_slice(&line.begun.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let key = StreamKey::new(TenantId([1; 16]), ExecutionId::new(id).stream());
    let start = StartExecution {
        workflow: "native".to_owned(),
        workflow_version: None,
        price_list: None,
        keep_ms: None,
        inputs: Some(Content::open("{}")),
        account: None,
        steps: 0,
        plan: line.plan.clone(),
        on_failure: OnFailure::FinishOthers,
        slice: None,
        timeout_ms: None,
    };
    line.submit(Request::new(key, start)).await;
}

impl Line {
    async fn submit(&self, request: Request) {
        loop {
            match self.node.submit(request.clone()).await {
                Answer::Done(_) => return,
                // A full partition is a named answer; asking again is what it asks for.
                Answer::Busy => tokio::task::yield_now().await,
                // The node is being stopped.
                _ if self.over.load(Ordering::Relaxed) => return,
                other => {
                    eprintln!("omium-load: the node answered {other:?}");
                    std::process::exit(2);
                }
            }
        }
    }
}

fn planned(step: i32) -> PlannedStep {
    PlannedStep {
        agent: format!("s{step}"),
        framework: "native".to_owned(),
        after: (step > 1).then_some(step - 1).into_iter().collect(),
        attempts: 1,
        backoff_ms: 0,
        timeout_ms: 0,
        budget: None,
        require: None,
        ensure: None,
        signal: None,
    }
}
