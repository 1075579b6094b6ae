//! What an enemy sends, a case after the other, beside ordinary runs: none may end, hang or slow the node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::hostile::blow::{By, Came, Field, PATIENCE, get};
use crate::work::hostile::cases::{Case, Want, cases};
use crate::work::hostile::ordinary::Ordinary;
use crate::work::hostile::rogue::Rogue;
use crate::work::http::{Connection, Request};
use crate::work::server::{Server, free_port, fresh, prepare};
use crate::work::vendor::Vendor;

pub(super) const BAR: Bar = Bar {
    name: "hostile",
    what: "hostile requests, rules, schemas and vendors beside ordinary runs: no death, no hang, no stuck step",
    prepare,
    run,
};

/// What most users are allowed.
const DESCRIPTORS: u64 = 1_024;
/// Ordinary runs a second.
const RATE: f64 = 10.0;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

/// The node under attack, which is started again where it has died.
struct Siege {
    data: PathBuf,
    port: u16,
    vendor: Vendor,
    server: Server,
    field: Field,
}

/// What became of it all.
#[derive(Default)]
struct Found {
    deaths: Vec<String>,
    hangs: Vec<String>,
    stuck: Vec<String>,
    failures: Vec<String>,
    unwanted: Vec<String>,
    slow: Vec<(f64, String)>,
    large: Vec<(f64, String)>,
}

impl Siege {
    async fn lay(setting: &Setting) -> anyhow::Result<Siege> {
        let (data, port) = (fresh(&setting.dir, "hostile")?, free_port()?);
        let vendor = Vendor::open(Arc::new(Rogue::default())).await?;
        let server = Server::start_with(&data, port, Some(&vendor.url()), DESCRIPTORS).await?;
        let field = Field::open(&server.address).await?;
        Ok(Siege { data, port, vendor, server, field })
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server =
            Server::start_with(&self.data, self.port, Some(&self.vendor.url()), DESCRIPTORS).await?;
        Ok(())
    }

    /// One case, and whether the node is well after it.
    async fn suffer(&mut self, case: &Case, found: &mut Found) -> anyhow::Result<BTreeMap<String, u64>> {
        let (since, before) = (Instant::now(), self.server.resident_mb());
        if let Err(error) = self.field.begin().await {
            found.failures.push(format!("before {}: {error:#}", case.name));
        }
        let mut said = BTreeMap::<String, u64>::new();
        for blow in (case.blows)() {
            for came in self.field.strike(&blow).await {
                found.judge(case, &came);
                *said.entry(came.in_short()).or_default() += 1;
            }
        }
        found.slow.push((since.elapsed().as_secs_f64(), case.name.clone()));
        found.large.push((self.server.resident_mb() - before, case.name.clone()));
        if let Some(status) = self.server.ended()? {
            found.deaths.push(format!("{}: {status}", case.name));
            self.start_again().await?;
            return Ok(said);
        }
        let health = self.field.ask(&get(By::Nobody, "/health")).await;
        if health.status != Some(200) {
            found.hangs.push(format!("{}: /health does not answer after it: {:?}", case.name, health.status));
            if health.hung {
                // What hangs is ended, so that the next case finds a node.
                self.server.end()?;
                self.start_again().await?;
            }
        }
        Ok(said)
    }

    async fn open_executions(&self) -> anyhow::Result<u64> {
        let mut connection = Connection::open(&self.server.address).await?;
        let running = connection.get("/api/v1/executions?status=running&limit=1000").await?;
        let all = running["items"].as_array().map_or(&[][..], Vec::as_slice);
        // Programs are open until somebody ends them.
        Ok(all.iter().filter(|one| !one["workflow"].as_str().unwrap_or_default().starts_with("desk")).count()
            as u64)
    }
}

impl Found {
    fn judge(&mut self, case: &Case, came: &Came) {
        let name = &case.name;
        if came.hung {
            self.hangs.push(format!("{name}: no answer within {} s", PATIENCE.as_secs()));
        }
        if came.stuck {
            self.stuck.push(name.clone());
        }
        let Some(status) = came.status else { return };
        let text: String = String::from_utf8_lossy(&came.body).chars().take(160).collect();
        if status >= 500 && case.want != Want::Anything {
            self.failures.push(format!("{name}: {status} {text}"));
        }
        let unwanted = match case.want {
            Want::Refusal => status < 400,
            Want::Success => status >= 300,
            Want::Answer | Want::Anything => false,
        };
        if unwanted {
            self.unwanted.push(format!("{name}: {status} {text}"));
        }
    }

    fn parts(mut self, finding: &mut Finding) {
        let kinds = [
            ("deaths of the node", self.deaths),
            ("requests without an answer in 10 s", self.hangs),
            ("steps that neither end nor wait for anybody", self.stuck),
            ("5xx for a caller's mistake", self.failures),
            ("answers that are not what the case wants", self.unwanted),
        ];
        for (what, all) in kinds {
            finding.parts.push(Part::at_most(what, &[all.len() as f64], 0.0));
            finding.notes.extend(all.into_iter().map(|one| format!("{what}: {one}")));
        }
        for (what, all) in [("s", &mut self.slow), ("MB more", &mut self.large)] {
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            let most: Vec<String> =
                all.iter().take(5).map(|(most, name)| format!("{most:.1} {what}: {name}")).collect();
            finding.notes.push(most.join("; "));
        }
    }
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let mut siege = Siege::lay(setting).await?;
    let ordinary = Ordinary::begin(&siege.server.address, RATE).await?;
    setting.say("ordinary runs alone");
    // What starts up is not what is measured.
    tokio::time::sleep(Duration::from_secs(2)).await;
    ordinary.take();
    tokio::time::sleep(Duration::from_secs(if setting.quick { 5 } else { 30 })).await;
    let (before, resident) = (ordinary.take(), siege.server.resident_mb());
    let (mut found, mut done, until) = (Found::default(), 0, Instant::now() + Duration::from_secs(40));
    let all = chosen(setting);
    for case in &all {
        // A quick run goes as far as it comes.
        if setting.quick && Instant::now() > until {
            break;
        }
        let said = siege.suffer(case, &mut found).await?;
        setting.say(&format!("{}: {said:?}", case.name));
        done += 1;
    }
    let during = ordinary.stop().await?;
    tokio::time::sleep(Duration::from_secs(if setting.quick { 3 } else { 30 })).await;
    let mut finding = Finding::default();
    found.parts(&mut finding);
    let open = siege.open_executions().await? as f64;
    finding.parts.push(Part::at_most("executions that still run", &[open], 0.0));
    for (what, share, most) in [("p50", 0.5, 2.0), ("p99", 0.99, 10.0)] {
        let of = |came: &crate::latency::Latencies| came.quantile(share) / 1e3;
        let series = crate::series::Series::of(vec![of(&during.latencies)], vec![of(&before.latencies)]);
        finding.parts.push(Part::fraction(
            &format!("{what} in ms of ordinary runs, against before"),
            &series,
            most,
        ));
    }
    finding.parts.push(Part::at_most("ordinary runs that did not complete", &[during.failed as f64], 0.0));
    let grown = siege.server.resident_mb() - resident;
    finding.parts.push(Part::at_most("MiB of memory more than before", &[grown], 64.0));
    finding.parts.push(Part::at_most("s until ready after kill -9", &[again(siege).await?], 10.0));
    finding.notes.push(format!(
        "{done} of {} cases, {} ordinary runs beside them",
        all.len(),
        during.latencies.count()
    ));
    Ok(finding)
}

/// In a quick run every seventh: of each kind some. `OMIUM_CASE` names those to look at alone.
fn chosen(setting: &Setting) -> Vec<Case> {
    let wanted = std::env::var("OMIUM_CASE").unwrap_or_default();
    let step = if setting.quick && wanted.is_empty() { 7 } else { 1 };
    cases().into_iter().filter(|case| case.name.contains(&wanted)).step_by(step).collect()
}

async fn again(siege: Siege) -> anyhow::Result<f64> {
    let Siege { data, port, vendor, server, .. } = siege;
    server.kill()?;
    let server = Server::start_with(&data, port, Some(&vendor.url()), DESCRIPTORS).await?;
    let ready = server.connect().await?.ask(&Request::get("/ready")).await?;
    anyhow::ensure!(ready.good(), "the node is not ready after kill -9");
    Ok(server.took.as_secs_f64())
}
