//! The bars, one file each.

mod api_load;
mod append_synced;
mod checkpoint_latency;
mod cold_start;
mod crash_loop;
mod disk_overhead;
mod fold;
mod footprint;
mod kafka_append;
mod list_query;
mod live_executions;
mod open;
mod shell;
mod sim;
mod soak;
mod stream_latency;

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use crate::finding::Finding;

/// How a measurement is to be done.
pub(crate) struct Setting {
    /// Fewer and shorter runs.
    pub(crate) quick: bool,
    /// Nothing but the result is printed.
    pub(crate) quiet: bool,
    /// An empty directory on the disk that is measured.
    pub(crate) dir: PathBuf,
}

impl Setting {
    /// How many runs each median is of.
    pub(crate) fn runs(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }

    /// Says what is being done, for who watches.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("omium-load: {text}");
        }
    }
}

/// One thing that is measured.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) prepare: fn() -> anyhow::Result<()>,
    pub(crate) run: fn(&Setting) -> anyhow::Result<Finding>,
}

/// Everything that is measured.
pub(crate) const BARS: &[Bar] = &[
    append_synced::BAR,
    shell::BAR,
    fold::BAR,
    open::BAR,
    disk_overhead::BAR,
    sim::BAR,
    kafka_append::BAR,
    soak::BAR,
    cold_start::BAR,
    crash_loop::BAR,
    list_query::BAR,
    api_load::BAR,
    checkpoint_latency::BAR,
    live_executions::BAR,
    stream_latency::BAR,
    footprint::BAR,
];

/// For what needs nothing.
fn nothing() -> anyhow::Result<()> {
    Ok(())
}

/// Runs one of the scripts that install things.
fn infra(script: &str, args: &[&str]) -> anyhow::Result<()> {
    let status = self::script(script).args(args).status()?;
    ensure!(status.success(), "infra/dev/{script} failed ({status}); its message stands above");
    Ok(())
}

/// One of the scripts that start real servers.
fn script(name: &str) -> Command {
    Command::new(format!("{}/../infra/dev/{name}", env!("CARGO_MANIFEST_DIR")))
}
