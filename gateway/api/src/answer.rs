//! A person's answer to what an execution asks.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use omium_schemas::Seq;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::port::{Action, Answer, Role};
use crate::problem::Problem;
use crate::request::{InPath, Known, Shared, Whole, idempotency, read};
use crate::views::Done;

/// What is known about a call whose outcome is not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerBody {
    /// The seq of the question.
    question: u64,
    /// What is known.
    answer: Verdict,
    /// What the tool answered, where it happened.
    result: Option<Value>,
    /// Why, for whoever reads the log.
    note: Option<String>,
}

/// What a person may say.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// It happened; `result` is what it answered, and it is not called again.
    Happened,
    /// It did not happen, or may happen twice: it is called again.
    Repeat,
    /// The step fails.
    GiveUp,
}

pub(crate) async fn answer(
    State(shared): State<Shared>,
    known: Known,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Json<Done>, Problem> {
    let caller = known.may(Role::Developer)?;
    let AnswerBody { question, answer, result, note } = read(&body)?;
    let answer = match (answer, result) {
        (Verdict::Happened, result) => Answer::Happened { result: result.unwrap_or_default() },
        (Verdict::Repeat, None) => Answer::Repeat,
        (Verdict::GiveUp, None) => Answer::GiveUp,
        (Verdict::Repeat | Verdict::GiveUp, Some(_)) => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "result-of-nothing",
                "a result comes with what happened",
                "send `\"answer\": \"happened\"`, or leave the result out",
            ));
        }
    };
    let action = Action::Answer { question: Seq(question), answer, note };
    Ok(Json(shared.act(&caller, &id, action, idempotency(&headers)?).await?))
}
