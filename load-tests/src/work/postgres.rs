//! A PostgreSQL with its defaults, which sync, and a folder of its own.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::process::Process;
use super::server::{free_port, fresh};

/// Whoever is not ready by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The user that the package brings: PostgreSQL refuses to run as root.
const USER: &str = "postgres";

/// A server that dies with its measurement.
pub(crate) struct Postgres {
    process: Process,
    port: u16,
}

impl Postgres {
    /// Starts one on a new cluster under this folder, with the programs of that one.
    pub(crate) fn start(dir: &Path, programs: &Path) -> anyhow::Result<Postgres> {
        let data = fresh(dir, "postgres")?;
        std::fs::create_dir_all(&data)?;
        let root = std::fs::metadata("/proc/self")?.uid() == 0;
        if root {
            give(dir, &data)?;
        }
        let program = |name: &str| as_user(root, &programs.join(name));
        let mut initdb = program("initdb");
        initdb
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data);
        let made = initdb.stdin(Stdio::null()).output().context("initdb does not start")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port()?;
        let mut server = program("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(&data).args(["-p", &port.to_string()]);
        server.args(["-c", "listen_addresses=127.0.0.1"]);
        let said = std::fs::File::create(dir.join("postgres.log"))?;
        let process = Process::start(server.stdout(said.try_clone()?).stderr(said))?;
        let mut postgres = Postgres { process, port };
        postgres.ready(&programs.join("pg_isready"))?;
        Ok(postgres)
    }

    #[expect(clippy::disallowed_methods, reason = "nothing but asking tells that it is ready")]
    fn ready(&mut self, asks: &Path) -> anyhow::Result<()> {
        let since = Instant::now();
        let port = self.port.to_string();
        loop {
            self.process.runs()?;
            let mut ask = Command::new(asks);
            let asked = ask.args(["-q", "-h", "127.0.0.1", "-p", &port]).status()?;
            if asked.success() {
                return Ok(());
            }
            ensure!(since.elapsed() < PATIENCE, "PostgreSQL was not ready within {} s", PATIENCE.as_secs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where a database of this name is, or can be made.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

/// Lets the user of the package have a folder that root has made, and go there.
fn give(dir: &Path, data: &PathBuf) -> anyhow::Result<()> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    let given = Command::new("chown").arg(format!("{USER}:")).arg(data).status()?;
    ensure!(given.success(), "{} could not be given to the user {USER}", data.display());
    Ok(())
}

fn as_user(root: bool, program: &Path) -> Command {
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program);
    // Where this one stands the other one may not look.
    command.current_dir("/");
    command
}
