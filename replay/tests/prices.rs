//! What model calls cost: exact, by the price list that was in force when a run began, and never nothing in silence.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use desk::Dev;
use omium_agents::Script;
use serde_json::Value;
use tokio::net::TcpListener;

const MODEL: &str = "
models: [default, other]
rules:
  - answer: {text: done, usage: {input: 1000, output: 10}}
";
/// A person says when the models are asked.
const LETTER: &str = "
name: letter
agents:
  - {id: go, framework: human}
  - {id: writer, framework: native, definition: {prompt: Write}}
  - {id: checker, framework: native, definition: {prompt: Check, model: other}}
";

fn shown(dev: &Dev, id: &str) -> Value {
    serde_json::from_str(&dev.says(&["show", id, "--json"])).unwrap()
}

/// Lets the models of a run be asked, and returns how it stands when it has ended.
fn ended(dev: &Dev, id: &str) -> Value {
    dev.says(&["signal", id, "go"]);
    dev.says(&["logs", "--follow", id]);
    let view = shown(dev, id);
    assert_eq!(view["status"], "completed", "{view}");
    view
}

fn costs(view: &Value) -> Vec<(&str, u64)> {
    let of = |part: &'static str| move |view: &Value| view[part].clone();
    let mut all: Vec<&Value> = vec![view];
    all.extend(&view["steps"].as_array().unwrap()[1..]);
    let unpriced = of("unpriced_calls");
    all.into_iter()
        .map(|part| (part["cost_usd"].as_str().unwrap(), unpriced(part).as_u64().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_costs_what_the_list_said_when_it_began_and_what_has_no_price_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let model = omium_agents::serve(Script::parse(MODEL).unwrap(), listener).await.unwrap();
    let mut dev = Dev::start_as(&["dev", "--upstream", &model.url()]);
    let file = dev.data.path().join("letter.yaml");
    std::fs::write(&file, LETTER).unwrap();
    let start = |dev: &Dev| dev.says(&["run", file.to_str().unwrap()]);

    assert_eq!(dev.says(&["prices", "list"]), "MODEL  INPUT $/1M  CACHED $/1M  OUTPUT $/1M");
    let unpriced = start(&dev);
    assert_eq!(
        dev.says(&["prices", "set", "default", "--input", "2.50", "--cached", "1.25", "--output", "10"]),
        "default: $2.5 input, $1.25 cached, $10 output for a million tokens"
    );
    let early = start(&dev);
    dev.says(&["prices", "set", "default", "--input", "0.000001", "--output", "0"]);
    dev.says(&["prices", "set", "other", "--input", "0", "--output", "0"]);
    let late = start(&dev);
    assert_eq!(
        dev.fails(&["prices", "set", "other", "--input", "0.0000001", "--output", "1"], 5),
        "error: `0.0000001` for a million tokens is not a whole number of pico-dollars for one\nhint: write at most six decimals"
    );
    assert_eq!(
        dev.fails(&["prices", "set", " other", "--input", "1", "--output", "1"], 5),
        "error: a model's name has 1 to 256 bytes, without blanks around it and control characters\nhint: `omium prices list` shows those that have a price"
    );

    let list = dev.says(&["prices", "list"]);
    dev.kill_and_start();
    assert_eq!(dev.says(&["prices", "list"]), list);
    assert_eq!(
        list.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>(),
        [["default", "0.000001", "0.000001", "0"], ["other", "0", "0", "0"]]
    );
    assert_eq!(costs(&ended(&dev, &unpriced)), [("0", 2), ("0", 1), ("0", 1)]);
    assert_eq!(costs(&ended(&dev, &early)), [("0.0026", 1), ("0.0026", 0), ("0", 1)]);
    assert_eq!(costs(&ended(&dev, &late)), [("0.000000001", 0), ("0.000000001", 0), ("0", 0)]);
    let told = dev.says(&["show", &early]);
    assert!(
        told.contains("✓ writer · done · $0.0026\n") && told.contains("✓ checker · done · 1 unpriced call\n"),
        "{told}"
    );
    assert!(told.contains("cost $0.0026 · 1 unpriced call · state"), "{told}");
    // A fork is charged as its source is.
    let fork = dev.says(&["fork", &early, "step:go:after"]);
    dev.says(&["logs", "--follow", &fork]);
    assert_eq!(costs(&shown(&dev, &fork))[0], ("0.0026", 1));
}

#[test]
fn the_scripted_model_of_a_dev_server_has_a_price_that_a_person_may_change() {
    let mut dev = Dev::start();
    let before = dev.says(&["prices", "list"]);
    assert!(
        before.lines().any(|line| line.split_whitespace().eq(["default", "0.5", "0.25", "1.5"])),
        "{before}"
    );
    dev.says(&["prices", "set", "default", "--input", "7", "--output", "7"]);
    dev.kill_and_start();
    let after = dev.says(&["prices", "list"]);
    assert!(after.lines().any(|line| line.split_whitespace().eq(["default", "7", "7", "7"])), "{after}");
}
