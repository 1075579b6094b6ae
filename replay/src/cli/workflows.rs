//! `omium workflows …`.

use clap::Args;
use serde_json::json;

use super::connection::{Connection, Trouble, segment};
use super::output::{document, print, read_file, table, text};
use super::{Act, End, Target, run};

/// Says everything that is wrong with a definition. Needs no running Omium.
#[derive(Args, Debug)]
pub(crate) struct Validate {
    #[arg(required = true)]
    files: Vec<String>,
}

/// Publishes a version.
#[derive(Args, Debug)]
pub(crate) struct Publish {
    file: String,
}

/// Lists the workflows.
#[derive(Args, Debug)]
pub(crate) struct List {}

/// Prints a definition, `NAME` or `NAME@3`.
#[derive(Args, Debug)]
pub(crate) struct Show {
    name: String,
}

/// Says which lines differ between two versions, `NAME@2` and `NAME@3`.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    from: String,
    to: String,
}

impl Act for Validate {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let (mut all, mut unread) = (Vec::new(), false);
        for file in &self.files {
            let text = match read_file(file) {
                Ok(text) => text,
                // The others are looked at all the same.
                Err(Trouble::Here(why)) => {
                    if !target.json {
                        eprintln!("error: {why}");
                    }
                    all.push(json!({ "file": file, "problems": [{ "text": why }] }));
                    unread = true;
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            match omium_agents::native::read(file, &text) {
                Ok(definition) if !target.json => print(&format!(
                    "{file}: {} is sound, {} agents",
                    definition.name,
                    definition.agents.len()
                )),
                Ok(_) => {}
                Err(problems) => {
                    if !target.json {
                        eprintln!("{problems}");
                    }
                    all.push(json!(problems));
                }
            }
        }
        if target.json {
            document(&json!({ "valid": all.is_empty(), "files": all }));
        }
        Ok(match all.as_slice() {
            [] => End::Done,
            _ if unread => End::Failed,
            _ => End::Refused,
        })
    }
}

impl Act for Publish {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let published = run::publish(&Connection::new(target), &self.file).await?;
        if target.json {
            document(&published)
        } else {
            print(&format!("{}@{}", text(&published["name"]), published["version"]))
        }
        Ok(End::Done)
    }
}

impl Act for List {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let page = Connection::new(target).get("/api/v1/workflows").await?;
        if target.json {
            document(&page);
            return Ok(End::Done);
        }
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let rows: Vec<Vec<String>> = items
            .iter()
            .map(|item| {
                let agents: Vec<String> = item["agents"].as_array().into_iter().flatten().map(text).collect();
                vec![
                    text(&item["name"]),
                    text(&item["version"]),
                    text(&item["published_at"]),
                    agents.join(","),
                ]
            })
            .collect();
        print(&table(&["NAME", "VERSION", "PUBLISHED", "AGENTS"], &rows));
        Ok(End::Done)
    }
}

impl Act for Show {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let view = Connection::new(target).get(&format!("/api/v1/workflows/{}", segment(&self.name))).await?;
        if target.json {
            document(&view)
        } else {
            print(text(&view["definition"]).trim_end())
        }
        Ok(End::Done)
    }
}

impl Act for Diff {
    async fn act(&self, target: &Target) -> Result<End, Trouble> {
        let connection = Connection::new(target);
        let mut texts = Vec::new();
        for name in [&self.from, &self.to] {
            let view = connection.get(&format!("/api/v1/workflows/{}", segment(name))).await?;
            texts.push(text(&view["definition"]));
        }
        let changes = lines(&texts[0], &texts[1]);
        if target.json {
            document(&json!({ "changes": changes }));
        } else {
            changes.iter().for_each(|line| print(line));
        }
        Ok(End::Done)
    }
}

/// The lines that went (`-`) and came (`+`): what is left of both beside their longest common part.
fn lines(from: &str, to: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut changes) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            changes.push(format!("-{}", a[i]));
            i += 1;
        } else {
            changes.push(format!("+{}", b[j]));
            j += 1;
        }
    }
    changes
}
