//! `omium checkpoints …`.

use clap::Args;
use serde_json::{Value, json};

use super::connection::{Connection, Trouble, segment};
use super::output::{document, print, table, text};
use super::tree::tree;
use super::{Act, End, Target};

/// Lists the checkpoints of an execution.
#[derive(Args, Debug)]
pub(crate) struct List {
    execution: String,
}

/// Shows the state at a checkpoint.
#[derive(Args, Debug)]
pub(crate) struct Show {
    execution: String,
    /// Its seq, `step:NAME:before`, `step:NAME:after`, its name, or `last`.
    checkpoint: String,
}

/// Says what differs between two checkpoints.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    execution: String,
    /// The earlier one: its seq, `step:NAME:before`, `step:NAME:after`, its name, or `last`.
    from: String,
    /// The later one.
    to: String,
}

/// Folds the execution's events again and compares with what is shown.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    execution: String,
}

async fn listed(connection: &Connection, execution: &str) -> Result<Vec<Value>, Trouble> {
    let page = connection.get(&format!("/api/v1/executions/{}/checkpoints", segment(execution))).await?;
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}

async fn found(connection: &Connection, execution: &str, address: &str) -> Result<Value, Trouble> {
    // A seq is one of any record; only some are those of checkpoints.
    if let Ok(seq) = address.parse::<u64>()
        && !listed(connection, execution).await?.iter().any(|mark| mark["seq"] == seq)
    {
        return Err(Trouble::Refused {
            status: 404,
            body: json!({
                "code": "no-such-checkpoint",
                "detail": format!("{execution} has no checkpoint `{address}`"),
                "hint": format!("`omium checkpoints list {execution}` shows them"),
            }),
        });
    }
    connection.get(&format!("/api/v1/executions/{}?at={}", segment(execution), segment(address))).await
}

impl Act for List {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let items = listed(&Connection::new(target), &self.execution).await?;
        if target.json {
            document(&json!({ "items": items }));
            return Ok(End::Done);
        }
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|mark| {
                let done: Vec<String> = mark["done"].as_array().into_iter().flatten().map(text).collect();
                vec![
                    text(&mark["seq"]),
                    text(&mark["taken_at"]),
                    text(&mark["name"]),
                    done.join(","),
                    text(&mark["state_hash"]),
                ]
            })
            .collect();
        print(&table(&["SEQ", "TAKEN", "NAME", "DONE", "STATE"], &rows));
        Ok(End::Done)
    }
}

impl Act for Show {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let view = found(&Connection::new(target), &self.execution, &self.checkpoint).await?;
        if target.json {
            document(&view)
        } else {
            print(&format!("{}\nseq {} · state {}", tree(&view), view["seq"], text(&view["state_hash"])))
        }
        Ok(End::Done)
    }
}

impl Act for Diff {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        let from = found(&connection, &self.execution, &self.from).await?;
        let to = found(&connection, &self.execution, &self.to).await?;
        let mut changes = Vec::new();
        differ("", &from, &to, &mut changes);
        if target.json {
            document(&json!({ "changes": changes }));
            return Ok(End::Done);
        }
        for change in &changes {
            print(&format!("{}: {} → {}", text(&change["at"]), change["from"], change["to"]));
        }
        Ok(End::Done)
    }
}

fn differ(at: &str, from: &Value, to: &Value, changes: &mut Vec<Value>) {
    match (from, to) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                differ(&format!("{at}/{key}"), &from[key], &to[key], changes);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for index in 0..a.len().max(b.len()) {
                differ(&format!("{at}/{index}"), &from[index], &to[index], changes);
            }
        }
        _ if from == to => {}
        _ => changes.push(json!({ "at": at, "from": from, "to": to })),
    }
}

impl Act for Verify {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        let path = format!("/api/v1/executions/{}", segment(&self.execution));
        let now = connection.get(&path).await?;
        let folded = connection.get(&format!("{path}?at={}", now["seq"])).await?;
        let mut wrong: Vec<Value> = Vec::new();
        if now["state_hash"] != folded["state_hash"] {
            wrong.push(
                json!({ "seq": now["seq"], "shown": now["state_hash"], "folded": folded["state_hash"] }),
            );
        }
        let marks = listed(&connection, &self.execution).await?;
        for mark in &marks {
            let there = connection.get(&format!("{path}?at={}", mark["seq"])).await?;
            if there["state_hash"] != mark["state_hash"] {
                wrong.push(
                    json!({ "seq": mark["seq"], "shown": mark["state_hash"], "folded": there["state_hash"] }),
                );
            }
        }
        if target.json {
            document(&json!({ "sound": wrong.is_empty(), "checkpoints": marks.len(), "wrong": wrong }));
        } else if wrong.is_empty() {
            print(&format!(
                "{}: {} checkpoints and the state at seq {} are what the log says",
                self.execution,
                marks.len(),
                now["seq"]
            ));
        } else {
            wrong.iter().for_each(|wrong| {
                print(&format!("seq {}: shown {}, folded {}", wrong["seq"], wrong["shown"], wrong["folded"]))
            });
        }
        Ok(if wrong.is_empty() { End::Done } else { End::Failed })
    }
}
