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
