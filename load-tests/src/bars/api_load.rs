//! Starts and reads at a fixed rate over many connections, and how far the rate can be raised.

use std::time::Duration;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::pace::{Held, Pace};
use crate::work::server::{Server, fresh, prepare};
use crate::work::{callers, runs};

pub(super) const BAR: Bar = Bar {
    name: "api-load",
    what: "starts and reads 3:1 over 1,000 connections at 1,000 requests/s, and the highest rate that is held",
    prepare,
    run,
};

/// Where a rate counts as held no more, in ms.
const HELD: f64 = 1_000.0;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let (connections, seconds) = if setting.quick { (200, 5.0) } else { (1_000, 60.0) };
    let server = Server::start(&fresh(&setting.dir, "api")?).await?;
    server.connect().await?.publish(runs::NOTE).await?;
    let mut pace = Pace::open(&server.address, connections, 100.0).await?;
    setting.say(&format!("{connections} connections, 1,000 requests/s"));
    // What starts up is not what is measured.
    pace.hold(1_000.0, Duration::from_secs(1)).await?;
    // For a time of its own choosing it is one run, whose quantiles are of all its requests.
    let runs_of_it = if setting.quick || setting.minutes.is_some() { 1 } else { 5 };
    let seconds = setting.minutes.map_or(seconds, |minutes| 60.0 * minutes as f64);
    let mut held = Vec::new();
    for _ in 0..runs_of_it {
        held.push(pace.hold(1_000.0, Duration::from_secs_f64(seconds)).await?);
    }
    let mut finding = Finding::default();
    let of = |figure: fn(&Held) -> f64| held.iter().map(figure).collect::<Vec<f64>>();
    finding.parts.push(Part::at_most("p95 in ms at 1,000 requests/s", &of(|held| held.p95), 50.0));
    finding.parts.push(Part::at_most("p99 in ms at 1,000 requests/s", &of(|held| held.p99), 150.0));
    finding.parts.push(Part::at_most("errors", &of(|held| held.errors as f64), 0.0));
    finding.parts.push(Part::at_least("requests/s that were answered", &of(|held| held.rate), 990.0));

    if setting.minutes.is_some() {
        server.stop()?;
        return Ok(finding);
    }

    let (mut rate, mut highest) = (1_000.0, 0.0);
    let step = if setting.quick { 2.0 } else { 1.25 };
    loop {
        setting.say(&format!("{rate:.0} requests/s"));
        let held = pace.hold(rate, Duration::from_secs(if setting.quick { 2 } else { 10 })).await?;
        if held.errors > 0 || held.p99 >= HELD || held.rate < rate * 0.95 {
            break;
        }
        (highest, rate) = (rate, rate * step);
    }
    finding.parts.push(Part::at_least("highest requests/s held at a p99 under 1 s", &[highest], 1_000.0));

    setting.say("executions begun and ended");
    let (n, times) = if setting.quick { (5_000, 1) } else { (100_000, 5) };
    let mut ended = Vec::new();
    for _ in 0..times {
        let since = std::time::Instant::now();
        runs::finish(&server.address, n).await?;
        ended.push(n as f64 / since.elapsed().as_secs_f64());
    }
    finding.parts.push(Part::at_least("executions/s begun and ended by a signal", &ended, 5_000.0));
    server.stop()?;
    Ok(finding)
}
