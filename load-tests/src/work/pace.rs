//! Requests at a pace that does not wait for slow answers: each has its moment, and its time counts from then.

use std::time::{Duration, Instant};

use serde_json::json;

use super::http::{Address, Connection, Request};
use crate::latency::Latencies;

/// Connections that share a pace.
pub(crate) struct Pace {
    callers: Vec<Caller>,
}

/// What came of holding it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Milliseconds.
    pub(crate) p95: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Answers that were not what was asked for.
    pub(crate) errors: u64,
}

struct Caller {
    connection: Connection,
    number: usize,
    asked: usize,
    last: Option<String>,
}

#[derive(Default)]
struct Came {
    latencies: Latencies,
    errors: u64,
}

impl Pace {
    /// Opens so many connections, so many of them a second.
    pub(crate) async fn open(address: &Address, connections: usize, per_second: f64) -> anyhow::Result<Pace> {
        let since = Instant::now();
        let mut callers = Vec::new();
        for number in 0..connections {
            tokio::time::sleep_until((since + Duration::from_secs_f64(number as f64 / per_second)).into())
                .await;
            let connection = Connection::open(address).await?;
            callers.push(Caller { connection, number, asked: number, last: None });
        }
        Ok(Pace { callers })
    }

    /// So many requests a second, spread evenly over the connections.
    pub(crate) async fn hold(&mut self, rate: f64, length: Duration) -> anyhow::Result<Held> {
        let begin = Instant::now() + Duration::from_millis(20);
        let many = self.callers.len() as f64;
        let each = Duration::from_secs_f64(many / rate);
        let tasks: Vec<_> = std::mem::take(&mut self.callers)
            .into_iter()
            .map(|caller| {
                let first = begin + each.mul_f64(caller.number as f64 / many);
                tokio::spawn(caller.call(first, each, begin + length))
            })
            .collect();
        let mut all = Came::default();
        for task in tasks {
            let (caller, came) = task.await??;
            self.callers.push(caller);
            all.latencies.add(&came.latencies);
            all.errors += came.errors;
        }
        // Answers that come after the end make it longer.
        let took = begin.elapsed().max(length).as_secs_f64();
        Ok(Held {
            p95: all.latencies.quantile(0.95) / 1e3,
            p99: all.latencies.quantile(0.99) / 1e3,
            rate: all.latencies.count() as f64 / took,
            errors: all.errors,
        })
    }
}

impl Caller {
    async fn call(mut self, first: Instant, each: Duration, end: Instant) -> anyhow::Result<(Caller, Came)> {
        let (mut moment, mut came) = (first, Came::default());
        while moment < end {
            tokio::time::sleep_until(moment.into()).await;
            // A connection that broke stays broken: each of its requests is an error, as it would be to whoever has it.
            came.errors += u64::from(!self.once().await.unwrap_or(false));
            came.latencies.record(moment.elapsed().as_micros() as u64);
            moment += each;
        }
        Ok((self, came))
    }

    /// Three starts, then a read of the last one.
    async fn once(&mut self) -> anyhow::Result<bool> {
        self.asked += 1;
        if let Some(id) = self.last.as_ref().filter(|_| self.asked.is_multiple_of(4)) {
            let path = format!("/api/v1/executions/{id}");
            return Ok(self.connection.ask(&Request::get(&path)).await?.good());
        }
        let body = json!({ "workflow": "note", "inputs": { "run": self.asked } });
        let answer = self.connection.ask(&Request::post("/api/v1/executions", &body)).await?;
        let Ok(started) = answer.json() else { return Ok(false) };
        self.last = started["id"].as_str().map(str::to_owned);
        Ok(self.last.is_some())
    }
}
