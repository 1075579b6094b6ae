//! One run of one side of a measurement, in a process of its own: nothing of an earlier run is in its memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::work;

/// The figures of one run.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// The plain file: one writer, group commit.
    Plain,
    /// One thread that writes and syncs, nothing else.
    Raw,
    /// The embedded log alone.
    Log,
    /// A node, shells and all.
    Shell,
    /// The same on Kafka.
    Kafka,
    /// A node whose executions have their steps completed inside the process.
    Native,
}

/// One run of one side.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Once {
    #[arg(value_enum)]
    pub(crate) side: Side,
    /// Where it may write; an empty directory.
    pub(crate) dir: PathBuf,
    #[arg(long, default_value_t = 1)]
    pub(crate) callers: usize,
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Commands carry idempotency keys.
    #[arg(long)]
    pub(crate) keys: bool,
    /// How many streams they are spread over; at least one for each caller.
    #[arg(long, default_value_t = 0)]
    pub(crate) streams: usize,
    /// The broker, where one is needed.
    #[arg(long)]
    pub(crate) bootstrap: Option<String>,
}

impl Once {
    pub(crate) fn new(side: Side, callers: usize, seconds: f64) -> Once {
        Once { side, dir: PathBuf::new(), callers, seconds, keys: false, streams: 0, bootstrap: None }
    }

    #[expect(clippy::print_stdout, reason = "the process that started this one reads it")]
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let figures = match self.side {
            Side::Plain => work::plain::run(self)?,
            Side::Raw => work::plain::run_raw(self)?,
            Side::Log => work::appends::run(self)?,
            Side::Shell => work::shell::run(self)?,
            Side::Kafka => work::kafka::run(self)?,
            Side::Native => work::native::run(self)?,
        };
        println!("{}", serde_json::to_string(&figures)?);
        Ok(())
    }

    /// Runs it in a process and a directory of its own.
    pub(crate) fn apart(&self, scratch: &Path) -> anyhow::Result<Figures> {
        let dir = tempfile::tempdir_in(scratch)?;
        self.apart_in(dir.path())
    }

    /// Runs it in a process of its own, in a directory that stays.
    pub(crate) fn apart_in(&self, dir: &Path) -> anyhow::Result<Figures> {
        let mut command = Command::new(std::env::current_exe()?);
        let side = clap::ValueEnum::to_possible_value(&self.side).context("every side has a name")?;
        command.args(["once", side.get_name()]).arg(dir);
        command.arg("--streams").arg(self.streams.to_string());
        command.arg("--callers").arg(self.callers.to_string());
        command.arg("--seconds").arg(self.seconds.to_string());
        if self.keys {
            command.arg("--keys");
        }
        if let Some(bootstrap) = &self.bootstrap {
            command.arg("--bootstrap").arg(bootstrap);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "a run of `{}` failed ({})", side.get_name(), output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The same, and one figure of it.
    pub(crate) fn figure(&self, scratch: &Path, name: &str) -> anyhow::Result<f64> {
        let figures = self.apart(scratch)?;
        figures.get(name).copied().with_context(|| format!("a run gives no figure `{name}`"))
    }
}
