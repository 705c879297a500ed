//! What is counted while the load runs: messages, and latencies in histograms.
//!
//! Each worker has one [`Meter`]. It locks it once per batch, not per message, and nobody else
//! holds the lock for longer than it takes to exchange two pointers: [`Meter::take`] puts an empty
//! [`Tally`] in and gives the full one to whoever reports.
//!
//! Invariant: every message is in exactly one tally that `take` has given.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

use crate::schedule::{Nanos, approximate};

/// Times under this are recorded as this.
const SHORTEST: Nanos = 1;
/// Times over this (one hour) are recorded as this.
const LONGEST: Nanos = 3_600_000_000_000;
/// Decimal digits that are kept of each time.
const DIGITS: u8 = 3;

/// Latencies, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    /// The last time and how often it came: messages of one batch mostly share it.
    run: (Nanos, u64),
}

impl Default for Latencies {
    fn default() -> Latencies {
        let histogram = Histogram::new_with_bounds(SHORTEST, LONGEST, DIGITS);
        Latencies {
            histogram: histogram.expect("the bounds are constants that fit"),
            run: (0, 0),
        }
    }
}

impl Latencies {
    /// Adds the time from `from` to `to`; clocks of two processors may differ, so never under 0.
    #[inline]
    pub(crate) fn record(&mut self, from: Nanos, to: Nanos) {
        let time = to.saturating_sub(from);
        if self.run.0 == time {
            self.run.1 += 1;
        } else {
            self.end_run();
            self.run = (time, 1);
        }
    }

    fn end_run(&mut self) {
        let (time, count) = mem::take(&mut self.run);
        self.histogram.saturating_record_n(time, count);
    }

    /// Adds all that another one holds.
    pub(crate) fn add(&mut self, mut other: Latencies) {
        other.end_run();
        let added = self.histogram.add(other.histogram);
        added.expect("all histograms have the same bounds");
    }

    /// Looks at what has been recorded.
    pub(crate) fn summary(&self) -> Summary {
        let mut all = self.clone();
        all.end_run();
        let micros = |time: u64| approximate(time) / 1e3;
        let at = |quantile| micros(all.histogram.value_at_quantile(quantile));
        Summary {
            count: all.histogram.len(),
            min: micros(all.histogram.min()),
            p50: at(0.5),
            p75: at(0.75),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(all.histogram.max()),
            mean: all.histogram.mean() / 1e3,
        }
    }
}

/// A histogram in few numbers, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p75: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
}

/// What happened in some stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Messages handed to the operating system.
    pub(crate) sent: u64,
    /// Publishes that the broker has confirmed.
    pub(crate) confirmed: u64,
    /// Publishes that the broker has refused.
    pub(crate) nacked: u64,
    /// Messages that came back as unroutable.
    pub(crate) returned: u64,
    /// Messages that consumers received.
    pub(crate) received: u64,
    /// From publish to delivery.
    pub(crate) consumer_latency: Latencies,
    /// From publish to confirm.
    pub(crate) confirm_latency: Latencies,
    /// From the time when a message was due to the time when it was written.
    pub(crate) lag: Latencies,
}

impl Tally {
    /// Adds another stretch of time.
    pub(crate) fn add(&mut self, other: Tally) {
        self.sent += other.sent;
        self.confirmed += other.confirmed;
        self.nacked += other.nacked;
        self.returned += other.returned;
        self.received += other.received;
        self.consumer_latency.add(other.consumer_latency);
        self.confirm_latency.add(other.confirm_latency);
        self.lag.add(other.lag);
    }
}

/// The tally of one worker.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Tally>);

impl Meter {
    /// Opens the tally for a batch.
    pub(crate) fn open(&self) -> MutexGuard<'_, Tally> {
        // Counting goes on even if another thread has panicked; that is reported elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has been counted since the last time.
    pub(crate) fn take(&self) -> Tally {
        let empty = Tally::default();
        mem::replace(&mut *self.open(), empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within the three digits that are kept.
    fn near(got: f64, want: f64) -> bool {
        (got - want).abs() <= want / 500.0
    }

    #[test]
    fn percentiles_come_in_microseconds() {
        let mut latencies = Latencies::default();
        for micros in 1..=1000 {
            latencies.record(5_000, 5_000 + micros * 1000);
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 1000);
        for (got, want) in [
            (summary.min, 1.0),
            (summary.p50, 500.0),
            (summary.p75, 750.0),
            (summary.p95, 950.0),
            (summary.p99, 990.0),
            (summary.p999, 999.0),
            (summary.max, 1000.0),
            (summary.mean, 500.5),
        ] {
            assert!(near(got, want), "{got} is not {want}");
        }
    }

    #[test]
    fn runs_of_equal_times_count_each_message() {
        let mut latencies = Latencies::default();
        for time in [7_000, 7_000, 7_000, 90_000, 90_000, 7_000] {
            latencies.record(0, time);
        }
        let mut total = Latencies::default();
        total.add(latencies.clone());
        total.add(latencies);
        let summary = total.summary();
        assert_eq!(summary.count, 12);
        assert!(
            near(summary.p50, 7.0) && near(summary.max, 90.0),
            "{summary:?}"
        );
    }

    #[test]
    fn an_early_clock_and_an_endless_wait_are_bounded() {
        let mut latencies = Latencies::default();
        latencies.record(10_000, 9_000);
        latencies.record(0, u64::MAX);
        let summary = latencies.summary();
        assert_eq!(summary.count, 2);
        assert!(summary.min < 1.0, "{summary:?}");
        assert!(near(summary.max, 3.6e9), "{summary:?}");
    }

    #[test]
    fn take_gives_each_message_once() {
        let meter = Meter::default();
        meter.open().received += 3;
        meter.open().received += 4;
        assert_eq!(meter.take().received, 7);
        assert_eq!(meter.take().received, 0);
    }
}
