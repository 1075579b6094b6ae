//! `omium run`: starts a workflow and, with `--watch`, stays until it ends.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::connection::{Ask, Connection, Trouble, segment};
use super::output::{document, lively, print, read_file, text, value};
use super::tree::tree;
use super::{Act, End, Target};

/// Starts a workflow: a file, which is published first, or the name of a published one.
#[derive(Args, Debug)]
pub(crate) struct Run {
    /// A definition (`loan.yaml`) or a name (`loan-decision`, `loan-decision@3`).
    #[arg(value_name = "FILE|NAME")]
    workflow: String,
    /// The inputs: JSON, `@file`, or `-` for standard input.
    #[arg(long, short, value_name = "JSON", default_value = "{}")]
    input: String,
    /// Stays until the run ends, and ends with code 10 if it fails.
    #[arg(long, short)]
    watch: bool,
    /// The same key and inputs start one run only.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The most it may cost, in dollars.
    #[arg(long, value_name = "USD")]
    budget: Option<String>,
}

impl Act for Run {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        let inputs = value(&self.input)?;
        let name = if is_file(&self.workflow) {
            let published = publish(&connection, &self.workflow).await?;
            if published["repeated"] != true {
                eprintln!("published {}@{}", text(&published["name"]), published["version"]);
            }
            format!("{}@{}", text(&published["name"]), published["version"])
        } else {
            self.workflow.clone()
        };
        let body = json!({ "workflow": name, "inputs": inputs, "budget_usd": self.budget });
        let started =
            connection.ask("/api/v1/executions", Ask::Post(body), self.idempotency_key.as_deref()).await?;
        let id = text(&started["id"]);
        if !self.watch {
            if target.json {
                document(&started)
            } else {
                print(&id)
            }
            return Ok(End::Done);
        }
        let view = watch(&connection, &id).await?;
        if target.json {
            document(&view)
        } else {
            print(&text(&view["output"]))
        }
        Ok(if view["status"] == "completed" { End::Done } else { End::RunFailed })
    }
}

/// Whether a file is meant, also one that is not there: the name of a workflow has no folder before it and no such ending.
fn is_file(workflow: &str) -> bool {
    let path = Path::new(workflow);
    let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    path.is_file()
        || path.components().count() > 1
        || matches!(ending.as_deref(), Some("yaml" | "yml" | "json"))
}

pub(super) async fn publish(connection: &Connection, file: &str) -> Result<Value, Trouble> {
    let definition = read_file(file)?;
    let path = format!("/api/v1/workflows?file={}", segment(file));
    let published = connection.ask(&path, Ask::Text(&definition), None).await?;
    for warning in published["warnings"].as_array().into_iter().flatten() {
        eprintln!("warning: {}", text(warning));
    }
    Ok(published)
}

/// Shows the run on stderr until it has ended; goes on where it was when the connection breaks.
pub(super) async fn watch(connection: &Connection, id: &str) -> Result<Value, Trouble> {
    let path = format!("/api/v1/executions/{}", segment(id));
    let mut shown = Shown::default();
    let mut broken = 0;
    loop {
        let followed = follow(connection, id, &path, &mut shown).await;
        match followed {
            Ok(Some(view)) => return Ok(view),
            Ok(None) | Err(Trouble::Unreachable { .. }) if broken < 40 => {
                broken += 1;
                tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            }
            Ok(None) => {
                return Err(Trouble::Here(
                    "the connection breaks again and again; `omium show` says how it stands".into(),
                ));
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

async fn follow(
    connection: &Connection,
    id: &str,
    path: &str,
    shown: &mut Shown,
) -> Result<Option<Value>, Trouble> {
    let mut view = connection.get(path).await?;
    let mut events = connection.events(id, view["seq"].as_u64().unwrap_or(0) + 1).await?;
    loop {
        shown.show(&tree(&view));
        if !matches!(view["status"].as_str(), Some("running" | "paused" | "suspended")) {
            return Ok(Some(view));
        }
        if !matches!(events.chunk().await, Ok(Some(_))) {
            return Ok(None);
        }
        view = connection.get(path).await?;
    }
}

/// What stands on the terminal: drawn again in place, or written once per change where there is none.
#[derive(Default)]
struct Shown {
    last: String,
}

impl Shown {
    fn show(&mut self, tree: &str) {
        if self.last == tree {
            return;
        }
        let mut err = std::io::stderr().lock();
        if lively() && !self.last.is_empty() {
            let _ = write!(err, "\x1b[{}A\x1b[J", self.last.lines().count());
        }
        let _ = writeln!(err, "{tree}");
        self.last = tree.to_owned();
    }
}
