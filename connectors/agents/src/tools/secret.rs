//! Values with placeholders and secrets. A secret stands only where the definition says so, and is taken out of
//! whatever comes back.

use omium_workflow::Template;
use serde_json::{Map, Value};

use super::shape::template;
use crate::native::Secrets;

/// A value as it is written in a definition.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Secret { name: String, prefix: String },
    Template(Template),
    List(Vec<Written>),
    Map(Vec<(String, Written)>),
}

/// The secrets that a call has used.
#[derive(Default)]
pub(super) struct Used(Vec<(String, String)>);

impl Written {
    /// `{secret: NAME}`, also `{secret: NAME, prefix: "Bearer "}`, is a secret; all else is a value with placeholders.
    // Looked for before anything is filled in: an argument that looks like this must not be taken for one.
    pub(super) fn read(value: &Value) -> Result<Written, String> {
        Ok(match value {
            Value::Object(entries) if entries.contains_key("secret") => secret(entries)?,
            Value::Object(entries) => {
                let read = entries.iter().map(|(key, item)| Ok((key.clone(), Written::read(item)?)));
                Written::Map(read.collect::<Result<_, String>>()?)
            }
            Value::Array(items) => Written::List(items.iter().map(Written::read).collect::<Result<_, _>>()?),
            other => Written::Template(template(other)?),
        })
    }

    pub(super) fn fill(&self, scope: &Value, secrets: &Secrets, used: &mut Used) -> Result<Value, String> {
        Ok(match self {
            Written::Secret { name, prefix } => {
                let value = secrets.get(name).filter(|value| !value.is_empty());
                let value = value
                    .ok_or_else(|| format!("the secret `{name}` is not there; set it where Omium runs"))?;
                used.0.push((name.clone(), value.clone()));
                format!("{prefix}{value}").into()
            }
            Written::Template(template) => template.render(scope).map_err(|why| why.to_string())?,
            Written::List(items) => {
                items.iter().map(|item| item.fill(scope, secrets, used)).collect::<Result<_, _>>()?
            }
            Written::Map(entries) => {
                let mut filled = Map::new();
                for (key, item) in entries {
                    filled.insert(key.clone(), item.fill(scope, secrets, used)?);
                }
                filled.into()
            }
        })
    }

    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Written::Secret { .. })
    }

    /// The names of the arguments that it reads.
    pub(super) fn arguments(&self) -> Vec<String> {
        match self {
            Written::Secret { .. } => Vec::new(),
            Written::Template(template) => {
                template.paths().iter().filter_map(|path| path.get(1).cloned()).collect()
            }
            Written::List(items) => items.iter().flat_map(Written::arguments).collect(),
            Written::Map(entries) => entries.iter().flat_map(|(_, item)| item.arguments()).collect(),
        }
    }
}

fn secret(entries: &Map<String, Value>) -> Result<Written, String> {
    super::shape::known(entries, &["secret", "prefix"], "a secret")?;
    let name = super::shape::text(entries, "secret")?.filter(|name| !name.is_empty());
    let name = name.ok_or("`secret` names an environment variable: `{secret: RATES_KEY}`")?;
    Ok(Written::Secret { name, prefix: super::shape::text(entries, "prefix")?.unwrap_or_default() })
}

impl Used {
    /// The text without what it must not say.
    pub(super) fn taken_out_of(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            let instead = format!("[secret {name}]");
            let quoted = Value::from(value.as_str()).to_string();
            text.replace(value.as_str(), &instead).replace(quoted.trim_matches('"'), &instead)
        })
    }
}
