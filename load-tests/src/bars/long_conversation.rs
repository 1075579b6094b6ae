//! One agent whose conversation grows to the length that models take: its last calls cost little more than its first.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::disk_overhead::bytes;
use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::series::{Series, median};
use crate::work::callers;
use crate::work::conversation::{Conversation, Pager, TURNS};
use crate::work::gate::{Line, Way};
use crate::work::http::Address;
use crate::work::server::{Server, free_port, fresh, prepare};
use crate::work::vendor::Vendor;

pub(super) const BAR: Bar = Bar {
    name: "long-conversation",
    what: "100 tool calls and 209,000 tokens: time added per call, bytes on disk, served again after kill -9",
    prepare,
    run,
};

/// What a MiB of request may add to a call, in ms.
const PER_MIB: f64 = 5.0;
/// The calls around the tenth, and the last ones.
const WINDOWS: [std::ops::Range<usize>; 2] = [5..14, TURNS - 9..TURNS];

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    // The model has threads of its own, as a server elsewhere has.
    let apart = callers::runtime()?;
    callers::runtime()?.block_on(async {
        let direct = apart.spawn(Vendor::open(Arc::new(Pager::default()))).await??;
        let pager = Arc::new(Pager::default());
        let vendor = apart.spawn(Vendor::open(pager.clone())).await??;
        measure(setting, &direct, &vendor, &pager).await
    })
}

/// What one conversation took.
struct Held {
    done: f64,
    /// Bytes on disk, and those that were said.
    disk: f64,
    distinct: f64,
    /// In ms, around the tenth call and the last one.
    added: [f64; 2],
    /// MiB of the last request.
    size: f64,
    /// In seconds.
    again: f64,
}

async fn measure(
    setting: &Setting,
    direct: &Vendor,
    vendor: &Vendor,
    pager: &Arc<Pager>,
) -> anyhow::Result<Finding> {
    let empty = fresh(&setting.dir, "empty")?;
    Server::start(&empty).await?.kill()?;
    let empty = on_disk(&empty)?;
    let mut held = Vec::new();
    for number in 1..=setting.runs() {
        setting.say(&format!("conversation {number} of {}", setting.runs()));
        let data = fresh(&setting.dir, "conversation")?;
        held.push(one(&data, empty, direct, vendor, pager).await?);
    }
    let of = |figure: fn(&Held) -> f64| held.iter().map(figure).collect::<Vec<f64>>();
    let mut finding = Finding::default();
    let allowed = of(|held| held.added[0] + PER_MIB * held.size);
    finding.parts.extend([
        Part::fraction(
            &format!("ms that call {TURNS} has added (p50); call 10 + {PER_MIB} ms per MiB"),
            &Series::of(of(|held| held.added[1]), allowed),
            1.0,
        ),
        Part::at_least("calls that were done", &of(|held| held.done), TURNS as f64),
        Part::fraction(
            "bytes on disk, against the distinct bytes of the messages",
            &Series::of(of(|held| held.disk), of(|held| held.distinct)),
            1.0,
        ),
        Part::at_most("s until all is served again after kill -9", &of(|held| held.again), 0.5),
    ]);
    finding.notes.push(format!(
        "the last request has {:.2} MiB; p50 added at call 10: {:.2} ms",
        median(&of(|held| held.size)),
        median(&of(|held| held.added[0]))
    ));
    Ok(finding)
}

async fn one(
    data: &Path,
    empty: u64,
    direct: &Vendor,
    vendor: &Vendor,
    pager: &Arc<Pager>,
) -> anyhow::Result<Held> {
    let port = free_port()?;
    let server = Server::start_at(data, port, Some(&vendor.url())).await?;
    let model = Way::Direct(Address { port: direct.port, key: String::new() });
    let mut model = Line::open(&model).await?;
    let mut line = Line::open(&Way::Gate(server.address.clone())).await?;
    let before = pager.asked();
    let said = Conversation::hold(&mut line, Some(&mut model)).await?;
    let done = (pager.asked() - before) as f64;
    server.kill()?;
    let disk = on_disk(data)?.saturating_sub(empty) as f64;
    let server = Server::start_at(data, port, Some(&vendor.url())).await?;
    let since = Instant::now();
    let mut line = Line::of_attempt(&server.address, &line.execution).await?;
    let again = Conversation::hold(&mut line, None).await?;
    let took = since.elapsed().as_secs_f64();
    ensure!(pager.asked() - before == done as u64, "a recorded call was bought again");
    ensure!(again.answers == said.answers, "a recorded call was answered otherwise than before");
    server.stop()?;
    Ok(Held {
        done,
        disk,
        distinct: said.distinct() as f64,
        added: WINDOWS.map(|window| p50(&said.took[window.clone()]) - p50(&said.direct[window])),
        size: said.sizes.last().copied().unwrap_or_default() as f64 / f64::from(1 << 20),
        again: took,
    })
}

fn p50(took: &[Duration]) -> f64 {
    median(&took.iter().map(|took| took.as_secs_f64() * 1e3).collect::<Vec<f64>>())
}

/// What the log has written and the large values beside it.
fn on_disk(data: &Path) -> anyhow::Result<u64> {
    Ok(bytes(&data.join("log"))? + under(&data.join("blobs"))?)
}

fn under(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { under(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
