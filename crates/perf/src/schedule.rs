//! When messages are due: the arithmetic of rates, without a clock.
//!
//! A [`Schedule`] is absolute: message `k` is due at `start + k / rate`, whatever happened to the
//! messages before it. A producer that was held up therefore sends at once all that have become
//! due, and a latency that counts from [`Schedule::time_of`] contains the wait (no coordinated
//! omission). A [`Pace`] is relative: it holds a consumer to its rate without making up for times
//! when nothing came.
//!
//! Invariant: `schedule.time_of(k) <= now` exactly for the `k` under `schedule.due(now)`.

/// Nanoseconds on the clock of [`crate::clock`].
pub(crate) type Nanos = u64;

const SECOND: f64 = 1e9;

/// The times at which a producer sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Nanos,
    period: f64,
}

impl Schedule {
    /// Message 0 is due at `start` plus `phase` periods; `phase` lies between 0 and 1 and keeps
    /// several producers from sending at the same moment.
    pub(crate) fn new(start: Nanos, rate: f64, phase: f64) -> Schedule {
        assert!(rate > 0.0, "a rate of {rate} has no schedule");
        let period = SECOND / rate;
        Schedule {
            start: start + whole(period * phase),
            period,
        }
    }

    /// When message `k` is due.
    pub(crate) fn time_of(&self, k: u64) -> Nanos {
        self.start + whole(approximate(k) * self.period)
    }

    /// How many messages are due up to `now`.
    pub(crate) fn due(&self, now: Nanos) -> u64 {
        let Some(since) = now.checked_sub(self.start) else {
            return 0;
        };
        // The quotient is off by one at most; `time_of` decides.
        let mut due = whole(approximate(since) / self.period);
        while self.time_of(due) <= now {
            due += 1;
        }
        while due > 0 && self.time_of(due - 1) > now {
            due -= 1;
        }
        due
    }
}

/// How far a consumer may fall behind its rate and still make up for it.
const CATCH_UP: Nanos = 10_000_000;

/// Holds a consumer to a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    period: f64,
    next: f64,
}

impl Pace {
    /// Takes messages per second.
    pub(crate) fn new(rate: f64) -> Pace {
        assert!(rate > 0.0, "a rate of {rate} has no pace");
        Pace {
            period: SECOND / rate,
            next: 0.0,
        }
    }

    /// Messages per second.
    pub(crate) fn rate(&self) -> f64 {
        SECOND / self.period
    }

    /// When the next message may be taken.
    pub(crate) fn next(&self) -> Nanos {
        whole(self.next)
    }

    /// Notes that a message has been taken.
    pub(crate) fn take(&mut self, now: Nanos) {
        let earliest = approximate(now.saturating_sub(CATCH_UP));
        self.next = self.next.max(earliest) + self.period;
    }
}

/// Rounds down. What does not fit cannot come: 2^64 ns are 584 years.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and counts are positive and far under 2^63"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

/// Exact up to 2^53, which is 104 days of nanoseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "the error is under a microsecond after 100 years of uptime"
)]
pub(crate) fn approximate(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_due_one_period_apart() {
        let schedule = Schedule::new(1_000_000, 1000.0, 0.0);
        let table = [
            (0, 0),
            (999_999, 0),
            (1_000_000, 1),
            (1_999_999, 1),
            (2_000_000, 2),
            (1_001_000_000, 1001),
        ];
        for (now, due) in table {
            assert_eq!(schedule.due(now), due, "at {now}");
        }
        assert_eq!(schedule.time_of(3), 4_000_000);
    }

    #[test]
    fn due_and_time_of_agree_for_odd_rates_and_late_times() {
        for rate in [0.3, 7.0, 999.7, 33_333.3, 1_000_000.0, 3_141_592.6] {
            let schedule = Schedule::new(86_400_000_000_000, rate, 0.37);
            for k in [0, 1, 2, 99, 12_345, 98_765_432] {
                let time = schedule.time_of(k);
                assert!(schedule.due(time) > k, "rate {rate}, message {k}");
                assert!(schedule.due(time - 1) <= k, "rate {rate}, message {k}");
            }
        }
    }

    #[test]
    fn schedule_does_not_drift() {
        let schedule = Schedule::new(0, 3.0, 0.0);
        assert_eq!(schedule.time_of(3 * 3600), 3_600_000_000_000);
    }

    #[test]
    fn phase_moves_a_producer_by_a_part_of_its_period() {
        let schedule = Schedule::new(0, 1000.0, 0.25);
        assert_eq!(schedule.time_of(0), 250_000);
        assert_eq!(schedule.time_of(1), 1_250_000);
    }

    #[test]
    fn pace_keeps_the_rate_and_makes_up_for_a_little() {
        let mut pace = Pace::new(1000.0);
        let now = 1_000_000_000;
        pace.take(now);
        assert_eq!(pace.next(), now - CATCH_UP + 1_000_000);
        let mut taken = 0;
        for at in (now..now + 1_000_000_000).step_by(100_000) {
            while pace.next() <= at {
                pace.take(at);
                taken += 1;
            }
        }
        // One second, and the 10 ms of catching up.
        assert!((1000..=1011).contains(&taken), "{taken}");
    }
}
