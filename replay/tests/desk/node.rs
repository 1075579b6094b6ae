//! A node as it is started by hand: its lines are kept, and it is killed with its test whether it answers or not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::OMIUM;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) child: Child,
    /// What it has said until it was waited for.
    pub(crate) said: String,
    rest: Receiver<String>,
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) data: PathBuf,
    /// Its folder, where that is its own.
    own: Option<tempfile::TempDir>,
}

impl Node {
    /// Starts one in this folder, and returns when it answers.
    pub(crate) fn start(data: &Path) -> Node {
        let mut node = Node::opening(data);
        node.answers();
        node
    }

    /// Starts one in this folder, and returns when it listens.
    pub(crate) fn opening(data: &Path) -> Node {
        Node::spawn(Command::new(OMIUM).args(["serve", "--port", "0"]), data, None)
    }

    /// Starts one in a folder of its own by this shell command, in which `$0` is omium, and returns when it answers.
    pub(crate) fn by(shell: &str) -> Node {
        let own = tempfile::tempdir().unwrap();
        let data = own.path().to_owned();
        let mut node = Node::spawn(Command::new("sh").args(["-c", shell, OMIUM]), &data, Some(own));
        node.answers();
        node
    }

    fn spawn(command: &mut Command, data: &Path, own: Option<tempfile::TempDir>) -> Node {
        let command = command.env("OMIUM_DATA", data).env_remove("OMIUM_UPSTREAM_URL");
        let command = command.env_remove("OPENAI_API_KEY").stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, rest) = channel();
        // Somebody has to read on, or it would one day wait for room in the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let (said, url, key, data) = (String::new(), String::new(), String::new(), data.to_owned());
        let mut node = Node { child, said, rest, url, key, data, own };
        node.url = node.waits("opening the log")["url"].as_str().unwrap().to_owned();
        node.key = std::fs::read_to_string(node.data.join("dev.key")).unwrap_or_default().trim().to_owned();
        node
    }

    fn answers(&mut self) {
        self.waits("answers at");
        self.key = std::fs::read_to_string(self.data.join("dev.key")).unwrap().trim().to_owned();
    }

    /// The first line from here on that holds this.
    fn waits(&mut self, part: &str) -> Value {
        loop {
            let line = self.rest.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("`{part}` is not in what it says: {}", self.said));
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(part) {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    /// Reads lines until one holds this, and gives them.
    pub(crate) fn until_said(&mut self, part: &str) -> String {
        let from = self.said.len();
        self.waits(part);
        self.said[from..].to_owned()
    }

    /// The line with which it said how it is set.
    pub(crate) fn first(&self) -> Value {
        let line = self.said.lines().find(|line| line.contains("answers at"));
        serde_json::from_str(line.unwrap()).unwrap()
    }

    pub(crate) fn omium(&self, words: &[&str]) -> Output {
        super::omium(&self.data, words)
    }

    pub(crate) fn signal(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, and gives its exit code and what it says from then on, each line of which is heard too.
    pub(crate) fn stop(&mut self, heard: impl Fn(&str)) -> (Option<i32>, String) {
        self.rest.try_iter().for_each(drop);
        self.signal();
        let mut said = String::new();
        while let Ok(line) = self.rest.recv_timeout(PATIENCE) {
            heard(&line);
            said += &(line + "\n");
        }
        (self.code(), said)
    }

    /// Waits until it has ended; one that does not is killed, and has no code.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let (over, waits) = channel::<()>();
        let watch = std::thread::spawn(move || {
            if waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-9", &id]).status();
            }
        });
        let code = self.child.wait().unwrap().code();
        drop(over);
        watch.join().unwrap();
        code
    }

    /// The status of an answer, and its body.
    pub(crate) fn ask(&self, head: &str, body: &str) -> (u16, String) {
        let (head, body) = self.asked(head, body);
        (head[9..12].parse().unwrap(), body)
    }

    /// The same with the time to come again.
    pub(crate) fn get(&self, path: &str) -> (u16, Option<String>, Value) {
        let (head, body) = self.asked(&format!("GET {path}"), "");
        let again = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).map(str::to_owned);
        (head[9..12].parse().unwrap(), again, serde_json::from_str(&body).unwrap_or_default())
    }

    fn asked(&self, head: &str, body: &str) -> (String, String) {
        let (address, key, length) = (self.url.trim_start_matches("http://"), &self.key, body.len());
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\
             content-type: application/json\r\nconnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Until `/ready` says so.
    pub(crate) fn until(&self, status: u16, code: &str) -> Value {
        let began = Instant::now();
        loop {
            let (found, _, body) = self.get("/ready");
            if found == status && (code.is_empty() || body["code"] == code) {
                return body;
            }
            assert!(began.elapsed() < PATIENCE, "{found} {body}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.own.take());
    }
}
