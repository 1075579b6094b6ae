//! Programs that decide their own steps, and the checks on their agents: what the engine does for them, and the routes.

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use omium_schemas::Money;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::port::{Caller, Failure, FailureKind, Role};
use crate::problem::Problem;
use crate::request::{InPath, Known, Shared, Whole, idempotency, read};
use crate::rest::money;
use crate::views::{AttemptView, Done, GuardView, Items, Started};

type Answer<T> = Result<T, Problem>;

/// A program that is about to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramRequest {
    /// Its name.
    pub name: String,
    /// How it is called.
    pub arguments: Value,
    /// auto, approve or off; auto where nothing is said.
    pub recovery: Option<String>,
    /// The most it may cost.
    pub budget: Option<Money>,
    /// The same key with the same request opens one execution only.
    pub idempotency: Option<String>,
}

/// What a person decides about the finding that a program waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A remedy is applied: this suggestion, or the best one.
    Apply(Option<i32>),
    /// The finding is none: the answer is taken as it is.
    Dismiss,
    /// The program does not go on.
    Refuse,
}

/// What an engine does for programs. One that runs none refuses.
#[async_trait]
pub trait Programs: Send + Sync + 'static {
    /// Opens an execution for a program that decides its own steps.
    async fn open_program(&self, caller: &Caller, request: ProgramRequest) -> Result<Started, Failure> {
        let _ = (caller, request);
        Err(unknown())
    }

    /// Begins the next attempt at a program; earlier ones are over.
    async fn begin_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        code: Option<String>,
    ) -> Result<AttemptView, Failure> {
        let _ = (caller, execution, code);
        Err(unknown())
    }

    /// Says that an attempt has ended, how, and with what result.
    async fn end_attempt(
        &self,
        caller: &Caller,
        execution: &str,
        number: i64,
        code: i32,
        output: Value,
    ) -> Result<Done, Failure> {
        let _ = (caller, execution, number, code, output);
        Err(unknown())
    }

    /// Decides about the finding that a program waits for.
    async fn decide(
        &self,
        caller: &Caller,
        execution: &str,
        decision: Decision,
        note: Option<String>,
    ) -> Result<Done, Failure> {
        let _ = (caller, execution, decision, note);
        Err(unknown())
    }

    /// The checks on agents of programs.
    async fn guards(&self, caller: &Caller) -> Result<Vec<GuardView>, Failure> {
        let _ = caller;
        Err(unknown())
    }

    /// Puts a check on an agent; one of the same name is replaced.
    async fn set_guard(&self, caller: &Caller, guard: GuardView) -> Result<GuardView, Failure> {
        let _ = (caller, guard);
        Err(unknown())
    }

    /// Takes a check away, and says what it was.
    async fn drop_guard(&self, caller: &Caller, name: &str) -> Result<GuardView, Failure> {
        let _ = (caller, name);
        Err(unknown())
    }
}

fn unknown() -> Failure {
    let hint = "ask a server that `omium dev` or `omium serve` runs";
    Failure::new(FailureKind::Invalid, "no-programs", "this engine runs no programs", hint)
}

/// A program that is about to be run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
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

pub(crate) async fn open(
    State(shared): State<Shared>,
    known: Known,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
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
pub(crate) struct Begin {
    /// What tells the program's code apart from another version of it.
    code: Option<String>,
}

pub(crate) async fn begin(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let Begin { code } = read(&body)?;
    let attempt = shared.engine.begin_attempt(&caller, &id, code).await?;
    Ok((StatusCode::CREATED, Json(attempt)).into_response())
}

/// How an attempt has ended.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    /// Which attempt.
    number: i64,
    /// Its exit code; 128 and a signal's number where a signal ended it.
    code: i32,
    /// Its result.
    #[serde(default)]
    output: Value,
}

pub(crate) async fn end(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
    let End { number, code, output } = read(&body)?;
    Ok(Json(shared.engine.end_attempt(&caller, &id, number, code, output).await?))
}

/// What a person decides about a finding.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decide {
    /// apply, dismiss or refuse.
    decision: String,
    /// With apply: which remedy; else the best one.
    remedy: Option<i32>,
    /// Why, for those who read the log. A remedy that is applied takes none.
    note: Option<String>,
}

pub(crate) async fn decide(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let caller = known.may(Role::Developer)?;
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

pub(crate) async fn guards(State(shared): State<Shared>, known: Known) -> Answer<Json<Items<GuardView>>> {
    let caller = known.may(Role::Viewer)?;
    Ok(Json(Items { items: shared.engine.guards(&caller).await? }))
}

pub(crate) async fn set_guard(
    State(shared): State<Shared>,
    known: Known,
    Whole(body): Whole,
) -> Answer<Response> {
    let caller = known.may(Role::Developer)?;
    let guard = shared.engine.set_guard(&caller, read(&body)?).await?;
    Ok((StatusCode::CREATED, Json(guard)).into_response())
}

pub(crate) async fn drop_guard(
    State(shared): State<Shared>,
    known: Known,
    InPath(name): InPath,
) -> Answer<Json<GuardView>> {
    let caller = known.may(Role::Developer)?;
    Ok(Json(shared.engine.drop_guard(&caller, &name).await?))
}

fn unprocessable(code: &'static str, detail: String, hint: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail, hint)
}
