//! Where things stand and how large they may grow.

use crate::Graph;

/// What may stand at the top level, beside dotfiles.
pub const TOP_LEVEL: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "connectors",
    "gateway",
    "infra",
    "load-tests",
    "processors",
    "replay",
    "schemas",
];

/// No source file is longer than this many lines.
pub const LONGEST: usize = 800;

/// A file of the project.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path, relative to the root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Entries of the top level that are not on the fixed list.
pub fn strangers(entries: &[String]) -> Vec<String> {
    entries
        .iter()
        .filter(|entry| !entry.starts_with('.') && !TOP_LEVEL.contains(&entry.as_str()))
        .map(|entry| format!("`{entry}` may not stand at the top level, whose entries are fixed"))
        .collect()
}

/// Source files that have grown past the limit.
pub fn too_long(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| is_source(file))
        .map(|file| (file, file.text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(file, lines)| {
            format!("{} has {lines} lines, more than {LONGEST}: look for the second idea inside", file.path)
        })
        .collect()
}

/// Modules that are named after nothing.
pub fn nameless(files: &[File]) -> Vec<String> {
    const NAMELESS: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc"];
    files
        .iter()
        .filter(|file| is_source(file))
        .filter(|file| {
            file.path.split('/').any(|part| NAMELESS.contains(&part.split('.').next().unwrap_or(part)))
        })
        .map(|file| format!("{} is named after nothing: name it after its one idea", file.path))
        .collect()
}

/// Scripts that now and then fail for nothing: under `pipefail` a reader that leaves early fails whoever still writes to it.
pub fn early_leavers(files: &[File]) -> Vec<String> {
    let leaves = |line: &str| {
        let line = line.replace("||", ";");
        let mut readers = line.split('|').skip(1).map(|part| part.split_whitespace().collect::<Vec<_>>());
        !line.trim_start().starts_with('#')
            && readers.any(|words| match words.as_slice() {
                ["head", ..] => true,
                ["grep", options, ..] => options.starts_with('-') && options.contains('q'),
                _ => false,
            })
    };
    let scripts = files.iter().filter(|file| file.text.contains("pipefail") && file.text.starts_with("#!"));
    scripts
        .flat_map(|file| file.text.lines().zip(1..).map(move |(line, no)| (file, line, no)))
        .filter(|(_, line, _)| leaves(line))
        .map(|(file, _, no)| {
            format!(
                "{}:{no}: `head` and `grep -q` leave early and fail what is before them; use awk",
                file.path
            )
        })
        .collect()
}

/// Crates that do nothing: no function in their sources.
pub fn empty_crates(graph: &Graph, files: &[File]) -> Vec<String> {
    graph
        .ours()
        .filter(|package| {
            let sources = format!("{}/src/", package.folder);
            !files.iter().any(|file| file.path.starts_with(&sources) && file.text.contains("fn "))
        })
        .map(|package| format!("`{}` is empty: a crate is begun when it has something to do", package.name))
        .collect()
}

/// Crates that ARCHITECTURE.md does not list by folder.
pub fn unlisted(graph: &Graph, architecture: &str) -> Vec<String> {
    graph
        .ours()
        .filter(|package| !architecture.contains(&format!("`{}`", package.folder)))
        .map(|package| {
            format!(
                "ARCHITECTURE.md does not list `{}`: say there what it is for and what it never does",
                package.folder
            )
        })
        .collect()
}

/// The heading of the table in ARCHITECTURE.md that says what a new thing touches.
const TO_ADD: &str = "## To add a …, touch …";

/// What that table names and the project does not have: paths, and lists (`BARS`) in the file named after them.
pub fn untrue_guides(architecture: &str, files: &[File]) -> Vec<String> {
    let table =
        architecture.split_once(TO_ADD).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    if rows.len() < 2 {
        return vec![format!("ARCHITECTURE.md has no table under `{TO_ADD}`")];
    }
    let mut untrue = Vec::new();
    for row in rows {
        let mut list = None;
        for name in row.split('`').skip(1).step_by(2) {
            if name.len() > 2 && name.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_') {
                list = Some(name);
            } else if name.contains('/') || name.contains('.') {
                let within = format!("{name}/");
                let there: Vec<&File> =
                    files.iter().filter(|file| file.path == name || file.path.starts_with(&within)).collect();
                if there.is_empty() {
                    untrue.push(format!("ARCHITECTURE.md sends its reader to `{name}`, which there is not"));
                } else if let Some(list) = list.take()
                    && !there.iter().any(|file| file.text.contains(&format!("const {list}: &[")))
                {
                    untrue.push(format!(
                        "ARCHITECTURE.md looks for the list `{list}` in `{name}`, where it is not"
                    ));
                }
            }
        }
    }
    untrue
}

fn is_source(file: &File) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    matches!(
        name.rsplit_once('.').map(|(_, end)| end),
        Some("rs" | "py" | "ts" | "tsx" | "js" | "sh" | "toml")
    ) || (!name.contains('.') && file.text.starts_with("#!"))
}
