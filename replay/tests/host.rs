//! What tools may do on the server's machine: a definition asks, `omium.toml` grants.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use desk::{Dev, omium};
use omium_agents::Script;
use serde_json::Value;
use tokio::net::TcpListener;

const SECRET: &str = "s3cr3t-of-the-tenant";
const MODEL: &str = "
rules:
  - {when: {tool_result: false}, answer: {tool_calls: [{name: rates, arguments: {}}]}}
  - {when: {tool_result: true}, answer: {text: done}}
";

/// A service of the operator's network, which says what it was sent, and a model that has it called.
struct World {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    model: omium_agents::mock::Server,
}

async fn world() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let router = Router::new().route("/", get(echo)).with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let model = omium_agents::serve(Script::parse(MODEL).unwrap(), listener).await.unwrap();
    World { port, seen, model }
}

async fn echo(State(seen): State<Arc<Mutex<Vec<String>>>>, headers: HeaderMap) -> String {
    let sent = headers["authorization"].to_str().unwrap().to_owned();
    seen.lock().unwrap().push(sent.clone());
    format!("you said {sent}")
}

impl World {
    fn workflow(&self, secret: &str) -> String {
        format!(
            "
name: quote
agents: [{{id: clerk, framework: native, definition: {{prompt: Quote, tools: [rates]}}, retry: {{attempts: 1}}}}]
tools:
  rates:
    description: Rates
    parameters: {{type: object}}
    http: {{url: 'http://127.0.0.1:{}/', headers: {{Authorization: {{secret: {secret}, prefix: 'Bearer '}}}}}}
    allow_private: true
",
            self.port
        )
    }

    fn serve(&self, config: &str, environment: &[(&str, &str)]) -> Dev {
        Dev::start_granting(&["serve", "--upstream", &self.model.url()], config, environment)
    }

    fn config(&self) -> String {
        format!(
            "[host]\nprivate = [\"127.0.0.1:{}\"]\n[tenants.default.secrets]\nRATES_KEY = {{ env = \"PLANTED\" }}\n\
             [tenants.other.secrets]\nOTHER_KEY = {{ env = \"PLANTED\" }}\n",
            self.port
        )
    }
}

fn written(dev: &Dev, text: &str) -> String {
    let file = dev.data.path().join("quote.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

/// The execution when it has ended.
fn ended(dev: &Dev, id: &str) -> Value {
    let _ = dev.run(&["logs", "--follow", id]);
    serde_json::from_str(&dev.says(&["show", id, "--json"])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_asks_for_more_than_is_granted_is_not_published() {
    let world = world().await;
    let dev = world.serve("", &[("RATES_KEY", SECRET)]);
    let file = written(&dev, &world.workflow("RATES_KEY"));
    let refused = dev.fails(&["workflows", "publish", &file], 5);
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "error: {file}:5:3: tool `rates` asks for the secret `RATES_KEY`, which this tenant does not have"
        )
    );
    assert!(lines[1].contains("`[tenants.NAME.secrets]`"), "{refused}");
    let host = format!("`127.0.0.1:{}`, which is not granted here", world.port);
    assert!(lines[2].contains(&host) && lines[3].contains("`[host] private = "), "{refused}");

    let shell = "name: shell\nagents: [{id: a, framework: native, definition: {prompt: x, tools: [sh]}}]\ntools:\n  sh: \
                 {mcp: {command: [sh, -c, id]}}\n";
    let file = written(&dev, shell);
    let refused = dev.fails(&["run", &file], 5);
    assert!(
        refused.starts_with(&format!("error: {file}:4:3: tool `sh` starts the program `sh -c id`, which")),
        "{refused}"
    );
    assert!(refused.contains("`[host] programs = "), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_works_and_the_secret_stands_nowhere() {
    let world = world().await;
    let dev = world.serve(&world.config(), &[("PLANTED", SECRET)]);
    let file = written(&dev, &world.workflow("RATES_KEY"));
    let id = dev.says(&["run", &file]);
    let view = ended(&dev, &id);
    assert_eq!(view["status"], "completed", "{view}");
    assert_eq!(*world.seen.lock().unwrap(), [format!("Bearer {SECRET}")]);
    let events = dev.says(&["logs", &id, "--json"]);
    let told = [
        view.to_string(),
        events,
        dev.says(&["show", &id]),
        dev.says(&["replay", &id]),
        dev.stderr(),
        world.model.seen().iter().map(|seen| seen.body.to_string()).collect(),
    ];
    for told in &told {
        assert!(!told.contains(SECRET), "{told}");
    }
    assert!(told[5].contains("[secret RATES_KEY]"), "the model sees that there was one: {}", told[5]);
    assert!(told[4].contains("default: secrets RATES_KEY"), "{}", told[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_tenant_or_of_the_process_is_not_there() {
    let world = world().await;
    let dev = world.serve(&world.config(), &[("PLANTED", SECRET)]);
    for name in ["OTHER_KEY", "PLANTED", "HOME", "OPENAI_API_KEY"] {
        let file = written(&dev, &world.workflow(name));
        let refused = dev.fails(&["run", &file], 5);
        assert!(refused.contains(&format!("asks for the secret `{name}`, which this tenant")), "{refused}");
        assert!(!refused.contains(SECRET));
    }
    assert!(world.seen.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_gone_fails_the_step_by_name() {
    let world = world().await;
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), format!("{SECRET}\n")).unwrap();
    let source = format!("{{ file = \"{}\" }}", key.path().display());
    let mut dev = world.serve(&world.config().replace("{ env = \"PLANTED\" }", &source), &[]);
    let file = written(&dev, &world.workflow("RATES_KEY"));
    let id = dev.says(&["run", &file]);
    assert_eq!(ended(&dev, &id)["status"], "completed");
    std::fs::write(dev.data.path().join("omium.toml"), "").unwrap();
    dev.kill_and_start();
    let id = dev.says(&["run", "quote"]);
    let view = ended(&dev, &id);
    assert_eq!(view["status"], "failed", "{view}");
    let events = dev.says(&["logs", &id, "--json"]);
    assert!(
        events.contains("asks for the secret `RATES_KEY`, which this tenant") && events.contains("POLICY"),
        "{events}"
    );
    assert_eq!(world.seen.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_developer_has_his_machine_and_the_secrets_that_he_names() {
    let world = world().await;
    let environment = [("OMIUM_SECRET_RATES_KEY", SECRET), ("PLANTED", SECRET)];
    let dev = Dev::start_granting(&["dev", "--upstream", &world.model.url()], "", &environment);
    let file = written(&dev, &world.workflow("PLANTED"));
    dev.fails(&["run", &file], 5);
    let file = written(&dev, &world.workflow("RATES_KEY"));
    let id = dev.says(&["run", &file]);
    assert_eq!(ended(&dev, &id)["status"], "completed");
    let said = dev.stderr();
    assert!(
        said.contains("any program, private hosts 127.0.0.0/8, ::1; default: secrets RATES_KEY"),
        "{said}"
    );
}

fn refused(words: &[&str], data: &Path) -> String {
    let output = omium(data, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}");
    let (said, more) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
    said + &more
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("omium.toml");
    let serve = ["serve", "--port", "0"];
    std::fs::write(&file, "[host]\nprograms = []\nprivat = []\n").unwrap();
    let said = refused(&serve, dir.path());
    let place = file.display();
    assert!(
        said.contains(&format!("{place}:3:1: unknown field `privat`, expected `programs` or `private`")),
        "{said}"
    );
    assert!(refused(&["doctor"], dir.path()).contains("LOOK tools: "));

    std::fs::write(&file, "[tenants.default.secrets]\nK = { env = \"NO_SUCH_VARIABLE\" }\n").unwrap();
    let said = refused(&serve, dir.path());
    assert!(
        said.contains("`tenants.default.secrets.K`: the variable `NO_SUCH_VARIABLE` is not set"),
        "{said}"
    );
    assert!(
        refused(&["serve", "--config", "/no/such/file"], dir.path()).contains("/no/such/file cannot be read")
    );

    std::fs::write(dir.path().join("key"), SECRET).unwrap();
    let source = format!("K = {{ file = \"{}\" }}", dir.path().join("key").display());
    std::fs::write(&file, format!("[host]\nprograms = [\"npx\"]\n[tenants.default.secrets]\n{source}\n"))
        .unwrap();
    let told = omium(dir.path(), &["doctor"]);
    let told = String::from_utf8(told.stdout).unwrap();
    let line = told.lines().find(|line| line.contains("tools: ")).unwrap();
    assert!(
        line.starts_with("ok   tools: ")
            && line.contains("programs npx, no private hosts; default: secrets K")
    );
    assert!(!told.contains(SECRET));
}
