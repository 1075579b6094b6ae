//! The document of the API: its examples are true, and what is made from it is up to date and runs.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::routes::{ask, router, text};

/// A file that is made from the document.
fn kept(name: &str, made: &Value) {
    kept_text(name, &(serde_json::to_string_pretty(made).unwrap() + "\n"));
}

/// A file of the guides that is made. `OMIUM_BLESS=1 cargo test -p omium-api` writes them all again.
#[expect(
    clippy::disallowed_methods,
    reason = "a test of files reads them, and writes them where it is told to"
)]
pub(crate) fn kept_text(name: &str, made: &str) {
    let folder = format!("{}/../docs", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("OMIUM_BLESS").is_ok_and(|value| value == "1") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(format!("{folder}/{name}"), made).unwrap();
    }
    let there = std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    assert!(there == made, "{name} is not what the API is now; OMIUM_BLESS=1 writes it again");
}

/// A file of this crate.
#[expect(clippy::disallowed_methods, reason = "a test of files reads them")]
pub(crate) fn source(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_document_and_the_collection_in_the_guides_are_those_of_the_api() {
    let document = omium_api::openapi();
    kept("openapi.json", &document);
    kept("omium.postman_collection.json", &omium_api::postman(&document));
}

/// Every schema with an example beside it, wherever in the document.
fn examples<'a>(part: &'a Value, place: &str, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    if let (Some(schema), Some(example)) = (part.get("schema"), part.get("example")) {
        found.push((place.to_owned(), schema, example));
    }
    let under = |key: &str| format!("{place}/{key}");
    match part {
        Value::Object(fields) => fields.iter().for_each(|(key, part)| examples(part, &under(key), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, part)| examples(part, &under(&at.to_string()), found))
        }
        _ => {}
    }
}

#[test]
fn every_operation_has_examples_and_every_example_fits_its_schema() {
    let document = omium_api::openapi();
    let mut found = Vec::new();
    examples(&document, "", &mut found);
    for (place, schema, example) in &found {
        let mut whole = (*schema).clone();
        whole["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&whole).unwrap();
        if let Err(error) = validator.validate(example) {
            panic!("{place}: {error} at {}", error.instance_path());
        }
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let place = format!("/paths/{path}/{method}");
            let socket = operation["responses"].get("101").is_some();
            let shown = found.iter().any(|(at, ..)| at.starts_with(&format!("{place}/responses")));
            assert!(shown || socket, "{place} shows no answer");
        }
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let (_, router) = router();
    let served: Value =
        serde_json::from_str(&text(ask(&router, "GET", "/openapi.json", "", "").await).await).unwrap();
    assert_eq!(served, omium_api::openapi());
    assert_eq!(served["openapi"], json!("3.1.0"));
}

#[tokio::test]
async fn the_collection_runs_from_its_first_request_to_its_last() {
    let (_, router) = router();
    let collection = omium_api::postman(&omium_api::openapi());
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    let items = collection["item"].as_array().unwrap();
    assert!(items.len() > 20, "{} requests", items.len());
    for item in items {
        let request = &item["request"];
        let mut url = request["url"].as_str().unwrap().replace("{{url}}", "");
        for (name, value) in &kept {
            url = url.replace(&format!("{{{{{name}}}}}"), value);
        }
        let key = if request["auth"]["type"] == "noauth" { "" } else { "admin" };
        let (method, body) =
            (request["method"].as_str().unwrap(), request["body"]["raw"].as_str().unwrap_or(""));
        let response = ask(&router, method, &url, key, body).await;
        let (status, body) = (response.status(), text(response).await);
        assert!(status.is_success(), "{} {url}: {status} {body}", item["name"]);
        if item["name"] == "startExecution" {
            assert_eq!(status, StatusCode::CREATED);
        }
        // The scripts of the collection say in one form what they keep of an answer for later requests.
        for line in item["event"][0]["script"]["exec"].as_array().into_iter().flatten() {
            let words: Vec<&str> = line.as_str().unwrap().split(['"', '.', ')']).collect();
            let ["pm", "collectionVariables", "set(", name, ", pm", "response", "json(", "", field, ";"] =
                words[..]
            else {
                panic!("{line} is not understood");
            };
            let answer: Value = serde_json::from_str(&body).unwrap();
            kept.insert(name.to_owned(), answer[field].as_str().unwrap().to_owned());
        }
        if item["name"] == "validateWorkflow" {
            assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["valid"], true, "{body}");
        }
    }
}

#[tokio::test]
async fn the_schema_of_definitions_that_editors_read_is_the_one_that_is_served() {
    let (_, router) = router();
    let served = text(ask(&router, "GET", "/api/v1/schemas/workflow", "", "").await).await;
    assert_eq!(served, source("../../schemas/workflow/workflow.schema.json"));
    let schema: Value = serde_json::from_str(&served).unwrap();
    assert!(jsonschema::validator_for(&schema).is_ok());
}
