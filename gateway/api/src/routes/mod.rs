//! The routes, by resource. Each is one row: where it answers, who may ask, what the document says of it, and its handler.
//! The router, the check of roles, the document of the API and the collection are made from these rows.

mod checkpoints;
pub(crate) mod examples;
mod executions;
mod guards;
mod keys;
mod prices;
mod programs;
mod retention;
mod service;
mod steering;
mod streams;
mod workflows;

use std::collections::BTreeSet;

use axum::extract::{FromRequestParts as _, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, Router};
use omium_schemas::Money;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

use crate::port::{Action, Caller, Role};
use crate::problem::Problem;
use crate::request::{Known, Shared, idempotency};
use crate::views::Done;

type Answer<T> = Result<T, Problem>;

/// What may stand behind the question mark: name, type, meaning, example.
pub(crate) type Parameter = (&'static str, &'static str, &'static str, &'static str);

/// All routes, resource by resource.
pub(crate) const ROUTES: &[fn(&mut SchemaGenerator) -> Vec<Route>] = &[
    workflows::routes,
    executions::routes,
    steering::routes,
    checkpoints::routes,
    streams::routes,
    programs::routes,
    guards::routes,
    keys::routes,
    prices::routes,
    retention::routes,
    service::routes,
];

/// One route.
pub(crate) struct Route {
    /// In small letters.
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// What the document calls it.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    /// The least that a key must be; nothing where no key is asked for.
    pub(crate) role: Option<Role>,
    pub(crate) query: &'static [Parameter],
    pub(crate) body: Option<Body>,
    /// Whether something is wrong without the body; else it stands for what is usual.
    pub(crate) needs_body: bool,
    /// The status of a success.
    pub(crate) status: u16,
    pub(crate) answer: Body,
    handler: MethodRouter<Shared>,
}

/// What a body looks like, with an example.
pub(crate) enum Body {
    Json(Value, Value),
    Text(&'static str, &'static str),
    /// A JSON object of this type whose form is not ours to describe.
    Object(&'static str),
    Nothing,
}

fn json_of<T: JsonSchema>(schemas: &mut SchemaGenerator, example: Value) -> Body {
    Body::Json(schemas.subschema_for::<T>().to_value(), example)
}

impl Route {
    /// Looks; takes a viewer where nothing else is said.
    fn get<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        answer: Body,
        handler: impl Handler<T, Shared>,
    ) -> Route {
        Route::of(("get", Role::Viewer), (path, id, summary), answer, on(MethodFilter::GET, handler))
    }

    /// Does something; takes a developer where nothing else is said.
    fn post<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        answer: Body,
        handler: impl Handler<T, Shared>,
    ) -> Route {
        Route::of(("post", Role::Developer), (path, id, summary), answer, on(MethodFilter::POST, handler))
    }

    fn put<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        answer: Body,
        handler: impl Handler<T, Shared>,
    ) -> Route {
        Route::of(("put", Role::Developer), (path, id, summary), answer, on(MethodFilter::PUT, handler))
    }

    fn delete<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        answer: Body,
        handler: impl Handler<T, Shared>,
    ) -> Route {
        Route::of(("delete", Role::Developer), (path, id, summary), answer, on(MethodFilter::DELETE, handler))
    }

    fn of(
        (method, role): (&'static str, Role),
        (path, id, summary): (&'static str, &'static str, &'static str),
        answer: Body,
        handler: MethodRouter<Shared>,
    ) -> Route {
        let (role, query, body, needs_body, status) = (Some(role), &[][..], None, true, 200);
        Route { method, path, id, summary, role, query, body, needs_body, status, answer, handler }
    }

    fn role(self, least: Role) -> Route {
        Route { role: Some(least), ..self }
    }

    /// No key is asked for.
    fn for_everybody(self) -> Route {
        Route { role: None, ..self }
    }

    fn query(self, query: &'static [Parameter]) -> Route {
        Route { query, ..self }
    }

    fn body(self, body: Body) -> Route {
        Route { body: Some(body), ..self }
    }

    /// Without it the request means what is usual.
    fn optional_body(self, body: Body) -> Route {
        Route { body: Some(body), needs_body: false, ..self }
    }

    fn status(self, status: u16) -> Route {
        Route { status, ..self }
    }
}

/// All rows. What their bodies are made of is described on the way.
pub(crate) fn all(schemas: &mut SchemaGenerator) -> Vec<Route> {
    ROUTES.iter().flat_map(|routes| routes(schemas)).collect()
}

/// Every path that is served, as the document of the API writes it.
pub fn paths() -> impl Iterator<Item = &'static str> {
    let all = all(&mut SchemaGenerator::default());
    all.iter().map(|route| route.path).collect::<BTreeSet<_>>().into_iter()
}

pub(crate) fn router(shared: Shared) -> Router {
    let mut router = Router::new();
    for Route { path, role, handler, .. } in all(&mut SchemaGenerator::default()) {
        router = router.route(
            path,
            match role {
                Some(least) => handler.route_layer(from_fn_with_state((shared.clone(), least), admit)),
                None => handler,
            },
        );
    }
    router.fallback(unknown).method_not_allowed_fallback(wrong_method).with_state(shared)
}

/// Lets a request through to its handler, with its caller, where his role allows what its row says. A stranger's body is
/// not read.
async fn admit(
    State((shared, least)): State<(Shared, Role)>,
    request: Request,
    next: Next,
) -> Answer<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = Known::from_request_parts(&mut parts, &shared).await?.may(least)?;
    parts.extensions.insert(caller);
    Ok(next.run(Request::from_parts(parts, body)).await)
}

async fn unknown(uri: Uri) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-such-route",
        format!("there is nothing at {}", uri.path()),
        "/openapi.json lists all routes",
    )
}

async fn wrong_method(uri: Uri) -> Problem {
    let detail = format!("{} does not take this method", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail, "/openapi.json lists all routes")
}

/// One action on one execution.
async fn act(
    shared: &Shared,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    action: Action,
) -> Answer<Json<Done>> {
    Ok(Json(shared.act(caller, id, action, idempotency(headers)?).await?))
}

fn money(text: &str) -> Answer<Money> {
    omium_workflow::parse_money(text).ok_or_else(|| {
        let detail = format!("`{text}` is no amount of dollars");
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad-money",
            detail,
            "write digits with at most twelve decimals, as a text: \"0.05\"",
        )
    })
}
