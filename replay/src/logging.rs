//! What a node says on stderr: text for people, JSON for programs, and no alarm twice while its cause stays the same.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// What is said where `OMIUM_LOG` asks for nothing else.
const USUAL: &str = "warn,omium=info";
/// The same alarm is told again after this time.
const AGAIN: Duration = Duration::from_secs(600);
/// How many alarms are remembered.
const ALARMS: usize = 1_000;

/// Begins to say what happens. Called once, by what runs a node.
pub(crate) fn start() -> anyhow::Result<()> {
    let wanted = std::env::var("OMIUM_LOG").unwrap_or_default();
    let filter = filter(if wanted.trim().is_empty() { USUAL } else { &wanted })?;
    let people = std::io::stderr().is_terminal();
    tracing::subscriber::set_global_default(subscriber(filter, people, std::io::stderr))
        .context("something else has taken the log already")
}

fn filter(text: &str) -> anyhow::Result<Said> {
    let targets: Targets = text.parse().with_context(|| {
        format!("OMIUM_LOG `{text}` says no levels; write `info`, or `warn,omium_engine=debug`")
    })?;
    Ok(Said { targets, alarms: Mutex::default() })
}

fn subscriber<W>(filter: Said, people: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    if people {
        return Box::new(
            tracing_subscriber::registry().with(lines.compact().with_target(false)).with(filter),
        );
    }
    let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
    Box::new(tracing_subscriber::registry().with(lines).with(filter))
}

/// What is said.
struct Said {
    targets: Targets,
    alarms: Mutex<BTreeMap<u64, Instant>>,
}

impl Said {
    fn says(&self, metadata: &Metadata<'_>) -> bool {
        // Below that level the libraries of the network write down heads, and with them keys.
        let safe = metadata.target().starts_with("omium") || *metadata.level() <= Level::INFO;
        safe && self.targets.would_enable(metadata.target(), metadata.level())
    }

    /// Whether this alarm is news.
    fn is_news(&self, event: &Event<'_>) -> bool {
        let mut cause = Cause(DefaultHasher::new());
        event.metadata().callsite().hash(&mut cause.0);
        event.record(&mut cause);
        let (cause, now) = (cause.0.finish(), Instant::now());
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        if alarms.get(&cause).is_some_and(|told| now.duration_since(*told) < AGAIN) {
            return false;
        }
        if alarms.len() >= ALARMS {
            alarms.retain(|_, told| now.duration_since(*told) < AGAIN);
        }
        if alarms.len() >= ALARMS {
            alarms.pop_first();
        }
        alarms.insert(cause, now);
        true
    }
}

impl<S: Subscriber> Layer<S> for Said {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.says(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.says(metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        *event.metadata().level() != Level::ERROR || self.is_news(event)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let named = self.targets.iter().map(|(_, level)| level);
        named.chain(self.targets.default_level()).max()
    }
}

/// The hash of all that an event says.
struct Cause(DefaultHasher);

impl Visit for Cause {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        field.name().hash(&mut self.0);
        format!("{value:?}").hash(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn check(wanted: &str, people: bool, say: impl FnOnce(), expected: &[&str]) {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(filter(wanted).unwrap(), people, move || writer.clone());
        tracing::subscriber::with_default(subscriber, say);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), expected.len(), "{text}");
        for (line, expected) in text.lines().zip(expected) {
            assert!(line.contains(expected), "{line}");
            assert!(people || serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn an_alarm_is_told_once_for_each_cause() {
        let alarms = || {
            for partition in [1, 2, 1, 1, 2] {
                tracing::error!(target: "omium_runtime", partition, "quarantined");
            }
        };
        check(USUAL, true, alarms, &["quarantined", "quarantined"]);
        check(USUAL, false, alarms, &["\"partition\":1", "\"partition\":2"]);
    }

    #[test]
    fn others_warn_and_ours_inform() {
        let all = || {
            tracing::info!(target: "hyper::proto", "a head");
            tracing::warn!(target: "rdkafka", "a broker is away");
            tracing::info!(target: "omium_edge", "ours");
            tracing::debug!(target: "omium_edge", "a connection");
        };
        check(USUAL, false, all, &["a broker is away", "ours"]);
    }

    #[test]
    fn what_may_hold_keys_is_never_said() {
        let heads = || {
            tracing::trace!(target: "h2::codec", "authorization: Bearer om_1");
            tracing::debug!(target: "omium_api", "fine");
        };
        check("trace", false, heads, &["fine"]);
        assert!(filter("omium=loud").is_err());
    }
}
