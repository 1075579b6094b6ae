//! Following and paging through executions of very different lengths: an event costs the same in all of them.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use super::kafka_append::Broker;
use super::{Bar, Setting, infra};
use crate::finding::{Finding, Part};
use crate::latency::Latencies;
use crate::machine;
use crate::series::{Series, median};
use crate::work::callers;
use crate::work::gate::{Line, Way};
use crate::work::http::{Address, Connection, Request};
use crate::work::listeners::Listener;
use crate::work::server::{Server, fresh, prepare};

pub(super) const BAR: Bar = Bar {
    name: "follow-cost",
    what: "CPU per event followed and paged through, of 100,000 events against 1,000; a new event in under 50 ms",
    prepare,
    run,
};

/// Records of a tool call: two commands and an event of each.
const RECORDS: usize = 4;
/// Connections that fill an execution.
const WRITERS: usize = 32;
/// How many events are read for one figure, at least: the kernel counts processor time in steps of 10 ms.
const LEAST: usize = 100_000;
/// How many events a page has, as a stream reads them.
const PAGE: usize = 500;

/// How events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Pages,
    Events,
    Socket,
}

const READINGS: [(Reading, &str); 3] =
    [(Reading::Pages, "pages"), (Reading::Events, "SSE"), (Reading::Socket, "WebSocket")];

/// How much is measured.
struct Extent {
    lengths: &'static [usize],
    followers: [usize; 2],
    runs: usize,
    /// New events per length and number of followers.
    news: usize,
}

const FULL: Extent = Extent { lengths: &[1_000, 10_000, 100_000], followers: [1, 20], runs: 3, news: 200 };
const QUICK: Extent = Extent { lengths: &[1_000, 20_000], followers: [1, 5], runs: 1, news: 100 };

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let extent = if setting.quick { QUICK } else { FULL };
    callers::runtime()?.block_on(async {
        let mut finding = Finding::default();
        let server = Server::start(&fresh(&setting.dir, "embedded")?).await?;
        measure(setting, &extent, server, "embedded log", &mut finding).await?;
        if !setting.quick {
            on_kafka(setting, &extent, &setting.dir.join("kafka"), &mut finding).await?;
        }
        Ok(finding)
    })
}

async fn on_kafka(
    setting: &Setting,
    extent: &Extent,
    data: &Path,
    finding: &mut Finding,
) -> anyhow::Result<()> {
    infra("kafka", &["prepare"])?;
    let broker = Broker::start()?;
    let server = Server::start_on_kafka(data, &broker.bootstrap).await?;
    measure(setting, extent, server, "Kafka", finding).await
}

/// An execution, and the attempt that adds to it.
struct Filled {
    events: usize,
    line: Line,
}

async fn measure(
    setting: &Setting,
    extent: &Extent,
    server: Server,
    log: &str,
    finding: &mut Finding,
) -> anyhow::Result<()> {
    let mut filled = Vec::new();
    for length in extent.lengths {
        setting.say(&format!("{log}: an execution of {length} events"));
        filled.push(Filled::of(&server.address, *length).await?);
    }
    for (reading, name) in READINGS {
        for followers in extent.followers {
            setting.say(&format!("{log}, {name}: {followers} at once"));
            let costs = costs(&server, &filled, extent, reading, followers).await?;
            let told = |(cost, length): (&Vec<f64>, &usize)| format!("{:.1} at {length}", median(cost));
            let told: Vec<String> = costs.iter().zip(extent.lengths).map(told).collect();
            finding.notes.push(format!(
                "{log}, {name}, at once: {followers}; CPU in us per event: {}",
                told.join(", ")
            ));
            let (short, long) = (costs.first().cloned(), costs.last().cloned());
            let series = Series::of(long.unwrap_or_default(), short.unwrap_or_default());
            let what = format!("CPU in us per event of the longest, {log}, {name}, at once: {followers}");
            finding.parts.push(Part::fraction(&what, &series, 1.5));
        }
    }
    for (reading, name) in READINGS.into_iter().filter(|(reading, _)| *reading != Reading::Pages) {
        for followers in extent.followers {
            let mut p99s = Vec::new();
            for filled in &filled {
                p99s.push(filled.news(&server.address, extent.news, reading, followers).await?);
            }
            let slowest = p99s.iter().copied().fold(0.0, f64::max);
            let what = format!("p99 in ms of a new event, {log}, {name}, followers: {followers}");
            finding.parts.push(Part::at_most(&what, &[slowest], 50.0));
        }
    }
    server.stop()
}

/// The CPU of the server per event in microseconds, by length; the lengths take turns. As many events are read of each.
async fn costs(
    server: &Server,
    filled: &[Filled],
    extent: &Extent,
    reading: Reading,
    followers: usize,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let longest = filled.iter().map(|filled| filled.events).max().context("there are executions")?;
    let most = longest.max(LEAST.div_ceil(followers));
    let mut costs = vec![Vec::new(); filled.len()];
    for _ in 0..extent.runs {
        for (filled, costs) in filled.iter().zip(&mut costs) {
            let times = most.div_ceil(filled.events);
            let before = machine::cpu_seconds_of(server.pid());
            for _ in 0..times {
                filled.read(&server.address, reading, followers).await?;
            }
            let used = machine::cpu_seconds_of(server.pid()) - before;
            costs.push(used * 1e6 / (times * followers * filled.events) as f64);
        }
    }
    Ok(costs)
}

impl Filled {
    /// Lets a program call tools until there are so many events.
    async fn of(address: &Address, length: usize) -> anyhow::Result<Filled> {
        let line = Line::open(&Way::Gate(address.clone())).await?;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut line = line.another().await?;
            writers.push(tokio::spawn(async move {
                for call in (writer..length.div_ceil(RECORDS)).step_by(WRITERS) {
                    let begun = line.begin_tool("Clerk#0", &format!("look-up-{call}")).await?;
                    line.end_tool(begun["call"].as_u64().context("a call has a number")?, "5.2%").await?;
                }
                anyhow::Ok(())
            }));
        }
        for writer in writers {
            writer.await??;
        }
        Ok(Filled { events: length, line })
    }

    /// Lets so many read everything at once.
    async fn read(&self, address: &Address, reading: Reading, followers: usize) -> anyhow::Result<()> {
        let (id, events) = (&self.line.execution, self.events as u64);
        let mut readers = Vec::new();
        for _ in 0..followers {
            let (address, id) = (address.clone(), id.clone());
            readers.push(tokio::spawn(async move {
                if reading == Reading::Pages {
                    return page_through(&address, &id, events).await;
                }
                open(reading, &address, &id).await?.until(events).await.map(drop)
            }));
        }
        for reader in readers {
            reader.await??;
        }
        Ok(())
    }

    /// The p99 in milliseconds from the request that makes a new event until all followers have it.
    async fn news(
        &self,
        address: &Address,
        news: usize,
        reading: Reading,
        followers: usize,
    ) -> anyhow::Result<f64> {
        let mut listeners = Vec::new();
        for _ in 0..followers {
            let mut listener = open(reading, address, &self.line.execution).await?;
            listener.until(self.events as u64).await?;
            listeners.push(listener);
        }
        // A connection that has long been silent may have been closed.
        let mut line = self.line.another().await?;
        let mut latencies = Latencies::default();
        for number in 0..news {
            let tool = format!("new-{number}-{reading:?}-{followers}");
            let sent = Instant::now();
            let begun = line.begin_tool("Clerk#0", &tool).await?;
            let seq = begun["call"].as_u64().context("a call has a number")?;
            for listener in &mut listeners {
                let heard = listener.until(seq).await?;
                latencies.record(heard.at.saturating_duration_since(sent).as_micros() as u64);
            }
        }
        Ok(latencies.quantile(0.99) / 1e3)
    }
}

async fn open(reading: Reading, address: &Address, id: &str) -> anyhow::Result<Listener> {
    match reading {
        Reading::Events => Listener::open_events(address, 0, id).await,
        Reading::Socket | Reading::Pages => Listener::open(address, 0, id).await,
    }
}

async fn page_through(address: &Address, id: &str, events: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    let mut from = 1;
    while from <= events {
        let path = format!("/api/v1/executions/{id}/events?limit={PAGE}&from={from}");
        let answer = connection.ask(&Request::get(&path)).await?;
        let text = String::from_utf8(answer.body)?;
        let next =
            text.rsplit_once("\"next\":").and_then(|(_, next)| next.trim_end_matches('}').parse().ok());
        from = next.with_context(|| format!("no page from {from} on ({})", answer.status))?;
    }
    Ok(())
}
