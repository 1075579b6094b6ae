//! How fast a core folds a log: trusting it at a start, and with every hash checked.

use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, ensure};
use omium_log::disk::RealDisk;
use omium_log::{EmbeddedLog, EmbeddedOptions, Log};
use omium_runtime::{Config, Input, Loaded, MemoryVault, Now, Output, Shell};
use omium_schemas::{Offset, Partition};

use super::{Bar, Setting, nothing};
use crate::finding::{Finding, Part};
use crate::machine;
use crate::once::{Once, Side};
use crate::work::till::TillSuite;

pub(super) const BAR: Bar = Bar {
    name: "fold",
    what: "events per second and core: folded at a start, and checked by `log verify`",
    prepare: nothing,
    run,
};

/// How much is read from the log at once.
const READ: usize = 4 << 20;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    setting.say("writing a log");
    let seconds = if setting.quick { 3.0 } else { 20.0 };
    let once = Once { streams: 1_000, ..Once::new(Side::Shell, 256, seconds) };
    once.apart_in(&setting.dir)?;
    let log = setting.dir.join("node/log");
    let (mut folds, mut checks) = (Vec::new(), Vec::new());
    for _ in 0..setting.runs() {
        setting.say("folding");
        folds.push(fold(&log)?);
        setting.say("verifying");
        checks.push(verify(&log)?);
    }
    let mut finding = Finding::default();
    finding.parts.push(Part::at_least("events/s per core, folded without hashes", &folds, 3_000_000.0));
    finding.parts.push(Part::at_least(
        "events/s per core, chain and block hash checked",
        &checks,
        1_500_000.0,
    ));
    Ok(finding)
}

/// Events per second of processor time, the reading included.
fn fold(log: &Path) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let config =
        Config { verify: false, flush_records: u64::MAX, flush_micros: u64::MAX, ..Config::default() };
    let log = EmbeddedLog::open(EmbeddedOptions::new(log, config.partitions)?)?;
    let used = machine::cpu_seconds();
    let mut events = 0;
    for partition in (0..config.partitions).map(Partition) {
        let vault = Arc::new(MemoryVault::new([0; 32]));
        let mut shell: Shell<TillSuite> = Shell::new(partition, config.clone(), vault, None);
        loop {
            let entries = runtime.block_on(log.read(partition, shell.next(), READ))?;
            let Some(last) = entries.last().map(|entry| entry.offset) else { break };
            shell.handle(Input::Entries(entries), Now::default());
            settle(&mut shell, last)?;
        }
        // The first record of each frame is its command.
        events += shell.figures().records * 3 / 4;
    }
    ensure!(events > 0, "there was nothing to fold");
    Ok(events as f64 / (machine::cpu_seconds() - used))
}

/// Answers what the shell asks of its store, which is empty.
fn settle(shell: &mut Shell<TillSuite>, through: Offset) -> anyhow::Result<()> {
    while shell.next() <= through {
        let mut missing = Vec::new();
        for output in shell.outputs() {
            match output {
                Output::Load(streams, _) => missing.extend(streams.into_iter().map(|key| (key, None))),
                Output::Ended(why) => bail!("the log cannot be folded: {why}"),
                _ => {}
            }
        }
        ensure!(!missing.is_empty(), "folding got stuck at offset {}", shell.next());
        shell.handle(Input::Loaded(Loaded { streams: missing, window: Vec::new() }), Now::default());
    }
    Ok(())
}

fn verify(log: &Path) -> anyhow::Result<f64> {
    let used = machine::cpu_seconds();
    let verified = omium_log::embedded::verify(&RealDisk, log)?;
    ensure!(verified.is_sound(), "the log is not sound:\n{verified}");
    let events: u64 = verified.partitions.iter().map(|tally| tally.records - tally.frames).sum();
    Ok(events as f64 / (machine::cpu_seconds() - used))
}
