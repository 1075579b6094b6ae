//! Reads one mapping of a definition, key by key, and complains about the keys that nobody asked for.

use std::collections::BTreeMap;

use omium_limits::told;
use omium_schemas::Money;

use crate::problem::{Found, Place};
use crate::source::{Node, Value};

/// One mapping that is being read. Its keys are found by their names, however many there are.
pub struct Fields<'n> {
    /// Where it begins.
    pub place: Place,
    /// What the mapping is, for messages.
    what: &'static str,
    entries: &'n [(Place, String, Node)],
    places: BTreeMap<&'n str, usize>,
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The fields of a node, which has to be a mapping; `what` names it in messages.
    pub fn of(node: &'n Node, what: &'static str, found: &mut Found) -> Option<Fields<'n>> {
        match &node.value {
            Value::Map(entries) => {
                let places =
                    entries.iter().enumerate().rev().map(|(at, (_, key, _))| (key.as_str(), at)).collect();
                Some(Fields {
                    place: node.place,
                    what,
                    entries,
                    places,
                    asked: Vec::new(),
                    refused: Vec::new(),
                })
            }
            _ => {
                found.add(node.place, format!("{what} is {}", node.kind()), "write it as `key: value` lines");
                None
            }
        }
    }

    /// The value of a key; a key without a value counts as not written.
    pub fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let entry = self.places.get(key).and_then(|at| self.entries.get(*at));
        entry.map(|(_, _, node)| node).filter(|node| node.value != Value::Null)
    }

    /// Refuses a key that has no effect yet: what a definition says, happens.
    pub fn not_yet(&mut self, key: &'static str, hint: &'static str, found: &mut Found) {
        self.refused.push(key);
        if let Some((place, ..)) = self.places.get(key).and_then(|at| self.entries.get(*at)) {
            found.add(*place, format!("`{key}` has no effect yet"), hint);
        }
    }

    /// Complains about what nobody asked for.
    pub fn end(self, found: &mut Found) {
        for (place, key, _) in self.entries {
            if !self.asked.contains(&key.as_str()) && !self.refused.contains(&key.as_str()) {
                if found.is_full() {
                    return found.more();
                }
                let hint = match closest(key, &self.asked) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("{} knows: {}", self.what, self.asked.join(", ")),
                };
                found.add(*place, format!("{} has no `{}`", self.what, told(key)), hint);
            }
        }
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, found: &mut Found) -> Option<String> {
        let node = self.get(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                found.add(
                    node.place,
                    format!("`{key}` is {}, not a text", node.kind()),
                    "put it into quotes",
                );
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, key: &'static str, least: u64, most: u64, found: &mut Found) -> Option<u64> {
        let node = self.get(key)?;
        let number = match &node.value {
            Value::Number(number) => number.as_u64(),
            _ => None,
        };
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            found.add(
                node.place,
                format!("`{key}` is not a whole number from {least} to {most}"),
                format!("for example `{key}: {}`", 3.clamp(least, most)),
            );
        }
        fits
    }

    /// A length of time with its unit, in milliseconds.
    pub fn duration(&mut self, key: &'static str, found: &mut Found) -> Option<u64> {
        let node = self.get(key)?;
        let parsed = match &node.value {
            Value::Text(text) => parse_duration(text),
            _ => None,
        };
        if parsed.is_none() {
            found.add(
                node.place,
                format!("`{key}` is not a length of time"),
                "write a number and a unit: 500ms, 60s, 5m, 2h, 7d",
            );
        }
        parsed
    }

    /// `{usd: 0.05}`.
    pub(crate) fn budget(&mut self, key: &'static str, found: &mut Found) -> Option<Money> {
        let node = self.get(key)?;
        // Whoever writes the amount alone is told where it belongs, below.
        let amount = match &node.value {
            Value::Map(_) => {
                let mut fields = Fields::of(node, "a budget", found)?;
                let amount = fields.get("usd");
                fields.end(found);
                amount
            }
            _ => None,
        };
        let parsed = amount.and_then(|amount| match &amount.value {
            Value::Number(number) => parse_money(&number.to_string()),
            Value::Text(text) => parse_money(text),
            _ => None,
        });
        if parsed.is_none() {
            found.add(
                node.place,
                format!("`{key}` says no amount of money"),
                format!("write `{key}: {{usd: 0.05}}`, at most twelve decimals"),
            );
        }
        parsed
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        found: &mut Found,
    ) -> Option<T> {
        let node = self.get(key)?;
        let chosen = match &node.value {
            Value::Text(text) => choices.iter().find(|(name, _)| name == text),
            // `off` was a boolean in older YAML; some editors still write it so.
            Value::Bool(false) => choices.iter().find(|(name, _)| *name == "off"),
            _ => None,
        };
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            found.add(
                node.place,
                format!("`{key}` has none of the values that are known"),
                format!("it is one of: {}", names.join(", ")),
            );
        }
        chosen.map(|(_, value)| *value)
    }
}

pub(crate) fn parse_duration(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = text[..split].parse().ok()?;
    let unit: u64 = match text[split..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit).filter(|ms| (1..=366 * 86_400_000).contains(ms))
}

/// Dollars as a decimal text, exactly.
pub fn parse_money(text: &str) -> Option<Money> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || decimals.len() > 12 || !digits(whole) || !digits(decimals) {
        return None;
    }
    format!("{whole}{decimals:0<12}").parse().ok().map(Money)
}

/// How many names are looked at for one that differs little, and how long they may be, in letters.
const COMPARED: usize = 300;
const COMPARED_LENGTH: usize = 64;
/// How many names are told where none differs little.
const LISTED: usize = 20;

/// Names for a message: the first of them.
pub fn listed(names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| told(name)).collect();
    match names.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

/// The known name that differs least, if it differs little. Long words and long lists have none: looking costs as much as
/// both together.
pub fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 4 * COMPARED_LENGTH {
        return None;
    }
    let letters = word.chars().count();
    // Two letters that changed places count as two.
    let limit = match letters {
        0..=3 => 1,
        length => (length / 3).max(2),
    };
    let could_be =
        |name: &&&str| name.len() <= 4 * COMPARED_LENGTH && letters.abs_diff(name.chars().count()) <= limit;
    known
        .iter()
        .take(COMPARED)
        .filter(could_be)
        .map(|name| (distance(word, name), *name))
        .filter(|(far, _)| *far <= limit)
        .min()
        .map(|(_, name)| name)
}

fn distance(word: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in word.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let swap = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = swap.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[other.len()]
}
