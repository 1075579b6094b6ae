//! The story, told by the real binary: its output is compared as a whole.

use std::process::Command;

/// What a newcomer reads. Between two streams the order may differ, so lines are compared stream by stream.
const TOLD: &str = "\
A job of four steps, paid from an account. Every event is on disk before anything follows from it.

  stream    seq  event              what
  account     2  AccountCredited    $10.00
  job         2  ExecutionStarted   write-report, 4 steps
  job         3  MessageSent        asks the account for $1.00
  account     4  MessageReceived    number 1 from partition 2
  account     5  SliceGranted       $1.00
  account     6  MessageSent        grants the job $1.00
  job         5  MessageReceived    number 2 from partition 2
  job         6  SliceReceived      $1.00
  job         7  StepScheduled      step 1, attempt 1
  worker         step 1, attempt 1, delivery 1 (effect key .../step_1/0): succeeds
  job         9  StepCompleted      step 1
  job        10  CostRecorded       $0.05
  job        11  CheckpointTaken
  job        12  StepScheduled      step 2, attempt 1
  worker         step 2, attempt 1, delivery 2 (effect key .../step_2/0): the tool answers 503
  job        14  StepFailed         step 2, tool error
  job        15  StepScheduled      step 2, attempt 2
  worker         step 2, attempt 2, delivery 3 (effect key .../step_2/0): succeeds
  job        17  StepCompleted      step 2
  job        18  CostRecorded       $0.05
  job        19  CheckpointTaken
  job        20  StepScheduled      step 3, attempt 1
  worker         step 3, attempt 1, delivery 4 (effect key .../step_3/0): begins

The process is killed (kill -9) while step 3 is under way. Another one opens the same log.

  worker         step 3, attempt 1, delivery 1 (effect key .../step_3/0): succeeds
  job        22  StepCompleted      step 3
  job        23  CostRecorded       $0.05
  job        24  CheckpointTaken
  job        25  StepScheduled      step 4, attempt 1
  worker         step 4, attempt 1, delivery 2 (effect key .../step_4/0): succeeds
  job        27  StepCompleted      step 4
  job        28  CostRecorded       $0.05
  job        29  CheckpointTaken
  job        30  ExecutionCompleted
  job        31  MessageSent        gives back $0.80
  job        32  MessageSent        tells the lesson how it went
  account     8  MessageReceived    number 3 from partition 2
  account     9  SliceReturned      $0.80

  job        32  state HASH  as replayed: the same
  account     9  state HASH  as replayed: the same

Replayed N records from the log's beginning; the states are equal.
Verified N blocks of 4 partitions: checksums and hash chains hold.
Steps sent to a worker: 6. No finished step was done again.
";

fn story() -> Command {
    Command::new(env!("CARGO_BIN_EXE_story"))
}

/// Hashes of states and counts of records differ from run to run.
fn normal(text: &str) -> String {
    let word = |word: &str| match word {
        hash if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => "HASH".to_owned(),
        other => other.to_owned(),
    };
    let line = |line: &str| {
        let words: Vec<String> = line.split(' ').map(word).collect();
        match words[0].as_str() {
            first @ ("Replayed" | "Verified") => format!("{first} N {}", words[2..].join(" ")),
            _ => words.join(" "),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

fn of_stream(text: &str, stream: &str) -> Vec<String> {
    let wanted = |line: &&str| line.trim_start().starts_with(stream);
    text.lines().filter(wanted).map(str::to_owned).collect()
}

#[test]
fn a_killed_job_goes_on_where_it_was_and_its_replay_is_equal() {
    let told = story().output().expect("the binary runs");
    let (text, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{errors}");
    let text = normal(&text);
    for stream in ["account", "job", "worker"] {
        assert_eq!(of_stream(&text, stream), of_stream(TOLD, stream));
    }
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&text), sorted(TOLD));
    assert_eq!(errors, "");
}

#[test]
fn a_directory_that_holds_something_is_not_used_for_the_story() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("mine"), "precious").expect("a file");
    let told = story().arg("--keep").arg(dir.path()).output().expect("the binary runs");
    assert_eq!(told.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&told.stdout), "");
    assert!(String::from_utf8_lossy(&told.stderr).contains("is not empty; give a new directory"));
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 1);
}
