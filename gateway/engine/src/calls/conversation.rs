//! Requests as they lie in the log: each distinct message once per execution, and of a conversation that grows only what
//! it has grown by.

use std::collections::BTreeMap;

use omium_execution::{Call, Outcome, Run};
use omium_openai::Request;
use omium_runtime::{DataKey, StreamKey, Told};
use omium_schemas::catalogue::{Command, NewMessage, StartLlmCall};
use omium_schemas::{Content, Digest, Seq};

use super::{ModelCall, Recorder};
use crate::Engine;

/// How many bytes of content an execution may have for its requests to be compared message by message.
const COMPARED: u64 = 32 << 20;
/// How much of a difference is told.
const TOLD: usize = 4_000;

/// What of a request has to be written.
pub(super) struct Stored {
    pub(super) continues: Option<Seq>,
    pub(super) messages: Vec<Digest>,
    pub(super) new: Vec<NewMessage>,
    pub(super) thread: Digest,
}

impl Stored {
    pub(super) async fn of(
        engine: &Engine,
        key: StreamKey,
        run: &Run,
        request: &Request<'_>,
        data_key: &DataKey,
    ) -> Stored {
        let texts = request.messages();
        let digests: Vec<Digest> = texts.iter().map(|text| data_key.digest(text.as_bytes())).collect();
        let threads = threads(&digests, data_key);
        // The longest beginning that an earlier call has as its whole conversation; of several calls the newest.
        let begins: BTreeMap<&Digest, usize> = threads
            .iter()
            .take(threads.len().saturating_sub(1))
            .enumerate()
            .map(|(length, thread)| (thread, length))
            .collect();
        let mut longest: Option<(usize, &std::sync::Arc<Call>)> = None;
        for call in run.calls.iter().rev() {
            let length = call.thread.as_ref().and_then(|thread| begins.get(thread)).copied();
            if length.is_some_and(|length| longest.is_none_or(|(known, _)| length > known)) {
                longest = length.map(|length| (length, call));
            }
        }
        let (begins, continued) = longest.map_or((0, None), |(length, call)| (length, Some(call)));
        let said = match continued {
            Some(call) => answer(engine, key, call).await,
            None => None,
        };
        let held = run.program.as_ref().map(|program| &program.messages);
        let mut new: BTreeMap<Digest, NewMessage> = BTreeMap::new();
        for (digest, text) in digests.iter().zip(&texts).skip(begins) {
            if held.is_none_or(|held| !held.contains(digest)) {
                let body = Content::open(omium_openai::pack(text.as_bytes(), said.as_deref()));
                new.insert(*digest, NewMessage { digest: *digest, body });
            }
        }
        Stored {
            continues: continued.map(|call| call.at),
            messages: digests[begins..].to_vec(),
            new: new.into_values().collect(),
            thread: threads.last().copied().unwrap_or_else(|| data_key.digest(b"")),
        }
    }
}

/// The name of each beginning of a conversation, the empty one first.
fn threads(messages: &[Digest], data_key: &DataKey) -> Vec<Digest> {
    let mut thread = data_key.digest(b"thread");
    let mut threads = vec![thread];
    for message in messages {
        thread = data_key.digest(&[thread.0, message.0].concat());
        threads.push(thread);
    }
    threads
}

async fn answer(engine: &Engine, key: StreamKey, call: &Call) -> Option<Vec<u8>> {
    let Outcome::Answered(Some(content)) = &call.outcome else { return None };
    let blobs = engine.opened(key, std::iter::once(content)).await;
    omium_openai::unpack(&engine.plain(key, &blobs, content).ok()?).ok()
}

impl Recorder<'_> {
    /// How a request differs from the recorded one that was to come next, where a resumed program asks for something
    /// else than before.
    pub(super) async fn difference(&self, run: &Run, call: &ModelCall<'_>) -> Option<String> {
        if !self.owner.is_program || self.owner.taking < 2 || run.has_condemned_what_was_read() {
            return None;
        }
        if run.bytes > COMPARED {
            return Some(
                "the request differs from the recorded one; its history is too long to say where".to_owned(),
            );
        }
        let expected = run.expected(call.asker.caller, call.asker.position, self.owner.taking)?;
        let now: Vec<String> = call.request.messages().into_iter().map(str::to_owned).collect();
        let before = self.engine.asked(self.owner.key, expected.at).await.unwrap_or_default();
        Some(difference(&before, &now))
    }
}

impl Engine {
    /// The messages of a recorded request.
    pub(super) async fn asked(&self, key: StreamKey, call: Seq) -> Option<Vec<String>> {
        let mut starts: BTreeMap<Seq, StartLlmCall> = BTreeMap::new();
        let mut bodies: BTreeMap<Digest, (Content, Option<Seq>)> = BTreeMap::new();
        let mut from = Seq(1);
        // What the call rests on was begun before it.
        while from <= call {
            let frames = self.history.raw_frames(&key, from, PAGE).await.ok()?;
            read_starts(&frames, &mut starts, &mut bodies);
            from = frames.last()?.last().next();
        }
        let mut digests = Vec::new();
        let mut at = Some(call);
        while let Some(start) = at.and_then(|at| starts.get(&at)) {
            digests.splice(0..0, start.messages.iter().copied());
            at = start.continues;
        }
        let stream = self.stream(key).await.ok()?;
        let run = stream.state.0.run()?;
        let mut texts = Vec::new();
        for digest in digests {
            let (body, continues) = bodies.get(&digest)?;
            let blobs = self.opened(key, std::iter::once(body)).await;
            let plain = self.plain(key, &blobs, body).ok()?;
            let said = match continues.and_then(|at| run.calls.iter().find(|call| call.at == at)) {
                Some(call) => answer(self, key, call).await.unwrap_or_default(),
                None => Vec::new(),
            };
            let text = omium_openai::unpack_with(&plain, &said).ok()?;
            texts.push(String::from_utf8_lossy(&text).into_owned());
        }
        Some(texts)
    }
}

/// How many records are read at once.
const PAGE: usize = 1_000;

/// The requests that begin in some frames, and the messages that they brought.
fn read_starts(
    frames: &[omium_schemas::Frame],
    starts: &mut BTreeMap<Seq, StartLlmCall>,
    bodies: &mut BTreeMap<Digest, (Content, Option<Seq>)>,
) {
    for told in frames.iter().filter_map(|frame| Told::read(frame).ok()) {
        let Command::StartLlmCall(start) = &told.command else { continue };
        for message in &start.stored {
            bodies.insert(message.digest, (message.body.clone(), start.continues));
        }
        starts.insert(Seq(told.first.0 + 1), start.clone());
    }
}

/// The first message that is not the same, before and now.
fn difference(before: &[String], now: &[String]) -> String {
    let at = before.iter().zip(now).take_while(|(before, now)| before == now).count();
    let short =
        |text: Option<&String>| text.map_or("(none)".to_owned(), |text| text.chars().take(TOLD).collect());
    if at == before.len() && at == now.len() {
        return "the messages are the same; what else the request says differs".to_owned();
    }
    format!("message {} differs\n- {}\n+ {}", at + 1, short(before.get(at)), short(now.get(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_that_differs_is_told() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(difference(&texts(&["a", "b"]), &texts(&["a", "c"])), "message 2 differs\n- b\n+ c");
        assert_eq!(difference(&texts(&["a"]), &texts(&["a", "c"])), "message 2 differs\n- (none)\n+ c");
        assert!(difference(&texts(&["a"]), &texts(&["a"])).contains("what else"));
    }
}
