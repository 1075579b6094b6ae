//! The program as a child of this process: its output passes through, its end is its own.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::package::python_path;
use super::redact::redacted;

/// How much of the end of the output is looked at for its last line.
const TAIL: usize = 64 * 1024;
/// Names of this machine.
const OURS: &str = "127.0.0.1,localhost,::1";
/// The longest last line that is kept as the result.
const LINE: usize = 16 * 1024;
/// How long nothing may come once the program has ended: what it left behind may hold its output open for ever.
const SILENCE: Duration = Duration::from_millis(300);

pub(super) struct Child<'a> {
    pub(super) program: &'a [String],
    pub(super) execution: &'a str,
    /// Where it sends its calls.
    pub(super) gate: &'a str,
    pub(super) token: &'a str,
}

/// What goes to no proxy: the gate is on this machine, and what is sent to it holds the token and all prompts.
fn no_proxy(name: &str) -> String {
    let known = std::env::var(name).or_else(|_| std::env::var(name.to_uppercase())).unwrap_or_default();
    let known = known.trim_end_matches(',');
    if known.is_empty() { OURS.to_owned() } else { format!("{known},{OURS}") }
}

/// How a program has ended.
#[derive(Clone)]
pub(super) struct Ended {
    /// Its exit code; 128 and a signal's number where a signal ended it.
    pub(super) code: u8,
    /// The last line that it has printed.
    pub(super) last: String,
}

impl Child<'_> {
    pub(super) async fn run(&self) -> std::io::Result<Ended> {
        let folder = tempfile::Builder::new().prefix("omium-").tempdir()?;
        let fence = folder.path().join("fence");
        let mut command = Command::new(self.program.first().map(String::as_str).unwrap_or_default());
        command
            .args(self.program.iter().skip(1))
            .env("OPENAI_BASE_URL", format!("{}/v1", self.gate))
            // Older clients read this name.
            .env("OPENAI_API_BASE", format!("{}/v1", self.gate))
            .env("OPENAI_API_KEY", self.token)
            .env("OMIUM_GATE", self.gate)
            .env("OMIUM_TOKEN", self.token)
            .env("OMIUM_EXECUTION", self.execution)
            .env("OMIUM_FENCE", &fence)
            // Claude Code would put a checksum of each request into the request, which no patched one has.
            .env("CLAUDE_CODE_ATTRIBUTION_HEADER", "0")
            .env("PYTHONUNBUFFERED", "1")
            .env("NO_PROXY", no_proxy("NO_PROXY"))
            .env("no_proxy", no_proxy("no_proxy"))
            .stdout(Stdio::piped())
            .kill_on_drop(false);
        let mut path: Vec<_> = python_path()?;
        path.extend(std::env::var_os("PYTHONPATH").iter().flat_map(std::env::split_paths));
        command.env("PYTHONPATH", std::env::join_paths(path).map_err(std::io::Error::other)?);
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        let (over, ended) = watch::channel(false);
        let passing = tokio::spawn(passed(output, ended));
        let mut stop = signal(SignalKind::terminate())?;
        // Whoever interrupts at the terminal interrupts the program too; its end is then told as any other.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = interrupt.recv() => {}
                _ = stop.recv() => terminate(&child),
            }
        };
        let _ = over.send(true);
        let last = redacted(&passing.await.unwrap_or_default());
        let signalled = status.signal().map(|signal| 128 + signal);
        let code = status.code().or(signalled).and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        Ok(Ended { code: fenced(&fence, code), last })
    }
}

fn terminate(child: &tokio::process::Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself meanwhile.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// A program whose attempt was closed from within has not ended well, whatever it says: it went on without answers.
fn fenced(fence: &Path, code: u8) -> u8 {
    match std::fs::read_to_string(fence) {
        Ok(reason) if code == 0 => {
            eprintln!("omium: the program ended well, but its attempt did not: {}", redacted(reason.trim()));
            1
        }
        _ => code,
    }
}

/// Passes the output on as it comes, and gives its last line.
async fn passed(output: Option<ChildStdout>, mut ended: watch::Receiver<bool>) -> String {
    let Some(mut output) = output else { return String::new() };
    let mut out = tokio::io::stdout();
    let (mut tail, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    loop {
        let over = *ended.borrow_and_update();
        let read = tokio::select! {
            read = output.read(&mut buffer) => read.unwrap_or(0),
            changed = ended.changed(), if !over => match changed {
                Ok(()) => continue,
                Err(_) => 0,
            },
            () = tokio::time::sleep(SILENCE), if over => 0,
        };
        if read == 0 {
            break;
        }
        // Whoever reads may stop reading; the program is not stopped by that.
        let _ = out.write_all(&buffer[..read]).await;
        let _ = out.flush().await;
        tail.extend_from_slice(&buffer[..read]);
        if tail.len() > 2 * TAIL {
            tail.drain(..tail.len() - TAIL);
        }
    }
    let text = String::from_utf8_lossy(&tail);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.trim_end().chars().take(LINE).collect()
}
