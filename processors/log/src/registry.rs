//! The client of a Confluent-compatible schema registry: public records carry the id of their schema, and the registry
//! knows the schema of each id.

mod misses;
mod weigh;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apache_avro::types::Value;
use omium_schemas::confluent::{frame_public, parse_public};
use omium_schemas::{DecodeError, EncodeError, Event, Schema, TypeId, schema};
use schema_registry_converter::async_impl::avro::AvroDecoder;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, post_schema};
use schema_registry_converter::avro_common::AvroSchema;
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SuppliedSchema};

use misses::{Miss, Misses};

/// Where the registry is, and what the client may ask of it.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// The base of its Confluent API, such as `http://registry:8081`. It is asked directly, never through a proxy.
    pub url: String,
    /// The topic whose records these are: subjects are named `topic-record`.
    pub topic: String,
    /// How long one call may take.
    pub timeout: Duration,
    /// How long an id that the registry does not know is not asked for again.
    pub remember_unknown: Duration,
    /// How long nothing is asked after the registry could not be reached.
    pub remember_unreachable: Duration,
}

impl RegistryOptions {
    /// The registry at `url`, for the records of `topic`.
    pub fn new(url: impl Into<String>, topic: impl Into<String>) -> Self {
        RegistryOptions {
            url: url.into(),
            topic: topic.into(),
            timeout: Duration::from_secs(5),
            remember_unknown: Duration::from_secs(60),
            remember_unreachable: Duration::from_secs(1),
        }
    }
}

/// A public record, as far as its schema tells.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicRecord {
    /// The registry's id of the schema it was written with.
    pub id: u32,
    /// The record type's full name.
    pub name: String,
    /// What it says.
    pub value: Value,
}

/// Why a public record cannot be written or read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The client could not be set up.
    #[error("the schema registry's client cannot be set up: {0}; check its URL")]
    Setup(String),
    /// The registry refused a schema.
    #[error("{url} did not register the schema of subject {subject}: {why}")]
    NotRegistered {
        /// The registry.
        url: String,
        /// The subject.
        subject: String,
        /// Its own words.
        why: String,
    },
    /// The registry has no such schema.
    #[error(
        "{url} knows no schema with the id {id}; the record was written with another registry, or is not one of this \
         topic's. It is asked again after {again:?}"
    )]
    UnknownId {
        /// The registry.
        url: String,
        /// The id that the record carries.
        id: u32,
        /// How long the answer is remembered.
        again: Duration,
    },
    /// So many ids were unknown that no further one is asked for.
    #[error(
        "the schema id {id} was not looked up: the last {asked} ids were unknown to {url}. Look-ups go on within {again:?}"
    )]
    TooManyUnknown {
        /// The registry.
        url: String,
        /// The id that the record carries.
        id: u32,
        /// How many look-ups failed.
        asked: usize,
        /// After how long a look-up is made again at the latest.
        again: Duration,
    },
    /// The registry gave no answer.
    #[error("{url} gave no answer about the schema id {id}: {why}; it is asked again after {again:?}")]
    Unreachable {
        /// The registry.
        url: String,
        /// The id that the record carries.
        id: u32,
        /// What happened.
        why: String,
        /// How long it is left alone.
        again: Duration,
    },
    /// The bytes are not what the schema says.
    #[error("the record does not fit its schema {id} ({name}): {why}")]
    Unfit {
        /// The registry's id of the schema.
        id: u32,
        /// The record type's full name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The bytes are not a public record.
    #[error("the bytes are not a public record: {0}")]
    NotPublic(#[from] DecodeError),
    /// The event cannot be written.
    #[error("the event cannot be written: {0}")]
    NotWritten(#[from] EncodeError),
}

/// Writes and reads public records. Each schema is registered once, each id looked up once, and ids that the registry
/// does not know are remembered too: a topic full of foreign records must not become a flood of look-ups.
pub struct Registry {
    options: RegistryOptions,
    settings: SrSettings,
    decoder: AvroDecoder,
    registered: tokio::sync::Mutex<BTreeMap<TypeId, u32>>,
    known: Mutex<BTreeMap<u32, Arc<AvroSchema>>>,
    /// Held while a look-up is made, so that as many readers as there may be ask once.
    misses: tokio::sync::Mutex<Misses>,
}

impl Registry {
    /// A client; nothing is asked yet.
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let settings = SrSettings::new_builder(options.url.trim_end_matches('/').to_owned())
            .no_proxy()
            .set_timeout(options.timeout)
            .build()
            .map_err(|error| RegistryError::Setup(error.to_string()))?;
        Ok(Registry {
            decoder: AvroDecoder::new(settings.clone()),
            settings,
            registered: tokio::sync::Mutex::default(),
            known: Mutex::default(),
            misses: tokio::sync::Mutex::default(),
            options,
        })
    }

    /// The subject of a schema: topic and record name, so that one topic carries many types, each with its versions.
    pub fn subject(&self, schema: &Schema) -> String {
        format!("{}-omium.{}", self.options.topic, schema.name)
    }

    /// Registers a schema and gives the registry's id of it. Asks once per schema.
    pub async fn register(&self, schema: &Schema) -> Result<u32, RegistryError> {
        let mut registered = self.registered.lock().await;
        if let Some(id) = registered.get(&schema.id) {
            return Ok(*id);
        }
        let subject = self.subject(schema);
        let supplied =
            SuppliedSchema::new(Some(format!("omium.{}", schema.name)), SchemaType::Avro, schema.json.into());
        let answer = post_schema(&self.settings, subject.clone(), supplied).await.map_err(|error| {
            RegistryError::NotRegistered { url: self.options.url.clone(), subject, why: words(&error) }
        })?;
        registered.insert(schema.id, answer.id);
        Ok(answer.id)
    }

    /// An event as a public record.
    pub async fn encode(&self, event: &Event) -> Result<Vec<u8>, RegistryError> {
        let schema =
            schema(event.type_id()).expect("every event is generated from a schema of the catalogue");
        let id = self.register(schema).await?;
        let mut body = Vec::new();
        event.encode(&mut body)?;
        Ok(frame_public(id, &body))
    }

    /// What a public record says, by the schema that it was written with.
    pub async fn decode(&self, record: &[u8]) -> Result<PublicRecord, RegistryError> {
        let (id, body) = parse_public(record)?;
        let schema = self.schema_of(id).await?;
        let name = schema.parsed.name().map(ToString::to_string).unwrap_or_default();
        let unfit = |why: String| RegistryError::Unfit { id, name: name.clone(), why };
        weigh::weigh(&schema.parsed, body).map_err(unfit)?;
        let decoded = self.decoder.decode(Some(record)).await.map_err(|error| unfit(words(&error)))?;
        Ok(PublicRecord { id, name, value: decoded.value })
    }

    async fn schema_of(&self, id: u32) -> Result<Arc<AvroSchema>, RegistryError> {
        if let Some(schema) = self.known().get(&id) {
            return Ok(schema.clone());
        }
        let mut misses = self.misses.lock().await;
        // Another reader may have asked while this one waited.
        if let Some(schema) = self.known().get(&id) {
            return Ok(schema.clone());
        }
        misses.forget(&self.options);
        if let Some(miss) = misses.about(id) {
            return Err(self.refusal(id, miss, misses.len()));
        }
        // The client's own memory of errors has no end; ours has.
        self.decoder.remove_errors_from_cache();
        match self.decoder.get_schema(id).await {
            Ok(schema) => {
                self.known().insert(id, schema.clone());
                Ok(schema)
            }
            Err(error) => {
                let miss = if is_answer(&error) { Miss::Unknown } else { Miss::Unreachable(words(&error)) };
                misses.remember(id, miss.clone());
                Err(self.refusal(id, &miss, misses.len()))
            }
        }
    }

    fn refusal(&self, id: u32, miss: &Miss, asked: usize) -> RegistryError {
        let url = self.options.url.clone();
        match miss {
            Miss::Unknown => RegistryError::UnknownId { url, id, again: self.options.remember_unknown },
            Miss::Full => {
                RegistryError::TooManyUnknown { url, id, asked, again: self.options.remember_unknown }
            }
            Miss::Unreachable(why) => RegistryError::Unreachable {
                url,
                id,
                why: why.clone(),
                again: self.options.remember_unreachable,
            },
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<AvroSchema>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the registry itself said no; a schema of another kind, or one that is no Avro, counts as that too.
fn is_answer(error: &SRCError) -> bool {
    let unsent = error.cause.as_deref().is_some_and(|cause| cause.contains("error sending request"));
    let failed = error.error.contains("failed with status") && !error.error.contains("status 404");
    !error.retriable && !unsent && !failed
}

fn words(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{} ({cause})", error.error),
        None => error.error.clone(),
    }
}
