//! Tools behind HTTP.

use omium_agents::native::Outcome;
use omium_schemas::catalogue::FailureClass;
use serde_json::{Value, json};

use crate::record::Record;
use crate::world::{PARENT, Service, failure, in_a_trace, models, output, run, task};

/// Lets the model call the tool once, and returns what the record says came of it, and the record.
async fn call(tool: Value, arguments: Value) -> (String, Record, Outcome) {
    let rules = format!(
        "  - {{when: {{tool_result: false}}, answer: {{tool_calls: [{{name: tool, arguments: {arguments}}}]}}}}
  - {{when: {{tool_result: true}}, answer: {{text: done}}}}"
    );
    let models = models(&rules).await;
    let mut task = task(&models, json!({"prompt": "go", "tools": ["tool"]}), json!({"tool": tool}));
    task.deadline = std::time::Duration::from_secs(5);
    let record = Record::default();
    let outcome = run(&task, &record).await;
    let said = record.said().get(3).cloned().unwrap_or_default();
    (said, record, outcome)
}

fn get(url: String) -> Value {
    json!({"http": {"url": url}, "allow_private": true})
}

#[tokio::test]
async fn arguments_stay_within_their_place_in_the_url() {
    let service = Service::start().await;
    let tool = get(format!("{}/rate?of={{{{ of }}}}", service.url));
    let (said, _, outcome) = call(tool, json!({"of": "a&b=c/../x ü"})).await;
    output(outcome);
    assert_eq!(service.hits()[0].line, "GET /rate?of=a%26b%3Dc%2F..%2Fx%20%C3%BC");
    assert!(said.starts_with(r#"result {"for":"of=a%26b"#), "{said}");
    assert!(!service.hits()[0].headers.contains_key("idempotency-key"), "a read needs no key");
}

#[tokio::test]
async fn a_tool_is_told_the_trace_of_its_step_unless_the_definition_names_one() {
    let service = Service::start().await;
    let step = in_a_trace();
    let tool = get(format!("{}/rate", service.url));
    output(step.during(call(tool.clone(), json!({}))).await.2);
    let mut own = tool;
    own["http"]["headers"] = json!({"traceparent": "own"});
    output(step.during(call(own, json!({}))).await.2);
    let told = service.hits().into_iter().map(|hit| hit.headers["traceparent"].clone());
    assert_eq!(told.collect::<Vec<_>>(), [PARENT, "own"]);
}

#[tokio::test]
async fn a_missing_argument_is_told_to_the_model_before_anything_is_recorded() {
    let service = Service::start().await;
    let (_, record, outcome) = call(get(format!("{}/rate?of={{{{ of }}}}", service.url)), json!({})).await;
    assert_eq!(output(outcome), "done");
    assert_eq!((service.hits().len(), record.calls().len()), (0, 2));
}

#[tokio::test]
async fn a_secret_reaches_the_service_and_nothing_else() {
    let service = Service::start().await;
    let tool = json!({
        "http": {
            "method": "POST", "url": format!("{}/echo", service.url),
            "headers": {"Authorization": {"secret": "TOKEN", "prefix": "Bearer "}},
            "body": {"key": {"secret": "TOKEN"}, "payload": "{{ payload }}"},
        },
        "allow_private": true,
    });
    let (said, record, outcome) = call(tool, json!({"payload": {"secret": "TOKEN"}})).await;
    output(outcome);
    let hit = &service.hits()[0];
    assert_eq!(hit.headers["authorization"], "Bearer s3cr3t/value");
    assert_eq!(hit.body, r#"{"key":"s3cr3t/value","payload":{"secret":"TOKEN"}}"#);
    assert!(said.contains("[secret TOKEN]"), "{said}");
    assert!(!record.all().contains("s3cr3t"), "{}", record.all());
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named_and_nothing_is_sent() {
    let service = Service::start().await;
    let tool = json!({
        "http": {"url": format!("{}/rate", service.url), "headers": {"x-key": {"secret": "MISSING"}}},
        "allow_private": true,
    });
    let (_, record, outcome) = call(tool, json!({})).await;
    let refused = failure(outcome);
    assert_eq!((refused.class, refused.retryable), (FailureClass::Policy, false));
    assert!(
        refused.reason.starts_with("tool `tool` asks for the secret `MISSING`, which this tenant"),
        "{refused}"
    );
    assert!(refused.reason.contains("`[tenants.NAME.secrets]`"), "{refused}");
    assert!(service.hits().is_empty() && record.said().is_empty());
}

#[tokio::test]
async fn a_private_host_is_reached_where_the_definition_asks_and_the_operator_grants() {
    let service = Service::start().await;
    let models = models(
        "  - {when: {tool_result: false}, answer: {tool_calls: [{name: tool, arguments: {}}]}}
  - {when: {tool_result: true}, answer: {text: done}}",
    )
    .await;
    let reached = async |host: &str, grants: &[&str]| {
        let tool =
            json!({"http": {"url": format!("http://{host}:{}/rate", service.port)}, "allow_private": true});
        let mut task = task(&models, json!({"prompt": "go", "tools": ["tool"]}), json!({"tool": tool}));
        task.grants.private = grants.iter().map(|grant| grant.parse().unwrap()).collect();
        let before = service.hits().len();
        (run(&task, &Record::default()).await, service.hits().len() > before)
    };
    let own = format!("localhost:{}", service.port);
    for (host, grants) in [("127.0.0.1", "127.0.0.0/8"), ("localhost", own.as_str())] {
        let (outcome, reached) = reached(host, &[grants]).await;
        assert!(matches!(outcome, Outcome::Completed { .. }) && reached, "{host} {grants}: {outcome:?}");
    }
    let (outcome, own) = reached("localhost", &["127.0.0.0/8", "::1"]).await;
    assert!(matches!(outcome, Outcome::Completed { .. }) && own, "{outcome:?}");
    for (host, grants) in
        [("127.0.0.1", vec![]), ("localhost", vec!["rates.internal"]), ("127.0.0.1", vec!["10.0.0.0/8"])]
    {
        let (outcome, reached) = reached(host, &grants).await;
        assert_eq!((failure(outcome).class, reached), (FailureClass::Policy, false), "{host} {grants:?}");
    }
    // A name may lead into any network: where it leads is looked at when it is connected to.
    let (outcome, reached) = reached("localhost", &["10.0.0.0/8"]).await;
    assert!(matches!(outcome, Outcome::Completed { .. }) && !reached, "{outcome:?}");
}

#[tokio::test]
async fn this_machine_is_refused_by_address_and_by_name() {
    let service = Service::start().await;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let tool = json!({"http": {"url": format!("http://{host}:{}/rate", service.port)}});
        let (said, ..) = call(tool, json!({})).await;
        assert!(said.contains("Forbidden") && said.contains("is no public address"), "{host}: {said}");
    }
    assert!(service.hits().is_empty());
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let (service, other) = (Service::start().await, Service::start().await);
    for to in [format!("{}/rate", service.url), format!("{}/rate", other.url), "/rate".to_owned()] {
        for method in ["GET", "POST"] {
            let tool = json!({
                "http": {"method": method, "url": format!("{}/moved?{to}", service.url), "headers": {"x-key": {"secret": "TOKEN"}}},
                "allow_private": true,
            });
            let (said, ..) = call(tool, json!({})).await;
            assert!(said.contains("which is not followed"), "{said}");
        }
    }
    assert_eq!((service.hits().len(), other.hits().len()), (6, 0));
}

#[tokio::test]
async fn a_long_answer_is_cut_and_says_so() {
    let service = Service::start().await;
    let mut tool = get(format!("{}/long", service.url));
    tool["max_bytes"] = 100.into();
    let (said, ..) = call(tool, json!({})).await;
    assert!(said.contains(r#""cut_after_bytes":100"#) && said.len() < 200, "{said}");
}

#[tokio::test]
async fn failures_have_classes_and_the_model_goes_on() {
    let service = Service::start().await;
    for (url, part) in [
        (format!("{}/gone", service.url), "tool failed NotFound the server answered 410: it is gone"),
        ("http://127.0.0.1:1/".to_owned(), "tool failed Connection http://127.0.0.1:1 cannot be reached"),
        (format!("{}/gateway", service.url), "tool failed Unavailable"),
    ] {
        let (said, _, outcome) = call(get(url), json!({})).await;
        assert!(said.starts_with(part), "{said}");
        assert_eq!(output(outcome), "done");
    }
    let mut slow = get(format!("{}/hang", service.url));
    slow["timeout"] = "100ms".into();
    let (said, ..) = call(slow, json!({})).await;
    assert!(said.starts_with("tool failed Timeout"), "{said}");
}

#[tokio::test]
async fn a_write_whose_answer_never_came_is_unknown_and_stays_open() {
    let service = Service::start().await;
    for (path, timeout) in [("hang", "150ms"), ("gateway", "5s")] {
        let tool = json!({
            "http": {"method": "POST", "url": format!("{}/{path}", service.url)},
            "timeout": timeout, "allow_private": true,
        });
        let (said, record, outcome) = call(tool, json!({})).await;
        assert!(matches!(outcome, Outcome::Unknown { .. }), "{path}: {outcome:?}");
        assert_eq!((said.as_str(), record.calls().len()), ("", 2), "nothing was said about its end");
    }
}
