//! Commands for one execution, and the list of all.

use std::io::IsTerminal as _;

use clap::Args;
use serde_json::{Value, json};

use super::answer::asked;
use super::connection::{Ask, Connection, Trouble, segment};
use super::output::{document, print, raw, table, text, value};
use super::tree::{tree, unpriced};
use super::{Act, End, Target};

/// Lists executions, the newest first.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those of this workflow.
    #[arg(long)]
    workflow: Option<String>,
    /// Only those that stand so: running, paused, suspended, completed, failed, cancelled.
    #[arg(long)]
    status: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Goes on where a list before has ended.
    #[arg(long)]
    cursor: Option<String>,
}

impl Act for List {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let mut query = format!("limit={}", self.limit);
        for (name, value) in
            [("workflow", &self.workflow), ("status", &self.status), ("cursor", &self.cursor)]
        {
            if let Some(value) = value {
                query += &format!("&{name}={}", segment(value));
            }
        }
        let page = Connection::new(target).get(&format!("/api/v1/executions?{query}")).await?;
        if target.json {
            document(&page);
            return Ok(End::Done);
        }
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|item| {
                ["id", "workflow", "status", "started_at", "ended_at"].map(|key| text(&item[key])).to_vec()
            })
            .collect();
        print(&table(&["ID", "WORKFLOW", "STATUS", "STARTED", "ENDED"], &rows));
        if let Some(next) = page["next"].as_str() {
            eprintln!("there are more: --cursor {next}");
        }
        Ok(End::Done)
    }
}

/// Shows an execution: its steps, what they resulted in, what they cost.
#[derive(Args, Debug)]
pub(crate) struct Show {
    execution: String,
    /// As it was at this seq.
    #[arg(long, value_name = "SEQ")]
    at: Option<u64>,
    /// Prints one content as it is and nothing else: `inputs`, or the name behind `content/` where a view has left it
    /// out (`omium:too-large`).
    #[arg(long, value_name = "NAME")]
    content: Option<String>,
}

impl Show {
    /// Whether it prints one content as it is, which is no document.
    pub(crate) fn is_of_content(&self) -> bool {
        self.content.is_some()
    }
}

impl Act for Show {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let at = self.at.map_or_else(String::new, |at| format!("?at={at}"));
        let connection = Connection::new(target);
        let path = format!("/api/v1/executions/{}", segment(&self.execution));
        if let Some(name) = &self.content {
            raw(&connection.bytes(&format!("{path}/content/{}{at}", segment(name))).await?);
            return Ok(End::Done);
        }
        let view = connection.get(&format!("{path}{at}")).await?;
        if target.json {
            document(&view);
            return Ok(End::Done);
        }
        print(&tree(&view));
        print(&format!(
            "seq {} · branch {} · cost ${}{} · state {}",
            view["seq"],
            view["branch"],
            text(&view["cost_usd"]),
            unpriced(&view),
            text(&view["state_hash"])
        ));
        asked(&view).iter().for_each(|line| print(line));
        print(&format!("inputs: {}", view["inputs"]));
        if !view["output"].is_null() {
            print(&format!("output: {}", text(&view["output"])));
        }
        Ok(End::Done)
    }
}

/// Prints the events of an execution.
#[derive(Args, Debug)]
pub(crate) struct Logs {
    execution: String,
    /// Goes on as they happen, until the execution ends; with --json a line of JSON for each.
    #[arg(long, short)]
    follow: bool,
    /// From this seq on.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
}

impl Act for Logs {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        let path = format!("/api/v1/executions/{}", segment(&self.execution));
        let mut next = self.from;
        let mut all = Vec::new();
        loop {
            // Opened before the events are read: what comes in between then wakes this loop.
            let mut news =
                if self.follow { Some(connection.events(&self.execution, next).await?) } else { None };
            let ended = !matches!(
                connection.get(&path).await?["status"].as_str(),
                Some("running" | "paused" | "suspended")
            );
            loop {
                let page = connection.get(&format!("{path}/events?from={next}&limit=1000")).await?;
                let items = page["items"].as_array().cloned().unwrap_or_default();
                let Some(last) = items.last() else { break };
                next = last["seq"].as_u64().unwrap_or(next) + 1;
                match (target.json, self.follow) {
                    (false, _) => items.iter().for_each(|event| print(&line(event))),
                    // A document would have an end, which may be weeks away.
                    (true, true) => items.iter().for_each(|event| print(&event.to_string())),
                    (true, false) => all.extend(items),
                }
            }
            match &mut news {
                Some(news) if !ended => {
                    if !matches!(news.chunk().await, Ok(Some(_))) {
                        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
                    }
                }
                _ => break,
            }
        }
        if target.json && !self.follow {
            document(&json!({ "items": all }));
        }
        Ok(End::Done)
    }
}

/// Folds an execution's events again and prints what happened, in order.
#[derive(Args, Debug)]
pub(crate) struct Replay {
    execution: String,
}

impl Act for Replay {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        let path = format!("/api/v1/executions/{}", segment(&self.execution));
        let now = connection.get(&path).await?;
        let folded = connection.get(&format!("{path}?at={}", now["seq"])).await?;
        let same = now["state_hash"] == folded["state_hash"];
        if target.json {
            document(&json!({ "same": same, "execution": folded }));
        } else {
            Logs { execution: self.execution.clone(), follow: false, from: 1 }.act(target).await?;
            print(&tree(&folded));
            let verdict =
                if same { "the same state as the live one" } else { "NOT the state of the live one" };
            print(&format!(
                "folded {} records again: {verdict}, {}",
                now["seq"],
                text(&folded["state_hash"])
            ));
        }
        Ok(if same { End::Done } else { End::Failed })
    }
}

fn line(event: &Value) -> String {
    let body = if event["body"].as_object().is_none_or(serde_json::Map::is_empty) {
        String::new()
    } else {
        format!(" {}", event["body"])
    };
    let mark = if event["command"] == true { "»" } else { " " };
    format!("{:>6} {} {mark} {}{body}", event["seq"], text(&event["time"]), text(&event["kind"]))
}

macro_rules! simple {
    ($($(#[$doc:meta])* $name:ident => $verb:literal, $done:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Args, Debug)]
        pub(crate) struct $name {
            execution: String,
        }

        impl Act for $name {
            async fn act(&self, target: &Target) -> Result<End, Trouble> {
                told(target, &self.execution, $verb, json!({}), $done).await
            }
        }
    )*};
}

simple! {
    /// Begins nothing new; what runs may end.
    Pause => "pause", "paused";
    /// Goes on after a pause.
    Resume => "resume", "goes on";
    /// Ends an execution for good.
    Cancel => "cancel", "cancelled";
    /// Tries the failed step of a failed execution again.
    Retry => "retry", "is retried";
    /// Takes an execution out of quarantine: it takes commands again. For keys of admins.
    Release => "release", "takes commands again";
}

/// Tells an execution something: what a step of a human waits for.
#[derive(Args, Debug)]
pub(crate) struct Signal {
    execution: String,
    /// The signal's name.
    name: String,
    /// What comes with it: JSON, `@file`, or `-` for standard input.
    #[arg(value_name = "JSON")]
    body: Option<String>,
}

impl Act for Signal {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let body = self.body.as_deref().map(value).transpose()?.unwrap_or(Value::Null);
        told(target, &self.execution, "signal", json!({ "name": self.name, "body": body }), "was told").await
    }
}

/// Goes back to a checkpoint and on from there, also where it was paused.
#[derive(Args, Debug)]
pub(crate) struct Rollback {
    execution: String,
    /// A seq, `step:NAME:before`, `step:NAME:after`, a checkpoint's name, or `last`.
    checkpoint: String,
    /// Cancels the steps that run.
    #[arg(long)]
    cancel_running: bool,
    /// Goes back although tools have changed something since: the way forward may do it again. At a terminal it is asked.
    #[arg(long)]
    over_writes: bool,
}

impl Act for Rollback {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        match self.back(target, self.over_writes).await {
            Err(trouble) if is_of_writes(&trouble) && confirmed(&trouble) => self.back(target, true).await,
            end => end,
        }
    }
}

impl Rollback {
    async fn back(&self, target: &Target, over_writes: bool) -> Result<End, Trouble> {
        let body = json!({
            "to": self.checkpoint, "cancel_running": self.cancel_running, "over_writes": over_writes,
        });
        told(target, &self.execution, "rollback", body, "went back").await
    }
}

fn is_of_writes(trouble: &Trouble) -> bool {
    let Trouble::Refused { status: 409, body } = trouble else { return false };
    body["hint"].as_str().is_some_and(|hint| hint.contains("--over-writes"))
}

/// Asks whoever sits at a terminal. Where nobody does, the answer is no.
fn confirmed(trouble: &Trouble) -> bool {
    let (input, output) = (std::io::stdin(), std::io::stderr());
    let Trouble::Refused { body, .. } = trouble else { return false };
    if !input.is_terminal() || !output.is_terminal() {
        return false;
    }
    eprint!("{}\nRoll back all the same? [y/N] ", text(&body["detail"]));
    let mut word = String::new();
    input.read_line(&mut word).is_ok() && matches!(word.trim(), "y" | "Y" | "yes")
}

/// Starts another execution from a checkpoint of this one.
#[derive(Args, Debug)]
pub(crate) struct Fork {
    execution: String,
    /// A seq, `step:NAME:before`, `step:NAME:after`, a checkpoint's name, or `last`.
    checkpoint: String,
    /// Other inputs: JSON, `@file`, or `-` for standard input.
    #[arg(long, short, value_name = "JSON")]
    input: Option<String>,
}

impl Act for Fork {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let inputs = self.input.as_deref().map(value).transpose()?;
        let path = format!("/api/v1/executions/{}/fork", segment(&self.execution));
        let mut body = json!({ "at": self.checkpoint });
        if let Some(inputs) = inputs {
            body["inputs"] = inputs;
        }
        let started = Connection::new(target).ask(&path, Ask::Post(body), None).await?;
        if target.json {
            document(&started)
        } else {
            print(&text(&started["id"]))
        }
        Ok(End::Done)
    }
}

pub(super) async fn told(
    target: &Target,
    execution: &str,
    verb: &str,
    body: Value,
    done: &str,
) -> Result<End, Trouble> {
    let path = format!("/api/v1/executions/{}/{verb}", segment(execution));
    let answer = Connection::new(target).post(&path, body).await?;
    if target.json {
        document(&answer)
    } else {
        print(&format!("{execution} {done} (seq {})", answer["seq"]))
    }
    Ok(End::Done)
}
