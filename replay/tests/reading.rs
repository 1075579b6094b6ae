//! Reading along while a model answers: over real HTTP, with a model that takes its time.
#![allow(clippy::unwrap_used, reason = "tests")]

mod desk;

use desk::Dev;
use omium_agents::Script;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const SLOW: &str = "
rules:
  - answer: {text: 'Dear customer, your loan is approved. Grüße', fault: slow, chunk_delay: 20ms}
";
/// A person says when it begins, so that everybody is there.
const LETTER: &str = "
name: letter
agents:
  - {id: go, framework: human}
  - {id: writer, framework: native, definition: {prompt: Write}, timeout: 30s}
";

/// What one listener heard: JSON of events and parts, in order.
fn heard_well(said: &[Value]) {
    let seqs: Vec<u64> = said.iter().filter_map(|said| said["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "no event is missed or repeated");
    let at = |kind: &str| said.iter().position(|said| said["kind"] == kind).unwrap();
    let begun = at("LlmCallStarted");
    let call = &said[begun]["seq"];
    let parts: Vec<(usize, &Value)> =
        said.iter().enumerate().filter(|(_, said)| said["kind"] == "delta").collect();
    assert!(parts.len() > 1, "{parts:?}");
    let mut text = String::new();
    for (place, part) in parts {
        assert!(begun < place && place < at("LlmCallCompleted"), "parts come while the call is under way");
        assert_eq!((&part["call"], &part["step"], part.get("seq")), (call, &2.into(), None));
        assert_eq!(part["at"], text.chars().count() as u64);
        text += part["text"].as_str().unwrap();
    }
    let output = said.iter().find(|said| said["kind"] == "CompleteStep").unwrap();
    assert_eq!(output["body"]["output"], text.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_hears_what_a_model_says_while_it_says_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let model = omium_agents::serve(Script::parse(SLOW).unwrap(), listener).await.unwrap();
    let dev = Dev::start_as(&["dev", "--upstream", &model.url()]);
    let file = dev.data.path().join("letter.yaml");
    std::fs::write(&file, LETTER).unwrap();
    let id = dev.says(&["run", file.to_str().unwrap()]);
    let (url, key) = dev.address();

    let events = format!("{url}/api/v1/executions/{id}/events");
    let get = |query: &str| {
        let request = reqwest::Client::new().get(format!("{events}{query}")).bearer_auth(&key);
        request.header("accept", "text/event-stream").send()
    };
    let mut sent = get("").await.unwrap();
    let mut without = get("?deltas=false").await.unwrap();
    let stream = format!("{}/api/v1/executions/{id}/stream", url.replace("http://", "ws://"));
    let mut request = stream.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let mut by_socket = Vec::new();
    let first = socket.next().await.unwrap().unwrap();
    by_socket.push(serde_json::from_str::<Value>(first.to_text().unwrap()).unwrap());
    dev.says(&["signal", &id, "go"]);

    while by_socket.last().is_none_or(|said| said["kind"] != "ExecutionCompleted") {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            by_socket.push(serde_json::from_str(&text).unwrap());
        }
    }
    heard_well(&by_socket);
    let text = until_the_end(&mut sent).await;
    let by_events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    heard_well(&by_events);
    let named = text.split("\n\n").filter(|block| block.contains("event: delta"));
    assert!(named.clone().count() > 1 && named.clone().all(|block| !block.contains("id:")));
    assert!(!until_the_end(&mut without).await.contains("delta"));
}

async fn until_the_end(response: &mut reqwest::Response) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("event: ExecutionCompleted") && text.ends_with("\n\n") {
            return text.into_owned();
        }
        bytes.extend_from_slice(&response.chunk().await.unwrap().unwrap());
    }
}
