//! A server of its own in a folder of its own, and the commands that speak to it.
#![allow(clippy::unwrap_used, dead_code, reason = "tests; not every one uses all of it")]

pub(crate) mod node;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;

pub(crate) const OMIUM: &str = env!("CARGO_BIN_EXE_omium");
pub(crate) const REVIEW: &str = "
name: review
inputs: {type: object, required: [amount]}
agents:
  - {id: check, framework: human}
  - {id: sign, framework: human, ensure: 'output.ok == true'}
output: '{{ outputs.sign }}'
";

/// A server that dies with its test.
pub(crate) struct Dev {
    child: Child,
    pub(crate) data: tempfile::TempDir,
    pub(crate) words: Vec<String>,
}

impl Dev {
    pub(crate) fn start() -> Dev {
        Dev::start_as(&["dev"])
    }

    /// `dev`, or `serve` with what it takes.
    pub(crate) fn start_as(words: &[&str]) -> Dev {
        let data = tempfile::tempdir().unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let child = serve(data.path(), &words);
        std::fs::write(data.path().join("review.yaml"), REVIEW).unwrap();
        Dev { child, data, words }
    }

    /// With an `omium.toml` in its folder, and with more variables.
    pub(crate) fn start_granting(words: &[&str], config: &str, environment: &[(&str, &str)]) -> Dev {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("omium.toml"), config).unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let child = serve_with(data.path(), &words, environment);
        Dev { child, data, words }
    }

    /// What it has said on stderr since it answers.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.data.path().join("stderr")).unwrap()).into_owned()
    }

    /// Kills it without a warning and starts it again on the same data.
    pub(crate) fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = serve(self.data.path(), &self.words);
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
    }

    /// Waits until it has stopped by itself, and starts it again on the same data.
    pub(crate) fn wait_and_start(&mut self) {
        assert!(self.child.wait().unwrap().success());
        self.child = serve(self.data.path(), &self.words);
    }

    /// Asks it to stop, and gives its folder once it has.
    pub(crate) fn left(mut self) -> tempfile::TempDir {
        self.terminate();
        assert!(self.child.wait().unwrap().success());
        std::mem::replace(&mut self.data, tempfile::tempdir().unwrap())
    }

    /// Kills it and starts it again a week later, as far as it can tell. Nothing where the machine cannot shift a clock.
    pub(crate) fn kill_and_start_a_week_later(&mut self) -> Option<()> {
        let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"]
            .map(|place| format!("{place}/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|library| Path::new(library).exists())?;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let shifted =
            [("LD_PRELOAD", library.as_str()), ("FAKETIME", "+7d"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        self.child = serve_with(self.data.path(), &self.words, &shifted);
        Some(())
    }

    /// Kills it, and says how many bytes its log holds.
    pub(crate) fn stop_and_weigh(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let log = self.data.path().join("log");
        let found: serde_json::Value =
            serde_json::from_str(&self.says(&["log", "inspect", "--json", log.to_str().unwrap()])).unwrap();
        let segments = found["segments"].as_array().unwrap();
        segments
            .iter()
            .filter_map(|segment| {
                segment["at"]
                    .as_u64()
                    .or_else(|| segment["size"].as_u64().filter(|_| segment["state"] == "sealed"))
            })
            .sum()
    }

    /// Where it answers, and the key.
    pub(crate) fn address(&self) -> (String, String) {
        let note = std::fs::read(self.data.path().join("dev.json")).unwrap();
        let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
        let text = |field: &str| note[field].as_str().unwrap().to_owned();
        (text("url"), text("key"))
    }

    pub(crate) fn run(&self, words: &[&str]) -> Output {
        omium(self.data.path(), words)
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The exit code and the errors of one that does not.
    #[track_caller]
    pub(crate) fn fails(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stdout.is_empty(), "errors go to stderr");
        String::from_utf8(output.stderr).unwrap().trim_end().to_owned()
    }

    pub(crate) fn started(&self) -> String {
        let file = self.data.path().join("review.yaml");
        self.says(&["run", file.to_str().unwrap(), "--input", r#"{"amount": 9007199254740993}"#])
    }
}

impl Drop for Dev {
    /// It is asked to stop, so that what it has done is counted as seen; one that does not is killed.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(&id).status();
        let (over, waits) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if waits.recv_timeout(std::time::Duration::from_secs(5)) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-9", &id]).status();
            }
        });
        let _ = self.child.wait();
        drop(over);
        let _ = watch.join();
    }
}

/// Starts a server and returns when it has said where it answers.
fn serve(data: &Path, words: &[String]) -> Child {
    serve_with(data, words, &[])
}

fn serve_with(data: &Path, words: &[String], environment: &[(&str, &str)]) -> Child {
    let mut child = Command::new(OMIUM)
        .envs(environment.iter().copied())
        .args(words)
        .args(["--port", "0"])
        .env("OMIUM_DATA", data)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let said = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(data.join("stderr"));
    let mut said = said.unwrap();
    while !line.contains("answers at") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended before it answered");
        said.write_all(line.as_bytes()).unwrap();
    }
    // Somebody has to read on, or the server would one day wait for room in the pipe.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut said));
    child
}

pub(crate) fn omium(data: &Path, words: &[&str]) -> Output {
    omium_with(data, words, &[])
}

pub(crate) fn omium_with(data: &Path, words: &[&str], environment: &[(&str, &str)]) -> Output {
    let command = &mut Command::new(OMIUM);
    command.args(words).env("OMIUM_DATA", data).env_remove("OMIUM_URL").env_remove("OMIUM_KEY");
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).output().unwrap()
}

/// The text with ids, times and hashes left out.
pub(crate) fn plain(text: &str, id: &str) -> String {
    let text = text.replace(id, "ID");
    let mut words = String::new();
    for (at, line) in text.lines().enumerate() {
        if at > 0 {
            words.push('\n');
        }
        for (at, part) in line.split(' ').enumerate() {
            if at > 0 {
                words.push(' ');
            }
            let hash = part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let time = part.len() == 27 && part.ends_with('Z') && part.contains('T');
            words.push_str(if hash {
                "HASH"
            } else if time {
                "TIME"
            } else {
                part
            });
        }
    }
    words
}
