//! The document as a Postman collection, in an order that runs: what a request needs, one before it has made.

use serde_json::{Value, json};

/// A collection (v2.1) of all requests of the document. Variables: `url`, `key`, and `execution`, which the request that
/// starts one sets.
pub fn collection(document: &Value) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            // Postman keeps WebSockets in a kind of file of its own.
            if operation["responses"].get("101").is_none() {
                items.push(item(path, method, operation));
            }
        }
    }
    items.sort_by_key(|item| (rank(item), item["name"].to_string()));
    json!({
        "info": {
            "name": "Omium",
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "{{key}}", "type": "string" }] },
        "variable": [
            { "key": "url", "value": document["servers"][0]["url"] },
            { "key": "key", "value": "" },
            { "key": "execution", "value": "" },
            { "key": "issued", "value": "" },
        ],
        "item": items,
    })
}

/// What must have run before something is asked, comes first; what ends an execution comes last.
fn rank(item: &Value) -> usize {
    const FIRST: [&str; 4] = ["publishWorkflow", "startExecution", "takeCheckpoint", "pauseExecution"];
    const LAST: [&str; 2] = ["cancelExecution", "retryExecution"];
    let name = item["name"].as_str().unwrap_or_default();
    let first = FIRST.iter().position(|first| *first == name);
    let last = LAST.iter().position(|last| *last == name).map(|at| FIRST.len() + 1 + at);
    first.or(last).unwrap_or(FIRST.len())
}

fn item(path: &str, method: &str, operation: &Value) -> Value {
    let mut headers = Vec::new();
    let mut body = Value::Null;
    if let Some((kind, content)) =
        operation["requestBody"]["content"].as_object().and_then(|all| all.iter().next())
    {
        headers.push(json!({ "key": "Content-Type", "value": kind }));
        let raw = match &content["example"] {
            Value::String(text) => text.clone(),
            example => example.to_string(),
        };
        body = json!({ "mode": "raw", "raw": raw });
    }
    let mut item = json!({
        "name": operation["operationId"],
        "request": {
            "description": operation["summary"],
            "method": method.to_uppercase(),
            "header": headers,
            "url": format!("{{{{url}}}}{}", filled(path)),
        },
    });
    if !body.is_null() {
        item["request"]["body"] = body;
    }
    if operation.get("security").is_some() {
        item["request"]["auth"] = json!({ "type": "noauth" });
    }
    // What later requests speak of.
    let kept = match operation["operationId"].as_str() {
        Some("startExecution") => Some("pm.collectionVariables.set(\"execution\", pm.response.json().id);"),
        Some("issueKey") => Some("pm.collectionVariables.set(\"issued\", pm.response.json().key);"),
        _ => None,
    };
    if let Some(line) = kept {
        item["event"] =
            json!([{ "listen": "test", "script": { "type": "text/javascript", "exec": [line] } }]);
    }
    item
}

fn filled(path: &str) -> String {
    path.replace("{id}", "{{execution}}")
        .replace("{name}", "loan-decision")
        .replace("{key}", "{{issued}}")
        .replace("{content}", "inputs")
}
