//! Both clocks, and randomness: the only place of this crate that reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use omium_schemas::Time;
use rustix::time::{ClockId, clock_gettime};

use crate::Now;

/// What the clocks say.
#[expect(clippy::disallowed_methods, reason = "the driver is where time enters")]
pub(super) fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = clock_gettime(ClockId::Boottime);
    let micros = |seconds: i64, nanos: i64| seconds.unsigned_abs() * 1_000_000 + nanos.unsigned_abs() / 1_000;
    Now { wall: Time(wall.as_micros() as u64), boot: micros(boot.tv_sec, boot.tv_nsec) }
}

/// Sixteen random bytes.
pub(super) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
