//! Conditions over the state of a run, in CEL: `inputs`, `outputs` by agent, and `output` of the step that is judged.

use std::cell::Cell;

use omium_processor::Context;
use omium_rules::{check, json};
use omium_schemas::Content;
use serde_json::Value as Json;

use crate::state::{Phase, Run};

pub(crate) use omium_rules::compiles;

/// Whether the rule holds; if not, why.
pub(crate) fn holds(
    rule: &str,
    run: &Run,
    output: Option<&Content>,
    context: &Context<'_>,
) -> Result<(), String> {
    // What is not at hand is not `null`: who decides is asked again when it is, and until then no rule holds.
    let missing = Cell::new(false);
    let read = |content: Option<&Content>| {
        let Some(content) = content else { return Json::Null };
        let opened = (context.open)(content);
        missing.set(missing.get() || opened.is_none());
        opened.map_or(Json::Null, |bytes| json(&bytes))
    };
    let outputs: serde_json::Map<String, Json> = run
        .plan
        .iter()
        .zip(&run.steps)
        .filter_map(|(plan, step)| match &step.phase {
            Phase::Done { output, .. } => Some((plan.agent.clone(), read(output.as_ref()))),
            _ => None,
        })
        .collect();
    let (inputs, output) = (read(run.inputs.as_ref()), read(output));
    if missing.get() {
        return Err("content that the rule looks at cannot be read".to_owned());
    }
    check(rule, [("inputs", inputs), ("outputs", outputs.into()), ("output", output)])
}
