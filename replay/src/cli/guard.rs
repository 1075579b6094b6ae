//! `omium guard`: checks on agents of programs that have no definition.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Ask, Connection, Trouble, segment};
use super::output::{document, print, table, text, value};
use super::{Act, End, Target};

/// Checks on the answers of agents. A program is under those that there are when it starts.
#[derive(Subcommand, Debug)]
pub(crate) enum Guard {
    /// Puts a check on an agent; one of the same name is replaced.
    Add(Box<Add>),
    /// Lists them.
    List(List),
    /// Takes one away.
    Remove(Remove),
}

/// Puts a check on an agent.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The agent, as `omium show` names it.
    #[arg(long)]
    agent: String,
    /// The guard's name; else made of the agent and what is checked, such as writer-field-apr.
    #[arg(long)]
    name: Option<String>,
    /// Only in this program.
    #[arg(long)]
    program: Option<String>,
    /// The field of a JSON answer that is checked, with dots between names.
    #[arg(long, value_name = "FIELD", conflicts_with = "extract")]
    json_field: Option<String>,
    /// How the value is found in prose: apr: number near "APR". Not to find it is a finding.
    #[arg(long, value_name = "HOW")]
    extract: Option<String>,
    /// What has to hold, in CEL, over `value` and `output`: value >= 2.5 && value <= 8.5
    #[arg(long)]
    rule: Option<String>,
    /// A JSON Schema that the answer has to fit: JSON, `@file`, or `-` for standard input.
    #[arg(long, value_name = "JSON")]
    schema: Option<String>,
    /// What the agent is told where the check does not hold; else what the rule says.
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
}

impl Act for Add {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let schema = self.schema.as_deref().map(value).transpose()?;
        let name = self.name.clone().unwrap_or_else(|| self.own_name());
        let connection = Connection::new(target);
        let known = connection.get("/api/v1/guards").await?;
        let replaces = known["items"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name));
        let body = json!({
            "name": name, "program": self.program,
            "agent": self.agent, "field": self.json_field, "extract": self.extract, "rule": self.rule,
            "schema": schema, "hint": self.hint,
        });
        let guard = connection.ask("/api/v1/guards", Ask::Post(body), None).await?;
        if target.json {
            document(&guard)
        } else {
            let done = if replaces { "is replaced on" } else { "is on" };
            print(&format!(
                "guard {} {done} {}; programs that start from now on are under it",
                text(&guard["name"]),
                text(&guard["agent"])
            ))
        }
        Ok(End::Done)
    }
}

impl Add {
    /// The agent and what is checked, and how: a check of a field and one of prose are two guards.
    fn own_name(&self) -> String {
        let what = match (&self.json_field, &self.extract) {
            (Some(field), _) => format!("field-{}", field.trim()),
            (None, Some(how)) => format!("extract-{}", how.split(':').next().unwrap_or_default().trim()),
            (None, None) => "answer".to_owned(),
        };
        let name = format!("{}-{what}", self.agent.trim()).to_lowercase();
        let plain = |letter: char| {
            if letter.is_ascii_alphanumeric() || "_.-".contains(letter) { letter } else { '-' }
        };
        name.chars().map(plain).take(64).collect()
    }
}

/// Lists guards.
#[derive(Args, Debug)]
pub(crate) struct List {}

impl Act for List {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let guards = Connection::new(target).get("/api/v1/guards").await?;
        if target.json {
            document(&guards);
            return Ok(End::Done);
        }
        let items = guards["items"].as_array().cloned().unwrap_or_default();
        let row = |guard: &Value| {
            let looks_at = [&guard["field"], &guard["extract"]].into_iter().find(|at| at.is_string());
            let [name, agent, program, rule] =
                ["name", "agent", "program", "rule"].map(|key| text(&guard[key]));
            vec![name, agent, program, text(looks_at.unwrap_or(&Value::Null)), rule]
        };
        print(&table(
            &["NAME", "AGENT", "PROGRAM", "VALUE", "RULE"],
            &items.iter().map(row).collect::<Vec<_>>(),
        ));
        Ok(End::Done)
    }
}

/// Takes a guard away.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    name: String,
}

impl Act for Remove {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let path = format!("/api/v1/guards/{}", segment(&self.name));
        Connection::new(target).remove(&path).await?;
        if target.json {
            document(&json!({ "removed": self.name }))
        } else {
            print(&format!("guard {} is gone", self.name))
        }
        Ok(End::Done)
    }
}

impl Act for Guard {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        match self {
            Guard::Add(add) => add.act(target).await,
            Guard::List(list) => list.act(target).await,
            Guard::Remove(remove) => remove.act(target).await,
        }
    }
}
