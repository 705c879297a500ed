//! Kinds of values: for each, what is allowed in words and how it is read.
//!
//! A `Kind` reads a text into the type of the field it is meant for, so that a key, its error message and its field
//! cannot disagree.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::files::Files;
use super::model::{HostPort, Listener, LogLevel};
use super::node_name::{NODE_NAME_FORM, NodeName, split_host_port};

type Read<T> = Box<dyn Fn(&str, &dyn Files) -> Option<T>>;

/// What values a key takes.
pub(super) struct Kind<T> {
    /// Completes the sentence "it must be …".
    pub(super) allowed: String,
    /// The value is not shown to anybody.
    pub(super) is_secret: bool,
    read: Read<T>,
}

impl<T: 'static> Kind<T> {
    fn new(allowed: impl Into<String>, read: impl Fn(&str) -> Option<T> + 'static) -> Kind<T> {
        Kind {
            allowed: allowed.into(),
            is_secret: false,
            read: Box::new(move |text, _| read(text)),
        }
    }

    /// The value, if the text is one.
    pub(super) fn read(&self, text: &str, files: &dyn Files) -> Option<T> {
        (self.read)(text, files)
    }

    /// Narrows what is allowed.
    pub(super) fn only(
        self,
        allowed: impl Into<String>,
        test: impl Fn(&T) -> bool + 'static,
    ) -> Kind<T> {
        let read = self.read;
        Kind {
            allowed: allowed.into(),
            is_secret: self.is_secret,
            read: Box::new(move |text, files| read(text, files).filter(&test)),
        }
    }

    /// Says in other words what is allowed.
    pub(super) fn in_words(self, allowed: impl Into<String>) -> Kind<T> {
        Kind {
            allowed: allowed.into(),
            ..self
        }
    }

    /// Keeps the value from being shown.
    pub(super) fn hidden(self) -> Kind<T> {
        Kind {
            is_secret: true,
            ..self
        }
    }

    /// Also takes one word, which stands for `value`.
    fn or_word(self, word: &'static str, value: T) -> Kind<T>
    where
        T: Clone,
    {
        let read = self.read;
        Kind {
            allowed: format!("{} or {word}", self.allowed),
            is_secret: self.is_secret,
            read: Box::new(move |text, files| {
                if text == word {
                    Some(value.clone())
                } else {
                    read(text, files)
                }
            }),
        }
    }

    fn map<U: 'static>(self, into: impl Fn(T) -> U + 'static) -> Kind<U> {
        let read = self.read;
        Kind {
            allowed: self.allowed,
            is_secret: self.is_secret,
            read: Box::new(move |text, files| read(text, files).map(&into)),
        }
    }
}

/// Any text.
pub(super) fn text() -> Kind<String> {
    Kind::new("a text", |text| Some(text.to_owned()))
}

/// A text that is not empty.
pub(super) fn word() -> Kind<String> {
    text().only("a text that is not empty", |text| !text.is_empty())
}

/// A text that only those concerned should see. RabbitMQ 4 can decrypt such values; here that would only hide
/// that the wrong password is used, so they are refused.
pub(super) fn secret() -> Kind<String> {
    let allowed = "the secret itself or $(NAME_OF_AN_ENVIRONMENT_VARIABLE); `encrypted:` values are not supported";
    text()
        .only(allowed, |text| !text.starts_with("encrypted:"))
        .hidden()
}

/// One of a few words.
pub(super) fn choice<T: Clone + 'static>(words: &[(&'static str, T)]) -> Kind<T> {
    let words = words.to_vec();
    let allowed = one_of(words.iter().map(|(word, _)| *word));
    Kind::new(allowed, move |text| {
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| value.clone())
    })
}

/// "a, b or c".
pub(super) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// `true` or `false`.
pub(super) fn boolean() -> Kind<bool> {
    choice(&[("true", true), ("false", false)])
}

/// `on` or `off`.
pub(super) fn flag() -> Kind<bool> {
    choice(&[("on", true), ("off", false)])
}

/// A whole number.
pub(super) fn integer<T: Display + FromStr + PartialOrd + 'static>(
    range: RangeInclusive<T>,
) -> Kind<T> {
    let allowed = format!("a whole number from {} to {}", range.start(), range.end());
    Kind::new(allowed, move |text| {
        text.parse().ok().filter(|number| range.contains(number))
    })
}

/// Any whole number, also below zero.
pub(super) fn any_integer() -> Kind<i64> {
    Kind::new("a whole number", |text| text.parse().ok())
}

/// A whole number of at least `min`.
pub(super) fn at_least(min: u64) -> Kind<u64> {
    Kind::new(format!("a whole number of at least {min}"), move |text| {
        text.parse().ok().filter(|number| *number >= min)
    })
}

/// A number, or `infinity` for none.
pub(super) fn limit(min: u64) -> Kind<Option<u64>> {
    at_least(min).map(Some).or_word("infinity", None)
}

/// A share or multiple, above zero: `0.4` or `40%`.
pub(super) fn ratio() -> Kind<f64> {
    Kind::new("a number such as 0.4, not below zero", |text| {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().ok().map(|percent| percent / 100.0),
            None => text.parse().ok(),
        }
    })
    .only("a number such as 0.4, not below zero", |ratio| {
        ratio.is_finite() && *ratio >= 0.0
    })
}

/// Milliseconds, or a duration with units.
pub(super) fn millis() -> Kind<Duration> {
    Kind::new(
        "a number of milliseconds, or a duration such as 500ms, 30s or 1h30m",
        |text| duration(text, 1),
    )
}

/// Seconds, or a duration with units.
pub(super) fn seconds() -> Kind<Duration> {
    Kind::new(
        "a number of seconds, or a duration such as 30s or 1h30m",
        |text| duration(text, 1000),
    )
}

/// A time that is not zero, or `infinity` for none.
pub(super) fn millis_or_infinity() -> Kind<Option<Duration>> {
    let allowed = "a number of milliseconds above zero, a duration such as 500ms, 30s or 1h30m,";
    millis()
        .only(allowed, |time| !time.is_zero())
        .map(Some)
        .or_word("infinity", None)
}

/// The longest time a setting may name, in milliseconds: twenty years. More is a slip of the pen.
const MILLIS_MAX: u64 = 630_720_000_000;

/// Reads `1h30m`, or a plain number of units of so many milliseconds. Fractions of a millisecond are rounded up.
fn duration(text: &str, unit_millis: u64) -> Option<Duration> {
    if let Ok(count) = text.parse::<u64>() {
        return count
            .checked_mul(unit_millis)
            .filter(|millis| *millis <= MILLIS_MAX)
            .map(Duration::from_millis);
    }
    let mut rest = text.to_ascii_lowercase();
    let mut millis = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let count: f64 = rest[..end].parse().ok()?;
        let units = [
            ("ms", 1.0),
            ("f", 1_209_600_000.0),
            ("w", 604_800_000.0),
            ("d", 86_400_000.0),
            ("h", 3_600_000.0),
            ("m", 60_000.0),
            ("s", 1000.0),
        ];
        let (name, length) = units
            .iter()
            .find(|(name, _)| rest[end..].starts_with(name))?;
        millis += count * length;
        rest.drain(..end + name.len());
    }
    let millis = Duration::try_from_secs_f64(millis.ceil() / 1000.0).ok()?;
    (millis <= Duration::from_millis(MILLIS_MAX)).then_some(millis)
}

/// A number of bytes in the units of memory and disk settings, where MB is a million and MiB is 2^20.
pub(super) fn bytes() -> Kind<u64> {
    Kind::new(
        "a number of bytes, or a size such as 512MiB, 50MB or 2GB",
        |text| size(text, 1000),
    )
}

/// A number of bytes in the units of frame sizes, where MB is 2^20.
pub(super) fn byte_size() -> Kind<u64> {
    Kind::new(
        "a number of bytes, or a size such as 128KB or 1MB",
        |text| size(text, 1024),
    )
}

fn size(text: &str, decimal: u64) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let count: u64 = text[..end].parse().ok()?;
    let unit = text[end..].to_ascii_lowercase();
    let power = |letter: char| {
        "kmgtp"
            .find(letter)
            .map(|at| u32::try_from(at + 1).unwrap_or(u32::MAX))
    };
    let factor = match (unit.chars().next(), unit.get(1..)) {
        (None, _) => 1,
        (Some(letter), Some("" | "i" | "ib")) => 1024_u64.checked_pow(power(letter)?)?,
        (Some(letter), Some("b")) => decimal.checked_pow(power(letter)?)?,
        _ => return None,
    };
    count.checked_mul(factor)
}

/// An IP address.
pub(super) fn ip() -> Kind<IpAddr> {
    Kind::new("an IP address such as 127.0.0.1 or ::1", address)
}

fn address(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text)
        .parse()
        .ok()
}

/// A port; zero lets the operating system choose.
pub(super) fn port() -> Kind<u16> {
    Kind::new("a port from 0 to 65535", |text| text.parse().ok())
}

/// A port, or an address and a port.
pub(super) fn listener() -> Kind<Listener> {
    Kind::new(
        "a port, or an address and a port such as 127.0.0.1:5672 or ::1:5672",
        |text| match text.rsplit_once(':') {
            None => text.parse().ok().map(Listener::on),
            Some((ip, port)) => Some(Listener {
                ip: Some(address(ip)?),
                port: port.parse().ok()?,
            }),
        },
    )
}

/// A host and a port.
pub(super) fn host_port() -> Kind<HostPort> {
    Kind::new(
        "a host and a port such as host1:25672",
        |text| match split_host_port(text)? {
            (host, Some(port)) => Some(HostPort { host, port }),
            (_, None) => None,
        },
    )
}

/// A node name.
pub(super) fn node() -> Kind<NodeName> {
    Kind::new(NODE_NAME_FORM, |text| text.parse().ok())
}

/// A pattern, unanchored.
pub(super) fn pattern() -> Kind<String> {
    Kind::new("a regular expression that is not empty", |text| {
        (!text.is_empty() && regex::Regex::new(text).is_ok()).then(|| text.to_owned())
    })
}

/// Words between commas.
pub(super) fn list() -> Kind<Vec<String>> {
    Kind::new("a list such as a,b,c", |text| {
        Some(
            text.split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect(),
        )
    })
}

/// A path that need not exist yet.
pub(super) fn path() -> Kind<PathBuf> {
    word().map(PathBuf::from).in_words("a path")
}

/// A file or directory that can be read.
pub(super) fn readable() -> Kind<PathBuf> {
    Kind {
        allowed: "the path of a file that exists and may be read".into(),
        is_secret: false,
        read: Box::new(|text, files| {
            (!text.is_empty() && files.is_readable(Path::new(text))).then(|| PathBuf::from(text))
        }),
    }
}

/// How serious a log message must be.
pub(super) fn level() -> Kind<LogLevel> {
    use LogLevel::{Alert, Critical, Debug, Emergency, Error, Info, None, Notice, Warning};
    choice(
        &[
            Debug, Info, Notice, Warning, Error, Critical, Alert, Emergency, None,
        ]
        .map(|level| (level.name(), level)),
    )
}

#[cfg(test)]
mod tests;
