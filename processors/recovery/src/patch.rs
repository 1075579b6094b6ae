//! Changes of an agent's requests. They stay in force for the rest of the execution.

use std::collections::BTreeMap;

use omium_schemas::Digest;
use serde::{Deserialize, Serialize};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Patch {
    /// A text at the end of the last system message.
    Append(String),
    /// The answer is held to this JSON Schema.
    Structured(String),
}

/// The changes that are in force, by agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patches(BTreeMap<String, Vec<Patch>>);

impl Patches {
    /// Those of an agent, in the order in which they came into force.
    pub fn of(&self, agent: &str) -> &[Patch] {
        self.0.get(agent).map(Vec::as_slice).unwrap_or_default()
    }

    /// The name of an agent's patches; nothing where it has none.
    pub fn digest(&self, agent: &str) -> Option<Digest> {
        let patches = self.of(agent);
        if patches.is_empty() {
            return None;
        }
        let mut bytes = Vec::new();
        for patch in patches {
            let (kind, text) = match patch {
                Patch::Append(text) => (1, text),
                Patch::Structured(schema) => (2, schema),
            };
            bytes.push(kind);
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        Some(Digest::of(&bytes))
    }

    /// These and one more. The same change twice is one.
    pub fn with(&self, agent: &str, patch: Option<Patch>) -> Patches {
        let mut more = self.clone();
        if let Some(patch) = patch {
            let patches = more.0.entry(agent.to_owned()).or_default();
            if !patches.contains(&patch) {
                patches.push(patch);
            }
        }
        more
    }
}
