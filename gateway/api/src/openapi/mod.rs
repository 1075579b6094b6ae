//! The document of the API, OpenAPI 3.1, made from the types that are served and the rows of the routes.

mod postman;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use self::postman::collection as postman;
use crate::port::Role;
use crate::routes::{self, Body, Route, examples};
use crate::views::ProblemView;

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut schemas = settings.into_generator();
    let problem = schemas.subschema_for::<ProblemView>();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::all(&mut schemas) {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = described(&route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Omium",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Workflows of agents that survive. Errors are problems (RFC 9457) with `code`, `detail` and `hint`. \
                A key maps to a tenant and a role; what is another tenant's is not there (404). Workers and checkpoints are \
                also served over gRPC on this port: `proto/omium/v1`.",
        },
        "servers": [{ "url": "http://127.0.0.1:7460" }],
        "security": [{ "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "Problem": {
                    "description": "It was not done; `hint` says what to do next.",
                    "content": { "application/problem+json": { "schema": problem, "example": examples::problem() } },
                },
            },
            "schemas": taken(schemas),
        },
    })
}

fn taken(mut schemas: SchemaGenerator) -> Map<String, Value> {
    schemas.take_definitions(true)
}

fn described(route: &Route) -> Value {
    let Route { id, summary, role, status, answer, .. } = route;
    let mut described = json!({
        "operationId": id,
        "summary": summary,
        "parameters": parameters(route),
        "responses": {
            status.to_string(): { "description": "Done.", "content": content(answer) },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    match role {
        Some(role) => described["x-omium-role"] = json!(format!("{role:?}").to_lowercase()),
        None => described["security"] = json!([]),
    }
    if let Some(body) = &route.body {
        described["requestBody"] = json!({ "required": route.needs_body, "content": content(body) });
    }
    described
}

fn content(body: &Body) -> Value {
    match body {
        Body::Json(schema, example) => {
            json!({ "application/json": { "schema": schema, "example": example } })
        }
        Body::Object(kind) => {
            json!({ *kind: { "schema": { "type": "object" }, "example": { "type": "object" } } })
        }
        Body::Text(kind, example) => json!({ *kind: { "schema": { "type": "string" }, "example": example } }),
        Body::Nothing => json!({}),
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    for name in
        ["id", "name", "key", "content"].iter().filter(|name| route.path.contains(&format!("{{{name}}}")))
    {
        parameters.push(json!({
            "name": name, "in": "path", "required": true, "schema": { "type": "string" },
            "example": examples::in_path(name),
        }));
    }
    for (name, kind, text, example) in route.query {
        let schema = json!({ "type": kind });
        let example: Value = serde_json::from_str(example).unwrap_or_else(|_| json!(example));
        parameters.push(json!({
            "name": name, "in": "query", "description": text, "schema": schema, "example": example,
        }));
    }
    let changes = route.method == "post" && route.role >= Some(Role::Developer);
    if changes && route.path.contains("/executions") {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "description": "The same key with the same request does it once; with another request it is refused.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 256 },
            "example": format!("example-{}", route.id),
        }));
    }
    parameters
}
