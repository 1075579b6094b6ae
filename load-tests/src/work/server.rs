//! The real `omium` binary as a process of its own, which a measurement starts, weighs and kills.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::http::{Address, Connection, Request};
use crate::machine;

/// Whoever is not ready by then has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that dies with its measurement.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    pub(crate) address: Address,
    /// From the start of the process until it was ready.
    pub(crate) took: Duration,
}

/// The binary that is measured: `OMIUM_BINARY`, else the one beside this program.
pub(crate) fn binary() -> anyhow::Result<PathBuf> {
    let place = match std::env::var_os("OMIUM_BINARY") {
        Some(place) => PathBuf::from(place),
        None => std::env::current_exe()?.with_file_name("omium"),
    };
    ensure!(
        place.is_file(),
        "there is no omium at {}; build it with `cargo build --profile dist -p omium`, or name one with OMIUM_BINARY",
        place.display()
    );
    Ok(place)
}

/// For measurements of the binary: it has to be there.
pub(crate) fn prepare() -> anyhow::Result<()> {
    binary().map(drop)
}

/// A port that nobody has.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Server {
    /// Starts it on a data folder, on a port that is free, and waits until it is ready.
    pub(crate) async fn start(data: &Path) -> anyhow::Result<Server> {
        Server::start_at(data, free_port()?, None).await
    }

    /// The same on this port, with another model server than its own.
    pub(crate) async fn start_at(data: &Path, port: u16, upstream: Option<&str>) -> anyhow::Result<Server> {
        let mut command = Command::new(binary()?);
        command.arg("dev");
        Server::launch(command, data, port, upstream).await
    }

    /// Starts it with its log on this Kafka broker.
    pub(crate) async fn start_on_kafka(data: &Path, bootstrap: &str) -> anyhow::Result<Server> {
        let mut command = Command::new(binary()?);
        command.args(["serve", "--partitions", "4", "--replication", "1", "--log"]);
        command.arg(format!("kafka://{bootstrap}"));
        Server::launch(command, data, free_port()?, None).await
    }

    /// The same with no more than so many descriptors, whatever it asks the system for.
    pub(crate) async fn start_with(
        data: &Path,
        port: u16,
        upstream: Option<&str>,
        descriptors: u64,
    ) -> anyhow::Result<Server> {
        let mut command = Command::new("sh");
        let limit = format!("ulimit -n {descriptors} && exec \"$@\"");
        command.args(["-c", &limit, "sh"]).arg(binary()?).arg("dev");
        Server::launch(command, data, port, upstream).await
    }

    async fn launch(
        mut command: Command,
        data: &Path,
        port: u16,
        upstream: Option<&str>,
    ) -> anyhow::Result<Server> {
        let since = Instant::now();
        command.args(["--port", &port.to_string(), "--data"]).arg(data);
        command.env_remove("OMIUM_UPSTREAM_URL").env_remove("OPENAI_API_KEY");
        if let Some(upstream) = upstream {
            command.args(["--upstream", upstream]);
        }
        std::fs::create_dir_all(data)?;
        let said = data.with_extension("stderr");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(&said)?)
            .spawn()?;
        let address = Address { port, key: String::new() };
        let mut server = Server { child, data: data.to_owned(), address, took: Duration::ZERO };
        while !server.ready().await {
            if let Some(status) = server.child.try_wait()? {
                let text = std::fs::read_to_string(&said).unwrap_or_default();
                bail!("omium ended before it was ready ({status}): {}", text.trim());
            }
            ensure!(since.elapsed() < PATIENCE, "omium was not ready within {} s", PATIENCE.as_secs());
            // What is asked of the system in between must not be what is measured.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.took = since.elapsed();
        server.address.key = std::fs::read_to_string(data.join("dev.key"))?.trim().to_owned();
        Ok(server)
    }

    async fn ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(&self.address).await else { return false };
        connection.ask(&Request::get("/ready")).await.is_ok_and(|answer| answer.good())
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.address).await
    }

    /// What of its memory is in RAM, in MB.
    pub(crate) fn resident_mb(&self) -> f64 {
        machine::resident_mb_of(self.child.id())
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, where it has ended by itself.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<String>> {
        let ended = self.child.try_wait()?;
        Ok(ended.map(|status| status.to_string()))
    }

    /// Where its log lies.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    /// kill -9, where another one is to take its place.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        Ok(self.child.wait().map(drop)?)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        Ok(self.child.wait().map(drop)?)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").arg(&pid).status()?;
        ensure!(asked.success(), "process {pid} could not be asked to stop");
        let status = self.child.wait()?;
        ensure!(status.success(), "omium did not stop well: {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has been waited for is not killed again: its number may be somebody else's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
    }
}

/// Fails with the process's own words where its data folder cannot be used again.
pub(crate) fn fresh(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let data = dir.join(name);
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("{} cannot be emptied", data.display()))?;
    }
    Ok(data)
}
