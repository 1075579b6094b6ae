//! Every place for content has a number of its own, which does not hang on what else is there.

use bytes::Bytes;
use omium_schemas::catalogue::{
    ExecutionStarted, MessageKind, MessageSent, NewMessage, SignalExecution, StartLlmCall, StepCompleted,
};
use omium_schemas::{
    Branch, Command, Content, Digest, EncodeError, Event, KeyId, Origin, Partition, Seq, StepId, StreamId,
    TenantId,
};

fn origin() -> Origin {
    Origin { key: None, request: None, entropy: [0; 16], control: Seq(0) }
}

fn call(stored: usize, parameters: bool) -> Command {
    StartLlmCall {
        step: StepId(1),
        branch: Branch(0),
        agent: "writer".to_owned(),
        caller: "writer#1".to_owned(),
        model: "default".to_owned(),
        request: Digest([1; 32]),
        patch_set: None,
        messages: vec![],
        stored: (0..stored)
            .map(|n| NewMessage { digest: Digest([2; 32]), body: Content::open(format!("message {n}")) })
            .collect(),
        parameters: parameters.then(|| Content::open("parameters")),
        delivery: 1,
        endpoint: "chat/completions".into(),
        continues: None,
        thread: None,
        before: None,
        after: None,
        difference: None,
        position: None,
        alias: None,
        reserve: None,
    }
    .into()
}

fn numbers(command: &Command) -> Vec<(u16, Bytes)> {
    let mut seen = Vec::new();
    command
        .contents(&mut |number, content| seen.push((number, content.plain().cloned().unwrap_or_default())));
    seen
}

#[test]
fn each_item_of_a_list_and_what_follows_it_has_its_own_number() {
    let wanted = [(0, "message 0"), (1, "message 1"), (2, "parameters")];
    assert_eq!(numbers(&call(2, true)), wanted.map(|(number, text)| (number, Bytes::from(text))));
    assert_eq!(numbers(&call(0, true)), [(0, Bytes::from("parameters"))]);
}

#[test]
fn content_can_be_changed_in_place_under_the_same_numbers() {
    let mut command = call(2, true);
    let mut changed = Vec::new();
    command.contents_mut(&mut |number, content| {
        changed.push(number);
        *content = Content::Sealed { key: KeyId(1), bytes: Bytes::from(vec![number as u8]) };
    });
    assert_eq!(changed, [0, 1, 2]);
    let mut bytes = Vec::new();
    assert_eq!(command.encode(&origin(), &mut bytes), Ok(()));
    assert_eq!(Command::decode(command.type_id(), &bytes), Ok((origin(), command)));
}

#[test]
fn open_content_anywhere_in_a_record_keeps_it_from_being_written() {
    let mut bytes = Vec::new();
    assert_eq!(call(1, false).encode(&origin(), &mut bytes), Err(EncodeError::Unsealed));
    let event: Event =
        StepCompleted { step: StepId(1), branch: Branch(0), output: Some(Content::open("x")) }.into();
    assert_eq!(event.encode(&mut bytes), Err(EncodeError::Unsealed));
}

#[test]
fn a_record_has_content_only_where_some_is_there() {
    assert!(call(1, false).has_content());
    assert!(!call(0, false).has_content());
    let signal = |body| Command::from(SignalExecution { name: "go".to_owned(), body });
    assert!(signal(Some(Content::open(""))).has_content());
    assert!(!signal(None).has_content());
    let started = ExecutionStarted { workflow: "w".to_owned(), steps: 0, account: None, deadline: None };
    assert!(!Event::from(started).has_content());
}

#[test]
fn content_inside_a_nested_record_is_found() {
    let message = omium_schemas::catalogue::Message {
        to_tenant: TenantId([1; 16]),
        to: StreamId::account(),
        kind: MessageKind::Signal,
        amount: None,
        count: 0,
        label: None,
        body: Some(Content::open("body")),
    };
    let mut event = Event::from(MessageSent { to_partition: Partition(0), number: 1, message });
    assert!(event.has_content());
    let mut seen = 0;
    event.contents_mut(&mut |number, content| {
        assert_eq!((number, content.plain()), (0, Some(&Bytes::from("body"))));
        seen += 1;
    });
    assert_eq!(seen, 1);
}

#[test]
fn more_contents_than_there_are_numbers_are_never_written() {
    let mut command = call(70_000, false);
    command.contents_mut(&mut |_, content| *content = Content::Sealed { key: KeyId(1), bytes: Bytes::new() });
    let refused = EncodeError::TooLarge { what: "the contents of StartLlmCall" };
    assert_eq!(command.encode(&origin(), &mut Vec::new()), Err(refused));
}
