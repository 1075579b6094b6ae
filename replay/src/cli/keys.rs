//! `omium keys …`: who may come in, and as what.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::connection::{Ask, Connection, Trouble, segment};
use super::output::{document, print, table, text};
use super::{Act, End, Target};

/// Keys of the tenant.
#[derive(Subcommand, Debug)]
pub(crate) enum Keys {
    /// Lists the keys, by their public parts.
    List(List),
    /// Lets a new key in, and prints it: this once.
    Issue(Issue),
    /// Shuts a key out from here on.
    Revoke(Revoke),
}

impl Act for Keys {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        match self {
            Keys::List(list) => list.act(target).await,
            Keys::Issue(issue) => issue.act(target).await,
            Keys::Revoke(revoke) => revoke.act(target).await,
        }
    }
}

/// Lists the keys, by their public parts.
#[derive(Args, Debug)]
pub(crate) struct List {}

/// Lets a new key in, and prints it: this once.
#[derive(Args, Debug)]
pub(crate) struct Issue {
    /// What it may do; each role may do what those before it may.
    #[arg(long)]
    role: Role,
    /// How many days it lasts; until it is revoked where this is left out.
    #[arg(long)]
    days: Option<u32>,
    /// What to call it: who or what has it.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Looks.
    Viewer,
    /// Performs steps.
    Worker,
    /// Publishes, starts and steers.
    Developer,
    /// Manages keys and prices, trims, and releases what is in quarantine.
    Admin,
}

/// Shuts a key out from here on.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// Its public part, as `omium keys list` shows it: what stands in the middle of the whole key.
    #[arg(value_name = "KEY")]
    public: String,
}

impl Act for List {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let list = Connection::new(target).get("/api/v1/keys").await?;
        if target.json {
            document(&list);
            return Ok(End::Done);
        }
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let row = |key: &Value| ["key", "name", "role", "expires_at"].map(|field| text(&key[field])).to_vec();
        print(&table(&["KEY", "NAME", "ROLE", "ENDS"], &items.iter().map(row).collect::<Vec<_>>()));
        Ok(End::Done)
    }
}

impl Act for Issue {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let role = self.role.to_possible_value().map(|value| value.get_name().to_owned());
        let body = json!({ "role": role, "days": self.days, "name": self.name });
        let issued = Connection::new(target).ask("/api/v1/keys", Ask::Post(body), None).await?;
        if target.json {
            document(&issued);
            return Ok(End::Done);
        }
        print(&text(&issued["bearer"]));
        eprintln!("this is said once and kept nowhere; `omium keys revoke {}` ends it", text(&issued["key"]));
        Ok(End::Done)
    }
}

impl Act for Revoke {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let path = format!("/api/v1/keys/{}", segment(&self.public));
        let revoked = Connection::new(target).ask(&path, Ask::Remove, None).await?;
        if target.json {
            document(&revoked);
        } else {
            print(&format!("key {} opens nothing any more", self.public));
        }
        Ok(End::Done)
    }
}
