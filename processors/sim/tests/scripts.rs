//! What seeds have found, written down as scripts: one shell, by hand, in the order that went wrong.

use std::sync::Arc;

use bytes::Bytes;
use omium_log::Entry;
use omium_processor::testkit::BankSuite;
use omium_runtime::{
    Answer, Config, Done, Found, Input, Loaded, MemoryVault, Now, Output, Shell, StreamKey, Submission,
    Ticket, WindowKey, stream_key, window_key,
};
use omium_schemas::catalogue::{Command, Origin, TopUpAccount, TransferMoney};
use omium_schemas::{Epoch, Money, Offset, Partition, Seq, StreamId, StreamKind, TenantId, Time};
use omium_store::{MemoryStore, Store};

const P: Partition = Partition(0);
/// Each letter is an idempotency key.
const NAMES: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

type Rows = (Vec<StreamKey>, Vec<WindowKey>);

/// A leader, its log and its store. Rows of the store arrive when the script says so.
struct Script {
    shell: Shell<BankSuite>,
    log: Vec<Bytes>,
    store: MemoryStore,
    asked: Vec<Rows>,
    answers: Vec<(Ticket, Answer)>,
}

impl Script {
    fn new() -> Script {
        Script::set(Config::default())
    }

    fn set(config: Config) -> Script {
        let config = Config { partitions: 1, schemas: &[], flush_records: 1, ..config };
        let shell = Shell::new(P, config, Arc::new(MemoryVault::new([1; 32])), None);
        let (log, store) = (Vec::new(), MemoryStore::default());
        let mut script = Script { shell, log, store, asked: Vec::new(), answers: Vec::new() };
        script.give(Input::Lead(Epoch(1), [2; 16]));
        script.load_all();
        script
    }

    fn give(&mut self, input: Input) {
        let now = Now { wall: Time(1_000_000), boot: 1_000_000 };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.shell.handle(input, now);
            let outputs: Vec<_> = self.shell.outputs().collect();
            for output in outputs {
                match output {
                    Output::Ready => {
                        if let Some(bytes) = self.shell.take(now) {
                            self.log.push(bytes);
                            inputs.push(Input::Settled(Ok(Offset(self.log.len() as u64 - 1))));
                        }
                    }
                    Output::Fetch(from, through) => {
                        let bytes = self.log[from.0 as usize..=through.0 as usize].iter().cloned();
                        let entries =
                            bytes.zip(from.0..).map(|(bytes, n)| Entry { offset: Offset(n), bytes });
                        inputs.push(Input::Entries(entries.collect()));
                    }
                    Output::Load(streams, window) => self.asked.push((streams, window)),
                    Output::LoadWaiting => inputs.push(Input::Waiting(Vec::new())),
                    Output::Flush(snapshot) => {
                        for batch in snapshot.batches() {
                            self.store.write(batch).expect("the store in memory never fails");
                        }
                        inputs.push(Input::Flushed(omium_schemas::BlockNo(snapshot.position.no)));
                    }
                    Output::Deliver(parcel) => inputs.push(Input::Message(parcel)),
                    Output::Acknowledge(_, through) => inputs.push(Input::Acknowledged(P, through)),
                    Output::Answer(ticket, answer) => self.answers.push((ticket, answer)),
                    _ => {}
                }
            }
        }
    }

    /// What the store has at this moment.
    fn read(&self, (streams, window): Rows) -> Loaded {
        let get = |key| self.store.get(&[key]).expect("the store in memory never fails").pop().flatten();
        Loaded {
            streams: streams.into_iter().map(|key| (key, get(stream_key(P, &key)))).collect(),
            window: window.into_iter().map(|key| (key.clone(), get(window_key(P, &key)))).collect(),
        }
    }

    fn load_all(&mut self) {
        while !self.asked.is_empty() {
            let rows = self.asked.remove(0);
            let loaded = self.read(rows);
            self.give(Input::Loaded(loaded));
        }
    }

    fn top_up(&mut self, ticket: u64, key: &'static str, amount: i128, found: Option<Found>) {
        self.submit(ticket, key, TopUpAccount { amount: Money(amount) }.into(), found);
    }

    fn submit(&mut self, ticket: u64, key: &'static str, command: Command, found: Option<Found>) {
        let origin = Origin {
            key: Some(Bytes::from(key)),
            request: None,
            entropy: [ticket as u8; 16],
            control: Seq(0),
        };
        let (ticket, key) = (Some(Ticket(ticket)), account());
        let submission = Submission { ticket, key, actor: None, trace: None, origin, found, command };
        self.give(Input::Submit(Box::new(submission)));
    }

    fn answer(&self, ticket: u64) -> Option<&Answer> {
        self.answers.iter().find(|(to, _)| *to == Ticket(ticket)).map(|(_, answer)| answer)
    }
}

fn account() -> StreamKey {
    StreamKey::new(TenantId([1; 16]), StreamId::new(StreamKind::Account, [3; 15]))
}

#[test]
fn a_refused_command_that_came_twice_is_refused_twice() {
    let mut script = Script::new();
    script.top_up(1, "k", -1, None);
    script.top_up(2, "k", -1, None);
    // The rows arrive in another order than they were asked for.
    script.asked.reverse();
    script.load_all();
    for ticket in [1, 2] {
        let answer = script.answer(ticket);
        assert!(matches!(answer, Some(Answer::Refused(_))), "{ticket}: {answer:?}");
    }
}

#[test]
fn a_look_up_that_ends_after_its_key_was_used_does_not_let_the_command_in_again() {
    let mut script = Script::new();
    script.top_up(1, "other", 5, None);
    let found = Found { stored: script.shell.stored(), used: None };
    script.top_up(2, "k", 7, Some(found));
    let late: Vec<Loaded> = script.asked.split_off(1).into_iter().map(|rows| script.read(rows)).collect();
    script.load_all();
    late.into_iter().for_each(|loaded| script.give(Input::Loaded(loaded)));
    let Some(Answer::Done(Done { first, repeated: false, .. })) = script.answer(2).cloned() else {
        panic!("{:?}", script.answer(2));
    };
    // More is written and saved, until memory holds nothing of the key any more.
    script.top_up(3, "more", 1, None);
    script.load_all();
    script.top_up(4, "k", 7, None);
    script.load_all();
    let again = script.answer(4);
    assert!(matches!(again, Some(Answer::Done(done)) if done.repeated && done.first == first), "{again:?}");
}

#[test]
fn messages_that_are_acknowledged_keep_no_caller_away_though_the_clock_stands_still() {
    let mut script = Script::set(Config { message_window: 2, waiting_messages: 4, ..Config::default() });
    script.top_up(1, "all of it", 100, None);
    script.load_all();
    let to = StreamId::new(StreamKind::Account, [4; 15]);
    for ticket in 2..52 {
        let found = Found { stored: script.shell.stored(), used: None };
        script.submit(
            ticket,
            &NAMES[ticket as usize..=ticket as usize],
            TransferMoney { to, amount: Money(1) }.into(),
            Some(found),
        );
        script.load_all();
        let answer = script.answer(ticket);
        assert!(matches!(answer, Some(Answer::Done(done)) if !done.repeated), "{ticket}: {answer:?}");
    }
}
