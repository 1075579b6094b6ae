//! Both clocks, and randomness: the only place of this crate that reads them.

use std::cell::RefCell;
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

/// How much randomness a thread draws at once: one call per command would cost as much as sealing its content.
const DRAWN: usize = 1024;

thread_local! {
    static DRAW: RefCell<([u8; DRAWN], usize)> = const { RefCell::new(([0; DRAWN], DRAWN)) };
}

/// Sixteen random bytes.
pub(super) fn random() -> [u8; 16] {
    DRAW.with_borrow_mut(|(drawn, used)| {
        if *used == DRAWN {
            aws_lc_rs::rand::fill(drawn).expect("the system gives random bytes");
            *used = 0;
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&drawn[*used..*used + 16]);
        // What was given out is forgotten here.
        drawn[*used..*used + 16].fill(0);
        *used += 16;
        bytes
    })
}
