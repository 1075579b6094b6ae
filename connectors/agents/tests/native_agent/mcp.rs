//! Tools of a real MCP server.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use omium_agents::native::{Outcome, Program, Programs};
use omium_schemas::catalogue::FailureClass;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::record::Record;
use crate::world::{PARENT, failure, in_a_trace, models, output, run, task};

/// The server's program; nothing where it cannot be installed, which is written down for whoever runs the tests.
async fn program() -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/dev/mcp");
    let output = Command::new(script).stderr(Stdio::inherit()).output().await.unwrap();
    if output.status.code() == Some(3) {
        if let Some(list) = std::env::var_os("OMIUM_SKIPS") {
            let mut list = std::fs::File::options().append(true).create(true).open(list).unwrap();
            writeln!(list, "mcp node is missing").unwrap();
        }
        return None;
    }
    assert!(output.status.success(), "infra/dev/mcp failed");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn rules(tool: &str, arguments: Value) -> String {
    format!(
        "  - {{when: {{tool_result: false}}, answer: {{tool_calls: [{{name: {tool}, arguments: {arguments}}}]}}}}
  - {{when: {{tool_result: true}}, answer: {{text: done}}}}"
    )
}

#[tokio::test]
async fn a_program_is_started_asked_for_its_tools_called_and_ended() {
    let Some(program) = program().await else { return };
    let models = models(&rules("every__get-sum", json!({"a": 2, "b": 40}))).await;
    let tools =
        json!({"every": {"mcp": {"command": ["node", program, "stdio"]}, "tools": ["get-sum", "get-env"]}});
    let task = task(&models, json!({"prompt": "add", "tools": ["every"]}), tools);
    let record = Record::default();
    assert_eq!(output(run(&task, &record).await), "done");
    let said = record.said();
    assert_eq!(said[0], r#"call every Read {"method":"tools/list"}"#);
    assert_eq!(said[4], r#"call every__get-sum Read {"a":2,"b":40}"#);
    assert!(said[5].contains("The sum of 2 and 40 is 42"), "{said:?}");
    let offered = models.seen()[0].body["tools"].clone();
    assert_eq!(offered.as_array().unwrap().len(), 2, "{offered}");

    // Everything is in the record: a second attempt starts no program and asks nobody.
    let mut again = task.clone();
    again.tools.get_mut("every").unwrap()["mcp"]["command"][0] = "no-such-program".into();
    assert_eq!(output(run(&again, &record.next()).await), "done");
    assert_eq!(models.count(), 2);
}

#[tokio::test]
async fn a_program_is_given_its_secrets_and_none_of_ours() {
    let Some(program) = program().await else { return };
    let models = models(&rules("every__get-env", json!({}))).await;
    let mcp = json!({"command": ["node", program, "stdio"], "env": {"SERVICE_KEY": {"secret": "TOKEN"}}});
    let task = task(&models, json!({"prompt": "env", "tools": ["every"]}), json!({"every": {"mcp": mcp}}));
    let record = Record::default();
    output(run(&task, &record).await);
    let said = &record.said()[5];
    assert!(said.contains("SERVICE_KEY") && said.contains("[secret TOKEN]"), "{said}");
    assert!(!said.contains("CARGO_MANIFEST_DIR") && !record.all().contains("s3cr3t"), "{said}");
}

/// A server that answers a call with the trace that it was told.
const TOLD: &str = r#"
while read -r line; do
  id=$(printf %s "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  told=$(printf %s "$line" | sed -n 's/.*"traceparent":"\([^"]*\)".*/\1/p')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"trace","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*) result="{\"content\":[{\"type\":\"text\",\"text\":\"told $told\"}]}" ;;
    *) continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

#[tokio::test]
async fn a_server_is_told_the_trace_of_the_step_that_calls_it() {
    let models = models(&rules("s__trace", json!({}))).await;
    let tools = json!({"s": {"mcp": {"command": ["sh", "-c", TOLD]}, "effect": "read"}});
    let task = task(&models, json!({"prompt": "x", "tools": ["s"]}), tools);
    let record = Record::default();
    output(in_a_trace().during(run(&task, &record)).await);
    assert!(record.said()[5].contains(&format!("told {PARENT}")), "{:?}", record.said());
}

#[tokio::test]
async fn programs_are_started_only_where_that_is_granted() {
    let models = models("  - answer: {text: x}").await;
    let tools = json!({"every": {"mcp": {"command": ["true"], "env": {"A": "1"}}}});
    let mut task = task(&models, json!({"prompt": "x", "tools": ["every"]}), tools);
    let granted = |env: &[&str]| {
        let env = env.iter().map(|name| (*name).to_owned()).collect();
        Programs::These(vec![Program::new(vec!["true".to_owned()], env).unwrap()])
    };
    for programs in [Programs::These(vec![]), granted(&[]), granted(&["B"])] {
        task.grants.programs = programs;
        let refused = failure(run(&task, &Record::default()).await);
        assert_eq!((refused.class, refused.retryable), (FailureClass::Policy, false));
        assert!(
            refused
                .reason
                .starts_with("tool `every` starts the program `true` with the variables A, which is not")
        );
        assert!(refused.reason.contains("`[host] programs = "), "{refused}");
    }
    task.grants.programs = granted(&["A"]);
    let silent = failure(run(&task, &Record::default()).await);
    assert!(silent.reason.contains("does not begin to talk"), "{silent}");
    assert_eq!(models.count(), 0);
}

#[tokio::test]
async fn what_a_program_has_started_ends_with_it() {
    let models = models("  - answer: {text: x}").await;
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("alive");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // The child of the child holds the pipe's end for as long as it lives, and would go on for long.
    let script = format!("exec 3> '{}'; sleep 600 < /dev/null > /dev/null & exit 0", fifo.display());
    let tools = json!({"every": {"mcp": {"command": ["sh", "-c", script]}}});
    let task = task(&models, json!({"prompt": "x", "tools": ["every"]}), tools);
    let reads = tokio::task::spawn_blocking(move || std::fs::read(fifo).unwrap());
    failure(run(&task, &Record::default()).await);
    let read = tokio::time::timeout(Duration::from_secs(20), reads).await;
    assert!(read.expect("nobody holds the pipe any more").unwrap().is_empty());
}

/// The server over HTTP, on a port that was free a moment ago.
async fn listening(program: &str) -> (Child, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new("node")
        .args([program, "streamableHttp"])
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("listening on port") {
                break;
            }
        }
        // Read on, or the server would write into a closed pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.expect("the server listens");
    (child, port)
}

#[tokio::test]
async fn a_server_behind_http_is_reached_where_its_address_is_allowed() {
    let Some(program) = program().await else { return };
    let (mut child, port) = listening(&program).await;
    let models = models(&rules("every__echo", json!({"message": "hello"}))).await;
    let url = format!("http://127.0.0.1:{port}/mcp");
    let tools =
        json!({"every": {"mcp": {"url": url}, "allow_private": true, "tools": ["echo"], "effect": "write"}});
    let mut task = task(&models, json!({"prompt": "say", "tools": ["every"]}), tools);
    let record = Record::default();
    let outcome = run(&task, &record).await;
    assert!(matches!(outcome, Outcome::Completed { .. }), "{outcome:?}");
    let said = record.said();
    assert_eq!(said[4], r#"call every__echo Write {"message":"hello"}"#);
    assert!(said[5].contains("Echo: hello"), "{said:?}");

    task.tools.get_mut("every").unwrap()["allow_private"] = false.into();
    let refused = failure(run(&task, &Record::default()).await);
    assert!(refused.reason.contains("is no public address"), "{refused}");

    task.tools.get_mut("every").unwrap()["allow_private"] = true.into();
    task.grants.private = vec![format!("127.0.0.1:{}", port.wrapping_add(1)).parse().unwrap()];
    let refused = failure(run(&task, &Record::default()).await);
    assert_eq!(refused.class, FailureClass::Policy, "{refused}");
    child.kill().await.unwrap();
}
