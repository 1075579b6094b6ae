//! The log alone against a plain file, and the plain file against fio.

use std::process::Command;

use anyhow::{Context as _, ensure};

use super::{Bar, Setting, infra};
use crate::finding::{Finding, Part};
use crate::once::{Once, Side};
use crate::series::Series;

pub(super) const BAR: Bar = Bar {
    name: "append-synced",
    what: "the embedded log alone, synced appends of 512 bytes, against a plain file with group commit",
    prepare: || infra("apt", &["disk"]),
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let mut finding = Finding::default();
    let seconds = if setting.quick { 1.5 } else { 8.0 };
    for callers in [1024, 64] {
        setting.say(&format!("{callers} callers"));
        let side = |side| Once::new(side, callers, seconds).figure(&setting.dir, "per_second");
        let series = Series::alternate(setting.runs(), || side(Side::Log), || side(Side::Plain))?;
        finding.parts.push(Part::share(&format!("appends/s at {callers} callers"), &series, 0.8));
    }
    setting.say("one caller");
    let latency = |side| Once::new(side, 1, seconds).figure(&setting.dir, "p50_us");
    let series = Series::alternate(setting.runs(), || latency(Side::Log), || latency(Side::Raw))?;
    let most = series.reference() * 1.15 + 30.0;
    finding.parts.push(Part {
        what: "one caller: median latency in us against a raw fdatasync".to_owned(),
        value: series.value(),
        reference: series.reference(),
        bar: "at most 15% + 30 us above it".to_owned(),
        pass: series.value() <= most,
        n: series.n(),
        spread: series.spread(),
    });
    setting.say("the probe against fio");
    let plain = || Once::new(Side::Plain, 1, seconds).figure(&setting.dir, "per_second");
    let series = Series::alternate(setting.runs(), plain, || fio(setting, seconds))?;
    finding.parts.push(Part::share(
        "the plain probe at 1 caller, appends/s, against fio --fdatasync=1",
        &series,
        0.9,
    ));
    Ok(finding)
}

/// Writes per second of one job that syncs each write, into a file whose blocks are there already.
fn fio(setting: &Setting, seconds: f64) -> anyhow::Result<f64> {
    let dir = tempfile::tempdir_in(&setting.dir)?;
    let file = dir.path().join("fio");
    let size = 64 << 20;
    std::fs::write(&file, vec![0; size])?;
    std::fs::File::open(&file)?.sync_all()?;
    let output = Command::new("fio")
        .args([
            "--name=probe",
            "--rw=write",
            "--bs=512",
            "--ioengine=psync",
            "--fdatasync=1",
            "--overwrite=1",
        ])
        .args(["--time_based", "--output-format=json"])
        .arg(format!("--runtime={seconds}"))
        .arg(format!("--size={size}"))
        .arg(format!("--filename={}", file.display()))
        .output()
        .context("fio does not start; `omium-load prepare append-synced` installs it")?;
    ensure!(output.status.success(), "fio failed: {}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    report["jobs"][0]["write"]["iops"].as_f64().context("fio reports no writes per second")
}
