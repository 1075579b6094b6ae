//! A node as its operator and its neighbours on the machine meet it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;
mod gate;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use desk::node::Node;
use desk::{Dev, OMIUM};
use gate::{Program, post, says};
use serde_json::{Value, json};

/// What it has noted of itself.
fn noted(node: &Node, field: &str) -> String {
    let note: Value = serde_json::from_slice(&std::fs::read(node.data.join("dev.json")).unwrap()).unwrap();
    note[field].as_str().unwrap().to_owned()
}

#[test]
fn a_node_says_how_it_is_set_and_every_alarm() {
    let mut node = Node::by("exec $0 serve --port 0");
    let first = node.first();
    assert_eq!(first["level"], "INFO");
    for (field, said) in [
        ("url", "http://127.0.0.1:"),
        ("models", "none: calls of models are refused"),
        ("log", "in the data folder"),
    ] {
        assert!(first[field].as_str().unwrap().contains(said), "{first}");
    }
    std::fs::write(node.data.join("review.yaml"), desk::REVIEW).unwrap();
    let file = node.data.join("review.yaml");
    let key = noted(&node, "key");
    // What the node cannot write it has to say.
    std::fs::rename(node.data.join("blobs"), node.data.join("elsewhere")).unwrap();
    std::fs::write(node.data.join("blobs"), "in the way").unwrap();
    let long = format!(r#"{{"amount": 1, "text": "{}"}}"#, "0123456789abcdef".repeat(6_000));
    node.omium(&["run", file.to_str().unwrap(), "--input", &long]);
    let said = node.until_said("\"level\":\"ERROR\"");
    assert!(said.contains("blobs"), "{said}");
    assert!(!said.contains(&key), "no key in any line");
}

#[test]
fn what_the_log_level_says_is_read_or_refused() {
    let data = tempfile::tempdir().unwrap();
    let refused = Command::new(OMIUM)
        .args(["dev", "--port", "0"])
        .env("OMIUM_DATA", data.path())
        .env("OMIUM_LOG", "omium=loud")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("OMIUM_LOG"), "{text}");
    let mut quiet = Node::by("exec $0 dev --port 0");
    let (code, said) = quiet.stop(|_| {});
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_node_without_a_model_refuses_calls_of_models_by_name() {
    let node = Node::by("exec $0 serve --port 0");
    let file = node.data.join("native.yaml");
    std::fs::write(&file, "name: n\nagents: [{id: a, framework: native, prompt: hi}]\n").unwrap();
    let ended = node.omium(&["run", file.to_str().unwrap(), "--watch"]);
    assert_eq!(ended.status.code(), Some(10), "{}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("--upstream"), "{said}");
    let script = r#"curl -s -H "Authorization: Bearer $OMIUM_TOKEN" -d '{"model":"m","messages":[]}' $OMIUM_GATE/v1/chat/completions"#;
    let program = node.omium(&["exec", "--", "sh", "-c", script]);
    let text = String::from_utf8_lossy(&program.stdout).into_owned();
    assert!(text.contains("no-upstream") && text.contains("--upstream"), "{text}");
}

fn mode(place: &Path) -> u32 {
    std::fs::metadata(place).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_else_on_the_machine_can_read_the_data() {
    let dev = Dev::start();
    dev.started();
    assert_eq!(mode(dev.data.path()), 0o700);
    let mut left = vec![dev.data.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let place = entry.unwrap().path();
            if place.is_dir() {
                left.push(place);
            } else if !place.ends_with("review.yaml") {
                files += 1;
                assert_eq!(mode(&place) & 0o077, 0, "{}", place.display());
            }
        }
    }
    assert!(files > 10);
}

#[test]
fn strangers_and_made_up_names_make_no_key() {
    let dev = Dev::start();
    dev.started();
    let (url, key) = dev.address();
    let address = url.trim_start_matches("http://").to_owned();
    let size = || std::fs::metadata(dev.data.path().join("keys")).unwrap().len();
    let before = size();
    let ask = |head: String| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text.get(9..12).unwrap_or_default().to_owned()
    };
    for number in 0..50_u128 {
        let token = format!("omx_{:032x}01{:030x}{:064x}", number + 7, number * 31 + 1, number);
        let head = format!(
            "GET /x/ex_1/v1/models HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(ask(head), "401");
    }
    let (_, missing) = (0, "ex_0000000000000000000000000000000");
    let known = dev.says(&["list", "--json"]);
    let known: Value = serde_json::from_str(&known).unwrap();
    let id = known["items"][0]["id"].as_str().unwrap().to_owned();
    for number in 0..20 {
        // An id of the right form that was never given out.
        let mut other = id.clone();
        let end = format!("{number:02}").replace(['0', '1'], "2");
        other.replace_range(id.len() - 4..id.len() - 2, &end);
        if other == id {
            continue;
        }
        for (action, body) in [("pause", ""), ("signal", r#"{"name":"n","body":1}"#)] {
            for id in [other.as_str(), missing] {
                let head = format!(
                    "POST /api/v1/executions/{id}/{action} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\
                     idempotency-key: k{number}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                assert_eq!(ask(head), "404", "{id}");
            }
        }
    }
    assert_eq!(size(), before);
}

#[test]
fn idle_strangers_take_no_descriptors_from_the_log() {
    let mut node = Node::by("ulimit -n 400; exec $0 dev --port 0");
    let address = noted(&node, "url").trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..600).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    assert!(idle.len() > 300);
    std::fs::write(node.data.join("review.yaml"), desk::REVIEW).unwrap();
    let file = node.data.join("review.yaml");
    let long = format!(r#"{{"amount": 1, "text": "{}"}}"#, "0123456789abcdef".repeat(6_000));
    for _ in 0..5 {
        let began = Instant::now();
        let started = node.omium(&["run", file.to_str().unwrap(), "--input", &long]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    drop(idle);
    assert_eq!(node.stop(|_| {}).0, Some(0));
}

/// A model's server that answers only once it is let to, with threads of its own.
fn held_model(release: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (release, asked) = (release.clone(), asked.clone());
            std::thread::spawn(move || {
                let (mut read, mut part) = (String::new(), [0; 4096]);
                while !read.contains("\r\n\r\n") || !read.ends_with('}') {
                    let Ok(count @ 1..) = stream.read(&mut part) else { return };
                    read.push_str(&String::from_utf8_lossy(&part[..count]));
                }
                asked.fetch_add(1, Ordering::Relaxed);
                while !release.load(Ordering::Relaxed) {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                let (.., body) = says("paid once");
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_ends_before_the_node_does_and_is_not_bought_twice() {
    let (release, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let url = held_model(release.clone(), asked.clone());
    let mut dev =
        tokio::task::spawn_blocking(move || Dev::start_as(&["dev", "--upstream", &url])).await.unwrap();
    let file = dev.data.path().join("native.yaml");
    std::fs::write(&file, "name: n\nagents: [{id: a, framework: native, prompt: hi}]\n").unwrap();
    let native = dev.says(&["run", file.to_str().unwrap()]);
    let program = Program::open(&dev, "auto").await;
    let body = r#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;
    let (answer, dev) = {
        let asking = program.asks("Writer", body);
        tokio::pin!(asking);
        tokio::select! {
            _ = &mut asking => panic!("the model takes longer"),
            () = async { while asked.load(Ordering::Relaxed) < 2 { tokio::time::sleep(Duration::from_millis(10)).await } } => {}
        }
        dev.terminate();
        let (status, refused) = loop {
            // Somebody new is told to come back, as soon as the signal has arrived.
            let (url, key) = dev.address();
            let asked = reqwest::Client::new()
                .get(format!("{url}/api/v1/workflows"))
                .bearer_auth(key)
                .send()
                .await
                .unwrap();
            if asked.status() != 200 {
                break (asked.status().as_u16(), asked.json::<Value>().await.unwrap());
            }
        };
        assert_eq!((status, &refused["code"]), (503, &json!("stopping")));
        release.store(true, Ordering::Relaxed);
        (
            asking.await,
            tokio::task::spawn_blocking(move || {
                dev.wait_and_start();
                dev
            })
            .await
            .unwrap(),
        )
    };
    assert!(answer.0 == 200 && answer.1.contains("paid once"), "{answer:?}");
    let second = Program::attempt(&dev, &program.id).await;
    assert!(second.asks("Writer", body).await.1.contains("paid once"));
    let shown = || dev.says(&["show", native.trim(), "--json"]);
    let began = Instant::now();
    while !shown().contains("completed") {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", shown());
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2, "each was asked once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_counted_also_after_a_restart() {
    let mut dev = tokio::task::spawn_blocking(Dev::start).await.unwrap();
    for _ in 0..3 {
        Program::open(&dev, "auto").await;
    }
    let line = r#"omium_active_executions{framework="program"} 3"#;
    let metrics = async |dev: &Dev| {
        let asked = reqwest::get(format!("{}/metrics", dev.address().0)).await.unwrap();
        asked.text().await.unwrap()
    };
    let began = Instant::now();
    while !metrics(&dev).await.contains(line) {
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    let dev = tokio::task::spawn_blocking(move || {
        dev.kill_and_start();
        dev
    })
    .await
    .unwrap();
    let began = Instant::now();
    let mut text = metrics(&dev).await;
    while !text.contains(line) {
        assert!(began.elapsed() < Duration::from_secs(5), "{text}");
        text = metrics(&dev).await;
    }
    assert!(!text.contains("tenant_id"), "{text}");
    let _ = post(&dev, "/programs", json!({ "name": "one-more" })).await;
}

#[test]
fn a_proxy_is_not_shown_what_stays_on_the_machine() {
    let dev = Dev::start();
    let listed = Command::new(OMIUM)
        .args(["exec", "--quiet", "--", "sh", "-c", "echo $NO_PROXY"])
        .env("OMIUM_DATA", dev.data.path())
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .env("NO_PROXY", "")
        .env("no_proxy", "")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(
        listed.status.success() && text.contains("127.0.0.1"),
        "{text}{}",
        String::from_utf8_lossy(&listed.stderr)
    );
}

#[test]
fn doctor_says_of_a_dead_server_that_it_is_dead() {
    let dev = Dev::start();
    let data = dev.data.path().to_owned();
    let said = dev.says(&["doctor"]);
    assert!(said.contains("one answers and is ready") && said.contains("ok   key: "), "{said}");
    assert!(said.contains("version: omium") && said.contains(", here and there"), "{said}");
    let (url, _) = dev.address();
    let other = dev.run(&["doctor", "--url", &url, "--key", "om_1_2"]);
    let said = String::from_utf8_lossy(&other.stdout).into_owned();
    assert!(!other.status.success() && said.contains("LOOK key: the key is unknown"), "{said}");
    let nowhere = dev.run(&["doctor", "--url", "http://127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&nowhere.stdout).into_owned();
    assert!(said.starts_with("LOOK server: ") && !said.contains("version"), "{said}");
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(data.join("dev.json"), copy.path().join("dev.json")).unwrap();
    drop(dev);
    let said = desk::omium(copy.path(), &["doctor"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!said.status.success() && text.contains("LOOK server: none answers"), "{text}");
    let fresh = tempfile::tempdir().unwrap();
    assert!(desk::omium(fresh.path(), &["doctor"]).status.success());
}
