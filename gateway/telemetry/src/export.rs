//! Sends spans and metrics to a receiver, in tasks of its own. Nobody who works waits for it: a full queue drops
//! spans, a receiver that is slow loses what it was sent, and both are counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::metrics::Counter;
use opentelemetry::trace::SpanKind;
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::ManualReader;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::metrics::reader::MetricReader as _;
use opentelemetry_sdk::trace::{
    SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanLimits, SpanProcessor,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::settings::Settings;
use crate::text::Reader;
use crate::{INSTALLED, Meters, trace};

/// How many spans wait. One has about 1 KiB.
const WAITING: usize = 2_048;
/// How many spans are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHERS: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what is left.
const FLUSH: Duration = Duration::from_secs(3);
/// How often it is said that a receiver does not take what it is sent.
const SAID: Duration = Duration::from_secs(60);
/// How much of a receiver's answer is read.
const ANSWER: usize = 64 << 10;

/// What is sent while the node runs. Dropped without [`Exporting::stop`], what waits is lost.
#[derive(Debug)]
pub struct Exporting {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    told: String,
}

/// Installs the meters of this process and, where spans are asked for, its tracer. Called once, on a runtime.
pub fn start(settings: Settings) -> anyhow::Result<Exporting> {
    settings.ignored.iter().for_each(|why| tracing::warn!("{why}"));
    let resource = resource(&settings);
    let exported = settings.metrics.as_ref().map(|_| Reader(Arc::new(ManualReader::default())));
    let meters = Arc::new(Meters::new(resource.clone(), exported.clone()));
    anyhow::ensure!(INSTALLED.set(meters.clone()).is_ok(), "telemetry is started once");
    global::set_meter_provider(meters.provider.clone());
    let stop = watch::Sender::new(false);
    let mut tasks = Vec::new();
    let lost = |signal| Lost { signal, dropped: meters.instruments().dropped(), said: Mutex::default() };
    if let Some(url) = &settings.traces {
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::of(url, settings.timeout)?)
            .with_retry_policy(RetryPolicy::disabled())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .build()?;
        exporter.set_resource(&resource);
        let queue = Arc::new(Queue { spans: Mutex::default(), wake: Notify::new(), lost: lost("spans") });
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(settings.sampler.sampler())
            // Else other variables than the settings would act.
            .with_span_limits(SpanLimits::default())
            .with_span_processor(Enqueue(queue.clone()));
        global::set_tracer_provider(provider.build());
        trace::record();
        tasks.push(tokio::spawn(send_spans(queue, exporter, settings.timeout, stop.subscribe())));
    }
    if let (Some(url), Some(reader)) = (&settings.metrics, exported) {
        let exporter = MetricExporter::builder()
            .with_http()
            .with_http_client(Client::of(url, settings.timeout)?)
            .with_retry_policy(RetryPolicy::disabled())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .build()?;
        let pace = (settings.interval, settings.timeout);
        tasks.push(tokio::spawn(send_metrics(reader, exporter, pace, lost("metrics"), stop.subscribe())));
    }
    Ok(Exporting { stop, tasks, told: told(&settings) })
}

impl Exporting {
    /// What is sent where to, for a line of the log.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// Sends what is left, for a few seconds at most.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let all = async {
            for task in self.tasks {
                // One that panicked has said so.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(FLUSH, all).await.is_err() {
            tracing::warn!("the receiver of telemetry did not take what was left in time");
        }
    }
}

/// Addresses may hold keys: only where they lead to is told.
fn told(settings: &Settings) -> String {
    let to = |url: &Option<String>| {
        let url = url.as_ref().and_then(|url| reqwest::Url::parse(url).ok())?;
        Some(url.origin().ascii_serialization())
    };
    match (to(&settings.traces), to(&settings.metrics)) {
        (None, None) => "not exported".to_owned(),
        (Some(traces), None) => format!("traces to {traces}"),
        (None, Some(metrics)) => format!("metrics to {metrics}"),
        (Some(traces), Some(metrics)) if traces == metrics => format!("traces and metrics to {traces}"),
        (Some(traces), Some(metrics)) => format!("traces to {traces}, metrics to {metrics}"),
    }
}

fn resource(settings: &Settings) -> Resource {
    let given = settings.attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let named = settings.service.iter().map(|name| KeyValue::new("service.name", name.clone()));
    let usual = [
        KeyValue::new("service.name", "omium"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("telemetry.sdk.name", "opentelemetry"),
        KeyValue::new("telemetry.sdk.language", "rust"),
    ];
    // Later ones win.
    Resource::builder_empty().with_attributes(usual.into_iter().chain(given).chain(named)).build()
}

/// The spans that wait.
#[derive(Debug)]
struct Queue {
    spans: Mutex<Vec<SpanData>>,
    wake: Notify,
    lost: Lost,
}

impl Queue {
    fn batch(&self) -> Vec<SpanData> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let count = spans.len().min(BATCH);
        spans.drain(..count).collect()
    }
}

/// Where spans end.
#[derive(Debug)]
struct Enqueue(Arc<Queue>);

impl SpanProcessor for Enqueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let Some(span) = of_a_caller(span).filter(|span| span.span_context.is_sampled()) else { return };
        let mut spans = self.0.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() >= WAITING {
            drop(spans);
            self.0.lost.count(1, "more spans end than it takes");
            return;
        }
        spans.push(span);
        if spans.len() == BATCH {
            self.0.wake.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The span, unless it is a request without a good key: strangers must not fill the queue of callers.
fn of_a_caller(mut span: SpanData) -> Option<SpanData> {
    if span.span_kind == SpanKind::Server {
        let mark = span.attributes.iter().position(|label| label.key.as_str() == trace::KNOWN)?;
        span.attributes.remove(mark);
    }
    Some(span)
}

/// Counts what was lost, and says so now and then.
#[derive(Debug)]
struct Lost {
    signal: &'static str,
    dropped: Counter<u64>,
    said: Mutex<Option<Instant>>,
}

impl Lost {
    fn count(&self, count: usize, why: &str) {
        self.dropped.add(count as u64, &[KeyValue::new("signal", self.signal)]);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAID) {
            *said = Some(Instant::now());
            drop(said);
            tracing::warn!(
                signal = self.signal,
                "the receiver of telemetry does not take {}: {why}; omium_telemetry_dropped_total counts them",
                self.signal
            );
        }
    }

    /// Sends once. What did not arrive is not sent again: a receiver that comes back has to keep up with what is new.
    async fn sent(&self, count: usize, within: Duration, sending: impl Future<Output = OTelSdkResult>) {
        match tokio::time::timeout(within, sending).await {
            Ok(Ok(())) => {}
            // What it says may hold the address, and with it keys.
            Ok(Err(_)) => self.count(count, "it cannot be reached, or refuses"),
            Err(_) => self.count(count, "it does not answer in time"),
        }
    }
}

async fn send_spans(
    queue: Arc<Queue>,
    exporter: SpanExporter,
    within: Duration,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let stops = tokio::select! {
            () = queue.wake.notified() => false,
            () = tokio::time::sleep(GATHERS) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        loop {
            let batch = queue.batch();
            if batch.is_empty() {
                break;
            }
            queue.lost.sent(batch.len(), within, exporter.export(batch)).await;
        }
        if stops {
            return;
        }
    }
}

async fn send_metrics(
    reader: Reader,
    exporter: MetricExporter,
    (interval, within): (Duration, Duration),
    lost: Lost,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let stops = tokio::select! {
            () = tokio::time::sleep(interval) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let mut metrics = ResourceMetrics::default();
        if reader.collect(&mut metrics).is_ok() {
            lost.sent(1, within, exporter.export(&metrics)).await;
        }
        if stops {
            return;
        }
    }
}

/// Sends requests, and reads a little of each answer.
#[derive(Debug)]
struct Client(reqwest::Client);

impl Client {
    fn of(url: &str, within: Duration) -> anyhow::Result<Client> {
        // Headers may hold keys, which another place has no right to.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(within)
            .timeout(within);
        let client = if omium_edge::is_loopback(url) { client.no_proxy() } else { client };
        Ok(Client(client.build()?))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let mut response = self.0.execute(request).await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER {
                return Err("the receiver's answer is too long".into());
            }
        }
        Ok(Response::builder().status(status).body(body.into())?)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt as _, Tracer as _, TracerProvider as _};

    use super::*;

    #[test]
    fn spans_that_nobody_takes_fill_no_memory_and_are_counted() {
        let meters = Meters::default();
        let lost = Lost { signal: "spans", dropped: meters.instruments().dropped(), said: Mutex::default() };
        let queue = Arc::new(Queue { spans: Mutex::default(), wake: Notify::new(), lost });
        let provider = SdkTracerProvider::builder().with_span_processor(Enqueue(queue.clone())).build();
        let tracer = provider.tracer("test");
        (0..WAITING + 7).for_each(|_| drop(tracer.start("span")));
        assert!(meters.text(false).contains("omium_telemetry_dropped_total{signal=\"spans\"} 7\n"));
        let mut batches = std::iter::from_fn(|| Some(queue.batch().len()).filter(|count| *count > 0));
        assert!(batches.all(|count| count <= BATCH));
        for (known, kept) in [(false, 0), (true, 1)] {
            let span = tracer.span_builder("GET /").with_kind(SpanKind::Server);
            let span = span.with_attributes([KeyValue::new(trace::STATUS, 200)]).start(&tracer);
            let current = Context::new().with_span(span);
            if known {
                let _guard = current.clone().attach();
                trace::caller_is_known();
            }
            drop(current);
            let spans = queue.batch();
            assert_eq!(spans.len(), kept, "there is room again, but for no stranger");
            assert!(spans.iter().all(|span| span.attributes == [KeyValue::new(trace::STATUS, 200)]));
        }
    }
}
