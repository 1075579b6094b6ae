//! What can be done over REST, one entry each.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::examples;
use crate::answer::AnswerBody;
use crate::keys::KeyBody;
use crate::port::Role;
use crate::prices::PriceBody;
use crate::programs::{Begin, Decide, End, Open};
use crate::rest::{Back, ForkBody, Named, SignalBody, Start};
use crate::views::{
    AttemptView, CheckpointView, DeltaView, Done, EventPage, ExecutionSummary, ExecutionView, GuardView,
    Health, IssuedKey, Items, KeyView, LetGo, Page, PriceView, PricesView, Published, Ready, Started,
    Validated, WorkflowView,
};

pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    /// The least that a key must be; nothing where no key is asked for.
    pub(super) role: Option<Role>,
    /// Name, type, meaning, example.
    pub(super) query: &'static [(&'static str, &'static str, &'static str, &'static str)],
    pub(super) body: Option<Body>,
    /// Whether something is wrong without the body; else it stands for what is usual.
    pub(super) needs_body: bool,
    pub(super) status: u16,
    pub(super) answer: Body,
}

pub(super) enum Body {
    Json(Value, Value),
    Text(&'static str, &'static str),
    /// A JSON object of this type whose form is not ours to describe.
    Object(&'static str),
    Nothing,
}

fn json_of<T: JsonSchema>(schemas: &mut SchemaGenerator, example: Value) -> Body {
    Body::Json(schemas.subschema_for::<T>().to_value(), example)
}

fn get(
    path: &'static str,
    id: &'static str,
    role: Option<Role>,
    summary: &'static str,
    answer: Body,
) -> Operation {
    Operation {
        method: "get",
        path,
        id,
        summary,
        role,
        query: &[],
        body: None,
        needs_body: true,
        status: 200,
        answer,
    }
}

fn post(path: &'static str, id: &'static str, summary: &'static str, answer: Body) -> Operation {
    let role = Some(Role::Developer);
    Operation {
        method: "post",
        path,
        id,
        summary,
        role,
        query: &[],
        body: None,
        needs_body: true,
        status: 200,
        answer,
    }
}

pub(super) fn all(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let mut all = workflows(schemas);
    all.extend(executions(schemas));
    all.extend(steering(schemas));
    all.extend(watching(schemas));
    all.extend(programs(schemas));
    all.extend(keys(schemas));
    all.extend(money(schemas));
    all.extend(kept(schemas));
    all.extend(service(schemas));
    all
}

const VIEWER: Option<Role> = Some(Role::Viewer);

const FILE: (&str, &str, &str, &str) =
    ("file", "string", "The name that problems are told with.", "loan.yaml");

fn workflows(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let definition = || Some(Body::Text("application/yaml", examples::DEFINITION));
    let list = json_of::<Items<WorkflowView>>(schemas, json!({ "items": [examples::workflow(false)] }));
    let one = json_of::<WorkflowView>(schemas, examples::workflow(true));
    let published = json_of::<Published>(schemas, examples::published());
    let valid = json!({ "valid": true, "name": "loan-decision", "problems": [] });
    let validated = json_of::<Validated>(schemas, valid);
    vec![
        Operation {
            query: &[FILE],
            body: definition(),
            status: 201,
            ..post(
                "/api/v1/workflows",
                "publishWorkflow",
                "Publishes a version; the same text again is the same version",
                published,
            )
        },
        get("/api/v1/workflows", "listWorkflows", VIEWER, "All workflows, newest versions", list),
        Operation {
            query: &[FILE],
            body: definition(),
            needs_body: false,
            role: VIEWER,
            ..post(
                "/api/v1/workflows/validate",
                "validateWorkflow",
                "Tells everything that is wrong with a definition",
                validated,
            )
        },
        get(
            "/api/v1/workflows/{name}",
            "getWorkflow",
            VIEWER,
            "One workflow, `name` or `name@3`, with its text",
            one,
        ),
        get(
            "/api/v1/schemas/workflow",
            "getWorkflowSchema",
            None,
            "The JSON Schema of definitions, for editors",
            Body::Object("application/schema+json"),
        ),
    ]
}

const WAIT: (&str, &str, &str, &str) = (
    "wait_ms",
    "integer",
    "Answers as soon as the execution has ended, or after so many ms, at most 60000, however it stands then.",
    "30000",
);

fn executions(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let started = json_of::<Started>(schemas, examples::started());
    let list =
        json_of::<Page<ExecutionSummary>>(schemas, json!({ "items": [examples::summary()], "next": null }));
    let one = json_of::<ExecutionView>(schemas, examples::execution());
    let start = json!({ "workflow": "loan-decision", "inputs": { "amount": 20000 }, "budget_usd": "0.50" });
    vec![
        Operation {
            query: &[WAIT],
            body: Some(json_of::<Start>(schemas, start)),
            status: 201,
            ..post(
                "/api/v1/executions",
                "startExecution",
                "Starts an execution; 200 where the same request had started it before",
                started,
            )
        },
        Operation {
            query: &[
                ("workflow", "string", "Only those of this workflow.", "loan-decision"),
                (
                    "status",
                    "string",
                    "running, paused, suspended, completed, failed or cancelled.",
                    "running",
                ),
                ("cursor", "string", "`next` of the page before.", ""),
                ("limit", "integer", "At most so many, 1 to 1000; else 50.", "50"),
            ],
            ..get("/api/v1/executions", "listExecutions", VIEWER, "Executions, the newest first", list)
        },
        Operation {
            query: &[
                (
                    "at",
                    "string",
                    "As it was at this seq or checkpoint: also `step:NAME:before`, `step:NAME:after`, a name, or `last`.",
                    "last",
                ),
                WAIT,
            ],
            ..get("/api/v1/executions/{id}", "getExecution", VIEWER, "One execution", one)
        },
        Operation {
            query: &[(
                "at",
                "string",
                "Where it is not there any more: as it was at this seq or checkpoint.",
                "last",
            )],
            ..get(
                "/api/v1/executions/{id}/content/{content}",
                "getContent",
                VIEWER,
                "One content, whole: `inputs`, or what a view left out as `omium:too-large`, at the path that stands there; 410 where it was erased",
                Body::Text("application/octet-stream", "{\"amount\":20000}"),
            )
        },
    ]
}

fn steering(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let done = json_of::<Done>(schemas, examples::done());
    let Body::Json(schema, example) = done else { return Vec::new() };
    let done = || Body::Json(schema.clone(), example.clone());
    let started = json_of::<Started>(schemas, examples::started());
    let back =
        json_of::<Back>(schemas, json!({ "to": "first", "cancel_running": true, "over_writes": false }));
    let signal = json_of::<SignalBody>(schemas, json!({ "name": "approved", "body": { "by": "ada" } }));
    let happened = json!({ "question": 17, "answer": "happened", "result": { "paid": true }, "note": "seen at the bank" });
    let answer = json_of::<AnswerBody>(schemas, happened);
    let named = json_of::<Named>(schemas, json!({ "name": "first" }));
    let fork = json_of::<ForkBody>(schemas, json!({ "at": "first", "inputs": null }));
    vec![
        Operation {
            body: Some(named),
            status: 201,
            ..post(
                "/api/v1/executions/{id}/checkpoints",
                "takeCheckpoint",
                "Takes a named checkpoint",
                done(),
            )
        },
        post("/api/v1/executions/{id}/pause", "pauseExecution", "Begins nothing new", done()),
        post("/api/v1/executions/{id}/resume", "resumeExecution", "Goes on", done()),
        Operation {
            body: Some(signal),
            ..post("/api/v1/executions/{id}/signal", "signalExecution", "Tells it something", done())
        },
        Operation {
            body: Some(answer),
            ..post(
                "/api/v1/executions/{id}/answer",
                "answerExecution",
                "Answers what it asks: whether a tool that changes something did so before a crash",
                done(),
            )
        },
        Operation {
            body: Some(back),
            ..post(
                "/api/v1/executions/{id}/rollback",
                "rollBackExecution",
                "Goes back to a checkpoint",
                done(),
            )
        },
        Operation {
            body: Some(fork),
            status: 201,
            ..post(
                "/api/v1/executions/{id}/fork",
                "forkExecution",
                "Starts another execution from a checkpoint of this one",
                started,
            )
        },
        post("/api/v1/executions/{id}/retry", "retryExecution", "Tries the failed step again", done()),
        post("/api/v1/executions/{id}/cancel", "cancelExecution", "Ends it", done()),
        Operation {
            role: Some(Role::Admin),
            ..post(
                "/api/v1/executions/{id}/release",
                "releaseExecution",
                "Takes it out of quarantine: it takes commands again",
                done(),
            )
        },
    ]
}

const FROM: (&str, &str, &str, &str) = ("from", "integer", "The first seq that is wanted; else 1.", "1");

const DELTAS: (&str, &str, &str, &str) = (
    "deltas",
    "boolean",
    "Whether a stream also carries parts of models' answers that are on their way; models stream as long as somebody wants them. Else true.",
    "true",
);

fn watching(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    // Streams carry it beside events.
    schemas.subschema_for::<DeltaView>();
    let events = json_of::<EventPage>(schemas, json!({ "items": [examples::event()], "next": 2 }));
    let checkpoints = json_of::<Items<CheckpointView>>(schemas, json!({ "items": [examples::checkpoint()] }));
    vec![
        get(
            "/api/v1/executions/{id}/checkpoints",
            "listCheckpoints",
            VIEWER,
            "Its checkpoints, in order",
            checkpoints,
        ),
        Operation {
            query: &[FROM, ("limit", "integer", "At most so many, 1 to 10000; else 500.", "500"), DELTAS],
            ..get(
                "/api/v1/executions/{id}/events",
                "listEvents",
                VIEWER,
                "Its events; with `Accept: text/event-stream` also those to come, resumable by `Last-Event-ID`, and `delta`s of running model calls (`DeltaView`); `end` says why a stream was ended",
                events,
            )
        },
        Operation {
            query: &[FROM, ("key", "string", "The key, where a browser cannot set headers.", ""), DELTAS],
            status: 101,
            ..get(
                "/api/v1/executions/{id}/stream",
                "streamEvents",
                VIEWER,
                "Its events on a WebSocket, from a seq on and as they happen, one JSON text each; between them `delta`s of running model calls (`DeltaView`: no seq, not resumable)",
                Body::Nothing,
            )
        },
    ]
}

fn programs(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let done = || json!({ "seq": 12, "last": 14, "repeated": false });
    let started = json_of::<Started>(schemas, examples::started());
    let open = json!({ "name": "crew", "arguments": ["python", "crew.py"], "recovery": "auto", "budget_usd": "0.50" });
    let attempt = json!({ "number": 1, "token": "omx_…", "path": "/x/ex_0190f3c1a2b34c5d8e9f0a1b2c3d4e5f" });
    let end = json!({ "number": 1, "code": 0, "output": "5.2" });
    let action =
        |path, id, summary, body, answer| Operation { body: Some(body), ..post(path, id, summary, answer) };
    vec![
        Operation {
            status: 201,
            ..action(
                "/api/v1/programs",
                "openProgram",
                "Opens an execution for a program that decides its own steps",
                json_of::<Open>(schemas, open),
                started,
            )
        },
        Operation {
            status: 201,
            needs_body: false,
            ..action(
                "/api/v1/executions/{id}/attempts",
                "beginAttempt",
                "Begins the next attempt at a program: its address and its token; earlier attempts are over",
                json_of::<Begin>(schemas, json!({ "code": "crew-1.2" })),
                json_of::<AttemptView>(schemas, attempt),
            )
        },
        action(
            "/api/v1/executions/{id}/attempts/end",
            "endAttempt",
            "Says how an attempt has ended",
            json_of::<End>(schemas, end),
            json_of::<Done>(schemas, done()),
        ),
        action(
            "/api/v1/executions/{id}/decision",
            "decideFinding",
            "Decides about the finding that a program waits for",
            json_of::<Decide>(schemas, json!({ "decision": "apply", "remedy": 1 })),
            json_of::<Done>(schemas, done()),
        ),
    ]
    .into_iter()
    .chain(guards(schemas))
    .collect()
}

fn guards(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let guard = json!({
        "name": "apr-range", "program": null, "agent": "Writer", "field": "apr", "extract": null,
        "rule": "value >= 2.5 && value <= 8.5", "schema": null, "hint": "APR must be between 2.5% and 8.5%.",
    });
    let list = json_of::<Items<GuardView>>(schemas, json!({ "items": [guard] }));
    let one = || Body::Json(json!({ "$ref": "#/components/schemas/GuardView" }), guard.clone());
    vec![
        get("/api/v1/guards", "listGuards", VIEWER, "The checks on agents of programs", list),
        Operation {
            body: Some(one()),
            status: 201,
            ..post(
                "/api/v1/guards",
                "setGuard",
                "Puts a check on an agent; one of the same name is replaced",
                one(),
            )
        },
        Operation {
            method: "delete",
            ..post("/api/v1/guards/{name}", "dropGuard", "Takes a check away, and says what it was", one())
        },
    ]
}

fn keys(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let key =
        json!({ "key": examples::KEY, "name": "ci", "role": "developer", "expires_at": examples::LATER });
    let list = json_of::<Items<KeyView>>(schemas, json!({ "items": [key] }));
    let mut issued = key.clone();
    issued["bearer"] = json!("om_9f86d081884c7d65_…");
    vec![
        get("/api/v1/keys", "listKeys", Some(Role::Admin), "The keys of the tenant", list),
        Operation {
            role: Some(Role::Admin),
            body: Some(json_of::<KeyBody>(schemas, json!({ "role": "developer", "days": 90, "name": "ci" }))),
            status: 201,
            ..post(
                "/api/v1/keys",
                "issueKey",
                "Lets a new key in; the answer alone says what it is",
                json_of::<IssuedKey>(schemas, issued),
            )
        },
        Operation {
            method: "delete",
            role: Some(Role::Admin),
            ..post(
                "/api/v1/keys/{key}",
                "revokeKey",
                "Shuts a key out from here on, and says what it was; a key does not revoke itself",
                json_of::<KeyView>(schemas, key),
            )
        },
    ]
}

fn money(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let price =
        json!({ "model": "gpt-4o-mini", "input_usd": "0.15", "cached_usd": "0.075", "output_usd": "0.6" });
    let list = json_of::<PricesView>(schemas, json!({ "items": [price], "list": examples::HASH }));
    let one = json_of::<PriceView>(schemas, price.clone());
    vec![
        get(
            "/api/v1/prices",
            "listPrices",
            VIEWER,
            "What models cost, in dollars for a million tokens",
            list,
        ),
        Operation {
            method: "put",
            role: Some(Role::Admin),
            body: Some(json_of::<PriceBody>(schemas, price)),
            ..post(
                "/api/v1/prices",
                "setPrice",
                "Sets what a model costs, for executions that begin from now on",
                one,
            )
        },
    ]
}

fn kept(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let partition = json!({ "partition": 0, "starts_at": 1200, "dropped": 1200, "kept_because": null });
    let example = json!({
        "keep_ms": 7_776_000_000_u64, "partitions": [partition], "blobs_removed": 3, "blob_bytes": 1_572_864,
    });
    let done = json_of::<LetGo>(schemas, example);
    let summary = "Lets go at once of what ended longer ago than the server keeps it";
    vec![Operation { role: Some(Role::Admin), ..post("/api/v1/trim", "trim", summary, done) }]
}

fn service(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    let version = env!("CARGO_PKG_VERSION");
    let health = json_of::<Health>(schemas, json!({ "status": "ok", "version": version }));
    let ready = json_of::<Ready>(schemas, json!({ "status": "ready" }));
    let metrics = Body::Text("text/plain", "omium_active_executions{framework=\"native\"} 3\n");
    let document = Body::Json(json!({ "type": "object" }), json!({ "openapi": "3.1.0" }));
    vec![
        get("/health", "health", None, "Whether the process lives", health),
        get("/ready", "ready", None, "Whether it takes work; 503 where not", ready),
        get("/metrics", "metrics", None, "Metrics in the text format of Prometheus", metrics),
        get("/openapi.json", "openapi", None, "This document", document),
    ]
}
