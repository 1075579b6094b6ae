//! Workflow definitions: YAML or JSON in, everything that is wrong in one go, or a plan that an execution decides by.

mod definition;
mod fields;
mod plan;
mod problem;
mod read;
mod source;
mod template;

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

/// Where each tool of a definition stands, for whoever has something to say about it.
pub fn places_of_tools(text: &str) -> std::collections::BTreeMap<String, Place> {
    fn entries(node: source::Node) -> Vec<(Place, String, source::Node)> {
        match node.value {
            source::Value::Map(entries) => entries,
            _ => Vec::new(),
        }
    }
    let root = source::parse(text).map(entries).unwrap_or_default();
    let tools = root.into_iter().find(|(_, key, _)| key == "tools");
    let tools = tools.map(|(.., tools)| entries(tools)).unwrap_or_default();
    tools.into_iter().map(|(place, name, _)| (name, place)).collect()
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
