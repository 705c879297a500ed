//! The table of all known keys: how each is spelled, what it takes, and what it does here.
//!
//! A `$name` segment of a pattern stands for any segment. A key that is spelled out wins over one with such segments.

use super::draft::Draft;
use super::error::Place;
use super::files::Files;
use super::syntax::KeyPath;
use super::value::{self, Kind};

/// What a key does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It has the effect it has in RabbitMQ.
    Served,
    /// RabbitMQ has it, and it means nothing here: there is nothing to tune.
    NoEffect,
    /// RabbitMQ has it, and what it asks for is missing here.
    NotServed,
}

impl Status {
    /// As the manual says it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Status::Served => "served",
            Status::NoEffect => "accepted without effect",
            Status::NotServed => "not yet served",
        }
    }
}

/// A setting on its way into its field.
pub(super) struct Entry<'a> {
    pub(super) key: &'a KeyPath,
    pub(super) place: &'a Place,
    /// What stands where the pattern has `$name` segments, in order.
    pub(super) captures: Vec<&'a str>,
}

impl Entry<'_> {
    /// What stands for the first `$name`.
    pub(super) fn capture(&self) -> &str {
        self.captures.first().copied().unwrap_or_default()
    }
}

/// The value was not one of those allowed.
pub(super) struct NotAllowed;

type Apply = Box<dyn Fn(&mut Draft, &Entry<'_>, &str, &dyn Files) -> Result<(), NotAllowed>>;

/// A known key.
pub(super) struct Key {
    segments: Vec<String>,
    pub(super) pattern: String,
    pub(super) status: Status,
    /// Completes the sentence "it must be …".
    pub(super) allowed: String,
    pub(super) is_secret: bool,
    pub(super) apply: Apply,
}

impl Key {
    /// What stands for the `$name` segments, if this is the key.
    fn captures<'a>(&self, path: &'a KeyPath) -> Option<Vec<&'a str>> {
        if path.0.len() != self.segments.len() {
            return None;
        }
        let mut captures = Vec::new();
        for (segment, given) in self.segments.iter().zip(&path.0) {
            if segment.starts_with('$') {
                captures.push(given.as_str());
            } else if segment != given {
                return None;
            }
        }
        Some(captures)
    }

    /// The pattern with `path`'s own words where any word may stand.
    fn filled_in(&self, path: &KeyPath) -> String {
        let segments =
            self.segments
                .iter()
                .enumerate()
                .map(|(index, segment)| match path.0.get(index) {
                    Some(given) if segment.starts_with('$') => given.as_str(),
                    _ => segment.as_str(),
                });
        segments.collect::<Vec<&str>>().join(".")
    }
}

/// All known keys.
#[derive(Default)]
pub(super) struct Table {
    pub(super) keys: Vec<Key>,
}

impl Table {
    /// Adds a key that has its effect here; `set` puts its value into its field.
    pub(super) fn served<T: 'static>(
        &mut self,
        pattern: &str,
        kind: Kind<T>,
        set: impl Fn(&mut Draft, &Entry<'_>, T) + 'static,
    ) {
        self.add(pattern, Status::Served, kind, set);
    }

    /// Adds keys of RabbitMQ that do nothing here, one on each line of `lines`, as `key kind`. Their values are
    /// checked all the same, as RabbitMQ would.
    pub(super) fn known(&mut self, status: Status, prefix: &str, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, kind) = line.split_once(' ').unwrap_or((line, "text"));
            self.known_key(status, &format!("{prefix}{key}"), kind.trim());
        }
    }

    fn known_key(&mut self, status: Status, pattern: &str, kind: &str) {
        match kind {
            "text" => self.add(pattern, status, value::text(), |_, _, _| {}),
            "secret" => self.add(pattern, status, value::text().hidden(), |_, _, _| {}),
            "integer" => self.add(pattern, status, value::any_integer(), |_, _, _| {}),
            "limit" => self.add(pattern, status, value::limit(0), |_, _, _| {}),
            "boolean" => self.add(pattern, status, value::boolean(), |_, _, _| {}),
            "flag" => self.add(pattern, status, value::flag(), |_, _, _| {}),
            "ratio" => self.add(pattern, status, value::ratio(), |_, _, _| {}),
            "size" => self.add(pattern, status, value::byte_size(), |_, _, _| {}),
            "ip" => self.add(pattern, status, value::ip(), |_, _, _| {}),
            "port" => self.add(pattern, status, value::port(), |_, _, _| {}),
            "listener" => self.add(pattern, status, value::listener(), |_, _, _| {}),
            "level" => self.add(pattern, status, value::level(), |_, _, _| {}),
            "none" => self.add(
                pattern,
                status,
                value::choice(&[("none", ())]),
                |_, _, ()| {},
            ),
            words => {
                assert!(
                    words.contains('|'),
                    "{pattern} has an unknown kind {words:?}"
                );
                let words: Vec<String> = words.split('|').map(str::to_owned).collect();
                let allowed = value::one_of(words.iter().map(String::as_str));
                let kind = value::text().only(allowed, move |text| words.contains(text));
                self.add(pattern, status, kind, |_, _, _| {});
            }
        }
    }

    fn add<T: 'static>(
        &mut self,
        pattern: &str,
        status: Status,
        kind: Kind<T>,
        set: impl Fn(&mut Draft, &Entry<'_>, T) + 'static,
    ) {
        let (allowed, is_secret) = (kind.allowed.clone(), kind.is_secret);
        let apply: Apply = Box::new(move |draft, entry, text, files| {
            let value = kind.read(text, files).ok_or(NotAllowed)?;
            set(draft, entry, value);
            Ok(())
        });
        let segments = pattern.split('.').map(str::to_owned).collect();
        self.keys.push(Key {
            segments,
            pattern: pattern.to_owned(),
            status,
            allowed,
            is_secret,
            apply,
        });
    }

    /// The key that `path` is, with what stands for its `$name` segments.
    pub(super) fn find<'a>(&self, path: &'a KeyPath) -> Option<(&Key, Vec<&'a str>)> {
        self.keys
            .iter()
            .filter_map(|key| Some((key, key.captures(path)?)))
            .min_by_key(|(_, captures)| captures.len())
    }

    /// The known key that looks most like `path`, if any does.
    pub(super) fn nearest(&self, path: &KeyPath) -> Option<String> {
        let given = path.0.join(".");
        let far = (given.len() / 3).clamp(2, 8);
        let candidates = self.keys.iter().map(|key| key.filled_in(path));
        candidates
            .filter(|candidate| candidate.len().abs_diff(given.len()) <= far)
            .map(|candidate| (distance(&given, &candidate), candidate))
            .filter(|(distance, _)| *distance <= far)
            .min()
            .map(|(_, candidate)| candidate)
    }

    /// Known keys that share with `path` as many segments as any do, where those are few enough to be read.
    pub(super) fn siblings(&self, path: &KeyPath) -> Vec<String> {
        const COUNT_MAX: usize = 24;
        let shared = |key: &Key| {
            let same = |(segment, given): &(&String, &String)| {
                segment == given || segment.starts_with('$')
            };
            key.segments.iter().zip(&path.0).take_while(same).count()
        };
        let most = self.keys.iter().map(shared).max().unwrap_or(0);
        let mut siblings: Vec<String> = self
            .keys
            .iter()
            .filter(|key| most > 0 && shared(key) == most)
            .map(|key| key.pattern.clone())
            .collect();
        siblings.sort();
        siblings.dedup();
        if siblings.len() <= COUNT_MAX {
            siblings
        } else {
            Vec::new()
        }
    }
}

/// How many letters to add, drop, replace or swap with their neighbour to get from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before_last = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; to.len() + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                row[j + 1] = row[j + 1].min(before_last[j - 1] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_count_slips_of_the_pen() {
        let cases = [
            ("", "", 0),
            ("abc", "abc", 0),
            ("heartbeet", "heartbeat", 1),
            ("frmae_max", "frame_max", 1),
            ("", "ab", 2),
        ];
        for (from, to, expected) in cases {
            assert_eq!(distance(from, to), expected, "{from} to {to}");
            assert_eq!(distance(to, from), expected, "{to} to {from}");
        }
    }
}
