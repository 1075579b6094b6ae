//! Many callers at once, as tasks: each waits for its answer before it asks again.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::latency::Latencies;
use crate::machine;
use crate::once::Figures;

/// One caller: each call is one thing that is durable when it returns.
pub(crate) trait Caller: Send + 'static {
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// As many threads as there are cores: more would only switch.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(machine::cores()).enable_all().build()?)
}

/// Lets all callers call for the given time, after a tenth of it to warm up.
pub(crate) async fn drive<C: Caller>(seconds: f64, callers: Vec<C>) -> anyhow::Result<Figures> {
    let begin = Instant::now() + Duration::from_secs_f64(seconds / 10.0);
    let end = begin + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> =
        callers.into_iter().map(|caller| tokio::spawn(call_until(caller, begin, end))).collect();
    tokio::time::sleep_until(begin.into()).await;
    let used = machine::cpu_seconds();
    tokio::time::sleep_until(end.into()).await;
    let used = machine::cpu_seconds() - used;
    let mut latencies = Latencies::default();
    for task in tasks {
        latencies.add(&task.await??);
    }
    Ok(Figures::from([
        ("per_second".to_owned(), latencies.count() as f64 / seconds),
        ("p50_us".to_owned(), latencies.quantile(0.5)),
        ("p99_us".to_owned(), latencies.quantile(0.99)),
        ("cpu_us".to_owned(), used * 1e6 / latencies.count() as f64),
    ]))
}

async fn call_until<C: Caller>(mut caller: C, begin: Instant, end: Instant) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let since = Instant::now();
        if since >= end {
            return Ok(latencies);
        }
        caller.call().await?;
        if since >= begin {
            latencies.record(since.elapsed().as_micros() as u64);
        }
    }
}
