//! How an attempt ends: the log is told, and has the last word.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::child::Ended;
use super::{guards, unseen};
use crate::cli::End;
use crate::cli::connection::{Connection, Trouble};
use crate::cli::output::text;
use crate::cli::tree::tree;

/// How long an answer of the server is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(250);

/// An attempt whose program has ended.
pub(super) struct Close<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a str,
    pub(super) execution: &'a str,
    pub(super) quiet: bool,
    /// Whether a guard that matched no call is a failure.
    pub(super) guards_must_match: bool,
}

impl Close<'_> {
    /// Tells the log that the program has ended, as long as somebody may still come who listens.
    pub(super) async fn tell(&self, number: &Value, ended: &Ended) -> Result<(), Trouble> {
        let body = json!({ "number": number, "code": ended.code, "output": ended.last });
        let path = format!("{}/attempts/end", self.path);
        let mut tries = 0;
        let until = Instant::now() + patience();
        loop {
            tries += 1;
            let told = timeout(PATIENCE, self.connection.post(&path, body.clone())).await;
            match told {
                Ok(Ok(_)) => return Ok(()),
                // The try before this one was heard, and its answer lost: how the run is shown says the rest.
                Ok(Err(Trouble::Refused { status: 409, .. })) if tries > 1 => return Ok(()),
                Ok(Err(trouble)) if !passes(&trouble) || Instant::now() >= until => return Err(trouble),
                Err(_) => {
                    return Err(Trouble::Here("the server does not say that it has heard the end".into()));
                }
                Ok(Err(_)) => sleep(PAUSE).await,
            }
        }
    }

    /// Says how the run stands and what to do where it has not come to its end. The code is 0 only where the log says so.
    pub(super) async fn end(&self, told: Result<(), Trouble>, code: u8) -> u8 {
        if let Err(trouble) = told {
            trouble.tell(false);
            // Only a server that was not there leaves anything to do: one that refuses has told its own hint.
            if !matches!(trouble, Trouble::Refused { status: 400..500, .. }) {
                let execution = self.execution;
                eprintln!(
                    "hint: when Omium answers again, `omium exec --resume {execution}` goes on with what is recorded"
                );
            }
            return if code == 0 { trouble.end() as u8 } else { code };
        }
        let view = match timeout(PATIENCE, self.connection.get(self.path)).await {
            Ok(Ok(view)) => view,
            Ok(Err(trouble)) => {
                trouble.tell(false);
                return if code == 0 { trouble.end() as u8 } else { code };
            }
            Err(_) => {
                eprintln!("omium: the server does not say how {} stands", self.execution);
                return if code == 0 { End::Unreachable as u8 } else { code };
            }
        };
        self.show(&view);
        let matched = self.guards(&view).await;
        match code {
            0 if view["status"] != "completed" => End::RunFailed as u8,
            0 if !matched && self.guards_must_match => End::Failed as u8,
            code => code,
        }
    }

    fn show(&self, view: &Value) {
        if !self.quiet {
            eprintln!("{}", tree(view));
            for line in [unseen::unseen(view), unseen::served(view)].into_iter().flatten() {
                eprintln!("omium: {line}");
            }
        }
        if let Some(line) = standing(view, self.execution) {
            eprintln!("omium: {line}");
        }
    }

    /// Whether every guard of this program has had something to look at.
    async fn guards(&self, view: &Value) -> bool {
        let Ok(Ok(guards)) = timeout(PATIENCE, self.connection.get("/api/v1/guards")).await else {
            if self.guards_must_match {
                eprintln!("omium: the server does not say which guards there are");
            }
            return false;
        };
        let unmatched = guards::unmatched(&guards, view);
        for line in unmatched.iter().filter(|_| !self.quiet || self.guards_must_match) {
            eprintln!("omium: {line}");
        }
        unmatched.is_empty()
    }
}

/// How long a server that starts again is waited for: as long as the program would wait, and no longer than is sensible
/// for one that has ended.
fn patience() -> Duration {
    let said = std::env::var("OMIUM_PATIENCE").ok().and_then(|said| said.parse().ok());
    said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map_or(PATIENCE, |said| said.min(PATIENCE))
}

/// Whether the same may be heard a little later.
fn passes(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Unreachable { .. } | Trouble::Refused { status: 500.., .. })
}

/// What is true of a run that is not done, and what to do; nothing where it is.
fn standing(view: &Value, execution: &str) -> Option<String> {
    let status = text(&view["status"]);
    let hint = match status.as_str() {
        "completed" => return None,
        "suspended" => suspended(view, execution),
        "paused" => format!("`omium resume {execution}`, then `omium exec --resume {execution}`"),
        "failed" if has_calls(view) => {
            format!(
                "mend what has ended it, then `omium exec --resume {execution}` goes on with what is recorded"
            )
        }
        "failed" => "nothing is recorded of it; mend what has ended it, and run it again".to_owned(),
        _ => format!("`omium exec --resume {execution}` goes on with what is recorded"),
    };
    Some(format!("{execution} is {status}; {hint}"))
}

fn has_calls(view: &Value) -> bool {
    view["steps"][0]["calls"].as_array().is_some_and(|calls| !calls.is_empty())
}

fn suspended(view: &Value, execution: &str) -> String {
    let has = |field: &str| view[field].as_array().is_some_and(|items| !items.is_empty());
    let decide = if has("questions") {
        format!("`omium answer {execution} …` decides")
    } else if has("findings") {
        format!("`omium approve {execution}` decides")
    } else {
        // What else a program waits for is money.
        format!(
            "a model without a price waits for `omium prices set MODEL …`, or for `omium approve {execution}`"
        )
    };
    format!("{decide}, then `omium exec --resume {execution}` goes on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(view: Value, expected: Option<&str>) {
        assert_eq!(standing(&view, "ex_1").as_deref(), expected);
    }

    #[test]
    fn a_run_that_is_not_done_says_what_to_do() {
        check(json!({ "status": "completed" }), None);
        check(
            json!({ "status": "suspended", "questions": [{}] }),
            Some("ex_1 is suspended; `omium answer ex_1 …` decides, then `omium exec --resume ex_1` goes on"),
        );
        check(
            json!({ "status": "suspended", "questions": [], "findings": [] }),
            Some(
                "ex_1 is suspended; a model without a price waits for `omium prices set MODEL …`, or for `omium approve \
                 ex_1`, then `omium exec --resume ex_1` goes on",
            ),
        );
        check(
            json!({ "status": "failed", "steps": [{ "calls": [] }] }),
            Some("ex_1 is failed; nothing is recorded of it; mend what has ended it, and run it again"),
        );
        check(
            json!({ "status": "running" }),
            Some("ex_1 is running; `omium exec --resume ex_1` goes on with what is recorded"),
        );
    }
}
