//! What the standard variables of OpenTelemetry ask for. What is not supported is refused, or told at the start.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use opentelemetry_sdk::trace::Sampler;

/// How long a receiver has for one batch where nobody says it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often metrics are sent where nobody says it.
const INTERVAL: Duration = Duration::from_secs(60);

/// Variables that act. The values of headers are read where requests are made, and told nowhere.
const SUPPORTED: &[&str] = &[
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];

/// Where a node's telemetry goes. Without variables: nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    pub(crate) traces: Option<String>,
    pub(crate) metrics: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) sampler: Sampling,
    pub(crate) timeout: Duration,
    pub(crate) interval: Duration,
    /// What was asked for and is not done, one sentence each.
    pub(crate) ignored: Vec<String>,
}

/// Which traces are recorded that no caller has begun, and whether the caller's word counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampling {
    ratio: f64,
    follows_parent: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { ratio: 1.0, follows_parent: true }
    }
}

impl Sampling {
    pub(crate) fn sampler(self) -> Sampler {
        let own = match self.ratio {
            ratio if ratio >= 1.0 => Sampler::AlwaysOn,
            ratio if ratio <= 0.0 => Sampler::AlwaysOff,
            ratio => Sampler::TraceIdRatioBased(ratio),
        };
        if self.follows_parent { Sampler::ParentBased(Box::new(own)) } else { own }
    }

    fn read(name: &str, argument: Option<&str>) -> anyhow::Result<Sampling> {
        let (own, follows_parent) = match name.strip_prefix("parentbased_") {
            Some(own) => (own, true),
            None => (name, false),
        };
        let ratio = match own {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let ratio = argument.unwrap_or("1").parse::<f64>().ok();
                let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.context("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1; write 0.1 for a tenth")?
            }
            _ => bail!(
                "OTEL_TRACES_SAMPLER `{name}` is not supported; write parentbased_always_on, parentbased_always_off, \
                 parentbased_traceidratio, or one of these without `parentbased_`"
            ),
        };
        Ok(Sampling { ratio, follows_parent })
    }
}

impl Settings {
    /// What the variables of this process ask for.
    pub fn from_env() -> anyhow::Result<Settings> {
        let known = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("OTEL_"))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Settings::read(&known.collect())
    }

    fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Settings> {
        let get =
            |name: &str| variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        match get("OTEL_SDK_DISABLED") {
            Some(value) if value.eq_ignore_ascii_case("true") => return Ok(Settings::default()),
            None | Some("false") => {}
            Some(value) => bail!("OTEL_SDK_DISABLED `{value}` is neither `true` nor `false`"),
        }
        let exports = |name: &str| match get(name) {
            None | Some("otlp") => Ok(true),
            Some("none") => Ok(false),
            Some(other) => bail!("{name} `{other}` is not supported; write `otlp` or `none`"),
        };
        let endpoint = |signal: &str, path: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
            let (name, url) = match (get(&own), get("OTEL_EXPORTER_OTLP_ENDPOINT")) {
                (Some(url), _) => (own.as_str(), url.to_owned()),
                (None, Some(base)) => {
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}/{path}", base.trim_end_matches('/')))
                }
                (None, None) => return Ok(None),
            };
            let parsed = reqwest::Url::parse(&url).ok();
            let good = parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            ensure!(good, "{name} is no address; write http://HOST:4318");
            Ok(Some(url))
        };
        let traces =
            endpoint("TRACES", "v1/traces")?.filter(|_| exports("OTEL_TRACES_EXPORTER").unwrap_or(true));
        let metrics =
            endpoint("METRICS", "v1/metrics")?.filter(|_| exports("OTEL_METRICS_EXPORTER").unwrap_or(true));
        exports("OTEL_TRACES_EXPORTER").and(exports("OTEL_METRICS_EXPORTER"))?;
        for name in SUPPORTED.iter().filter(|name| name.ends_with("_PROTOCOL")) {
            if let Some(other) = get(name).filter(|value| *value != "http/protobuf") {
                bail!(
                    "{name} `{other}` is not supported; write `http/protobuf` and the port for it, which is often 4318"
                );
            }
        }
        if let Some(other) = get("OTEL_EXPORTER_OTLP_COMPRESSION").filter(|value| *value != "none") {
            bail!("OTEL_EXPORTER_OTLP_COMPRESSION `{other}` is not supported; leave it out");
        }
        for name in SUPPORTED.iter().filter(|name| name.ends_with("_HEADERS")) {
            ensure!(
                get(name).is_none_or(are_headers),
                "{name} is no list of headers; write `name=value,name=value`, percent-encoded"
            );
        }
        let attributes = pairs(get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let attributes =
            attributes.context("OTEL_RESOURCE_ATTRIBUTES is no list; write `name=value,name=value`")?;
        let sampler = get("OTEL_TRACES_SAMPLER");
        let sampler = sampler.map(|name| Sampling::read(name, get("OTEL_TRACES_SAMPLER_ARG"))).transpose()?;
        let millis = |name: &str, usual: Duration| match get(name).map(str::parse::<u64>) {
            None => Ok(usual),
            Some(Ok(millis)) if millis > 0 => Ok(Duration::from_millis(millis)),
            Some(_) => bail!("{name} is no number of milliseconds"),
        };
        let (timeout, interval) = (
            millis("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT)?,
            millis("OTEL_METRIC_EXPORT_INTERVAL", INTERVAL)?,
        );
        let ignored = ignored(variables)?;
        // All was checked: a receiver that is named later must not bring old mistakes to light.
        if traces.is_none() && metrics.is_none() {
            return Ok(Settings { ignored, ..Settings::default() });
        }
        Ok(Settings {
            traces,
            metrics,
            service: get("OTEL_SERVICE_NAME").map(str::to_owned),
            attributes,
            sampler: sampler.unwrap_or_default(),
            timeout,
            interval,
            ignored,
        })
    }
}

/// What is asked for and not done. What the way to the receiver depends on is refused: half of it may be unsafe.
fn ignored(variables: &BTreeMap<String, String>) -> anyhow::Result<Vec<String>> {
    let mut ignored = Vec::new();
    for (name, value) in variables.iter().filter(|(_, value)| !value.trim().is_empty()) {
        match name.as_str() {
            "OTEL_PROPAGATORS" if value.trim() != "tracecontext" => {
                ignored.push("OTEL_PROPAGATORS: `tracecontext` is what is read and handed on".to_owned());
            }
            name if SUPPORTED.contains(&name) => {}
            // Logs go to stderr, and nobody was promised them elsewhere.
            name if name.starts_with("OTEL_EXPORTER_OTLP_LOGS_") => {
                ignored.push(format!("{name}: log lines are not exported"));
            }
            name if name.starts_with("OTEL_EXPORTER_OTLP_") => bail!("{name} is not supported; leave it out"),
            name => ignored.push(format!("{name} has no effect")),
        }
    }
    Ok(ignored)
}

fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| (name.to_owned(), decoded(value.trim())))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(pair).collect()
}

fn are_headers(text: &str) -> bool {
    use axum::http::{HeaderName, HeaderValue};
    let is_header = |(name, value): &(String, String)| {
        HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok()
    };
    pairs(text).is_some_and(|pairs| pairs.iter().all(is_header))
}

/// Percent-decoded, where that gives text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = (*first == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        (bytes, rest) = match code {
            Some(byte) => ([bytes, vec![byte]].concat(), &after[2..]),
            None => ([bytes, vec![*first]].concat(), after),
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");

    fn read(pairs: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let own = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&own.collect())
    }

    #[test]
    fn nothing_is_exported_where_nobody_says_where_to() {
        let disabled = [AT, ("OTEL_SDK_DISABLED", "true")];
        let none = [AT, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
        for variables in [&[] as &[_], &[("OTEL_SERVICE_NAME", "x")], &disabled, &none] {
            assert_eq!(read(variables).unwrap(), Settings::default());
        }
    }

    #[test]
    fn each_signal_has_its_address() {
        let own = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://metrics.example/in");
        let both = read(&[AT, own]).unwrap();
        assert_eq!(both.traces.as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(both.metrics.as_deref(), Some("https://metrics.example/in"));
        assert_eq!(read(&[own]).unwrap().traces, None);
    }

    #[test]
    fn what_is_not_supported_is_refused_or_told() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/secret"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_TRACES_SAMPLER", "xray"),
            ("OTEL_RESOURCE_ATTRIBUTES", "lonely"),
            ("OTEL_SDK_DISABLED", "maybe"),
        ] {
            for variables in [&[AT, (name, value)][..], &[(name, value)]] {
                let why = read(variables).unwrap_err().to_string();
                assert!(why.contains(name) && !why.contains("secret"), "{why}");
            }
        }
        let ratio = [AT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")];
        assert!(read(&ratio).unwrap_err().to_string().contains("OTEL_TRACES_SAMPLER_ARG"));
        let told = read(&[AT, ("OTEL_PROPAGATORS", "b3"), ("OTEL_BSP_SCHEDULE_DELAY", "1")]).unwrap();
        assert_eq!(told.ignored.len(), 2, "{told:?}");
        assert!(read(&[AT, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x,b=c")]).is_ok());
    }

    #[test]
    fn samplers_are_the_standard_ones() {
        for (name, argument, ratio, follows_parent) in [
            ("always_on", None, 1.0, false),
            ("parentbased_always_off", None, 0.0, true),
            ("parentbased_traceidratio", Some("0.25"), 0.25, true),
        ] {
            assert_eq!(Sampling::read(name, argument).unwrap(), Sampling { ratio, follows_parent });
        }
    }
}
