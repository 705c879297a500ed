//! The samples of one object: the newest ones as they came, older ones thinned out.

use std::collections::VecDeque;

use super::{Range, SAMPLE_INTERVAL_MILLIS, per_second};

/// How far apart samples of a tier are, and how many there are at most.
type Tier = (u64, usize);

/// Ten minutes in full, then minutes for an hour.
const TIERS: &[Tier] = &[(SAMPLE_INTERVAL_MILLIS, 122), (60_000, 61)];
/// The same, then ten minutes for eight hours and half hours for a day.
const TIERS_GLOBAL: &[Tier] = &[
    (SAMPLE_INTERVAL_MILLIS, 122),
    (60_000, 61),
    (600_000, 49),
    (1_800_000, 49),
];

/// Samples of one object.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    width: usize,
    tiers: Vec<Samples>,
}

/// Samples that are at least `step` apart, oldest first.
#[derive(Clone, Debug)]
struct Samples {
    step: u64,
    capacity: usize,
    moments: VecDeque<u64>,
    /// `width` numbers for each moment.
    numbers: VecDeque<u64>,
}

impl Series {
    pub(super) fn new(width: usize, global: bool) -> Series {
        let tiers = if global { TIERS_GLOBAL } else { TIERS };
        let samples = |(step, capacity): &Tier| Samples {
            step: *step,
            capacity: *capacity,
            moments: VecDeque::new(),
            numbers: VecDeque::new(),
        };
        Series {
            width,
            tiers: tiers.iter().map(samples).collect(),
        }
    }

    /// Adds a sample. No tier keeps more than `samples_max`.
    pub(super) fn push(&mut self, now: u64, numbers: &[u64], samples_max: usize) {
        debug_assert_eq!(
            numbers.len(),
            self.width,
            "the columns of an object never change"
        );
        for (level, tier) in self.tiers.iter_mut().enumerate() {
            // The finest tier takes every sample, whatever the pace of the clock.
            let due = tier
                .moments
                .back()
                .is_none_or(|last| now >= last + tier.step);
            if level == 0 || due {
                tier.push(now, numbers, tier.capacity.min(samples_max));
            }
        }
    }

    /// When the newest sample was taken.
    pub(super) fn newest(&self) -> u64 {
        self.tiers[0].moments.back().copied().unwrap_or_default()
    }

    /// Change per second over the last interval.
    pub(crate) fn rate(&self, column: usize) -> f64 {
        let samples = &self.tiers[0];
        let count = samples.moments.len();
        if count < 2 {
            return 0.0;
        }
        let (before, last) = (samples.at(count - 2, column), samples.at(count - 1, column));
        per_second(before.1, last.1, last.0 - before.0)
    }

    /// The value at every step of the range, newest first. Before the first sample it is 0.
    pub(super) fn history(&self, column: usize, range: Range) -> Vec<(u64, u64)> {
        let steps = (range.last - range.first) / range.step;
        let moment = |step: u64| range.last - step * range.step;
        (0..=steps)
            .map(moment)
            .map(|at| (at, self.value_at(column, at)))
            .collect()
    }

    /// The newest value not after `at`, from the finest tier that reaches back so far.
    fn value_at(&self, column: usize, at: u64) -> u64 {
        let found = self.tiers.iter().find_map(|tier| {
            let newer = tier.moments.partition_point(|moment| *moment <= at);
            newer.checked_sub(1).map(|index| tier.at(index, column).1)
        });
        found.unwrap_or_default()
    }
}

impl Samples {
    fn push(&mut self, now: u64, numbers: &[u64], samples_max: usize) {
        self.moments.push_back(now);
        self.numbers.extend(numbers);
        while self.moments.len() > samples_max {
            self.moments.pop_front();
            self.numbers.drain(..numbers.len());
        }
    }

    fn at(&self, index: usize, column: usize) -> (u64, u64) {
        let width = self.numbers.len() / self.moments.len();
        (self.moments[index], self.numbers[index * width + column])
    }
}
