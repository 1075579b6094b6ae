//! Workflow definitions: YAML or JSON in, everything that is wrong in one go, or a plan that an execution decides by.

mod definition;
mod fields;
mod plan;
mod problem;
mod read;
mod source;
mod template;

use std::collections::BTreeMap;

pub use definition::{Agent, Definition, Order, Retry};
pub use fields::{closest, listed, parse_money};
pub use plan::version;
pub use problem::{Place, Problem, Problems};
pub use read::{HUMAN, MAX_AGENTS, SHORTEST_KEEP_MS};
pub use source::MAX_BYTES;
pub use template::{Missing, NotFilled, Part, Template};

/// How texts with places are read, for other formats that are written by hand.
pub mod reading {
    pub use crate::fields::Fields;
    pub use crate::problem::Found;
    pub use crate::source::{Node, Value, parse};
}

/// The JSON Schema of the format, for editors.
pub const JSON_SCHEMA: &str = include_str!("../workflow.schema.json");

/// Where parts of a definition stand, for whoever has something to say about them.
#[derive(Debug, Default)]
pub struct Places {
    /// Each tool, by its name.
    pub tools: BTreeMap<String, Place>,
    /// Each agent, in the order of the file.
    pub agents: Vec<AgentPlaces>,
}

/// Where an agent stands, and what it is made of.
#[derive(Debug, Default)]
pub struct AgentPlaces {
    /// Where it begins.
    pub agent: Place,
    /// The keys of its `definition` and those beside it.
    pub keys: BTreeMap<String, Place>,
}

impl Places {
    /// The places of a definition that was read.
    pub fn of(text: &str) -> Places {
        let Ok(root) = source::parse(text) else { return Places::default() };
        let keys = |node: Option<&source::Node>| -> Vec<(String, Place)> {
            let entries = match node.map(|node| &node.value) {
                Some(source::Value::Map(entries)) => entries.as_slice(),
                _ => &[],
            };
            entries.iter().map(|(place, key, _)| (key.clone(), *place)).collect()
        };
        let agents = match root.entry("agents").map(|agents| &agents.value) {
            Some(source::Value::List(agents)) => agents.as_slice(),
            _ => &[],
        };
        let agent = |node: &source::Node| AgentPlaces {
            agent: node.place,
            keys: keys(Some(node)).into_iter().chain(keys(node.entry("definition"))).collect(),
        };
        Places {
            tools: keys(root.entry("tools")).into_iter().collect(),
            agents: agents.iter().map(agent).collect(),
        }
    }
}

/// Reads a definition. `file` is named in what is said about it.
pub fn parse(file: &str, text: &str) -> Result<Definition, Problems> {
    let mut found = problem::Found::default();
    let definition = match source::parse(text) {
        Ok(root) => read::definition(&root, &mut found),
        Err(problem) => {
            found.note(problem);
            None
        }
    };
    found.end(file, definition)
}
