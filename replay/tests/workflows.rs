//! The commands, run as people run them: the real binary, a server of its own in a folder of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const OMIUM: &str = env!("CARGO_BIN_EXE_omium");
const REVIEW: &str = "
name: review
inputs: {type: object, required: [amount]}
agents:
  - {id: check, framework: human}
  - {id: sign, framework: human, ensure: 'output.ok == true'}
output: '{{ outputs.sign }}'
";

/// A server that dies with its test.
struct Dev {
    child: Child,
    data: tempfile::TempDir,
}

impl Dev {
    fn start() -> Dev {
        let data = tempfile::tempdir().unwrap();
        let child = serve(data.path());
        std::fs::write(data.path().join("review.yaml"), REVIEW).unwrap();
        Dev { child, data }
    }

    /// Kills it without a warning and starts it again on the same data.
    fn kill_and_start(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = serve(self.data.path());
    }

    fn run(&self, words: &[&str]) -> Output {
        omium(self.data.path(), words)
    }

    /// What a command that succeeds prints.
    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The exit code and the errors of one that does not.
    #[track_caller]
    fn fails(&self, words: &[&str], code: i32) -> String {
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

    fn started(&self) -> String {
        let file = self.data.path().join("review.yaml");
        self.says(&["run", file.to_str().unwrap(), "--input", r#"{"amount": 9007199254740993}"#])
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server and returns when it has said where it answers.
fn serve(data: &Path) -> Child {
    let mut child = Command::new(OMIUM)
        .args(["dev", "--port", "0"])
        .env("OMIUM_DATA", data)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("answers at") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended before it answered");
    }
    // Somebody has to read on, or the server would one day wait for room in the pipe.
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    child
}

fn omium(data: &Path, words: &[&str]) -> Output {
    let command = &mut Command::new(OMIUM);
    command.args(words).env("OMIUM_DATA", data).env_remove("OMIUM_URL").env_remove("OMIUM_KEY");
    command.stdin(Stdio::null()).output().unwrap()
}

/// The text with ids, times and hashes left out.
fn plain(text: &str, id: &str) -> String {
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

#[test]
fn a_workflow_survives_a_kill_and_ends_where_it_should() {
    let mut dev = Dev::start();
    let id = dev.started();
    dev.says(&["signal", &id, "check", r#"{"fine": 1}"#]);
    let before = dev.says(&["show", &id]);
    dev.kill_and_start();
    assert_eq!(dev.says(&["show", &id]), before);
    assert_eq!(
        plain(&before, &id),
        "review ID · running\n├─ ✓ check · done\n└─ ? sign · asking\nseq 10 · branch 0 · cost $0 · state HASH\ninputs: {\"amount\":9007199254740993}"
    );
    assert_eq!(
        dev.fails(&["signal", &id, "sign", r#"{"ok": false}"#], 5),
        "error: `sign` is not what the step waits for: `output.ok == true` does not hold\nhint: correct it and send it again"
    );
    dev.says(&["signal", &id, "sign", r#"{"ok": true, "by": "Ann"}"#]);
    let shown: serde_json::Value = serde_json::from_str(&dev.says(&["show", &id, "--json"])).unwrap();
    assert_eq!((&shown["status"], &shown["output"]["by"]), (&"completed".into(), &"Ann".into()));

    let verified = dev.says(&["checkpoints", "verify", &id]);
    assert_eq!(plain(&verified, &id), "ID: 3 checkpoints and the state at seq 15 are what the log says");
    let marks = dev.says(&["checkpoints", "list", &id]);
    let done: Vec<&str> = marks.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(done[1..], ["check", "check,sign"]);
    let replayed = dev.says(&["replay", &id]);
    assert!(
        plain(&replayed, &id).ends_with("folded 15 records again: the same state as the live one, HASH"),
        "{replayed}"
    );
    let diff = dev.says(&["checkpoints", "diff", &id, "4", "9"]);
    assert!(
        diff.contains("/steps/0/status: \"asking\" → \"done\"") || diff.contains("/steps/0/status"),
        "{diff}"
    );
}

#[test]
fn a_run_is_rolled_back_forked_paused_and_cancelled() {
    let dev = Dev::start();
    let id = dev.started();
    dev.says(&["signal", &id, "check", "1"]);
    assert_eq!(
        dev.fails(&["rollback", &id, "step:check:before"], 5),
        "error: sign still runs\nhint: wait for it, or roll back with `--cancel-running`"
    );
    dev.says(&["rollback", &id, "step:check:before", "--cancel-running"]);
    assert!(dev.says(&["show", &id]).contains("├─ ? check · asking\n└─ · sign · blocked"));
    assert_eq!(
        dev.fails(&["rollback", &id, "nowhere"], 4).lines().next().unwrap(),
        format!("error: {id} has no checkpoint `nowhere`")
    );

    dev.says(&["signal", &id, "check", "2"]);
    let fork = dev.says(&["fork", &id, "step:check:after", "--input", r#"{"amount": 1}"#]);
    assert_ne!(fork, id);
    assert!(dev.says(&["show", &fork]).contains("├─ ✓ check · done\n└─ ? sign · asking"));

    dev.says(&["pause", &id]);
    assert_eq!(dev.says(&["list", "--status", "paused", "--json"]).matches(&id).count(), 1);
    dev.fails(&["pause", &id], 5);
    dev.says(&["resume", &id]);
    dev.says(&["cancel", &id]);
    assert_eq!(
        dev.fails(&["resume", &id], 5),
        format!("error: {id} was cancelled\nhint: nothing changes it any more")
    );
    assert_eq!(dev.fails(&["retry", &id], 5).lines().next().unwrap(), format!("error: {id} has not failed"));
}

#[test]
fn a_watched_run_goes_on_through_a_kill_of_its_server() {
    let mut dev = Dev::start();
    let id = dev.started();
    let watch = Command::new(OMIUM)
        .args(["logs", "--follow", &id])
        .env("OMIUM_DATA", dev.data.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    dev.says(&["signal", &id, "check", "1"]);
    dev.says(&["signal", &id, "sign", r#"{"ok": true}"#]);
    let said = watch.wait_with_output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.trim_end().ends_with("ExecutionCompleted"), "{said}");
    let seqs: Vec<u64> =
        said.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert_eq!(seqs, (1..=15).collect::<Vec<_>>());
    dev.kill_and_start();
    assert_eq!(dev.says(&["logs", &id]), said.trim_end());
}

#[test]
fn mistakes_get_an_error_that_says_what_to_do() {
    let dev = Dev::start();
    let file = dev.data.path().join("wrong.yaml");
    std::fs::write(&file, "name: w\nagents:\n  - {id: a, framewrok: native}\n").unwrap();
    let file = file.to_str().unwrap();
    let wrong = dev.fails(&["workflows", "validate", file], 5);
    assert_eq!(wrong, format!("{file}:3:13: an agent has no `framewrok`\n  hint: did you mean `framework`?"));
    assert_eq!(dev.fails(&["run", file], 5).lines().nth(1).unwrap(), "  hint: did you mean `framework`?");
    assert_eq!(
        dev.fails(&["run", "nothing"], 4),
        "error: there is no workflow `nothing`\nhint: publish it first: `omium workflows publish FILE`"
    );
    assert_eq!(
        dev.fails(&["show", "ex_1"], 4),
        "error: `ex_1` is no execution's id\nhint: ids look like ex_…; `omium list` shows them"
    );
    dev.started();
    assert_eq!(
        dev.fails(&["run", "reveiw"], 4),
        "error: there is no workflow `reveiw`\nhint: did you mean `review`?"
    );
    assert!(
        dev.fails(&["run", "review", "--input", "{}"], 5)
            .starts_with("error: the inputs do not fit the schema of `review`: ")
    );
    assert!(dev.fails(&["run", "review", "--input", "{"], 1).starts_with("error: this is not JSON: "));
    assert!(dev.fails(&["lst"], 2).contains("a similar subcommand exists: 'list'"));
    let second = omium(dev.data.path(), &["dev", "--port", "0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another omium process"));
    let alone = tempfile::tempdir().unwrap();
    let output = omium(alone.path(), &["list", "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .ends_with("hint: start one with `omium dev`, or name another with --url or OMIUM_URL\n")
    );
}
