//! What the gate costs a call that it has nothing to say about, and how soon a finding is seen to.

use std::sync::Arc;

use omium_agents::mock::{self, Script};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::latency::Latencies;
use crate::once::{Once, Side};
use crate::series::Series;
use crate::work::callers;
use crate::work::gate::{self, OutOfBounds, Way};
use crate::work::http::Address;
use crate::work::server::{Server, free_port, fresh, prepare};
use crate::work::vendor::Vendor;

pub(super) const BAR: Bar = Bar {
    name: "gate-latency",
    what: "a call through a quiet gate against a direct one: 2 group commits + 0.3 ms; a finding to its patched request",
    prepare,
    run,
};

/// How many ask at once: alone a commit is its sync, together they share it.
const CALLERS: [usize; 2] = [1, 16];
/// What the gate may take beside its commits, in ms.
const OWN: f64 = 0.3;
const SCRIPT: &str = "
models: [gpt-4o-mini]
rules:
  - {name: offer, answer: {text: 'OFFER: your loan is approved. APR: 5.2%'}}
";

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    // The model has threads of its own, as a server elsewhere has: on the callers' own it would answer them without
    // ever waking anybody up, which no gate in between could do.
    let apart = callers::runtime()?;
    callers::runtime()?.block_on(async {
        let mut finding = Finding::default();
        quiet(setting, apart.handle(), &mut finding).await?;
        finding.parts.push(healed(setting).await?);
        Ok(finding)
    })
}

/// One round of one number of callers, in ms.
struct Round {
    direct: f64,
    gate: f64,
    commit: f64,
}

impl Round {
    fn added(&self) -> f64 {
        self.gate - self.direct
    }

    fn allowed(&self) -> f64 {
        2.0 * self.commit + OWN
    }
}

async fn quiet(setting: &Setting, apart: &Handle, finding: &mut Finding) -> anyhow::Result<()> {
    let script = Script::parse(SCRIPT).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let model = apart.spawn(async { mock::serve(script, TcpListener::bind(("127.0.0.1", 0)).await?).await });
    let model = model.await??;
    let server = Server::start_at(&fresh(&setting.dir, "gate")?, free_port()?, Some(&model.url())).await?;
    for callers in CALLERS {
        let mut rounds = Vec::new();
        for _ in 0..setting.runs() {
            setting.say(&format!("a commit, a direct call, a call through the gate: {callers} callers"));
            rounds.push(round(setting, &server, &model, callers).await?);
        }
        let of = |figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
        let what = format!("ms that the gate adds to a call (p50), callers: {callers}; 2 commits + {OWN} ms");
        finding.parts.push(Part::fraction(&what, &Series::of(of(Round::added), of(Round::allowed)), 1.0));
        let median = |figure: fn(&Round) -> f64| Series::alone(&of(figure)).value();
        finding.notes.push(format!(
            "callers: {callers}; p50 direct {:.3} ms, through the gate {:.3} ms, a group commit {:.3} ms",
            median(|round| round.direct),
            median(|round| round.gate),
            median(|round| round.commit),
        ));
    }
    server.stop()?;
    model.stop().await;
    Ok(())
}

async fn round(
    setting: &Setting,
    server: &Server,
    model: &mock::Server,
    callers: usize,
) -> anyhow::Result<Round> {
    let seconds = if setting.quick { 2.0 } else { 10.0 };
    let commit = Once::new(Side::Log, callers, seconds).figure(&setting.dir, "p50_us")? / 1e3;
    let direct = Way::Direct(Address { port: model.address().port(), key: String::new() });
    let direct = p50(&gate::drive(&direct, callers, seconds).await?.latencies);
    let before = model.count();
    let took = gate::drive(&Way::Gate(server.address.clone()), callers, seconds).await?;
    gate::all_reached(model, before, took.calls)?;
    Ok(Round { direct, gate: p50(&took.latencies), commit })
}

fn p50(latencies: &Latencies) -> f64 {
    latencies.quantile(0.5) / 1e3
}

/// From a bad answer to the patched request.
async fn healed(setting: &Setting) -> anyhow::Result<Part> {
    let answers = Arc::new(OutOfBounds::default());
    let vendor = Vendor::open(answers.clone()).await?;
    let server = Server::start_at(&fresh(&setting.dir, "healed")?, free_port()?, Some(&vendor.url())).await?;
    gate::guard(&server.address).await?;
    let findings = if setting.quick { 200 } else { 2_000 };
    // What starts up is not what is measured.
    gate::find(&server.address, findings / 20).await?;
    answers.taken();
    let mut p99s = Vec::new();
    for _ in 0..setting.runs() {
        setting.say(&format!("{findings} findings"));
        gate::find(&server.address, findings).await?;
        let took = answers.taken();
        anyhow::ensure!(took.count() == findings as u64, "{findings} findings, {} healed", took.count());
        p99s.push(took.quantile(0.99) / 1e3);
    }
    server.stop()?;
    Ok(Part::at_most("p99 in ms from a bad answer to the patched request", &p99s, 10.0))
}
