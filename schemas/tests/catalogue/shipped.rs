//! A shipped schema is never edited. Shipped = in the catalogue when CHANGELOG got a version from 0.1 on;
//! `golden/shipped.json` lists these with their fingerprints. `OMIUM_BLESS=1` adds what a new version ships, and never
//! changes what is listed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use omium_schemas::{Digest, SCHEMAS, Schema};
use serde_json::{Value as Json, json};

use crate::golden::{blessing, directory, load, store};

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shipped {
    name: String,
    version: u16,
    id: u16,
    /// CRC-64-AVRO: the same bytes mean the same.
    fingerprint: String,
    /// SHA-256 of the whole text: docs and logical types did not change either.
    sha256: String,
}

struct List {
    release: Option<String>,
    records: Vec<Shipped>,
}

impl Shipped {
    fn of(schema: &Schema) -> Shipped {
        Shipped {
            name: schema.name.to_owned(),
            version: schema.version,
            id: schema.id.0,
            fingerprint: format!("{:016x}", schema.fingerprint),
            sha256: Digest::of(schema.json.as_bytes()).hex(),
        }
    }

    fn from_json(json: &Json) -> Shipped {
        let text = |key: &str| json[key].as_str().expect("shipped.json holds texts").to_owned();
        let number =
            |key: &str| json[key].as_u64().and_then(|n| u16::try_from(n).ok()).expect("a small number");
        Shipped {
            name: text("name"),
            version: number("version"),
            id: number("id"),
            fingerprint: text("fingerprint"),
            sha256: text("sha256"),
        }
    }

    fn json(&self) -> Json {
        json!({ "name": self.name, "version": self.version, "id": self.id,
                "fingerprint": self.fingerprint, "sha256": self.sha256 })
    }
}

fn path() -> PathBuf {
    directory().join("shipped.json")
}

fn list() -> List {
    let text = load(&path()).unwrap_or_else(|| "{\"release\": null, \"records\": []}".to_owned());
    let json: Json = serde_json::from_str(&text).expect("shipped.json is JSON");
    let records = json["records"].as_array().expect("shipped.json has records");
    List {
        release: json["release"].as_str().map(str::to_owned),
        records: records.iter().map(Shipped::from_json).collect(),
    }
}

/// Name and version of what has shipped.
pub(crate) fn names() -> BTreeSet<(String, u16)> {
    list().records.into_iter().map(|shipped| (shipped.name, shipped.version)).collect()
}

/// What was done to shipped schemas, one sentence each.
fn edits(shipped: &[Shipped], now: &[Shipped]) -> Vec<String> {
    let edit = |old: &Shipped| {
        let (name, version) = (&old.name, old.version);
        let Some(new) = now.iter().find(|new| new.name == old.name && new.version == old.version) else {
            return Some(format!("{name} v{version} has shipped and is gone; bring its file back"));
        };
        let remedy = format!("restore it, and put the change into {name} v{} with a new id", version + 1);
        match new {
            new if new == old => None,
            new if new.id != old.id => {
                Some(format!("{name} v{version} has shipped as id {}; {remedy}", old.id))
            }
            new if new.fingerprint != old.fingerprint => {
                Some(format!("{name} v{version} has shipped and reads other bytes now; {remedy}"))
            }
            _ => Some(format!("{name} v{version} has shipped and its text was edited; {remedy}")),
        }
    };
    shipped.iter().filter_map(edit).collect()
}

/// The newest version in CHANGELOG that freezes schemas, where there is one: headings are `## 0.1.0 …`.
fn newest_release(changelog: &str) -> Option<String> {
    let version = |line: &str| {
        let word =
            line.strip_prefix("## ")?.split_whitespace().next()?.trim_matches(['[', ']', 'v']).to_owned();
        let numbers: Option<Vec<u32>> = word.split('.').map(|part| part.parse().ok()).collect();
        match numbers?[..] {
            [0, 0, _] => None,
            [_, _, _] => Some(word),
            _ => None,
        }
    };
    changelog.lines().find_map(version)
}

fn now() -> Vec<Shipped> {
    SCHEMAS.iter().map(Shipped::of).collect()
}

/// The list after a release: what stood there stands, what is new is added.
fn grown(list: &[Shipped], now: &[Shipped]) -> Vec<Shipped> {
    let new =
        now.iter().filter(|new| !list.iter().any(|old| (&old.name, old.version) == (&new.name, new.version)));
    let mut grown: Vec<Shipped> = list.iter().chain(new).cloned().collect();
    grown.sort_by_key(|shipped| shipped.id);
    grown
}

#[test]
fn no_shipped_schema_was_edited() {
    let edits = edits(&list().records, &now());
    assert!(edits.is_empty(), "{}", edits.join("\n"));
}

#[test]
fn what_the_newest_version_ships_is_listed() {
    let changelog = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../CHANGELOG.md");
    let release = newest_release(&load(&changelog).expect("CHANGELOG.md stands at the top level"));
    let mut list = list();
    if blessing() && (release != list.release || !path().exists()) {
        list.records = if release.is_some() { grown(&list.records, &now()) } else { list.records };
        let records: Vec<Json> = list.records.iter().map(Shipped::json).collect();
        let json = json!({ "release": release, "records": records });
        store(&path(), &(serde_json::to_string_pretty(&json).expect("JSON of JSON") + "\n"));
        list.release = release.clone();
    }
    assert_eq!(
        list.release, release,
        "CHANGELOG names another version than golden/shipped.json; run these tests once with OMIUM_BLESS=1 and commit"
    );
}

#[test]
fn each_planted_edit_of_a_shipped_schema_is_refused() {
    let schema =
        SCHEMAS.iter().find(|schema| schema.name == "StepScheduled").expect("it is in the catalogue");
    let shipped = [Shipped::of(schema)];
    let planted = |change: &dyn Fn(&mut Shipped)| {
        let mut now = shipped.clone();
        change(&mut now[0]);
        edits(&shipped, &now)
    };
    let text = |json: String| move |now: &mut Shipped| now.sha256 = Digest::of(json.as_bytes()).hex();
    assert_eq!(planted(&|_| ()), Vec::<String>::new());
    let doc = text(schema.json.replace("One attempt", "An attempt"));
    assert!(planted(&doc)[0].contains("its text was edited"));
    assert!(planted(&|now| now.fingerprint = "0".repeat(16))[0].contains("reads other bytes"));
    assert!(planted(&|now| now.id = 9999)[0].contains("has shipped as id"));
    assert!(planted(&|now| now.name = "StepPlannedToRun".to_owned())[0].contains("is gone"));
    assert!(planted(&|now| now.version = 2)[0].contains("is gone"));
}

#[test]
fn only_versions_from_0_1_on_freeze_what_they_ship() {
    assert_eq!(newest_release("# Changelog\n## Unreleased\n- x\n"), None);
    assert_eq!(newest_release("## Unreleased\n## 0.0.9\n"), None);
    assert_eq!(
        newest_release("## Unreleased\n\n## [0.2.0] - 2027-01-01\n## 0.1.0\n"),
        Some("0.2.0".to_owned())
    );
}

#[test]
fn a_release_adds_to_the_list_and_changes_nothing_in_it() {
    let now = now();
    let mut first = now[0].clone();
    first.sha256 = "as it shipped".to_owned();
    let grown = grown(std::slice::from_ref(&first), &now);
    assert_eq!(grown.len(), now.len());
    assert_eq!(grown[0], first);
}
