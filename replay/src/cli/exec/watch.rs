//! What happens while a program runs, a line each: calls with their tokens and costs, findings, and what is done.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cli::Target;
use crate::cli::connection::{Connection, segment};
use crate::cli::output::text;
use crate::cli::tree::{call_line, finding_lines};

pub(super) struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn begin(target: &Target, execution: &str, from: u64) -> Watch {
        let (stop, stopped) = oneshot::channel();
        let connection = Connection::new(target);
        let execution = execution.to_owned();
        let task = tokio::spawn(async move { watch(&connection, &execution, from, stopped).await });
        Watch { stop, task }
    }

    /// Shows what there is to show still, and ends.
    pub(super) async fn end(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn watch(connection: &Connection, execution: &str, from: u64, mut stopped: oneshot::Receiver<()>) {
    let path = format!("/api/v1/executions/{}", segment(execution));
    let mut shown = Shown { from, known: BTreeSet::new() };
    // Nobody is left without the end of the story because the beginning could not be followed.
    let mut events = connection.events(execution, from).await.ok();
    loop {
        let more = async {
            match &mut events {
                Some(events) => matches!(events.chunk().await, Ok(Some(_))),
                None => std::future::pending().await,
            }
        };
        let over = tokio::select! {
            more = more => { if !more { events = None; } false }
            _ = &mut stopped => true,
        };
        if let Ok(view) = connection.get(&path).await {
            shown.show(&view);
        }
        if over {
            return;
        }
    }
}

/// What has been shown already. Earlier attempts have had their lines.
struct Shown {
    from: u64,
    known: BTreeSet<String>,
}

impl Shown {
    fn show(&mut self, view: &Value) {
        let calls = view["steps"][0]["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
        for call in calls.iter().filter(|call| call["status"] != "open") {
            let again = call["served"] == true;
            if again || call["seq"].as_u64().unwrap_or(0) >= self.from {
                self.tell(format!("{}{again}", call["seq"]), || format!("├─ {}", call_line(call)));
            }
        }
        for finding in view["findings"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if finding["seq"].as_u64().unwrap_or(0) < self.from {
                continue;
            }
            let state = format!("finding {} {} {}", finding["seq"], finding["chosen"], finding["helped"]);
            self.tell(state, || {
                finding_lines(finding)
                    .into_iter()
                    .map(|line| format!("│  {line}"))
                    .collect::<Vec<_>>()
                    .join("\n")
            });
        }
        let drifts = view["drifts"].as_u64().unwrap_or(0);
        if drifts > 0 {
            let told = || {
                format!(
                    "│  ! the program asked for something else than before ({drifts} times); `omium logs {}` has the difference",
                    text(&view["id"])
                )
            };
            self.tell(format!("drift {drifts}"), told);
        }
    }

    fn tell(&mut self, state: String, line: impl FnOnce() -> String) {
        if self.known.insert(state) {
            eprintln!("{}", line());
        }
    }
}
