//! Public records against a real schema registry.

mod servers;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use apache_avro::types::Value;
use omium_log::{Registry, RegistryError, RegistryOptions};
use omium_schemas::catalogue::{AccountCredited, StepStarted};
use omium_schemas::confluent::frame_public;
use omium_schemas::{Branch, Event, Money, SCHEMAS, StepId};
use servers::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// No registry gives this many ids in a test.
const UNKNOWN: u32 = 1_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_of_the_catalogue_registers_under_its_own_subject_and_once() {
    let Some(url) = registry() else { return };
    let client = Registry::new(RegistryOptions::new(&url, "catalogue")).expect("a client");
    let again = Registry::new(RegistryOptions::new(&url, "catalogue")).expect("a client");
    let (mut ids, mut subjects) = (BTreeSet::new(), BTreeSet::new());
    for schema in SCHEMAS {
        let id = client.register(schema).await.expect("registered");
        assert_eq!(again.register(schema).await, Ok(id), "{} has one id for everybody", schema.name);
        ids.insert(id);
        subjects.insert(client.subject(schema));
    }
    assert_eq!(ids.len(), SCHEMAS.len());
    assert!(subjects.contains("catalogue-omium.StepStarted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_the_same_after_the_way_through_the_registry() {
    let Some(url) = registry() else { return };
    let writer = Registry::new(RegistryOptions::new(&url, "omium.events")).expect("a client");
    let record = writer.encode(&started()).await.expect("written");
    assert_eq!(record[0], 0, "the magic byte of the Confluent wire format");
    let reader = Registry::new(RegistryOptions::new(&url, "omium.events")).expect("a client");
    let read = reader.decode(&record).await.expect("read");
    assert_eq!(read.name, "omium.StepStarted");
    let Value::Record(fields) = read.value else { panic!("{:?}", read.value) };
    let expected = [("step", 7), ("branch", 1), ("delivery", 3)];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), Value::Long(value))));

    let money = Event::AccountCredited(AccountCredited { amount: Money(1_250_000) });
    let read = reader.decode(&writer.encode(&money).await.expect("written")).await.expect("read");
    let Value::Record(fields) = read.value else { panic!("{:?}", read.value) };
    assert!(matches!(&fields[..], [(name, Value::Decimal(_))] if name == "amount"), "{fields:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_records_with_unknown_ids_cost_at_most_ten_look_ups() {
    let Some(url) = registry() else { return };
    let proxy = Proxy::before(&url).await;
    let reader = Arc::new(Registry::new(RegistryOptions::new(&proxy.url, "flood")).expect("a client"));
    let unknown = |n: u32| frame_public(UNKNOWN + n, &[1, 2, 3]);

    let first = reader.decode(&unknown(0)).await.expect_err("unknown");
    assert!(matches!(first, RegistryError::UnknownId { id: UNKNOWN, .. }), "{first}");
    for _ in 0..5_000 {
        assert_eq!(reader.decode(&unknown(0)).await, Err(first.clone()));
    }
    assert_eq!(proxy.look_ups(), 1, "one id, one look-up");

    // Then each with an id of its own, from many readers at once.
    let readers: Vec<_> = (0..8)
        .map(|part| {
            let reader = reader.clone();
            tokio::spawn(async move {
                for n in 0..1_250 {
                    reader.decode(&frame_public(UNKNOWN + part * 1_250 + n, &[])).await.expect_err("unknown");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.expect("no reader panics");
    }
    assert!((2..=10).contains(&proxy.look_ups()), "{} look-ups", proxy.look_ups());
    let last = reader.decode(&unknown(9_999)).await.expect_err("unknown");
    assert!(matches!(last, RegistryError::TooManyUnknown { asked: 8, .. }), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_id_is_looked_up_once_also_in_the_middle_of_a_flood() {
    let Some(url) = registry() else { return };
    let proxy = Proxy::before(&url).await;
    let record = Registry::new(RegistryOptions::new(&url, "known"))
        .expect("a client")
        .encode(&started())
        .await
        .expect("written");
    let reader = Registry::new(RegistryOptions::new(&proxy.url, "known")).expect("a client");
    reader.decode(&record).await.expect("known");
    for n in 0..100 {
        reader.decode(&frame_public(UNKNOWN + n, &[])).await.expect_err("unknown");
    }
    let before = proxy.look_ups();
    for _ in 0..1_000 {
        reader.decode(&record).await.expect("still known");
    }
    assert_eq!(proxy.look_ups(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_unknown_is_found_once_it_is_registered_and_the_memory_has_faded() {
    let Some(url) = registry() else { return };
    let options = RegistryOptions { remember_unknown: Duration::ZERO, ..RegistryOptions::new(&url, "late") };
    let reader = Registry::new(options).expect("a client");
    let writer = Registry::new(RegistryOptions::new(&url, "late")).expect("a client");
    // Ids are given in rising order, so the next one can be guessed; other tests may take it first, hence the loop.
    for _ in 0..50 {
        let schema = SCHEMAS.iter().find(|schema| schema.name == "StepStarted").expect("in the catalogue");
        let mut text: serde_json::Value = serde_json::from_str(schema.json).expect("JSON");
        let last = writer.register(schema).await.expect("registered");
        let guess = last + 1;
        if reader.decode(&frame_public(guess, &[2])).await.is_ok() {
            continue;
        }
        text["name"] = format!("Late{guess}").into();
        let json: &'static str = Box::leak(text.to_string().into_boxed_str());
        let name: &'static str = Box::leak(format!("Late{guess}").into_boxed_str());
        let late = omium_schemas::Schema { id: omium_schemas::TypeId(60_000), name, json, ..*schema };
        let writer = Registry::new(RegistryOptions::new(&url, "late")).expect("a client");
        let id = writer.register(&late).await.expect("registered");
        let error = reader.decode(&frame_public(id, &[])).await.expect_err("an empty body");
        assert!(
            matches!(&error, RegistryError::Unfit { name, .. } if *name == format!("omium.{}", late.name)),
            "{error}"
        );
        return;
    }
    panic!("no free id was guessed in 50 tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_asked_once_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let options = RegistryOptions {
        remember_unreachable: Duration::from_secs(600),
        ..RegistryOptions::new(&url, "away")
    };
    let reader = Registry::new(options).expect("a client");
    for n in 0..1_000 {
        let error = reader.decode(&frame_public(n, &[])).await.expect_err("nobody is there");
        assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&url), "{error}");
    }
    // The HTTP client itself may try a broken connection a second time.
    assert!((1..=2).contains(&asked.load(Ordering::SeqCst)), "{} connections", asked.load(Ordering::SeqCst));
    let refused = reader.encode(&started()).await.expect_err("nobody is there");
    assert!(
        refused.to_string().contains("did not register the schema of subject away-omium.StepStarted"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_public_record_or_do_not_fit_are_errors() {
    let Some(url) = registry() else { return };
    let client = Registry::new(RegistryOptions::new(&url, "hostile")).expect("a client");
    for bytes in [&[][..], &[0, 0, 0], &[1, 0, 0, 0, 1, 2]] {
        let error = client.decode(bytes).await.expect_err("no record");
        assert!(matches!(error, RegistryError::NotPublic(_)), "{error}");
    }
    let record = client.encode(&started()).await.expect("written");
    for cut in 5..record.len() {
        let error = client.decode(&record[..cut]).await.expect_err("cut");
        assert!(matches!(error, RegistryError::Unfit { .. }), "{error}");
    }
    let error = client.decode(&[&record[..], &[0]].concat()).await.expect_err("longer");
    assert!(error.to_string().contains("1 bytes are left"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_bytes_that_would_unfold_to_millions_of_values_are_refused() {
    let Some(url) = registry() else { return };
    let client = Registry::new(RegistryOptions::new(&url, "bomb")).expect("a client");
    let json = r#"{"type":"record","name":"Bomb","namespace":"omium","fields":[{"name":"all","type":{"type":"array","items":
        {"type":"record","name":"Empty","fields":[{"name":"none","type":"null"}]}}}]}"#;
    let bomb = omium_schemas::Schema { id: omium_schemas::TypeId(60_001), name: "Bomb", json, ..SCHEMAS[0] };
    let id = client.register(&bomb).await.expect("registered");
    // A block of ten million items, each of no bytes at all; then one with a negative count.
    for body in [&[0x80, 0xda, 0xc4, 0x09, 0][..], &[0xff, 0xd9, 0xc4, 0x09, 0, 0]] {
        let error = client.decode(&frame_public(id, body)).await.expect_err("a bomb");
        assert!(error.to_string().contains("unfolds to more than 200000 values"), "{error}");
    }
    assert!(client.decode(&frame_public(id, &[4, 0])).await.is_ok(), "two items are fine");
}

fn started() -> Event {
    Event::StepStarted(StepStarted { step: StepId(7), branch: Branch(1), delivery: 3 })
}

/// The registry that all tests of this file share.
fn registry() -> Option<String> {
    static REGISTRY: OnceLock<Option<Server>> = OnceLock::new();
    Some(REGISTRY.get_or_init(|| Server::start("registry", None)).as_ref()?.value("url"))
}

/// Passes everything on and counts the look-ups of ids that go by.
struct Proxy {
    url: String,
    counted: Arc<AtomicUsize>,
}

impl Proxy {
    async fn before(url: &str) -> Proxy {
        let (host, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = format!("http://{}/{path}", listener.local_addr().expect("bound"));
        let counted = Arc::new(AtomicUsize::new(0));
        let (host, counter) = (host.to_owned(), counted.clone());
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let to = TcpStream::connect(&host).await.expect("the registry listens");
                let ((from_read, mut from_write), (mut to_read, to_write)) =
                    (from.into_split(), to.into_split());
                tokio::spawn(count(from_read, to_write, counter.clone()));
                tokio::spawn(async move { tokio::io::copy(&mut to_read, &mut from_write).await });
            }
        });
        Proxy { url: own, counted }
    }

    fn look_ups(&self) -> usize {
        self.counted.load(Ordering::SeqCst)
    }
}

/// Requests are counted in what was seen so far, so that one that arrives in pieces counts once.
async fn count(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counter: Arc<AtomicUsize>) {
    let (mut seen, mut counted, mut piece) = (Vec::new(), 0, [0; 4096]);
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        seen.extend_from_slice(&piece[..length]);
        let now = seen.windows(13).filter(|window| window == b"/schemas/ids/").count();
        counter.fetch_add(now - counted, Ordering::SeqCst);
        counted = now;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
