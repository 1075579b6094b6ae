//! What time it is. The wall clock may jump, and what is written with a wrong time stays wrong: so the time is the boot
//! clock's, plus an offset that follows the wall clock only where that has stood for a while.

use omium_schemas::Time;

use crate::port::Now;

/// By how many microseconds the wall clock may part without having to wait: what a clock that is kept right does.
const SLEW: u64 = 500_000;
/// From which distance on somebody should know.
pub(super) const PARTING: u64 = 10_000_000;
/// After how long a clock that has been moved is believed.
const STEADY: u64 = 30_000_000;

/// The believed clock of one shell.
#[derive(Debug, Default)]
pub(super) struct Belief {
    /// The wall clock at a moment when it was believed.
    at: Option<Now>,
    /// When it parted from that, where it has.
    parted: Option<Now>,
}

impl Belief {
    /// A new leader believes what the wall clock says.
    pub(super) fn begin(&mut self, now: Now) {
        *self = Belief { at: Some(now), parted: None };
    }

    /// The time; what the wall clock says where nobody leads.
    pub(super) fn time(&self, now: Now) -> Time {
        self.at.map_or(now.wall, |at| believed(at, now))
    }

    /// Looks at both clocks. Gives what somebody should know.
    pub(super) fn look(&mut self, now: Now) -> Option<String> {
        let distance = self.at.map_or(0, |at| believed(at, now).0.abs_diff(now.wall.0));
        if distance <= SLEW {
            self.at = self.at.map(|_| now);
            let back = self.parted.take().is_some_and(|parted| self.is_far(parted));
            return back.then(|| "wall clock and boot clock agree again".to_owned());
        }
        let Some(parted) = self.parted else {
            self.parted = Some(now);
            return (distance > PARTING).then(|| {
                let seconds = distance / 1_000_000;
                format!(
                    "the wall clock has moved by {seconds} s; until it has stood for {} s time goes on as before",
                    STEADY / 1_000_000
                )
            });
        };
        if believed(parted, now).0.abs_diff(now.wall.0) > SLEW {
            // It has moved again.
            self.parted = Some(now);
        } else if now.boot.saturating_sub(parted.boot) >= STEADY {
            self.begin(now);
            return Some("the wall clock has stood for long enough: what it says is the time".to_owned());
        }
        None
    }

    fn is_far(&self, then: Now) -> bool {
        self.at.is_some_and(|at| believed(at, then).0.abs_diff(then.wall.0) > PARTING)
    }
}

/// What the wall clock says now if it has gone on as the boot clock since then.
fn believed(at: Now, now: Now) -> Time {
    let passed = now.boot as i128 - at.boot as i128;
    Time((i128::from(at.wall.0) + passed).clamp(0, i128::from(u64::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 1_700_000_000_000_000;
    const SECOND: u64 = 1_000_000;

    /// The believed seconds since the beginning and how often somebody was told, after so many seconds of a jumped clock.
    fn after(jump: i64, seconds: u64) -> (u64, usize) {
        let mut belief = Belief::default();
        belief.begin(Now { wall: Time(BEGIN), boot: 0 });
        let (mut told, mut time) = (0, Time(0));
        for tenth in 1..=seconds * 10 {
            let boot = tenth * SECOND / 10;
            let wall = Time((BEGIN + boot).saturating_add_signed(jump));
            let now = Now { wall, boot };
            told += usize::from(belief.look(now).is_some());
            time = belief.time(now);
        }
        (time.0.saturating_sub(BEGIN) / SECOND, told)
    }

    #[test]
    fn a_clock_that_jumps_is_believed_after_it_has_stood_for_a_while_and_not_before() {
        let hour = 3_600 * SECOND as i64;
        assert_eq!(after(0, 100), (100, 0));
        assert_eq!(after(hour, 29), (29, 1));
        assert_eq!(after(-hour, 29), (29, 1));
        assert_eq!(after(hour, 31), (3_631, 2));
        assert_eq!(after(3_650 * 24 * hour, 29), (29, 1));
        assert_eq!(after(i64::MIN, 10), (10, 1), "before 1970");
        assert_eq!(after(2 * SECOND as i64, 20), (20, 0), "nobody is told of seconds");
    }

    #[test]
    fn a_clock_that_is_ahead_for_two_seconds_changes_nothing() {
        let mut belief = Belief::default();
        belief.begin(Now { wall: Time(BEGIN), boot: 0 });
        for tenth in 1..=1_000_u64 {
            let boot = tenth * SECOND / 10;
            let ahead = if (100..120).contains(&tenth) { 3_600 * SECOND } else { 0 };
            let now = Now { wall: Time(BEGIN + boot + ahead), boot };
            belief.look(now);
            assert_eq!(belief.time(now), Time(BEGIN + boot), "after {tenth} tenths");
        }
    }
}
