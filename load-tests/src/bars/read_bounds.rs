//! An execution that holds much, asked for as a whole by many at once: all are answered, in little memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::machine;
use crate::work::callers;
use crate::work::hostile::blow::{By, Field, post};
use crate::work::http::{Address, Connection, Request};
use crate::work::server::{Server, fresh, prepare};

pub(super) const BAR: Bar = Bar {
    name: "read-bounds",
    what: "twenty viewers ask for everything of an execution that holds 1 GiB: all answered, 256 MiB at most",
    prepare,
    run,
};

const READERS: usize = 20;
/// Bytes of each value that it holds; they pack to nearly nothing.
const VALUE: usize = 1 << 20;
/// Whoever has not read all by then has not been answered.
const PATIENCE: Duration = Duration::from_secs(600);

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    callers::runtime()?.block_on(measure(setting))
}

async fn measure(setting: &Setting) -> anyhow::Result<Finding> {
    // One execution may bring 1 GiB; its other events take some of it.
    let values = if setting.quick { 128 } else { 1_016 };
    let server = Server::start(&fresh(&setting.dir, "held")?).await?;
    let field = Field::open(&server.address).await?;
    setting.say(&format!("an execution that holds {} MiB", (values * VALUE) >> 20));
    for value in 1..=values {
        hold(&field, value).await?;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = server.resident_mb();
    let (over, pid) = (Arc::new(AtomicBool::new(false)), server.pid());
    let watch = tokio::spawn(most(pid, over.clone()));
    setting.say("everybody reads");
    let (mut answered, mut took, mut bytes, mut later) = (0, 0.0_f64, 0, 0);
    let viewer = Address { port: server.address.port, key: field.viewer.clone() };
    let readers: Vec<_> =
        (0..READERS).map(|_| tokio::spawn(read(viewer.clone(), field.execution.clone()))).collect();
    let mut finding = Finding::default();
    for reader in readers {
        match reader.await? {
            Ok(had) => {
                answered += usize::from(had.bytes >= values * VALUE);
                (took, bytes, later) = (took.max(had.seconds), bytes.max(had.bytes), later + had.later);
            }
            Err(error) => finding.notes.push(format!("a reader was not answered: {error:#}")),
        }
    }
    over.store(true, Ordering::Relaxed);
    let grown = watch.await? - before;
    finding.parts.push(Part::at_least(
        "viewers that were given everything",
        &[answered as f64],
        READERS as f64,
    ));
    finding.parts.push(Part::at_most("MiB of memory more than before, at most", &[grown], 256.0));
    finding.notes.push(format!(
        "{READERS} viewers, {} MiB each, the slowest in {took:.1} s, {later} times told to come back",
        bytes >> 20
    ));
    server.stop()?;
    Ok(finding)
}

/// Lets a tool of the program have a result of so many blanks.
async fn hold(field: &Field, value: usize) -> anyhow::Result<()> {
    let begin = format!(r#"{{"caller":"c{value}","tool":"t{value}","effect":"read"}}"#);
    let begun = field.ask(&post(By::Attempt, "{gate}/tools", "", begin.as_bytes())).await;
    let call = begun.json()["call"].as_i64().with_context(|| format!("no tool call: {:?}", begun.status))?;
    let result = format!(r#"{{"result":"{}"}}"#, " ".repeat(VALUE));
    let ended = field.ask(&post(By::Attempt, &format!("{{gate}}/tools/{call}"), "", result.as_bytes())).await;
    let said = String::from_utf8_lossy(&ended.body).into_owned();
    ensure!(
        ended.status.is_some_and(|status| status < 300),
        "a result is not taken: {:?} {said}",
        ended.status
    );
    Ok(())
}

/// What a reader was given.
#[derive(Default)]
struct Had {
    bytes: usize,
    seconds: f64,
    later: u64,
}

/// Asks for everything, and for the rest where it is not all.
async fn read(address: Address, id: String) -> anyhow::Result<Had> {
    let (mut had, since, mut from) = (Had::default(), Instant::now(), 1);
    loop {
        ensure!(since.elapsed() < PATIENCE, "not all within {} s", PATIENCE.as_secs());
        let mut connection = Connection::open(&address).await?;
        let path = format!("/api/v1/executions/{id}/events?limit=10000&from={from}");
        let answer = connection.ask(&Request::get(&path)).await?;
        if answer.status == 503 || answer.status == 429 {
            had.later += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        let bytes = answer.body.len();
        let text = String::from_utf8(answer.body)?;
        let (_, next) = text.rsplit_once("\"next\":").with_context(|| start_of(&text))?;
        let Ok(next) = next.trim_end_matches('}').parse::<u64>() else { break };
        had.bytes += bytes;
        from = next;
    }
    had.seconds = since.elapsed().as_secs_f64();
    Ok(had)
}

fn start_of(text: &str) -> String {
    format!("no page of events: {}", text.chars().take(200).collect::<String>())
}

/// The most memory that a process has until this is over.
async fn most(pid: u32, over: Arc<AtomicBool>) -> f64 {
    let mut most = 0.0_f64;
    while !over.load(Ordering::Relaxed) {
        most = most.max(machine::resident_mb_of(pid));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}
