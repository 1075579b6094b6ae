//! Where secrets come from. They themselves stand in no file of ours.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use toml::{Spanned, Value};

use super::Wrong;

/// The key of the models' server, which no tool gets.
pub(crate) const UPSTREAM_KEY: &str = "OPENAI_API_KEY";
/// How long a secret may be.
const MOST: u64 = 64 << 10;

const WAYS: &str =
    "write { env = \"VARIABLE\" } or { file = \"PATH\" }; the secret itself does not stand in this file";

/// Where a secret is looked up.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Env(String),
    File(PathBuf),
}

impl Source {
    /// The secret, or what is wrong, without a part of it.
    pub(super) fn value(&self) -> Result<String, String> {
        let value = match self {
            Source::Env(name) => {
                std::env::var(name).map_err(|_| format!("the variable `{name}` is not set"))?
            }
            Source::File(path) => {
                let mut text = String::new();
                let read =
                    std::fs::File::open(path).and_then(|file| file.take(MOST + 1).read_to_string(&mut text));
                let length = read.map_err(|why| format!("{} cannot be read: {why}", path.display()))?;
                if length as u64 > MOST {
                    return Err(format!("{} is longer than {MOST} bytes", path.display()));
                }
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
        };
        match value {
            empty if empty.is_empty() => Err("it is empty".to_owned()),
            own if std::env::var(UPSTREAM_KEY).is_ok_and(|key| key == own) => {
                Err(format!("this is the models' own key ({UPSTREAM_KEY}), which no tool gets"))
            }
            value => Ok(value),
        }
    }
}

pub(super) fn read(
    written: BTreeMap<String, Spanned<Value>>,
    key: &str,
) -> Result<BTreeMap<String, Source>, Wrong> {
    let one = |(name, value): (String, Spanned<Value>)| {
        let source = source(value.get_ref());
        let source = source.map_err(|why| Wrong::new(value.span().start, &format!("{key}.{name}"), why))?;
        Ok((name, source))
    };
    written.into_iter().map(one).collect()
}

fn source(value: &Value) -> Result<Source, String> {
    let entries = value.as_table().filter(|entries| entries.len() == 1).ok_or(WAYS)?;
    let text = |key: &str| entries.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("env"), text("file")) {
        (Some(UPSTREAM_KEY), _) => Err(format!("{UPSTREAM_KEY} is the models' own key, which no tool gets")),
        (Some(name), _) => Ok(Source::Env(name.to_owned())),
        (None, Some(path)) => Ok(Source::File(path.into())),
        (None, None) => Err(WAYS.to_owned()),
    }
}

/// What the parser says without the value that it found: `invalid type: string "…", expected a sequence`.
pub(super) fn without_values(said: &str) -> String {
    let Some(expected) = said.strip_prefix("invalid ").and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return said.trim_end().replace('\n', ", ");
    };
    format!("this is something else than expected: {}", expected.1)
}
