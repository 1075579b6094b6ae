//! Definitions: published, listed, checked.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::SchemaGenerator;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Body, Parameter, Route, examples, json_of};
use crate::port::{Caller, Role};
use crate::problem::Problem;
use crate::request::{InPath, InQuery, Shared, Whole};
use crate::views::{Items, Published, Validated, WorkflowView};

const FILE: Parameter = ("file", "string", "The name that problems are told with.", "loan.yaml");

pub(super) fn routes(schemas: &mut SchemaGenerator) -> Vec<Route> {
    let definition = || Body::Text("application/yaml", examples::DEFINITION);
    let list = json_of::<Items<WorkflowView>>(schemas, json!({ "items": [examples::workflow(false)] }));
    let one = json_of::<WorkflowView>(schemas, examples::workflow(true));
    let published = json_of::<Published>(schemas, examples::published());
    let valid = json!({ "valid": true, "name": "loan-decision", "problems": [] });
    let validated = json_of::<Validated>(schemas, valid);
    vec![
        Route::post(
            "/api/v1/workflows",
            "publishWorkflow",
            "Publishes a version; the same text again is the same version",
            published,
            publish,
        )
        .query(&[FILE])
        .body(definition())
        .status(201),
        Route::get("/api/v1/workflows", "listWorkflows", "All workflows, newest versions", list, workflows),
        Route::post(
            "/api/v1/workflows/validate",
            "validateWorkflow",
            "Tells everything that is wrong with a definition",
            validated,
            validate,
        )
        .query(&[FILE])
        .optional_body(definition())
        .role(Role::Viewer),
        Route::get(
            "/api/v1/workflows/{name}",
            "getWorkflow",
            "One workflow, `name` or `name@3`, with its text",
            one,
            workflow,
        ),
        Route::get(
            "/api/v1/schemas/workflow",
            "getWorkflowSchema",
            "The JSON Schema of definitions, for editors",
            Body::Object("application/schema+json"),
            schema,
        )
        .for_everybody(),
    ]
}

async fn schema() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], omium_workflow::JSON_SCHEMA).into_response()
}

async fn workflows(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<Items<WorkflowView>>> {
    Ok(Json(Items { items: shared.engine.workflows(&caller).await? }))
}

async fn workflow(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InPath(name): InPath,
) -> Answer<Response> {
    Ok(Json(shared.engine.workflow(&caller, &name).await?).into_response())
}

#[derive(Deserialize)]
struct File {
    file: Option<String>,
}

fn definition(body: &[u8]) -> Answer<&str> {
    std::str::from_utf8(body).map_err(|error| {
        let detail = format!("the definition is not UTF-8: byte {} is wrong", error.valid_up_to());
        Problem::new(StatusCode::BAD_REQUEST, "bad-text", detail, "save the file as UTF-8")
    })
}

async fn publish(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    InQuery(File { file }): InQuery<File>,
    Whole(body): Whole,
) -> Answer<Response> {
    let view =
        shared.engine.publish(&caller, file.as_deref().unwrap_or("definition"), definition(&body)?).await?;
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

async fn validate(
    State(shared): State<Shared>,
    InQuery(File { file }): InQuery<File>,
    Whole(body): Whole,
) -> Answer<Json<Validated>> {
    Ok(Json(match shared.engine.read(file.as_deref().unwrap_or("definition"), definition(&body)?) {
        Ok(definition) => Validated { valid: true, name: Some(definition.name), problems: json!([]) },
        Err(problems) => Validated { valid: false, name: None, problems: json!(problems.problems) },
    }))
}
