//! One log entry as text, plain or JSON.

use std::fmt::{Debug, Write as _};

use tracing::Event;
use tracing::field::{Field, Visit};

/// What stands before the message.
pub(super) struct Head {
    pub(super) unix_micros: u64,
    pub(super) level: &'static str,
    /// The task that speaks, if one does.
    pub(super) task: Option<String>,
}

impl Head {
    /// In the shape of an Erlang process id, which scrapers expect here.
    fn process(&self) -> String {
        format!("<0.{}.0>", self.task.as_deref().unwrap_or("0"))
    }
}

/// The message of an event, with its other fields behind it.
pub(super) fn message(event: &Event<'_>) -> String {
    let mut text = Text::default();
    event.record(&mut text);
    text.message + &text.fields
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// `2024-05-01 12:00:00.123456+00:00 [info] <0.17.0> message`, each line of the message so.
pub(super) fn plain(head: &Head, message: &str) -> String {
    let start = format!("{} [{}] {} ", time(head.unix_micros), head.level, head.process());
    let mut text = String::with_capacity(start.len() + message.len() + 1);
    for line in message.split('\n') {
        text.push_str(&start);
        text.extend(line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }));
        text.push('\n');
    }
    text
}

/// An object on one line, with RabbitMQ's names.
pub(super) fn json(head: &Head, message: &str) -> String {
    let mut text = format!(
        "{{\"time\":\"{}\",\"level\":\"{}\",\"pid\":\"{}\",\"msg\":\"",
        time(head.unix_micros),
        head.level,
        head.process()
    );
    for c in message.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push_str("\"}\n");
    text
}

/// UTC, as RFC 3339 with a blank.
fn time(unix_micros: u64) -> String {
    let (seconds, micros) = (unix_micros / 1_000_000, unix_micros % 1_000_000);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
}

/// The date that many days after 1970-01-01. Years are counted from March, so that a leap day is the
/// last day of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(unix_micros: u64, task: Option<&str>) -> Head {
        Head { unix_micros, level: "info", task: task.map(str::to_owned) }
    }

    #[test]
    fn a_plain_line_is_as_scrapers_expect() {
        let line = plain(&head(1_714_564_800_123_456, Some("912")), "accepting AMQP connection");
        assert_eq!(line, "2024-05-01 12:00:00.123456+00:00 [info] <0.912.0> accepting AMQP connection\n");
    }

    #[test]
    fn no_line_of_a_message_is_without_a_head() {
        let lines = plain(&head(0, None), "queue 'a\n2024 [error] forged\r\u{1b}[31m'");
        for line in lines.lines() {
            assert!(line.starts_with("1970-01-01 00:00:00.000000+00:00 [info] <0.0.0> "), "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn json_is_one_line_whatever_the_message() {
        let line = json(&head(951_782_399_000_001, None), "a \"b\"\\\n\u{1}ü");
        assert_eq!(
            line,
            "{\"time\":\"2000-02-28 23:59:59.000001+00:00\",\"level\":\"info\",\"pid\":\"<0.0.0>\",\
             \"msg\":\"a \\\"b\\\"\\\\\\n\\u0001ü\"}\n"
        );
    }

    #[test]
    fn dates_around_leap_days() {
        let cases = [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_088, (2024, 12, 31)),
            (47_541, (2100, 3, 1)),
        ];
        for (days, expected) in cases {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
