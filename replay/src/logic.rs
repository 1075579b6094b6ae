//! `omium logic`: which version of the logic decides in a data folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

/// Which version of the logic decides. A new program goes on by the old one until the new one is adopted.
#[derive(Subcommand)]
pub(crate) enum Logic {
    /// From now on everything is decided by this version, while no process has the data folder open. There is no way back
    /// for a program that does not know it.
    Adopt {
        /// The version.
        #[arg(value_name = "N")]
        version: i32,
        /// The data folder, which holds `log`.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

pub(crate) fn run(logic: &Logic) -> anyhow::Result<ExitCode> {
    let Logic::Adopt { version, data } = logic;
    tokio::runtime::Runtime::new()?.block_on(omium_engine::adopt_offline(data, *version))?;
    eprintln!("all partitions of {} decide by logic {version}", data.display());
    Ok(ExitCode::SUCCESS)
}
