//! Conditions over the state of a run, in CEL: `inputs`, `outputs` by agent, and `output` of the step that is judged.

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
    let read = |content: Option<&Content>| {
        content.and_then(|content| (context.open)(content)).map_or(Json::Null, |bytes| json(&bytes))
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
    check(
        rule,
        [("inputs", read(run.inputs.as_ref())), ("outputs", outputs.into()), ("output", read(output))],
    )
}
