//! Tools that programs call: recorded before they are called, and served again to an attempt that calls them again.

use axum::Json;
use axum::response::{IntoResponse, Response};
use omium_schemas::Seq;
use omium_schemas::catalogue::EffectClass;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::caller;
use crate::port::{Attempt, BegunTool, Ledger, Refused, ToolCall, ToolEnd};

/// The longest name of a tool or of a caller.
const LONGEST: usize = 256;
/// How much of what is wrong with a body is told, in bytes.
const MOST_TOLD: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    caller: String,
    tool: String,
    effect: String,
    #[serde(default)]
    arguments: Value,
    position: Option<String>,
    /// The same request was sent before and got no answer.
    #[serde(default)]
    repeats: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fence {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    result: Option<Value>,
    failed: Option<String>,
}

pub(crate) async fn begin(ledger: &dyn Ledger, attempt: &Attempt, body: &[u8]) -> Result<Response, Refused> {
    let Start { caller, tool, effect, arguments, position, repeats } = read(body)?;
    let effect = match effect.as_str() {
        "read" => EffectClass::Read,
        "idempotent" => EffectClass::Idempotent,
        "write" => EffectClass::Write,
        "irreversible" => EffectClass::Irreversible,
        other => {
            let detail = format!("`{other}` is no effect class");
            return Err(bad(detail, "it is one of: read, idempotent, write, irreversible"));
        }
    };
    for name in [&caller, &tool] {
        if name.trim().is_empty() || name.len() > LONGEST {
            return Err(bad(
                format!("`caller` and `tool` have 1 to {LONGEST} bytes"),
                "name the tool as the agent does",
            ));
        }
    }
    let (caller, tool) = (caller.trim().to_owned(), tool.trim().to_owned());
    let agent = caller::agent_of(&caller).to_owned();
    let position = position.as_deref().and_then(caller::fitting);
    let call = ToolCall { agent, caller, position, tool, effect, arguments, repeats };
    Ok(Json(match ledger.begin_tool(attempt, call).await? {
        BegunTool::New(call) => json!({ "call": call.0 }),
        // A program that repeats itself knows by the number whether it has had this call before.
        BegunTool::Recorded(call, result) => json!({ "recorded": { "result": result, "call": call.0 } }),
        BegunTool::Failed(call, reason) => json!({ "failed": { "reason": reason, "call": call.0 } }),
    })
    .into_response())
}

/// A program that could not tell what a tool has done is not to go on: its framework may hand our error to the model.
pub(crate) async fn fence(ledger: &dyn Ledger, attempt: &Attempt, body: &[u8]) -> Result<Response, Refused> {
    let Fence { reason } = read(body)?;
    let reason: String = reason.chars().take(2_000).collect();
    ledger.fence(attempt, &reason).await?;
    Ok(Json(json!({})).into_response())
}

pub(crate) async fn end(
    ledger: &dyn Ledger,
    attempt: &Attempt,
    call: &str,
    body: &[u8],
) -> Result<Response, Refused> {
    let call = call
        .parse()
        .map(Seq)
        .map_err(|_| bad(format!("`{call}` is no call's number"), "it is what `call` said"))?;
    let end = match read(body)? {
        End { result: Some(result), failed: None } => ToolEnd::Result(result),
        End { result: None, failed: Some(reason) } => ToolEnd::Failed(reason),
        End { result: None, failed: None } => ToolEnd::Result(Value::Null),
        End { .. } => return Err(bad("a tool answers or fails, not both", "send `result` or `failed`")),
    };
    ledger.end_tool(attempt, call, end).await?;
    Ok(Json(json!({})).into_response())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let wrong = |why: &str| {
        let why = omium_limits::clipped(why, MOST_TOLD);
        bad(format!("the body is not what this route takes: {why}"), "see the SDK")
    };
    // Counted before it is built: a small body may hold very many values.
    omium_limits::json::check(body, &omium_limits::Limits::VALUES).map_err(|why| wrong(&why.to_string()))?;
    omium_limits::json::typed(body).map_err(|why| wrong(&why.to_string()))
}

fn bad(detail: impl Into<String>, hint: &str) -> Refused {
    Refused::new(400, "bad-body", detail, hint)
}
