//! Values with placeholders and secrets. A secret stands only where the definition says so, and is taken out of
//! whatever comes back.

use omium_limits::{Room, TooLarge};
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

    pub(super) fn fill(
        &self,
        scope: &Value,
        secrets: &Secrets,
        used: &mut Used,
        room: &mut Room,
    ) -> Result<Value, String> {
        let told = |why: TooLarge| why.to_string();
        Ok(match self {
            Written::Secret { name, prefix } => {
                let value = secrets.get(name).ok_or_else(|| {
                    format!("the secret `{name}` is not granted; the operator grants it in omium.toml")
                })?;
                room.text(prefix.len() + value.len()).map_err(told)?;
                used.add(name, &value);
                format!("{prefix}{value}").into()
            }
            Written::Template(template) => {
                template.render_within(scope, room).map_err(|why| why.to_string())?
            }
            Written::List(items) => {
                items.iter().map(|item| item.fill(scope, secrets, used, room)).collect::<Result<_, _>>()?
            }
            Written::Map(entries) => {
                let mut filled = Map::new();
                for (key, item) in entries {
                    room.text(key.len()).map_err(told)?;
                    filled.insert(key.clone(), item.fill(scope, secrets, used, room)?);
                }
                filled.into()
            }
        })
    }

    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Written::Secret { .. })
    }

    /// The names of the secrets in it.
    pub(super) fn secrets(&self) -> Vec<&str> {
        match self {
            Written::Secret { name, .. } => vec![name],
            Written::Template(_) => Vec::new(),
            Written::List(items) => items.iter().flat_map(Written::secrets).collect(),
            Written::Map(entries) => entries.iter().flat_map(|(_, item)| item.secrets()).collect(),
        }
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
    let name = name.ok_or("`secret` names a secret that the operator grants: `{secret: RATES_KEY}`")?;
    Ok(Written::Secret { name, prefix: super::shape::text(entries, "prefix")?.unwrap_or_default() })
}

impl Used {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.iter().any(|(known, _)| known == name) {
            self.0.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The text without what it must not say. It gets no longer than it may: a short secret has a longer name.
    pub(super) fn taken_out_of(&self, text: &str, most: usize) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            let instead = format!("[secret {name}]");
            let quoted = Value::from(value.as_str()).to_string();
            let plain = replaced(&text, value, &instead, most);
            match &quoted[1..quoted.len() - 1] {
                quoted if quoted == value => plain,
                quoted => replaced(&plain, quoted, &instead, most),
            }
        })
    }
}

/// The text with something else in the place of each part; cut where it would get too long.
fn replaced(text: &str, part: &str, instead: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (at, piece) in text.split(part).enumerate() {
        let between = if at > 0 { instead } else { "" };
        let left = most.saturating_sub(out.len());
        if between.len() + piece.len() > left {
            // What stands for a secret is kept whole or left out, never its beginning alone.
            if between.len() <= left {
                out.push_str(between);
                out.push_str(omium_limits::clipped_bytes(piece, left - between.len()));
            }
            return out;
        }
        out.push_str(between);
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_the_text_gets_no_longer_than_it_may() {
        let mut used = Used::default();
        used.add("A_LONG_NAME", "x");
        used.add("A_LONG_NAME", "x");
        assert_eq!(used.taken_out_of("axb", 100), "a[secret A_LONG_NAME]b");
        let many = used.taken_out_of(&"x".repeat(1 << 20), 1 << 20);
        assert!(many.len() <= 1 << 20 && many.ends_with(']') && !many.contains('x'));
        let quoted = Used(vec![("K".to_owned(), "a\"b".to_owned())]);
        assert_eq!(quoted.taken_out_of(r#"{"v":"a\"b"} a"b"#, 100), r#"{"v":"[secret K]"} [secret K]"#);
    }
}
