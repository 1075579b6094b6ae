//! Bodies of requests: read only once it is known who sends them, in time, and as far as there is room.

use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use tokio::time::Instant;

use crate::limits::Limits;
use crate::slot::Slot;

/// How long the rest of a body that is too long is taken.
const LINGERS: Duration = Duration::from_secs(5);
/// How much room is taken at once.
const STEP: usize = 64 << 10;

/// Why a body was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is longer than it may be.
    TooLong,
    /// It came too slowly.
    TooSlow,
    /// Too many bodies are in memory.
    NoRoom,
    /// It ended before its end.
    Broken(String),
}

/// Reads a body to its end. Without a slot, where no listener of ours is in front, only its length is bounded.
pub async fn read_body(slot: Option<&Slot>, body: Body, most: usize) -> Result<Bytes, Unread> {
    let said = body.size_hint().lower();
    let mut body = pin!(body);
    if said > most as u64 {
        let _ = tokio::time::timeout(LINGERS, discard(body, most)).await;
        return Err(Unread::TooLong);
    }
    let limits = slot.map(|slot| &slot.node().limits);
    let (began, mut room) = (Instant::now(), 0);
    let mut read: Vec<u8> = Vec::with_capacity((said as usize).min(STEP));
    loop {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context));
        let frame = match limits {
            Some(limits) => tokio::time::timeout_at(deadline(began, read.len(), limits), frame)
                .await
                .map_err(|_| Unread::TooSlow)?,
            None => frame.await,
        };
        let Some(frame) = frame else { return Ok(read.into()) };
        let frame = frame.map_err(|error| Unread::Broken(error.to_string()))?;
        let Ok(bytes) = frame.into_data() else { continue };
        let length = read.len() + bytes.len();
        if length > most {
            drop(read);
            let _ = tokio::time::timeout(LINGERS, discard(body, most)).await;
            return Err(Unread::TooLong);
        }
        if let Some(slot) = slot.filter(|_| length > room) {
            let more = (length - room).max(STEP.min((said as usize).saturating_sub(room)));
            if !slot.takes(more) {
                return Err(Unread::NoRoom);
            }
            room += more;
        }
        read.extend_from_slice(&bytes);
    }
}

/// Takes as much again and keeps none of it: most clients read the refusal only after they have sent all, and one whose
/// connection ends before that reads none.
async fn discard(mut body: Pin<&mut Body>, most: usize) {
    let mut left = most;
    while let Some(Ok(frame)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let Some(less) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = less;
    }
}

/// When the next bytes have to be there: some time for all, and then the least rate.
fn deadline(began: Instant, read: usize, limits: &Limits) -> Instant {
    began + limits.body + Duration::from_secs_f64(read as f64 / limits.rate as f64)
}
