//! The graph of crates, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// One package of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Whether it is a crate of this workspace.
    pub ours: bool,
    /// Its folder, relative to the root; empty for packages that are not ours.
    pub folder: String,
    /// The ids of what its library or binary is linked with: normal dependencies, neither dev nor build.
    pub normal: BTreeSet<String>,
    /// The ids of what only its tests use.
    pub dev: BTreeSet<String>,
}

/// All packages by id.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Packages by Cargo's id.
    pub packages: BTreeMap<String, Package>,
}

impl Graph {
    /// Asks Cargo about the workspace at `root`, without touching the network.
    pub fn of(root: &Path) -> Result<Self, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let answer = Command::new(cargo)
            .args([
                "metadata",
                "--format-version=1",
                "--locked",
                "--offline",
                "--filter-platform=x86_64-unknown-linux-gnu",
            ])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cargo metadata does not start: {error}"))?;
        if !answer.status.success() {
            return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&answer.stderr)));
        }
        let json = serde_json::from_slice(&answer.stdout)
            .map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
        Ok(Self::from_json(&json))
    }

    /// Reads what `cargo metadata` printed.
    pub fn from_json(json: &Value) -> Self {
        let members: BTreeSet<&str> = array(&json["workspace_members"]).filter_map(Value::as_str).collect();
        let root = json["workspace_root"].as_str().unwrap_or_default();
        let mut packages: BTreeMap<String, Package> = array(&json["packages"])
            .map(|package| {
                let id = text(&package["id"]);
                let ours = members.contains(id.as_str());
                let folder =
                    if ours { folder(root, &text(&package["manifest_path"])) } else { String::new() };
                (id, Package { name: text(&package["name"]), ours, folder, ..Package::default() })
            })
            .collect();
        for node in array(&json["resolve"]["nodes"]) {
            let Some(package) = packages.get_mut(&text(&node["id"])) else { continue };
            for dep in array(&node["deps"]) {
                for kind in array(&dep["dep_kinds"]) {
                    let id = text(&dep["pkg"]);
                    match kind["kind"].as_str() {
                        None => package.normal.insert(id),
                        Some("dev") => package.dev.insert(id),
                        Some(_) => continue,
                    };
                }
            }
        }
        Self { packages }
    }

    /// The crates of the workspace.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| package.ours)
    }

    /// The names of our own crates among `ids`.
    pub fn our_names<'a>(&'a self, ids: &'a BTreeSet<String>) -> impl Iterator<Item = &'a str> {
        ids.iter()
            .filter_map(|id| self.packages.get(id))
            .filter(|package| package.ours)
            .map(|package| package.name.as_str())
    }

    /// Everything that `package` is linked with, each with the chain of names that leads there.
    pub fn linked(&self, package: &Package) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        let mut open: Vec<(&String, Vec<String>)> =
            package.normal.iter().map(|id| (id, vec![package.name.clone()])).collect();
        while let Some((id, path)) = open.pop() {
            let Some(next) = self.packages.get(id) else { continue };
            let mut path = path;
            path.push(next.name.clone());
            if found.contains_key(&next.name) {
                continue;
            }
            found.insert(next.name.clone(), path.clone());
            open.extend(next.normal.iter().map(|id| (id, path.clone())));
        }
        found
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn folder(root: &str, manifest: &str) -> String {
    let inside = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
    inside.strip_suffix("/Cargo.toml").unwrap_or_default().to_owned()
}
