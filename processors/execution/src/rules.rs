//! Conditions over the state of a run, in CEL: `inputs`, `outputs` by agent, and `output` of the step that is judged.

use std::cell::Cell;

use omium_limits::Fuel;
use omium_processor::Context;
use omium_rules::{json, judge, paths};
use omium_schemas::Content;
use serde_json::{Map, Value as Json};

use crate::state::{Phase, Run};

pub(crate) use omium_rules::compiles;

/// Whether the rule holds; if not, why. Only what the rule speaks of is opened, and paid for like all that it does.
pub(crate) fn holds(
    rule: &str,
    run: &Run,
    output: Option<&Content>,
    context: &Context<'_>,
    fuel: &Cell<Fuel>,
) -> Result<(), String> {
    let mut left = fuel.get();
    let held = judged(rule, run, output, context, &mut left);
    fuel.set(left);
    held
}

fn judged(
    rule: &str,
    run: &Run,
    output: Option<&Content>,
    context: &Context<'_>,
    fuel: &mut Fuel,
) -> Result<(), String> {
    let spoken = paths(rule)?;
    let speaks_of = |name: &str| spoken.iter().any(|path| path[0] == name);
    let speaks_of_output = |agent: &str| {
        spoken.iter().any(|path| path[0] == "outputs" && path.get(1).is_none_or(|of| of == agent))
    };
    // What is not at hand is not `null`. All of it is looked for before that is said, so that it is fetched in one go; then
    // the rule is asked again.
    let missing = Cell::new(false);
    let mut read = |content: Option<&Content>| {
        let Some(content) = content else { return Ok(Json::Null) };
        let Some(bytes) = (context.open)(content) else {
            missing.set(true);
            return Ok(Json::Null);
        };
        let paid = fuel.take(bytes.len() / BYTES_A_STEP);
        paid.map(|()| json(&bytes)).map_err(|spent| format!("`{rule}` cannot be checked: {spent}"))
    };
    let mut outputs = Map::new();
    for (plan, step) in run.plan.iter().zip(&run.steps) {
        if let Phase::Done { output, .. } = &step.phase
            && speaks_of_output(&plan.agent)
        {
            outputs.insert(plan.agent.clone(), read(output.as_ref())?);
        }
    }
    let outputs = Json::from(outputs);
    let inputs = if speaks_of("inputs") { read(run.inputs.as_ref())? } else { Json::Null };
    let output = if speaks_of("output") { read(output)? } else { Json::Null };
    if missing.get() {
        return Err(format!("`{rule}` cannot be checked: content that it speaks of cannot be read"));
    }
    let names = [("inputs", &inputs), ("outputs", &outputs), ("output", &output)];
    judge(rule, &names, fuel).map_err(|why| why.to_string())
}

/// How many bytes are read and built in the time of one step.
const BYTES_A_STEP: usize = 8;
