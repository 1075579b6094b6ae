//! Ten durable steps that do nothing, on Omium and on what Python programs use for such steps.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::{Bar, Setting};
use crate::finding::{Finding, Part};
use crate::once::Figures;
use crate::series::Series;
use crate::work::postgres::Postgres;
use crate::work::server::{self, fresh};
use crate::work::steps::{Shape, omium};
use crate::work::{callers, peers};

pub(super) const BAR: Bar = Bar {
    name: "python-peers",
    what: "workflows of ten steps by an external worker against LangGraph and DBOS: 20 x at 10 clients",
    prepare: || server::prepare().and_then(|()| peers::prepared::<2>("python").map(drop)),
    run,
};

/// As the script calls it, and as people do.
const PEERS: [(&str, &str); 3] = [
    ("langgraph", "LangGraph with SqliteSaver"),
    ("dbos-sqlite", "DBOS on SQLite"),
    ("dbos-postgres", "DBOS on PostgreSQL"),
];
const STEPS: usize = 10;

fn run(setting: &Setting) -> anyhow::Result<Finding> {
    let [python, programs] = peers::prepared("python")?;
    let side = Side { dir: &setting.dir, python, programs };
    let runtime = callers::runtime()?;
    let mut finding = Finding::default();
    let (runs, seconds) = if setting.quick { (1, 2.0) } else { (5, 5.0) };
    for clients in [10, 1] {
        let shape = Shape { steps: STEPS, clients, seconds };
        let (mut ours, mut theirs) = (Vec::new(), [const { Vec::new() }; PEERS.len()]);
        for _ in 0..runs {
            for ((peer, name), theirs) in PEERS.iter().zip(&mut theirs) {
                setting.say(&format!("{name}, {clients} clients"));
                theirs.push(rate(&side.peer(peer, shape)?)?);
            }
            setting.say(&format!("Omium, {clients} clients"));
            ours.push(rate(&runtime.block_on(omium(&setting.dir, shape))?.figures)?);
        }
        for ((_, name), theirs) in PEERS.iter().zip(theirs) {
            let series = Series::of(ours.clone(), theirs);
            if clients == 10 {
                let what = format!("workflows/s of ten steps at 10 clients, against {name}");
                finding.parts.push(Part::times(&what, &series, 20.0));
            } else {
                let (value, reference) = (series.value(), series.reference());
                finding.notes.push(format!("at 1 client {value:.0} workflows/s, {name} {reference:.0}"));
            }
        }
    }
    Ok(finding)
}

fn rate(figures: &Figures) -> anyhow::Result<f64> {
    figures.get("per_second").copied().context("a run gives no rate")
}

/// What a run of a peer needs.
struct Side<'a> {
    dir: &'a Path,
    python: PathBuf,
    programs: PathBuf,
}

impl Side<'_> {
    /// One run in a process and a folder of its own, on a database of its own where it needs one.
    fn peer(&self, peer: &str, shape: Shape) -> anyhow::Result<Figures> {
        let postgres = match peer {
            "dbos-postgres" => Some(Postgres::start(self.dir, &self.programs)?),
            _ => None,
        };
        let place = fresh(self.dir, "peer")?;
        std::fs::create_dir_all(&place)?;
        let mut command = Command::new(&self.python);
        command.arg(peers::place("python", "peers.py")).arg(peer).arg(&place);
        command.args([shape.clients.to_string(), shape.seconds.to_string()]);
        command.args(postgres.iter().map(|postgres| postgres.url("peers")));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("LANGSMITH_TRACING", "false");
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
        ensure!(output.status.success(), "{peer} failed: {}", String::from_utf8_lossy(&output.stderr));
        postgres.map_or(Ok(()), Postgres::stop)?;
        let said = String::from_utf8(output.stdout)?;
        let last = said.lines().last().context("the peer said nothing")?;
        serde_json::from_str(last).with_context(|| format!("`{last}` are no figures"))
    }
}
