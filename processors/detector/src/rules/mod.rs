//! What is looked at in an answer. A new rule is a file here and a line in [`RULES`].

mod answer;
mod format;
mod guard;
mod tools;

use omium_limits::schema::{Misfit, fits};
use omium_limits::{Fuel, Limits, clipped, json};
use omium_openai::{Answer, Endpoint, Wanted};
use omium_schemas::catalogue::{FindingKind, Guard};
use serde_json::Value;

use crate::verdict::Seen;

/// How much of what is wrong is told, in bytes.
const TOLD: usize = 600;

/// What arguments and answers may be, to be looked at inside: no longer than answers that are checked at all.
const LIMITS: Limits = Limits { bytes: 1 << 20, nodes: 200_000, memory: 64 << 20, ..Limits::BYTES };

/// What a request may be, without its messages: schemas of many tools.
pub(crate) const ASKED: Limits = Limits { bytes: 4 << 20, nodes: 400_000, memory: 128 << 20, ..LIMITS };

/// A rule. All rules share the fuel of one answer.
pub struct Rule {
    /// Its name, with which the name of the detector in its findings begins.
    pub id: &'static str,
    /// Which kinds of findings it makes.
    pub kinds: &'static [FindingKind],
    /// What has to hold, in a sentence.
    pub text: &'static str,
    /// Where it finds something, the rules behind it have nothing to say.
    pub(crate) decides: bool,
    /// What is wrong.
    pub(crate) check: fn(&Looked<'_>, &mut Fuel) -> Vec<Seen>,
}

/// All rules, in the order in which they look.
pub const RULES: &[Rule] = &[answer::RULE, tools::RULE, format::RULE, guard::RULE];

/// What a check finds. Once the fuel is spent nobody can tell what else is wrong.
fn weighed(fuel: &mut Fuel, check: impl FnOnce(&mut Fuel) -> Vec<Seen>) -> Vec<Seen> {
    let before = fuel.refused();
    let found = check(fuel);
    if fuel.refused() == before {
        return found;
    }
    found.into_iter().map(Seen::undecidable).collect()
}

/// An answer, and what was asked for.
pub(crate) struct Looked<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) answer: &'a Answer,
    pub(crate) form: &'a Wanted,
    /// The checks that somebody has put on the agent: with one, all of the answer is relied on.
    pub(crate) guards: &'a [&'a Guard],
    /// What it says. An answer that asks for tools, or goes on, is on the way to a result, and says nothing yet.
    pub(crate) said: Option<Said<'a>>,
}

/// What is wrong with a value by a schema. One that cannot be used, or that costs too much, is a finding, never a pass.
fn misfit(schema: &Value, value: &Value, detector: &str, what: &str, fuel: &mut Fuel) -> Option<Seen> {
    // A request may say nothing in the place of a schema.
    if !schema.is_object() {
        return None;
    }
    let why = fits(schema, value, fuel).err()?;
    Some(match why {
        Misfit::Wrong(wrong) => {
            Seen::fail(FindingKind::Schema, detector, clipped(&format!("{what}: {wrong}"), TOLD))
        }
        why => Seen::fail(
            FindingKind::Uncheckable,
            detector,
            clipped(&format!("{what}, or nobody can tell: {why}"), TOLD),
        ),
    })
}

/// What an answer says: its text, and the value that the text is.
pub(crate) struct Said<'t> {
    text: &'t str,
    value: Result<Value, json::Refused>,
    /// The text as a value, where it is no JSON.
    whole: Value,
}

impl<'t> Said<'t> {
    /// Reads a text once for all checks. Models like to wrap JSON into a fence.
    pub(crate) fn read(text: &'t str) -> Said<'t> {
        let trimmed = text.trim();
        let bare = trimmed
            .strip_prefix("```")
            .and_then(|rest| rest.strip_suffix("```"))
            .map(|inner| inner.strip_prefix("json").unwrap_or(inner));
        let value = json::parse(bare.unwrap_or(trimmed).trim().as_bytes(), &LIMITS);
        let whole = if value.is_ok() { Value::Null } else { text.into() };
        Said { text, value, whole }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rules_have_names_of_their_own_kinds_and_a_sentence() {
        let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
        for rule in RULES {
            assert!(!rule.kinds.is_empty() && rule.text.ends_with('.'), "{}", rule.id);
            assert!(rule.id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", rule.id);
        }
    }
}
