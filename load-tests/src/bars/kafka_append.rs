//! Appends to Kafka through the shell, against the broker's own measuring tool.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use super::{Bar, Setting, infra, script};
use crate::finding::{Finding, Part};
use crate::once::{Figures, Once, Side};
use crate::series::{Series, median};
use crate::work::kafka::PARTITIONS;

pub(super) const BAR: Bar = Bar {
    name: "kafka-append",
    what: "payload bytes/s through the shell on Kafka, against ProducerPerformance with the same acks and partitions",
    prepare: || infra("kafka", &["prepare"]),
    run,
};

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let broker = Broker::start()?;
    let seconds = if setting.quick { 4.0 } else { 20.0 };
    let once = Once {
        bootstrap: Some(broker.bootstrap.clone()),
        streams: 4_096,
        ..Once::new(Side::Kafka, 2_048, seconds)
    };
    setting.say("warming the broker up, and looking how large our blocks are");
    let size = once.figure(&setting.dir, "median_block")?.round().max(1.0);
    let mut runs: Vec<Figures> = Vec::new();
    let ours = || {
        runs.push(once.apart(&setting.dir)?);
        let last = runs.last().and_then(|run| run.get("bytes_per_second"));
        last.copied().context("a run gives no bytes")
    };
    let strict = ["acks=all", "max.in.flight.requests.per.connection=1"];
    let series = Series::alternate(setting.runs(), ours, || broker.perform(size, seconds, &strict))?;
    let mut finding = Finding::default();
    finding.parts.push(Part::share("payload bytes/s on 8 partitions", &series, 0.8));
    let free = broker.perform(size, seconds, &["acks=all"])?;
    let of = |name: &str| median(&runs.iter().filter_map(|run| run.get(name).copied()).collect::<Vec<_>>());
    finding.notes.push(format!("our median block: {:.0} bytes", of("median_block")));
    finding.notes.push(format!("frames/s: {:.0}, p99 {:.0} us", of("per_second"), of("p99_us")));
    finding.notes.push(format!("ProducerPerformance with its default in-flight requests: {free:.0} bytes/s"));
    Ok(finding)
}

/// A broker that ends with this process.
pub(super) struct Broker {
    child: Child,
    pub(super) bootstrap: String,
    libs: String,
}

impl Broker {
    pub(super) fn start() -> anyhow::Result<Broker> {
        let mut child = script("kafka")
            .arg("run")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("infra/dev/kafka")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the broker says nothing")?).read_line(&mut line)?;
        let bootstrap = line.split_whitespace().find_map(|word| word.strip_prefix("bootstrap="));
        let bootstrap = bootstrap.context("the broker did not start; its message stands above")?.to_owned();
        let libs = script("kafka").arg("libs").output()?;
        let libs = String::from_utf8(libs.stdout)?.trim().to_owned();
        Ok(Broker { child, bootstrap, libs })
    }

    fn java(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-cp"]).arg(format!("{}/*", self.libs)).arg(class).stderr(Stdio::null());
        command
    }

    /// Payload bytes per second of the broker's own tool.
    fn perform(&self, size: f64, seconds: f64, properties: &[&str]) -> anyhow::Result<f64> {
        let topic = format!("performance-{}", properties.len());
        let made = self
            .java("org.apache.kafka.tools.TopicCommand")
            .args(["--create", "--if-not-exists", "--replication-factor", "1", "--topic", &topic])
            .args(["--partitions", &PARTITIONS.to_string(), "--bootstrap-server", &self.bootstrap])
            .output()?;
        ensure!(
            made.status.success(),
            "a topic could not be made: {}",
            String::from_utf8_lossy(&made.stdout)
        );
        // About as many bytes as a quick broker takes in that time; the tool knows no other end.
        let records = (seconds * 60e6 / size).ceil().max(1_000.0);
        let output = self
            .java("org.apache.kafka.tools.ProducerPerformance")
            .args(["--topic", &topic, "--throughput", "-1", "--num-records", &records.to_string()])
            .args(["--record-size", &size.to_string(), "--producer-props"])
            .arg(format!("bootstrap.servers={}", self.bootstrap))
            .args(properties)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "ProducerPerformance failed: {text}");
        let last =
            text.lines().rev().find(|line| line.contains("records/sec")).context("it reports nothing")?;
        let rate = last.split(", ").find_map(|part| part.split_once(" records/sec")?.0.parse::<f64>().ok());
        Ok(rate.with_context(|| format!("it reports no rate: {last}"))? * size)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // The script stops its server when its input ends.
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("omium-load: the broker's script: {error}");
        }
    }
}
