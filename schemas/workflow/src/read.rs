//! A tree of values as a definition. Reading goes on after a mistake, so that all of them are told at once.

use std::collections::{BTreeMap, BTreeSet};

use omium_limits::told;
use omium_schemas::catalogue::OnFailure;
use serde_json::Value as Json;

use crate::definition::{Agent, Definition, Order, Retry};
use crate::fields::Fields;
use crate::problem::{Found, Place};
use crate::source::{Node, Value};
use crate::template::{self, Sources};

/// How many agents a workflow may have.
pub const MAX_AGENTS: usize = 1_000;
/// How long what has ended is kept at least.
pub const SHORTEST_KEEP_MS: u64 = 24 * 60 * 60 * 1_000;
/// The framework of a step that a person or another system completes.
pub const HUMAN: &str = "human";
const FRAMEWORKS: &[(&str, ())] = &[
    ("native", ()),
    ("crewai", ()),
    ("langgraph", ()),
    ("autogen", ()),
    ("semantic-kernel", ()),
    ("program", ()),
    (HUMAN, ()),
];

// Why keys have no effect yet, and what to write instead.
const CONSTRAINTS: &str = "write the rule as `ensure` of an agent, which holds for every framework";
const RECOVERY: &str = "leave it out: a step is tried again as its `retry` says, and programs heal under `omium exec --recovery`";

/// An agent, and the names that it wants to come after.
struct Named<'n> {
    agent: Agent,
    place: Place,
    after: Vec<(Place, &'n str)>,
    input: Option<&'n Node>,
    /// What a native agent is asked.
    prompts: Vec<&'n Node>,
}

pub(crate) fn definition(root: &Node, found: &mut Found) -> Option<Definition> {
    let mut fields = Fields::of(root, "a workflow", found)?;
    let name = identifier(&mut fields, "name", found);
    let description = fields.text("description", found);
    let inputs = schema(&mut fields, "inputs", found);
    let order = [("sequential", Order::Sequential), ("parallel", Order::Parallel), ("graph", Order::Graph)];
    let order = fields.choice("execution_order", &order, found);
    let failure = [("finish_others", OnFailure::FinishOthers), ("cancel_others", OnFailure::CancelOthers)];
    let on_failure = fields.choice("on_failure", &failure, found).unwrap_or(OnFailure::FinishOthers);
    let timeout_ms = fields.duration("timeout", found);
    let keep_ms = keep(&mut fields, found);
    let budget = fields.budget("budget", found);
    let tools = tools(&mut fields, found);
    fields.not_yet("recovery", RECOVERY, found);
    fields.not_yet("constraints", CONSTRAINTS, found);
    let output = fields.get("output");
    let agents = agents(&mut fields, found);
    fields.end(found);

    let names: Vec<&str> = agents.iter().map(|named| named.agent.id.as_str()).collect();
    let output = output.map(|node| {
        let output = template::read(node, found);
        template::check(node, &Sources { done: &names, inputs: inputs.as_ref(), own: false }, found);
        output
    });
    let order = order.unwrap_or(if agents.iter().any(|named| !named.after.is_empty()) {
        Order::Graph
    } else {
        Order::Sequential
    });
    let agents = link(agents, order, inputs.as_ref(), found);
    Some(Definition {
        name: name?,
        description,
        inputs,
        agents,
        order,
        on_failure,
        timeout_ms,
        keep_ms,
        budget,
        output,
        tools,
    })
}

/// A day at least: for so long an idempotency key is known, and what it stands for with it.
fn keep(fields: &mut Fields<'_>, found: &mut Found) -> Option<u64> {
    let place = fields.get("keep")?.place;
    let keep = fields.duration("keep", found)?;
    if keep < SHORTEST_KEEP_MS {
        found.add(
            place,
            "`keep` is shorter than a day",
            "keep what has ended for a day at least: `keep: 1d`",
        );
    }
    Some(keep)
}

fn identifier(fields: &mut Fields<'_>, key: &'static str, found: &mut Found) -> Option<String> {
    let place = fields.place;
    let node = fields.get(key);
    let text = match node.map(|node| &node.value) {
        Some(Value::Text(text)) => text.as_str(),
        _ => "",
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Some(text.to_owned());
    }
    let place = node.map_or(place, |node| node.place);
    found.add(
        place,
        format!("`{key}` is missing or no name"),
        "a name has 1 to 64 of the characters A-Z a-z 0-9 _ . -",
    );
    None
}

fn schema(fields: &mut Fields<'_>, key: &'static str, found: &mut Found) -> Option<Json> {
    let node = fields.get(key)?;
    match &node.value {
        Value::Map(entries) => {
            check_schema(entries, found);
            let schema = node.json();
            for wrong in omium_limits::Schema::wrong(&schema) {
                let place = node.at(&wrong.path).place;
                // What was told already in the words of a person need not be told once more.
                if !found.has(place) {
                    let text = format!("`{key}` cannot be used: {}", wrong.what);
                    found.add(place, text, "see json-schema.org, draft 2020-12");
                }
            }
            Some(schema)
        }
        _ => {
            found.add(
                node.place,
                format!("`{key}` is not a JSON Schema"),
                "for example `{type: object, required: [amount]}`",
            );
            None
        }
    }
}

// The mistakes that people make, in their words and at their place.
fn check_schema(entries: &[(Place, String, Node)], found: &mut Found) {
    const TYPES: &[&str] = &["object", "array", "string", "number", "integer", "boolean", "null"];
    for (_, key, node) in entries {
        match (key.as_str(), &node.value) {
            ("type", Value::Text(name)) if !TYPES.contains(&name.as_str()) => {
                let hint = crate::fields::closest(name, TYPES).map_or_else(
                    || format!("it is one of: {}", TYPES.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                found.add(node.place, format!("JSON Schema has no type `{}`", told(name)), hint);
            }
            ("properties", Value::Map(properties)) => {
                for (_, _, property) in properties {
                    if let Value::Map(inner) = &property.value {
                        check_schema(inner, found);
                    }
                }
            }
            ("properties", _) => found.add(
                node.place,
                "`properties` is not a mapping",
                "write `properties: {name: {type: string}}`",
            ),
            ("items", Value::Map(inner)) => check_schema(inner, found),
            ("required", Value::List(names))
                if names.iter().all(|name| matches!(name.value, Value::Text(_))) => {}
            ("required", _) => found.add(
                node.place,
                "`required` is not a list of names",
                "write `required: [amount, income]`",
            ),
            _ => {}
        }
    }
}

fn tools(fields: &mut Fields<'_>, found: &mut Found) -> BTreeMap<String, Json> {
    let Some(node) = fields.get("tools") else { return BTreeMap::new() };
    match &node.value {
        Value::Map(entries) => entries.iter().map(|(_, name, node)| (name.clone(), node.json())).collect(),
        _ => {
            found.add(
                node.place,
                format!("`tools` is {}", node.kind()),
                "write `tools: {name: {http: {…}}}`",
            );
            BTreeMap::new()
        }
    }
}

fn agents<'n>(fields: &mut Fields<'n>, found: &mut Found) -> Vec<Named<'n>> {
    let place = fields.place;
    let items = match fields.get("agents").map(|node| (&node.value, node.place)) {
        Some((Value::List(items), _)) if !items.is_empty() => items,
        other => {
            let place = other.map_or(place, |(_, place)| place);
            found.add(
                place,
                "`agents` is not a list with something in it",
                "write `agents:` and below it `- id: …` for each",
            );
            return Vec::new();
        }
    };
    if items.len() > MAX_AGENTS {
        found.add(
            items[MAX_AGENTS].place,
            format!("there are {} agents; {MAX_AGENTS} are allowed", items.len()),
            "split the workflow",
        );
    }
    items.iter().take(MAX_AGENTS).filter_map(|item| agent(item, found)).collect()
}

fn agent<'n>(node: &'n Node, found: &mut Found) -> Option<Named<'n>> {
    let mut fields = Fields::of(node, "an agent", found)?;
    let id = identifier(&mut fields, "id", found);
    let framework = match fields.text("framework", found) {
        Some(name) if FRAMEWORKS.iter().any(|(known, ())| *known == name) => name,
        Some(name) => {
            let known: Vec<&str> = FRAMEWORKS.iter().map(|(known, ())| *known).collect();
            let hint = crate::fields::closest(&name, &known).map_or_else(
                || format!("it is one of: {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            let place = fields.get("framework").map_or(node.place, |node| node.place);
            found.add(place, format!("there is no framework `{}`", told(&name)), hint);
            name
        }
        None => "native".to_owned(),
    };
    let written = fields.get("definition");
    let definition = written.map_or(Json::Null, Node::json);
    let input_node = fields.get("input");
    let input = input_node.map(|node| template::read(node, found));
    let input_schema = schema(&mut fields, "input_schema", found);
    let output_schema = schema(&mut fields, "output_schema", found);
    fields.not_yet("constraints", CONSTRAINTS, found);
    fields.not_yet("recovery", RECOVERY, found);
    let after = list(&mut fields, "after", found)
        .iter()
        .filter_map(|node| match &node.value {
            Value::Text(name) => Some((node.place, name.as_str())),
            _ => {
                found.add(
                    node.place,
                    "`after` holds something that is no name",
                    "write `after: [first, second]`",
                );
                None
            }
        })
        .collect();
    let timeout_ms = fields.duration("timeout", found);
    let retry = fields.get("retry").and_then(|node| retry(node, found)).unwrap_or_default();
    let budget = fields.budget("budget", found);
    let require = rule(&mut fields, "require", &["inputs", "outputs"], found);
    let ensure = rule(&mut fields, "ensure", &["inputs", "outputs", "output"], found);
    let signal = fields.text("signal", found);
    let signal = if framework == HUMAN { signal.or_else(|| id.clone()) } else { signal };
    // What a native agent is may also stand beside its id: that is how short files are written.
    let (definition, beside) = beside(definition, &mut fields, found);
    fields.end(found);
    let inner = ["prompt", "system"].into_iter().filter_map(|key| written?.entry(key));
    let is_native = framework == "native";
    let prompts: Vec<&Node> = inner.chain(beside).filter(|node| is_native && node.is_text()).collect();
    for node in &prompts {
        template::read(node, found);
    }
    let agent = Agent {
        id: id?,
        framework,
        definition,
        input,
        input_schema,
        output_schema,
        after: Vec::new(),
        timeout_ms,
        retry,
        budget,
        require,
        ensure,
        signal,
    };
    Some(Named { agent, place: node.place, after, input: input_node, prompts })
}

/// The definition with what stands beside it, and the prompt if that does.
fn beside<'n>(definition: Json, fields: &mut Fields<'n>, found: &mut Found) -> (Json, Option<&'n Node>) {
    let (mut definition, mut prompt) = (definition, None);
    for key in ["model", "prompt", "tools"] {
        let Some(node) = fields.get(key) else { continue };
        if definition.is_null() {
            definition = serde_json::Map::new().into();
        }
        if let Json::Object(inner) = &mut definition {
            if inner.contains_key(key) {
                let text = format!("`{key}` stands beside the definition and in it");
                found.add(node.place, text, "keep one of the two");
            }
            inner.entry(key).or_insert_with(|| node.json());
        }
        prompt = prompt.or(Some(node).filter(|_| key == "prompt"));
    }
    (definition, prompt)
}

fn list<'n>(fields: &mut Fields<'n>, key: &'static str, found: &mut Found) -> &'n [Node] {
    match fields.get(key).map(|node| (&node.value, node)) {
        None => &[],
        Some((Value::List(items), _)) => items,
        Some((_, node)) => {
            found.add(
                node.place,
                format!("`{key}` is {}, not a list", node.kind()),
                format!("write `{key}: […]`"),
            );
            &[]
        }
    }
}

/// A rule in CEL over these names.
fn rule(fields: &mut Fields<'_>, key: &'static str, names: &[&str], found: &mut Found) -> Option<String> {
    let place = fields.get(key).map(|node| node.place)?;
    let rule = fields.text(key, found)?;
    if let Err(why) = omium_rules::speaks_of(&rule, names) {
        found.add(
            place,
            format!("`{key}` cannot be used: {why}"),
            "rules are written in CEL, for example `output.apr >= 2.5`",
        );
    }
    Some(rule)
}

fn retry(node: &Node, found: &mut Found) -> Option<Retry> {
    let mut fields = Fields::of(node, "`retry`", found)?;
    let usual = Retry::default();
    let attempts = fields.whole("attempts", 1, 100, found).map_or(usual.attempts, |count| count as u32);
    let backoff_ms = fields.duration("backoff", found).unwrap_or(usual.backoff_ms);
    fields.end(found);
    Some(Retry { attempts, backoff_ms })
}

/// Turns names into places in the list, and finds what cannot be ordered.
fn link(named: Vec<Named<'_>>, order: Order, inputs: Option<&Json>, found: &mut Found) -> Vec<Agent> {
    let ids: Vec<String> = named.iter().map(|named| named.agent.id.clone()).collect();
    let mut known = BTreeSet::new();
    for one in &named {
        if !known.insert(one.agent.id.as_str()) {
            found.add(
                one.place,
                format!("a second agent is called `{}`", one.agent.id),
                "give each agent an id of its own",
            );
        }
    }
    let places: BTreeMap<&str, usize> =
        ids.iter().enumerate().rev().map(|(at, id)| (id.as_str(), at)).collect();
    let before_each = |(at, one): (usize, &Named<'_>)| predecessors(at, one, order, &places, found);
    let after: Vec<Vec<usize>> = named.iter().enumerate().map(before_each).collect();
    let before = closure(&after);
    for (at, one) in named.iter().enumerate() {
        if before[at].binary_search(&at).is_ok() {
            found.add(
                one.place,
                format!("`{}` waits for itself, by way of those that it comes after", one.agent.id),
                "remove one `after` from the circle",
            );
        }
        let done: Vec<&str> = before[at].iter().map(|other| ids[*other].as_str()).collect();
        if let Some(input) = one.input {
            template::check(input, &Sources { done: &done, inputs, own: false }, found);
        }
        for prompt in &one.prompts {
            template::check(prompt, &Sources { done: &done, inputs, own: true }, found);
        }
    }
    named.into_iter().zip(after).map(|(one, after)| Agent { after, ..one.agent }).collect()
}

fn predecessors(
    at: usize,
    one: &Named<'_>,
    order: Order,
    places: &BTreeMap<&str, usize>,
    found: &mut Found,
) -> Vec<usize> {
    if order != Order::Graph {
        if let Some((place, _)) = one.after.first() {
            found.add(*place, "`after` has a meaning in a graph only", "write `execution_order: graph`");
        }
        return if order == Order::Sequential && at > 0 { vec![at - 1] } else { Vec::new() };
    }
    let mut after = BTreeSet::new();
    for (place, name) in &one.after {
        if let Some(other) = places.get(*name) {
            after.insert(*other);
        } else if found.is_full() {
            found.more();
        } else {
            // One that is there twice is told of once.
            let known: Vec<&str> = places.keys().copied().collect();
            let hint = crate::fields::closest(name, &known).map_or_else(
                || format!("there are: {}", crate::fields::listed(&known)),
                |near| format!("did you mean `{near}`?"),
            );
            let name = told(name);
            found.add(*place, format!("`after` names `{name}`, and no agent is called so"), hint);
        }
    }
    after.into_iter().collect()
}

/// All that comes before each, however far.
fn closure(after: &[Vec<usize>]) -> Vec<Vec<usize>> {
    (0..after.len())
        .map(|at| {
            let mut seen = vec![false; after.len()];
            let mut open: Vec<usize> = after[at].clone();
            while let Some(other) = open.pop() {
                if !std::mem::replace(&mut seen[other], true) {
                    open.extend(&after[other]);
                }
            }
            (0..after.len()).filter(|other| seen[*other]).collect()
        })
        .collect()
}
