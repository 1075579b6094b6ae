//! What is done to an execution that runs.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use omium_schemas::Seq;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Body, Route, act, examples, json_of};
use crate::port::{self, Action, Caller, Role};
use crate::problem::Problem;
use crate::request::{InPath, Shared, Whole, read};
use crate::views::Done;

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let mut done = || json_of::<Done>(schemas, examples::done());
    let happened = json!({ "question": 17, "answer": "happened", "result": { "paid": true }, "note": "seen at the bank" });
    let mut routes = vec![
        alone("/api/v1/executions/{id}/pause", "pauseExecution", "Begins nothing new", Action::Pause, done()),
        alone("/api/v1/executions/{id}/resume", "resumeExecution", "Goes on", Action::Resume, done()),
        alone(
            "/api/v1/executions/{id}/retry",
            "retryExecution",
            "Tries the failed step again",
            Action::Retry,
            done(),
        ),
        alone("/api/v1/executions/{id}/cancel", "cancelExecution", "Ends it", Action::Cancel, done()),
        alone(
            "/api/v1/executions/{id}/release",
            "releaseExecution",
            "Takes it out of quarantine: it takes commands again",
            Action::Release,
            done(),
        )
        .role(Role::Admin),
    ];
    let (told, answered) = (done(), done());
    routes.push(
        Route::post("/api/v1/executions/{id}/signal", "signalExecution", "Tells it something", told, signal)
            .body(json_of::<SignalBody>(schemas, json!({ "name": "approved", "body": { "by": "ada" } }))),
    );
    routes.push(
        Route::post(
            "/api/v1/executions/{id}/answer",
            "answerExecution",
            "Answers what it asks: whether a tool that changes something did so before a crash",
            answered,
            answer,
        )
        .body(json_of::<AnswerBody>(schemas, happened)),
    );
    routes
}

/// An action that takes nothing but its execution.
fn alone(path: &'static str, id: &'static str, summary: &'static str, action: Action, done: Body) -> Route {
    let handler =
        async move |State(shared): State<Shared>,
                    Extension(caller): Extension<Caller>,
                    InPath(id): InPath,
                    headers: HeaderMap| { act(&shared, &caller, &id, &headers, action).await };
    Route::post(path, id, summary, done, handler)
}

/// A signal.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignalBody {
    /// The signal's name.
    name: String,
    /// What comes with it.
    #[serde(default)]
    body: Value,
}

async fn signal(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let SignalBody { name, body } = read(&body)?;
    act(&shared, &caller, &id, &headers, Action::Signal { name, body }).await
}

/// What is known about a call whose outcome is not.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerBody {
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

async fn answer(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(id): InPath,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer<Json<Done>> {
    let AnswerBody { question, answer, result, note } = read(&body)?;
    let answer = match (answer, result) {
        (Verdict::Happened, result) => port::Answer::Happened { result: result.unwrap_or_default() },
        (Verdict::Repeat, None) => port::Answer::Repeat,
        (Verdict::GiveUp, None) => port::Answer::GiveUp,
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
    act(&shared, &caller, &id, &headers, action).await
}
