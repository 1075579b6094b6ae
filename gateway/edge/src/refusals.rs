//! Refusals, counted: a line a minute for each kind, however many there were.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::http::{Response, StatusCode};

use crate::refusal::Code;

/// How many refusals of each kind there were since the last line.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<(u16, &'static str), u64>>);

impl Refusals {
    /// Counts an answer, if it is a refusal.
    pub(crate) fn note<B>(&self, response: &Response<B>) {
        if response.status().as_u16() >= 400 {
            let code = response.extensions().get::<Code>().map_or("other", |code| code.0);
            self.count(response.status(), code);
        }
    }

    pub(crate) fn count(&self, status: StatusCode, code: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((status.as_u16(), code)).or_default() += 1;
    }

    /// Says what there was, and begins again.
    pub(crate) fn tell(&self) {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for ((status, code), count) in counts {
            if status >= 500 {
                tracing::warn!(status, code, count, "refused since the last such line");
            } else {
                tracing::info!(status, code, count, "refused since the last such line");
            }
        }
    }
}
