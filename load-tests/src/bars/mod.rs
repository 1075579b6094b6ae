//! The bars, one file each.

mod api_load;
mod append_synced;
mod checkpoint_latency;
mod cold_start;
mod crash_loop;
mod disk_overhead;
mod first_five_minutes;
mod fold;
mod follow_cost;
mod footprint;
mod full_disk;
mod gate_latency;
mod hostile;
mod kafka_append;
mod list_query;
mod live_executions;
mod long_conversation;
mod native_steps;
mod node_limits;
mod open;
mod python_peers;
mod read_bounds;
mod restate_steps;
mod resume_exec;
mod shell;
mod silent_worker;
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
    /// How long what goes on for a time is to go on.
    pub(crate) minutes: Option<u64>,
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
    native_steps::BAR,
    restate_steps::BAR,
    python_peers::BAR,
    silent_worker::BAR,
    gate_latency::BAR,
    resume_exec::BAR,
    first_five_minutes::BAR,
    hostile::BAR,
    full_disk::BAR,
    read_bounds::BAR,
    node_limits::BAR,
    follow_cost::BAR,
    long_conversation::BAR,
];

/// Those that go on for as long as they are told to.
pub(crate) const LASTING: [&str; 2] = [soak::BAR.name, api_load::BAR.name];

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::BARS;

    #[test]
    fn every_file_of_this_folder_is_in_the_list_under_its_own_name() {
        let folder = format!("{}/src/bars", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).expect("the sources are there");
        let name = |file: std::io::Result<std::fs::DirEntry>| {
            let name = file.expect("the folder can be read").file_name().to_string_lossy().into_owned();
            name.strip_suffix(".rs").expect("only sources lie here").replace('_', "-")
        };
        let files: BTreeSet<String> = files.map(name).filter(|name| name != "mod").collect();
        let listed: Vec<String> = BARS.iter().map(|bar| bar.name.to_owned()).collect();
        assert_eq!(listed.len(), files.len(), "no name stands twice");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), files);
    }
}
