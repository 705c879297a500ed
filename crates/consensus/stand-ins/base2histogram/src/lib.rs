//! Stands in for the crate of this name, which openraft depends on.
//!
//! openraft keeps statistics of itself in histograms and, without its feature `runtime-stats`,
//! has no way to read them. The real crate computes tables for sixteen resolutions at the first
//! use of any: 26 MB of memory and a slower start, for nothing. This one has the surface openraft
//! compiles against and keeps nothing. Should openraft come to use more of it, the build fails and
//! says so.

#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

/// A histogram that forgets what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Histogram(PhantomData)
    }

    /// Forgets `value`.
    pub fn record(&mut self, _value: u64) {}

    /// Forgets `value`.
    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// The statistics of nothing.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// What a histogram tells: zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not kept")
    }
}

/// A drawing of histograms: empty.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty drawing.
    #[must_use]
    pub fn new() -> Self {
        AsciiChart
    }

    /// Leaves the drawing empty.
    #[must_use]
    pub fn add<T>(self, _name: &str, _histogram: Histogram<T>) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not kept")
    }
}
