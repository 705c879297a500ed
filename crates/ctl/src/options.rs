//! The command line, read as RabbitMQ's tools read it: options anywhere, `--name value`,
//! `--name=value`, `--no-name`, `-n value`, several letters behind one dash, `--` before what only
//! looks like an option. A negative number is a value, not an option.

use std::collections::BTreeMap;

/// What an option is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Flag,
    Text,
    Whole,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Switch {
    /// Without dashes: `apply-to`.
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) kind: Kind,
}

/// An option without a value.
pub(crate) const fn flag(name: &'static str) -> Switch {
    Switch {
        name,
        short: None,
        kind: Kind::Flag,
    }
}

/// An option with a text.
pub(crate) const fn text(name: &'static str) -> Switch {
    Switch {
        name,
        short: None,
        kind: Kind::Text,
    }
}

/// An option with a whole number.
pub(crate) const fn whole(name: &'static str) -> Switch {
    Switch {
        name,
        short: None,
        kind: Kind::Whole,
    }
}

impl Switch {
    /// Gives the option a letter of its own.
    pub(crate) const fn short(mut self, letter: char) -> Switch {
        self.short = Some(letter);
        self
    }
}

/// Options that every command takes, though not every command heeds.
pub(crate) const GENERAL: &[Switch] = &[
    text("node").short('n'),
    flag("quiet").short('q'),
    flag("silent").short('s'),
    flag("dry-run"),
    text("vhost").short('p'),
    whole("timeout").short('t'),
    flag("longnames").short('l'),
    text("formatter"),
    flag("table-headers"),
    flag("pad-to-header"),
    text("printer"),
    text("file"),
    text("script-name"),
    text("rabbitmq-home"),
    text("data-dir"),
    text("mnesia-dir"),
    text("plugins-dir"),
    text("enabled-plugins-file"),
    text("aliases-file"),
    text("erlang-cookie"),
    flag("help").short('?'),
    flag("print-stacktrace"),
];

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Flag(bool),
    Text(String),
    Whole(i64),
}

/// The options that were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options(BTreeMap<&'static str, Value>);

impl Options {
    /// Whether a flag is set; `None` when it was not mentioned.
    pub(crate) fn find_flag(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Value::Flag(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.find_flag(name).unwrap_or(false)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(value)) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn whole(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Value::Whole(value)) => Some(*value),
            _ => None,
        }
    }
}

impl Options {
    /// Sets an option as if it had been given.
    pub(crate) fn set_text(&mut self, name: &'static str, value: &str) {
        self.0.insert(name, Value::Text(value.to_owned()));
    }
}

/// A command line taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) args: Vec<String>,
    pub(crate) options: Options,
    /// Options as written that are unknown, or whose value is missing or wrong.
    pub(crate) invalid: Vec<(String, Option<String>)>,
}

/// Reads a command line with the general options and these.
pub(crate) fn parse(input: &[String], more: &[Switch]) -> Parsed {
    let mut parser = Parser {
        rest: input.iter().peekable(),
        more,
        parsed: Parsed::default(),
    };
    while let Some(token) = parser.rest.next() {
        parser.take(token);
    }
    parser.parsed
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::slice::Iter<'a, String>>,
    more: &'a [Switch],
    parsed: Parsed,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) {
        if token == "--" {
            self.parsed.args.extend(self.rest.by_ref().cloned());
        } else if let Some(option) = token.strip_prefix("--") {
            self.long(option);
        } else if token.len() > 1 && token.starts_with('-') && !is_number(token) {
            self.short(&token[1..]);
        } else {
            self.parsed.args.push(token.to_owned());
        }
    }

    fn find(&self, matches: impl Fn(&Switch) -> bool) -> Option<Switch> {
        self.more
            .iter()
            .chain(GENERAL)
            .find(|switch| matches(switch))
            .copied()
    }

    fn long(&mut self, option: &str) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let shown = format!("--{name}");
        if let Some(switch) = self.find(|switch| switch.name == name) {
            return self.set(switch, shown, value);
        }
        let negated = name.strip_prefix("no-");
        let negated = negated.and_then(|name| self.find(|switch| switch.name == name));
        match (negated, value) {
            (Some(switch), None) if switch.kind == Kind::Flag => {
                self.parsed
                    .options
                    .0
                    .insert(switch.name, Value::Flag(false));
            }
            _ => self.refuse(shown, value),
        }
    }

    fn short(&mut self, letters: &str) {
        let (letters, value) = match letters.split_once('=') {
            Some((letters, value)) => (letters, Some(value)),
            None => (letters, None),
        };
        let count = letters.chars().count();
        for (index, letter) in letters.chars().enumerate() {
            let is_last = index + 1 == count;
            let shown = format!("-{letter}");
            match self.find(|switch| switch.short == Some(letter)) {
                Some(switch) if is_last => self.set(switch, shown, value),
                Some(switch) if switch.kind == Kind::Flag => {
                    self.parsed.options.0.insert(switch.name, Value::Flag(true));
                }
                _ => self.refuse(shown, value.filter(|_| is_last)),
            }
        }
    }

    fn set(&mut self, switch: Switch, shown: String, given: Option<&str>) {
        let value = match switch.kind {
            Kind::Flag => match given {
                None | Some("true") => Value::Flag(true),
                Some("false") => Value::Flag(false),
                Some(_) => return self.refuse(shown, given),
            },
            Kind::Text | Kind::Whole => {
                let Some(text) = given.map(str::to_owned).or_else(|| self.value()) else {
                    return self.refuse(shown, None);
                };
                match (switch.kind, text.parse()) {
                    (Kind::Whole, Ok(number)) => Value::Whole(number),
                    (Kind::Whole, Err(_)) => return self.refuse(shown, Some(&text)),
                    _ => Value::Text(text),
                }
            }
        };
        self.parsed.options.0.insert(switch.name, value);
    }

    /// The next word, unless it is an option.
    fn value(&mut self) -> Option<String> {
        let is_value = |word: &&String| !word.starts_with('-') || *word == "-" || is_number(word);
        self.rest.next_if(is_value).cloned()
    }

    fn refuse(&mut self, shown: String, value: Option<&str>) {
        self.parsed.invalid.push((shown, value.map(str::to_owned)));
    }
}

fn is_number(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
        && word.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MORE: &[Switch] = &[
        whole("priority"),
        text("apply-to"),
        flag("if-empty").short('e'),
    ];

    fn read(line: &str) -> Parsed {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&words, MORE)
    }

    #[test]
    fn options_may_stand_anywhere() {
        for line in [
            "-p v set --priority 1 a b -q",
            "set a -q --vhost=v b --priority=1",
            "set --quiet a b -p=v --priority 1",
            "-qp v set a b --priority 1",
        ] {
            let parsed = read(line);
            assert_eq!(parsed.args, ["set", "a", "b"], "{line}");
            assert_eq!(parsed.options.text("vhost"), Some("v"), "{line}");
            assert_eq!(parsed.options.whole("priority"), Some(1), "{line}");
            assert!(
                parsed.options.flag("quiet") && parsed.invalid.is_empty(),
                "{line}"
            );
        }
    }

    #[test]
    fn flags_can_be_negated() {
        assert_eq!(
            read("x --no-table-headers")
                .options
                .find_flag("table-headers"),
            Some(false)
        );
        assert_eq!(
            read("x --quiet=false").options.find_flag("quiet"),
            Some(false)
        );
        assert_eq!(read("x").options.find_flag("quiet"), None);
    }

    #[test]
    fn the_last_of_two_wins() {
        assert_eq!(read("-p a x -p b").options.text("vhost"), Some("b"));
    }

    #[test]
    fn negative_numbers_and_a_lone_dash_are_values() {
        assert_eq!(read("x --priority -5").options.whole("priority"), Some(-5));
        assert_eq!(read("x -5 -").args, ["x", "-5", "-"]);
        assert_eq!(read("x -- --name").args, ["x", "--name"]);
    }

    #[test]
    fn what_is_wrong_is_told_as_it_was_written() {
        for (line, expected) in [
            ("x --nosuch", vec![("--nosuch", None)]),
            ("x --priority abc", vec![("--priority", Some("abc"))]),
            ("x --timeout", vec![("--timeout", None)]),
            ("x --vhost --quiet", vec![("--vhost", None)]),
            ("x -t abc", vec![("-t", Some("abc"))]),
            ("x -p/ y", vec![("-p", None), ("-/", None)]),
            ("x --if-empty=abc", vec![("--if-empty", Some("abc"))]),
            ("x --no_table_headers", vec![("--no_table_headers", None)]),
        ] {
            let invalid = read(line).invalid;
            let invalid: Vec<(&str, Option<&str>)> = invalid
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            assert_eq!(invalid, expected, "{line}");
        }
    }
}
