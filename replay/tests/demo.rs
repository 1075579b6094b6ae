//! The README's first command, as a newcomer runs it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

#[test]
fn three_agents_survive_the_kill_of_their_server_and_replay_to_the_same_state() {
    let told = Command::new(env!("CARGO_BIN_EXE_omium")).arg("demo").output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}\n{}", String::from_utf8_lossy(&told.stderr));
    for line in [
        "└─ ▸ writer · running",
        "The server is killed (kill -9) while the writer's model call is under way. Another one opens the same log.",
        "└─ ✓ writer · done · $0.0002495",
        "Result: Dear customer, your loan is approved at an APR of 5.2 percent over 60 months.",
        "4 model calls were begun and 3 answered: the finished steps were not asked again, the one that was cut off was.",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    let done: Vec<&str> = text.lines().filter_map(|line| line.split("done: ").nth(1)).collect();
    assert_eq!(done.last(), Some(&"apr, risk, writer"));
    assert!(text.contains(" records again gives the same state, "), "{text}");
}

#[test]
fn a_folder_that_holds_something_is_not_used_for_the_demo() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "precious").unwrap();
    let told =
        Command::new(env!("CARGO_BIN_EXE_omium")).args(["demo", "--keep"]).arg(dir.path()).output().unwrap();
    assert_eq!((told.status.code(), told.stdout.is_empty()), (Some(1), true));
    assert!(String::from_utf8_lossy(&told.stderr).contains("is not empty; give a new folder"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn an_option_that_a_command_has_no_use_for_is_refused_by_name() {
    for (words, told) in [
        (&["demo", "--json"][..], "`omium demo` has no use for --json; leave it out"),
        (&["--json", "dev"], "`omium dev` has no use for --json"),
        (&["log", "verify", "/nowhere", "--url", "http://127.0.0.1:1"], "`omium log` has no use for --url"),
        (&["completion", "bash", "--key", "om_1"], "`omium completion` has no use for --key"),
        (&["mock-llm", "--url", "http://127.0.0.1:1"], "`omium mock-llm` has no use for --url"),
        (&["exec", "--json", "--", "true"], "`omium exec` has no use for --json; leave it out"),
        (&["serve", "--partitions", "2"], "--log <URL>"),
        (&["serve", "--topic", "mine"], "--log <URL>"),
        (&["serve", "--replication", "1"], "--log <URL>"),
        (&["serve", "--log", "kafka://x:1", "--events-topic", "mine"], "--registry <URL>"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_omium")).args(words).output().expect("the binary runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty() && errors.contains(told), "{words:?}: {errors}");
    }
    for command in ["serve", "dev", "demo", "mock-llm", "completion", "exec"] {
        let help = Command::new(env!("CARGO_BIN_EXE_omium")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(help.contains("--help") && !help.contains("--json"), "{command}: {help}");
    }
}
