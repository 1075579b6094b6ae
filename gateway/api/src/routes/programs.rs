//! Programs that decide their own steps.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Route, examples, json_of, money};
use crate::port::{Caller, Decision, ProgramRequest};
use crate::problem::Problem;
use crate::request::{InPath, Shared, Whole, idempotency, read};
use crate::views::{AttemptView, Done, Started};

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let open_body = json!({ "name": "crew", "arguments": ["python", "crew.py"], "recovery": "auto", "budget_usd": "0.50" });
    let attempt = json!({ "number": 1, "token": "omx_…", "path": "/x/ex_0190f3c1a2b34c5d8e9f0a1b2c3d4e5f" });
    vec![
        Route::post(
            "/api/v1/programs",
            "openProgram",
            "Opens an execution for a program that decides its own steps",
            json_of::<Started>(schemas, examples::started()),
            open,
        )
        .body(json_of::<Open>(schemas, open_body))
        .status(201),
        Route::post(
            "/api/v1/executions/{id}/attempts",
            "beginAttempt",
            "Begins the next attempt at a program: its address and its token; earlier attempts are over",
            json_of::<AttemptView>(schemas, attempt),
            begin,
        )
        .optional_body(json_of::<Begin>(schemas, json!({ "code": "crew-1.2" })))
        .status(201),
        Route::post(
            "/api/v1/executions/{id}/attempts/end",
            "endAttempt",
            "Says how an attempt has ended",
            json_of::<Done>(schemas, examples::done()),
            end,
        )
        .body(json_of::<End>(schemas, json!({ "number": 1, "code": 0, "output": "5.2" }))),
        Route::post(
            "/api/v1/executions/{id}/decision",
            "decideFinding",
            "Decides about the finding that a program waits for",
            json_of::<Done>(schemas, examples::done()),
            decide,
        )
        .body(json_of::<Decide>(schemas, json!({ "decision": "apply", "remedy": 1 }))),
    ]
}

/// A program that is about to be run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Open {
    /// The program's name.
    name: String,
    /// How it is called.
    #[serde(default)]
    arguments: Value,
    /// auto, approve or off: who applies remedies. Else auto.
    recovery: Option<String>,
    /// The most it may cost, in dollars, as digits.
    budget_usd: Option<String>,
}

async fn open(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let Open { name, arguments, recovery, budget_usd } = read(&body)?;
    let budget = budget_usd.as_deref().map(money).transpose()?;
    let request = ProgramRequest { name, arguments, recovery, budget, idempotency: idempotency(&headers)? };
    let started = shared.engine.open_program(&caller, request).await?;
    let status = if started.repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(started)).into_response())
}

/// An attempt at a program.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Begin {
    /// What tells the program's code apart from another version of it.
    code: Option<String>,
}

async fn begin(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Response> {
    let Begin { code } = read(&body)?;
    let attempt = shared.engine.begin_attempt(&caller, &id, code).await?;
    Ok((StatusCode::CREATED, Json(attempt)).into_response())
}

/// How an attempt has ended.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct End {
    /// Which attempt.
    number: i64,
    /// Its exit code; 128 and a signal's number where a signal ended it.
    code: i32,
    /// Its result.
    #[serde(default)]
    output: Value,
}

async fn end(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let End { number, code, output } = read(&body)?;
    Ok(Json(shared.engine.end_attempt(&caller, &id, number, code, output).await?))
}

/// What a person decides about a finding.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Decide {
    /// apply, dismiss or refuse.
    decision: String,
    /// With apply: which remedy; else the best one.
    remedy: Option<i32>,
    /// Why, for those who read the log. A remedy that is applied takes none.
    note: Option<String>,
}

async fn decide(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let Decide { decision, remedy, note } = read(&body)?;
    let decision = match decision.as_str() {
        "apply" => Decision::Apply(remedy),
        "dismiss" => Decision::Dismiss,
        "refuse" => Decision::Refuse,
        other => {
            return Err(unprocessable(
                "bad-decision",
                format!("`{other}` is no decision"),
                "apply, dismiss or refuse",
            ));
        }
    };
    Ok(Json(shared.engine.decide(&caller, &id, decision, note).await?))
}

fn unprocessable(code: &'static str, detail: String, hint: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail, hint)
}
