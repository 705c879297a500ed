//! Rates and history: samples of counters, taken at a steady pace, kept in bounded memory.
//!
//! Every object (a queue, a connection, the whole cluster) has a row of columns, some of them counters,
//! some of them levels. A sample is all of them at one moment. A rate is the change over the last
//! interval. History is thinned out with age, and shortened when there are so many objects that it would
//! take too much memory: at the least two samples stay, so rates are always there.
//!
//! Invariants: samples of an object are in order of time; an object that was not in the newest sample is
//! forgotten.

mod series;

use std::collections::BTreeMap;

use broker::{ConnectionId, Name, QueueId};
use serde_json::{Value as Json, json};

pub(crate) use series::Series;

use crate::error::Error;
use crate::request::Query;
use crate::value::Object;

/// How far apart samples are taken, in milliseconds.
pub const SAMPLE_INTERVAL_MILLIS: u64 = 5000;

/// Numbers that all objects together may keep, 8 bytes each.
const NUMBERS_MAX: usize = 4 << 20;
/// Samples in an answer at most.
const RANGE_SAMPLES_MAX: u64 = 500;

/// What is sampled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Cluster,
    Node(Name),
    Vhost(Name),
    Exchange(Name, Name),
    Queue(QueueId),
    Connection(ConnectionId),
    Channel(ConnectionId, u16),
}

impl Key {
    /// Kept for a day, where others are kept for an hour.
    const fn is_global(&self) -> bool {
        matches!(self, Key::Cluster | Key::Node(_) | Key::Vhost(_))
    }
}

/// The numbers of one object at one moment. Their meaning is fixed per kind of key, see `facts.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    pub(crate) key: Key,
    pub(crate) numbers: Vec<u64>,
}

/// All samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sampler {
    objects: BTreeMap<Key, Series>,
    /// When the newest sample was taken.
    now: u64,
}

impl Sampler {
    /// Takes a sample of everything there is.
    pub(crate) fn sample(&mut self, now: u64, observations: Vec<Observation>) {
        let row: usize = observations
            .iter()
            .map(|observation| observation.numbers.len())
            .sum();
        let samples_max = (NUMBERS_MAX / row.max(1)).max(2);
        self.now = now;
        for Observation { key, numbers } in observations {
            let global = key.is_global();
            let series = self
                .objects
                .entry(key)
                .or_insert_with(|| Series::new(numbers.len(), global));
            series.push(now, &numbers, samples_max);
        }
        self.objects.retain(|_, series| series.newest() == now);
    }

    /// Forgets all history.
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
    }

    pub(crate) fn series(&self, key: &Key) -> Option<&Series> {
        self.objects.get(key)
    }
}

/// Which history a query asks for, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) step: u64,
}

/// The four families of history that a query may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) lengths: Option<Range>,
    pub(crate) messages: Option<Range>,
    pub(crate) octets: Option<Range>,
    pub(crate) nodes: Option<Range>,
}

impl Ranges {
    /// Reads `lengths_age`, `lengths_incr` and their likes, in seconds.
    pub(crate) fn of(query: &Query, now: u64) -> Result<Ranges, Error> {
        let range = |prefix: &str| {
            let number = |what: &str| query.get(&format!("{prefix}_{what}"))?.parse::<i64>().ok();
            let (Some(age), Some(step)) = (number("age"), number("incr")) else {
                return Ok(None);
            };
            let invalid =
                || Error::bad_request(format!("Invalid range parameters: age {age}, incr {step}"));
            let (age, step) = (
                positive(age).ok_or_else(invalid)?,
                positive(step).ok_or_else(invalid)?,
            );
            if age / step > RANGE_SAMPLES_MAX {
                return Err(invalid());
            }
            let (age, step) = (age.saturating_mul(1000), step.saturating_mul(1000));
            let last = now / step * step;
            Ok(Some(Range {
                first: last.saturating_sub(age),
                last,
                step,
            }))
        };
        Ok(Ranges {
            lengths: range("lengths")?,
            messages: range("msg_rates")?,
            octets: range("data_rates")?,
            nodes: range("node_stats")?,
        })
    }
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// Adds `name` with its value and `name_details` with its rate and, when asked for, its history.
pub(crate) fn put(
    object: &mut Object,
    name: &str,
    value: Json,
    series: Option<(&Series, usize)>,
    range: Option<Range>,
) {
    object.insert(name.to_owned(), value);
    object.insert(format!("{name}_details"), details(series, range));
}

/// The rate of a column, with history when asked for.
fn details(series: Option<(&Series, usize)>, range: Option<Range>) -> Json {
    let rate = series.map_or(0.0, |(series, column)| series.rate(column));
    let Some(range) = range else {
        return json!({"rate": rate});
    };
    let history = series.map_or_else(Vec::new, |(series, column)| series.history(column, range));
    let sample = |(at, sample): &(u64, u64)| json!({"sample": sample, "timestamp": at});
    let samples: Vec<Json> = history.iter().map(sample).collect();
    json!({
        "avg": average(&history),
        "avg_rate": average_rate(&history),
        "rate": rate,
        "samples": samples,
    })
}

#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn average(history: &[(u64, u64)]) -> f64 {
    if history.is_empty() {
        return 0.0;
    }
    history.iter().map(|(_, value)| *value as f64).sum::<f64>() / history.len() as f64
}

/// Change per second from the oldest to the newest sample; the newest comes first.
fn average_rate(history: &[(u64, u64)]) -> f64 {
    match history {
        [newest, .., oldest] => per_second(oldest.1, newest.1, newest.0 - oldest.0),
        _ => 0.0,
    }
}

/// Change per second over a number of milliseconds. Levels may fall.
#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn per_second(from: u64, to: u64, millis: u64) -> f64 {
    if millis == 0 {
        return 0.0;
    }
    (to as f64 - from as f64) * 1000.0 / millis as f64
}

#[cfg(test)]
mod tests;
