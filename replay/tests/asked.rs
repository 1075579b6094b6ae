//! A tool that pays is under way when the server is killed: nobody knows whether it paid, and a person is asked.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use desk::Dev;
use omium_agents::Script;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

const MODEL: &str = "
rules:
  - {when: {tool_result: false}, answer: {tool_calls: [{name: pay, arguments: {amount: 700}}]}}
  - {when: {tool_result: true}, answer: {text: paid}}
";

/// A bank that counts what it is asked, and answers only when it is open.
#[derive(Clone)]
struct Bank {
    payments: watch::Sender<usize>,
    answered: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
    url: String,
}

impl Bank {
    async fn start() -> Bank {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pay", listener.local_addr().unwrap());
        let bank =
            Bank { payments: watch::Sender::new(0), answered: Arc::default(), open: Arc::default(), url };
        let router = Router::new().route("/pay", post(pay)).with_state(bank.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        bank
    }

    async fn is_asked(&self, times: usize) {
        self.payments.subscribe().wait_for(|payments| *payments >= times).await.unwrap();
    }

    fn payments(&self) -> usize {
        *self.payments.borrow()
    }

    fn workflow(&self) -> String {
        format!(
            "
name: payment
agents: [{{id: clerk, framework: native, definition: {{prompt: Pay, tools: [pay]}}, retry: {{attempts: 1}}, timeout: 60s}}]
tools:
  pay:
    description: Pays
    parameters: {{type: object}}
    http: {{method: POST, url: '{}', body: {{amount: '{{{{ amount }}}}'}}}}
    effect: write
    timeout: 50s
    allow_private: true
",
            self.url
        )
    }
}

async fn pay(State(bank): State<Bank>) -> axum::Json<Value> {
    bank.payments.send_modify(|payments| *payments += 1);
    if !bank.open.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    bank.answered.fetch_add(1, Ordering::SeqCst);
    axum::Json(json!({ "receipt": 1 }))
}

/// A run whose payment is under way when its server is killed and started again, up to the question.
async fn asked(dev: &mut Dev, bank: &Bank) -> (String, Value) {
    let file = dev.data.path().join("payment.yaml");
    std::fs::write(&file, bank.workflow()).unwrap();
    let before = bank.payments();
    let id = dev.says(&["run", file.to_str().unwrap()]);
    bank.is_asked(before + 1).await;
    dev.kill_and_start();
    happens(dev, &id, "ApprovalAsked", 1).await;
    let view: Value = serde_json::from_str(&dev.says(&["show", &id, "--json"])).unwrap();
    assert_eq!(
        (bank.payments(), &view["status"]),
        (before + 1, &"running".into()),
        "nothing is repeated in silence"
    );
    assert_eq!(view["steps"][0]["status"], "asking");
    (id, view)
}

/// Returns when the execution has so many such events.
async fn happens(dev: &Dev, id: &str, kind: &str, times: usize) {
    let (url, key) = dev.address();
    let events = format!("{url}/api/v1/executions/{id}/events");
    let request = reqwest::Client::new().get(events).bearer_auth(key).header("accept", "text/event-stream");
    let mut response = request.send().await.unwrap();
    let mut text = String::new();
    while text.matches(&format!("event: {kind}\n")).count() < times {
        text += &String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap());
    }
}

async fn world() -> (Dev, Bank, omium_agents::mock::Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let model = omium_agents::serve(Script::parse(MODEL).unwrap(), listener).await.unwrap();
    (Dev::start_as(&["dev", "--upstream", &model.url()]), Bank::start().await, model)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_shown_and_a_result_that_was_found_out_is_taken() {
    let (mut dev, bank, _model) = world().await;
    let (id, view) = asked(&mut dev, &bank).await;
    let question = &view["questions"][0];
    assert_eq!(view["questions"].as_array().unwrap().len(), 1);
    assert_eq!((&question["tool"], &question["arguments"]), (&"pay".into(), &json!({"amount": 700})));
    assert_eq!(question["call"], view["steps"][0]["calls"][1]["seq"]);
    let told = dev.says(&["show", &id]);
    let line = told.lines().find(|line| line.starts_with("question ")).unwrap();
    assert_eq!(
        line,
        format!(
            "question {}: `pay` was called by an earlier attempt that ended before its answer came, and it changes something \
             (clerk, call {}, given {{\"amount\":700}}); `omium answer {id} happened --result JSON | repeat | give-up`",
            question["seq"], question["call"]
        )
    );
    // Asking is a state like any other: it survives the next crash, and is asked once.
    dev.kill_and_start();
    assert_eq!(dev.says(&["show", &id]), told);

    let wrong = dev.fails(&["answer", &id, "repeat", "--question", "2"], 4);
    assert_eq!(wrong.lines().next().unwrap(), format!("error: {id} asks nothing at seq 2"));
    assert!(dev.fails(&["answer", &id, "perhaps"], 2).contains("possible values: happened, repeat, give-up"));
    dev.says(&["answer", &id, "happened", "--result", r#"{"receipt": 9007199254740993}"#]);
    dev.says(&["logs", "--follow", &id]);
    let view: Value = serde_json::from_str(&dev.says(&["show", &id, "--json"])).unwrap();
    assert_eq!((&view["status"], &view["output"], bank.payments()), (&"completed".into(), &"paid".into(), 1));
    assert_eq!(view["questions"], json!([]));
    assert!(dev.says(&["logs", &id]).contains("9007199254740993"));
    assert_eq!(dev.fails(&["answer", &id, "repeat"], 1), format!("error: {id} asks nothing"));
    let replayed = dev.says(&["replay", &id]);
    assert!(replayed.contains("again: the same state as the live one"), "{replayed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_happen_is_done_again_and_what_is_given_up_fails() {
    let (mut dev, bank, _model) = world().await;
    let (id, _) = asked(&mut dev, &bank).await;
    dev.says(&["answer", &id, "give-up", "--note", "the bank knows nothing"]);
    let view: Value = serde_json::from_str(&dev.says(&["show", &id, "--json"])).unwrap();
    assert_eq!((&view["status"], &view["failure"]), (&"failed".into(), &"rejected".into()));
    assert!(dev.says(&["logs", &id]).contains("the bank knows nothing"));

    let (id, _) = asked(&mut dev, &bank).await;
    bank.open.store(true, Ordering::SeqCst);
    dev.says(&["answer", &id, "repeat"]);
    dev.says(&["logs", "--follow", &id]);
    let view: Value = serde_json::from_str(&dev.says(&["show", &id, "--json"])).unwrap();
    assert_eq!((&view["status"], &view["output"]), (&"completed".into(), &"paid".into()));
    assert_eq!((bank.payments(), bank.answered.load(Ordering::SeqCst)), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_retry_nor_a_rollback_repeats_in_silence_what_was_given_up() {
    let (mut dev, bank, _model) = world().await;
    let (id, view) = asked(&mut dev, &bank).await;
    dev.says(&["answer", &id, "give-up"]);
    dev.says(&["retry", &id]);
    happens(&dev, &id, "ApprovalAsked", 2).await;
    assert_eq!(bank.payments(), 1, "a retry asks again, and pays nothing");

    let marks: Value = serde_json::from_str(&dev.says(&["checkpoints", "list", &id, "--json"])).unwrap();
    let first = marks["items"][0]["seq"].to_string();
    let back = ["rollback", &id, &first, "--cancel-running"];
    let refused = dev.fails(&back, 5);
    let call = &view["steps"][0]["calls"][1]["seq"];
    assert!(
        refused.contains(&format!("`pay` (seq {call}, nobody knows whether it did)\nhint: see to that")),
        "{refused}"
    );
    bank.open.store(true, Ordering::SeqCst);
    dev.says(&[back.as_slice(), &["--over-writes"]].concat());
    dev.says(&["logs", "--follow", &id]);
    assert_eq!((bank.payments(), bank.answered.load(Ordering::SeqCst)), (2, 1));
}
