//! A disk that fills while work is under way, and is freed again: nothing ends, is lost or is bought twice.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::work::callers;
use crate::work::hostile::blow::{Ask, By, Came, Field, get, post};
use crate::work::hostile::rogue::{Rogue, SLOW};
use crate::work::http::Connection;
use crate::work::server::{Server, free_port, prepare};
use crate::work::vendor::Vendor;
use crate::work::worker::Worker;

pub(super) const BAR: Bar = Bar {
    name: "full-disk",
    what: "a disk that fills under work: 507 meanwhile, reads go on, all ends once there is room, nothing bought twice",
    prepare,
    run,
};

/// Executions of each kind.
const EACH: usize = 4;
const NATIVE: &str = "
name: bought
inputs: {type: object, required: [run]}
agents: [{id: only, framework: native, model: slow, prompt: 'native {{ inputs.run }} .'}]
";
const WORKED: &str = "
name: worked
inputs: {type: object, required: [run]}
agents: [{id: only, framework: program}]
";

/// A file system of its own, gone with its measurement.
struct Small(PathBuf);

impl Small {
    fn mount(place: PathBuf) -> anyhow::Result<Small> {
        std::fs::create_dir_all(&place)?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=400m", "omium-load"]).arg(&place).output();
        match mounted {
            Ok(said) if said.status.success() => Ok(Small(place)),
            Ok(said) => bail!(
                "skipped, mounting is not allowed here: {}",
                String::from_utf8_lossy(&said.stderr).trim()
            ),
            Err(error) => bail!("skipped, there is no `mount` here: {error}"),
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.filler())?;
        for size in [1 << 20, 1 << 12, 1] {
            loop {
                match filler.write_all(&vec![1; size]) {
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    written => written.context("the disk could not be filled")?,
                }
            }
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // One that is still held is let go of with its last holder.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Work under way, of all kinds.
struct Flight {
    vendor: Vendor,
    rogue: Arc<Rogue>,
    server: Server,
    natives: Vec<String>,
    worked: Vec<String>,
    programs: Vec<Field>,
    calls: Vec<tokio::task::JoinHandle<Came>>,
    door: TcpListener,
    worker: Worker,
}

/// What happened meanwhile.
#[derive(Default)]
struct Full {
    refused: u64,
    taken: u64,
    other: u64,
    unread: u64,
}

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    let small = Small::mount(setting.dir.join("small"))?;
    setting.say("work begins");
    let mut flight = begin(&small.0.join("data")).await?;
    setting.say("the disk fills");
    small.fill()?;
    exhaust(&flight, &small).await?;
    let full =
        meanwhile(&mut flight, Duration::from_secs(if setting.quick { 12 } else { 30 }), &small).await?;
    setting.say("the disk is freed");
    small.free()?;
    judge(flight, &full).await
}

async fn begin(data: &Path) -> anyhow::Result<Flight> {
    let rogue = Arc::new(Rogue::default());
    let vendor = Vendor::open(rogue.clone()).await?;
    let server = Server::start_at(data, free_port()?, Some(&vendor.url())).await?;
    let door = TcpListener::bind(("127.0.0.1", 0))?;
    let port = door.local_addr()?.port().to_string();
    let words = ["hangs", "--idle-ms", "600000", "--capacity", "100", "--door", &port];
    let worker = Worker::start_with(&server.address, &words).await?;
    let mut connection = server.connect().await?;
    connection.publish(NATIVE).await?;
    connection.publish(WORKED).await?;
    let (mut natives, mut worked, mut programs, mut calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in 0..EACH {
        worked.push(connection.start("worked", run).await?);
        programs.push(Field::open(&server.address).await?);
    }
    for (run, program) in programs.iter().enumerate() {
        natives.push(connection.start("bought", run).await?);
        let (program, call) = (program.clone(), question(run));
        // Half of the clients go before there is room again.
        let patience = Duration::from_secs(if run % 2 == 0 { 120 } else { 10 });
        calls.push(tokio::spawn(async move { program.ask_within(&call, patience).await }));
    }
    // Every call has to be with the vendor before there is no room any more.
    let since = Instant::now();
    while rogue.asked(" .") < 2 * EACH as u64 && since.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(Flight { vendor, rogue, server, natives, worked, programs, calls, door, worker })
}

fn question(run: usize) -> Ask {
    let chat =
        json!({ "model": SLOW, "messages": [{ "role": "user", "content": format!("program {run} .") }] });
    post(By::Attempt, "{gate}/v1/chat/completions", "", chat.to_string().as_bytes())
}

/// As the provider's own clients say that they have had no answer.
fn repeated(run: usize) -> Ask {
    Ask { head: "x-stainless-retry-count: 1\r\n".to_owned(), ..question(run) }
}

/// The log has room of its own, which it took beforehand: that is to be used up too.
async fn exhaust(flight: &Flight, small: &Small) -> anyhow::Result<()> {
    let mut dice = 1_u64;
    for _ in 0..4_000 {
        let text: String = (0..4_000)
            .map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{:012x}", dice >> 16)
            })
            .collect();
        let body = json!({ "workflow": "worked", "inputs": { "run": 0, "x": text } }).to_string();
        let start = post(By::Admin, "/api/v1/executions", "", body.as_bytes());
        let came = flight.programs[0].many(&start, 8).await;
        if came.iter().any(|came| came.status == Some(507)) {
            return small.fill();
        }
    }
    bail!("the log still takes what is written although its disk is full")
}

async fn meanwhile(flight: &mut Flight, length: Duration, small: &Small) -> anyhow::Result<Full> {
    let (mut full, since, mut freed) = (Full::default(), Instant::now(), false);
    let large = json!({ "workflow": "worked", "inputs": { "run": 0, "x": "A".repeat(200_000) } }).to_string();
    let start = post(By::Admin, "/api/v1/executions", "", large.as_bytes());
    while since.elapsed() < length {
        // What was let go of in between is taken again.
        small.fill()?;
        match flight.programs[0].ask(&start).await.status {
            Some(507) => full.refused += 1,
            Some(201) => full.taken += 1,
            _ => full.other += 1,
        }
        for id in flight.natives.iter().chain(&flight.worked) {
            let came = flight.programs[0].ask(&get(By::Viewer, &format!("/api/v1/executions/{id}"))).await;
            full.unread += u64::from(came.status != Some(200));
        }
        if !freed && since.elapsed() > length / 2 {
            freed = true;
            for _ in 0..EACH {
                flight.door.accept()?.0.write_all(b"!")?;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(full)
}

async fn judge(mut flight: Flight, full: &Full) -> anyhow::Result<Finding> {
    let (mut unserved, mut again) = (0, 0);
    let mut finding = Finding::default();
    for (run, call) in std::mem::take(&mut flight.calls).into_iter().enumerate() {
        let program = &flight.programs[run];
        let mut came = call.await?;
        finding.notes.push(format!("the call of program {run}: {}", came.in_short()));
        for _ in 0..20 {
            if came.status == Some(200) {
                break;
            }
            again += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
            came = program.ask_within(&repeated(run), Duration::from_secs(120)).await;
            finding.notes.push(format!("the same again: {}", came.in_short()));
        }
        unserved += u64::from(came.status != Some(200));
        program.end().await;
    }
    let programs = flight.programs.iter().map(|program| program.execution.clone());
    let all: Vec<String> = flight.natives.iter().chain(&flight.worked).cloned().chain(programs).collect();
    let unended = unended(&mut flight.server.connect().await?, &all, &mut finding).await?;
    let twice = (0..EACH).flat_map(|run| [format!("native {run} ."), format!("program {run} .")]);
    let bought: u64 = twice.map(|question| flight.rogue.asked(&question).saturating_sub(1)).sum();
    let none = |what: &str, count: u64| Part::at_most(what, &[count as f64], 0.0);
    finding.parts.extend([
        none("executions that have not completed 60 s after there was room", unended),
        none("paid answers that were bought again", bought),
        none("calls of programs that were never answered", unserved),
        none("reads that failed while the disk was full", full.unread),
        none("starts that were answered neither 507 nor 201", full.other),
        Part::at_least("starts refused with 507", &[full.refused as f64], 1.0),
        none("ends of the node by itself", u64::from(flight.server.ended()?.is_some())),
    ]);
    finding.notes.push(format!("{} starts taken while full, {again} calls of programs repeated", full.taken));
    flight.worker.stop()?;
    flight.server.stop()?;
    drop(flight.vendor);
    Ok(finding)
}

/// Waits for all of them together; the server is never restarted.
async fn unended(connection: &mut Connection, all: &[String], finding: &mut Finding) -> anyhow::Result<u64> {
    let (since, mut unended) = (Instant::now(), 0);
    for id in all {
        loop {
            let view = connection.get(&format!("/api/v1/executions/{id}?wait_ms=1000")).await?;
            if view["status"] == "completed" {
                break;
            }
            if view["status"] != "running" || since.elapsed() > Duration::from_secs(60) {
                unended += 1;
                finding.notes.push(format!("{id} is {}: {}", view["status"], view["failure"]));
                break;
            }
        }
    }
    finding.notes.push(format!("all looked at {:.1} s after there was room", since.elapsed().as_secs_f64()));
    Ok(unended)
}
