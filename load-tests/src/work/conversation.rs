//! One agent that calls a tool in each turn, so that each of its requests holds all that came before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::gate::Line;
use super::vendor::{After, Answers, Asked, send};

/// Turns of a conversation.
pub(crate) const TURNS: usize = 100;
/// Bytes of each result of the tool: with them the last request has about 209,000 tokens.
const RESULT: usize = 8_150;
const AGENT: &str = "Reader";

/// A model that asks for the next page each time.
#[derive(Debug, Default)]
pub(crate) struct Pager(AtomicU64);

impl Pager {
    /// How often it was asked.
    pub(crate) fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Answers for Pager {
    async fn answer(&self, _: Asked, client: &mut TcpStream) -> anyhow::Result<After> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        let function = json!({ "name": "read_page", "arguments": format!("{{\"page\":{number}}}") });
        let call = json!({ "id": format!("call_{number}"), "type": "function", "function": function });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        let body = json!({
            "id": format!("chatcmpl-{number}"), "object": "chat.completion", "created": 1_700_000_000,
            "model": "gpt-4o-mini",
            "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }],
            "usage": { "prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30 },
        });
        send(client, &body.to_string()).await?;
        Ok(After::KeepOpen)
    }
}

/// What was said so far, and how long each call took.
#[derive(Debug)]
pub(crate) struct Conversation {
    messages: Vec<String>,
    /// Bytes of each request.
    pub(crate) sizes: Vec<usize>,
    /// Through the gate.
    pub(crate) took: Vec<Duration>,
    /// The same requests sent directly.
    pub(crate) direct: Vec<Duration>,
    /// The answers as they came.
    pub(crate) answers: Vec<Vec<u8>>,
}

impl Conversation {
    fn new() -> Conversation {
        let messages = [
            json!({ "role": "system", "name": AGENT, "content": "You read files page by page." }).to_string(),
            json!({ "role": "user", "content": "What does the ledger say about the loan?" }).to_string(),
        ];
        let (sizes, took, direct, answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Conversation { messages: messages.to_vec(), sizes, took, direct, answers }
    }

    /// Holds it to its end over a line of an attempt. Where a line to the model is given, each request goes there before.
    pub(crate) async fn hold(line: &mut Line, mut model: Option<&mut Line>) -> anyhow::Result<Conversation> {
        let mut said = Conversation::new();
        for turn in 0..TURNS {
            let request = said.request();
            said.sizes.push(request.len());
            if let Some(model) = &mut model {
                let (since, request) = (Instant::now(), request.clone());
                model.ask_written(request).await?;
                said.direct.push(since.elapsed());
            }
            let since = Instant::now();
            let answer = line.ask_written(request).await?;
            said.took.push(since.elapsed());
            said.turn(line, turn, answer).await?;
        }
        Ok(said)
    }

    async fn turn(&mut self, line: &mut Line, turn: usize, answer: Vec<u8>) -> anyhow::Result<()> {
        let message = serde_json::from_slice::<Value>(&answer)?["choices"][0]["message"].to_string();
        let page = page(turn);
        let begun = line.begin_tool(&format!("{AGENT}#0"), &format!("read_page_{turn}")).await?;
        let result = match begun["call"].as_u64() {
            Some(call) => {
                line.end_tool(call, &page).await?;
                page
            }
            None => {
                begun["recorded"]["result"].as_str().context("a recorded tool has its result")?.to_owned()
            }
        };
        ensure!(result.len() == RESULT, "a tool's result has {} bytes", result.len());
        let call = format!("call_{turn}");
        self.messages.push(message);
        self.messages.push(json!({ "role": "tool", "tool_call_id": call, "content": result }).to_string());
        self.answers.push(answer);
        Ok(())
    }

    fn request(&self) -> Vec<u8> {
        let parameters = json!({ "type": "object", "properties": { "page": { "type": "integer" } } });
        let tool =
            json!({ "type": "function", "function": { "name": "read_page", "parameters": parameters } });
        format!(r#"{{"model":"gpt-4o-mini","tools":[{tool}],"messages":[{}]}}"#, self.messages.join(","))
            .into_bytes()
    }

    /// The bytes of everything that was said, each message once.
    pub(crate) fn distinct(&self) -> usize {
        self.messages.iter().map(String::len).sum()
    }
}

/// Text that packs about as well as prose.
fn page(number: usize) -> String {
    const SYLLABLES: [&str; 32] = [
        "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su", "ta",
        "ve", "wi", "xo", "yu", "za", "ble", "chi", "dro", "flu", "gra", "plo", "ste", "tri", "scu", "an",
        "er",
    ];
    let mut dice = number as u64 + 1;
    let mut text = String::new();
    while text.len() < RESULT {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let syllables = 1 + (dice >> 60) as usize % 4;
        (0..syllables).for_each(|at| text.push_str(SYLLABLES[(dice >> (20 + 5 * at)) as usize % 32]));
        text.push(' ');
    }
    text.truncate(RESULT);
    text
}
