//! Programs that are cut off at their last call, and what going on with them costs.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::programs::{Desk, Ended, Running, is_last};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Program,
    Server,
    Both,
}

/// One kill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) program: &'static str,
    pub(crate) victim: Victim,
}

/// What became of it, as it was counted outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Calls that reached the vendor after the kill. One lane runs at the last call of each example.
    pub(crate) new_calls: usize,
    /// Calls that reached it again although it had answered them.
    pub(crate) asked_again: usize,
    pub(crate) tools_again: usize,
    /// The program that was cut off looked as if it had ended well.
    pub(crate) looked_well: bool,
    /// What the program ended with after it had gone on; nothing where it failed.
    pub(crate) result: Option<String>,
    /// What a program that failed has said.
    pub(crate) complaint: String,
}

impl Trial {
    /// In a folder of its own, on the model at this port.
    pub(crate) async fn run(self, dir: &Path, model: u16, python: &Path) -> anyhow::Result<Outcome> {
        let mut desk = Desk::open(dir, model, python).await?;
        let running = desk.exec_until_held(self.program).await?;
        let execution = desk.execution().await?;
        let (asked, tools) = (desk.book.all(), desk.tool_runs()?);
        let cut_off = self.kill(&mut desk, running).await?;
        desk.book.let_go();
        if self.victim != Victim::Program {
            desk.start().await?;
        }
        let ended = desk.resume(&execution)?.end().await?;
        let after = desk.book.all().split_off(asked.len());
        let outcome = Outcome {
            new_calls: after.len(),
            asked_again: again(&asked, &after),
            tools_again: desk.tool_runs()?.checked_sub(tools).context("nobody takes lines away")?,
            looked_well: cut_off.good,
            result: ended.good.then(|| ended.result().to_owned()),
            complaint: ended.complaint(),
        };
        desk.close()?;
        Ok(outcome)
    }

    async fn kill(self, desk: &mut Desk, running: Running) -> anyhow::Result<Ended> {
        // The server first: the program must have no time to see that only its own side is left.
        if self.victim != Victim::Program {
            desk.kill()?;
        }
        match self.victim {
            Victim::Program => running.kill_program(),
            Victim::Both => running.kill_all(),
            Victim::Server => {}
        }
        running.end().await
    }
}

/// How many calls were made again of those that had been answered, which the held one had not.
fn again(before: &[Value], after: &[Value]) -> usize {
    let answered = |call: &&Value| !is_last(call) && before.contains(call);
    after.iter().filter(answered).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_call_that_was_held_may_come_again() {
        let call = |agent: &str| json!({ "messages": [{ "role": "system", "content": format!("You are {agent}.") }] });
        let before = [call("Researcher"), call("Writer"), call("Reviewer")];
        assert_eq!(again(&before, &[call("Reviewer")]), 0);
        assert_eq!(again(&before, &[call("Writer"), call("Reviewer")]), 1);
    }
}
