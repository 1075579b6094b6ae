//! A process that a measurement starts and stops, by its own id and no other way.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::mpsc;

/// Whoever has not ended by then after he was asked to is ended by force.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that dies with its measurement.
pub(crate) struct Process(Child);

/// The lines that a process says, and when each came.
pub(crate) type Lines = mpsc::UnboundedReceiver<(Instant, String)>;

impl Process {
    /// Starts it. What it writes is dropped unless the command says otherwise.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Process> {
        let program = command.get_program().to_string_lossy().into_owned();
        Ok(Process(
            command.stdin(Stdio::null()).spawn().with_context(|| format!("{program} does not start"))?,
        ))
    }

    /// Starts it and listens to what it says.
    pub(crate) fn start_talking(command: &mut Command) -> anyhow::Result<(Process, Lines)> {
        let mut process = Process::start(command.stdout(Stdio::piped()))?;
        let said = process.0.stdout.take().context("the process says nothing")?;
        let (says, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(said).lines().map_while(Result::ok);
            lines.map(|line| (Instant::now(), line)).try_for_each(|line| says.send(line)).ok()
        });
        Ok((process, lines))
    }

    /// Whether it still runs; an error says how it ended.
    pub(crate) fn runs(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            Some(status) => anyhow::bail!("process {} has ended by itself: {status}", self.0.id()),
            None => Ok(()),
        }
    }

    /// Asks it to stop, and waits until it has.
    #[expect(clippy::disallowed_methods, reason = "nothing but asking tells of an end within a limit")]
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").arg(&pid).status()?;
        ensure!(asked.success(), "process {pid} could not be asked to stop");
        let since = Instant::now();
        while self.0.try_wait()?.is_none() {
            if since.elapsed() > PATIENCE {
                self.0.kill()?;
                return Ok(self.0.wait().map(drop)?);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has been waited for is not killed again: its number may be somebody else's by now.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill().and_then(|()| self.0.wait());
        }
    }
}
