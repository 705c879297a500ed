//! Values as the tools of RabbitMQ print them: Erlang terms, with the kinds that decide how a value
//! looks in a table, in JSON and as a term.
//!
//! A table shows most values bare (`running`, `3`), lists in brackets, arguments as compact terms
//! (`[{"x-max-priority",10}]`). JSON shows arguments as triples with the type in the middle. The
//! type is guessed from the value, since the node's JSON does not carry it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

/// A value to print.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    /// A word of the program: `running`, `true`; the empty word stands for nothing.
    Atom(String),
    /// Text of a user.
    Text(String),
    Int(i128),
    Float(f64),
    List(Vec<Term>),
    Tuple(Vec<Term>),
    /// Named values in an order that matters, an object in JSON.
    Pairs(Vec<(String, Term)>),
    /// Named values, sorted.
    Map(BTreeMap<String, Term>),
    /// Arguments: an AMQP table.
    Table(Map<String, Json>),
    /// What stands for an Erlang process: `<warren@box.1.2.0>`.
    Pid(String),
    /// An IP address or host name.
    Address(String),
}

/// A line of a table: column and value.
pub(crate) type Row = Vec<(String, Term)>;

impl Term {
    /// Nothing: an empty cell.
    pub(crate) fn nothing() -> Term {
        Term::Atom(String::new())
    }

    pub(crate) fn atom(word: impl Into<String>) -> Term {
        Term::Atom(word.into())
    }

    pub(crate) fn text(text: impl Into<String>) -> Term {
        Term::Text(text.into())
    }

    pub(crate) fn flag(value: bool) -> Term {
        Term::Atom(value.to_string())
    }

    /// Objects become maps, strings texts, nulls nothing.
    pub(crate) fn of_json(json: &Json) -> Term {
        match json {
            Json::Null => Term::nothing(),
            Json::Bool(value) => Term::flag(*value),
            Json::Number(number) => number_term(number),
            Json::String(text) => Term::text(text),
            Json::Array(items) => Term::List(items.iter().map(Term::of_json).collect()),
            Json::Object(object) => {
                let entry = |(key, value): (&String, &Json)| (key.clone(), Term::of_json(value));
                Term::Map(object.iter().map(entry).collect())
            }
        }
    }

    /// Words instead of texts, all the way down.
    pub(crate) fn of_words(json: &Json) -> Term {
        match json {
            Json::String(word) => Term::atom(word),
            Json::Array(items) => Term::List(items.iter().map(Term::of_words).collect()),
            other => Term::of_json(other),
        }
    }

    /// A map of these entries.
    pub(crate) fn map<const N: usize>(entries: [(&str, Term); N]) -> Term {
        Term::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    /// As in the cell of a table.
    pub(crate) fn cell(&self) -> String {
        match self {
            Term::Atom(word) => word.clone(),
            Term::Text(text) | Term::Pid(text) | Term::Address(text) => text.clone(),
            Term::Int(number) => number.to_string(),
            Term::Float(number) => float(*number),
            Term::List(items) if items.iter().all(|item| matches!(item, Term::Int(_))) => {
                joined("[", ",", "]", items.iter().map(Term::cell))
            }
            Term::List(items) => joined("[", ", ", "]", items.iter().map(Term::cell)),
            Term::Tuple(items) => match items.as_slice() {
                [key, value] => format!("{{{}, {}}}", key.compact(), value.cell()),
                items => joined("{", ",", "}", items.iter().map(Term::compact)),
            },
            Term::Pairs(pairs) => {
                let show =
                    |(key, value): &(String, Term)| format!("{{{}, {}}}", atom(key), value.cell());
                joined("[", ", ", "]", pairs.iter().map(show))
            }
            Term::Map(map) => {
                let show = |(key, value): (&String, &Term)| format!("{key} => {}", value.cell());
                joined("#{", ", ", "}", map.iter().map(show))
            }
            Term::Table(table) => arguments(table),
        }
    }

    /// As a term on one line.
    pub(crate) fn compact(&self) -> String {
        match self {
            Term::Atom(word) => atom(word),
            Term::Text(text) => binary(text),
            Term::Int(_) | Term::Float(_) | Term::Pid(_) => self.cell(),
            Term::List(items) => joined("[", ",", "]", items.iter().map(Term::compact)),
            Term::Tuple(items) => joined("{", ",", "}", items.iter().map(Term::compact)),
            Term::Pairs(pairs) => {
                let show = |(key, value): &(String, Term)| {
                    format!("{{{},{}}}", atom(key), value.compact())
                };
                joined("[", ",", "]", pairs.iter().map(show))
            }
            Term::Map(map) => {
                let show = |(key, value): (&String, &Term)| {
                    format!("{} => {}", atom(key), value.compact())
                };
                joined("#{", ",", "}", map.iter().map(show))
            }
            Term::Table(table) => typed_table(table).compact(),
            Term::Address(address) => match octets(address) {
                Some(numbers) => Term::Tuple(numbers).compact(),
                None => quoted(address),
            },
        }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Term::Atom(word) => match word.as_str() {
                "true" => json!(true),
                "false" => json!(false),
                "nil" => Json::Null,
                word => json!(word),
            },
            Term::Text(text) | Term::Pid(text) => json!(text),
            Term::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(number), _) => json!(number),
                (_, Ok(number)) => json!(number),
                _ => json!(number.to_string()),
            },
            Term::Float(number) => json!(number),
            Term::List(items) | Term::Tuple(items) => items.iter().map(Term::to_json).collect(),
            Term::Pairs(pairs) => {
                let entry = |(key, value): &(String, Term)| (key.clone(), value.to_json());
                Json::Object(pairs.iter().map(entry).collect())
            }
            Term::Map(map) => {
                let entry = |(key, value): (&String, &Term)| (key.clone(), value.to_json());
                Json::Object(map.iter().map(entry).collect())
            }
            Term::Table(table) => typed_table(table).to_json(),
            Term::Address(address) => match octets(address) {
                Some(numbers) => numbers.iter().map(Term::to_json).collect(),
                None => json!(address),
            },
        }
    }
}

fn number_term(number: &serde_json::Number) -> Term {
    match (number.as_i64(), number.as_u64()) {
        (Some(number), _) => Term::Int(number.into()),
        (_, Some(number)) => Term::Int(number.into()),
        _ => Term::Float(number.as_f64().unwrap_or_default()),
    }
}

/// The parts of an address as Erlang has them: four bytes, or eight pairs of bytes.
fn octets(address: &str) -> Option<Vec<Term>> {
    Some(match address.parse().ok()? {
        std::net::IpAddr::V4(address) => address
            .octets()
            .iter()
            .map(|part| Term::Int((*part).into()))
            .collect(),
        std::net::IpAddr::V6(address) => address
            .segments()
            .iter()
            .map(|part| Term::Int((*part).into()))
            .collect(),
    })
}

/// Arguments as a table shows them: `[{"x-max-priority",10}]`.
fn arguments(table: &Map<String, Json>) -> String {
    let show = |(key, value): (&String, &Json)| format!("{{{},{}}}", quoted(key), argument(value));
    joined("[", ",", "]", table.iter().map(show))
}

fn argument(value: &Json) -> String {
    match value {
        Json::Null => "undefined".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => number_term(number).cell(),
        Json::String(text) => quoted(text),
        Json::Array(items) => joined("[", ",", "]", items.iter().map(argument)),
        Json::Object(table) => arguments(table),
    }
}

/// Arguments as terms: key, type, value.
pub(crate) fn typed_table(table: &Map<String, Json>) -> Term {
    let entry = |(key, value): (&String, &Json)| {
        let (kind, value) = typed(value);
        Term::Tuple(vec![Term::text(key), Term::atom(kind), value])
    };
    Term::List(table.iter().map(entry).collect())
}

fn typed(value: &Json) -> (&'static str, Term) {
    match value {
        Json::Null => ("void", Term::atom("undefined")),
        Json::Bool(value) => ("bool", Term::flag(*value)),
        Json::Number(number) => match number_term(number) {
            Term::Float(number) => ("double", Term::Float(number)),
            number => ("long", number),
        },
        Json::String(text) => ("longstr", Term::text(text)),
        Json::Array(items) => {
            let item = |item: &Json| {
                let (kind, value) = typed(item);
                Term::Tuple(vec![Term::atom(kind), value])
            };
            ("array", Term::List(items.iter().map(item).collect()))
        }
        Json::Object(table) => ("table", typed_table(table)),
    }
}

fn joined(open: &str, separator: &str, close: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    format!("{open}{}{close}", items.join(separator))
}

/// A number with a decimal point, as short as it can be.
pub(crate) fn float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0e{exponent}"),
        _ => text,
    }
}

/// A word in quotes unless it needs none.
pub(crate) fn atom(word: &str) -> String {
    let plain = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@');
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", escaped(word, '\''))
    }
}

/// Text as an Erlang binary.
pub(crate) fn binary(text: &str) -> String {
    let mark = if text.is_ascii() { "" } else { "/utf8" };
    if text.is_empty() {
        "<<>>".to_owned()
    } else {
        format!("<<{}{mark}>>", quoted(text))
    }
}

/// Text in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text, '"'))
}

fn escaped(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\{:03o}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(json: Json) -> Term {
        Term::Table(json.as_object().unwrap().clone())
    }

    #[test]
    fn cells_show_values_bare_and_arguments_as_terms() {
        let arguments = json!({"x-dead-letter-exchange": "dlx", "x-f": 1.5, "x-l": [1, 2, "s"],
            "x-t": {"a": 1, "b": true}, "x-ünï": "a\"b"});
        for (term, expected) in [
            (Term::text("a\tb"), "a\tb"),
            (Term::nothing(), ""),
            (Term::Float(1.0), "1.0"),
            (Term::Float(1e-7), "1.0e-7"),
            (
                Term::List(vec![Term::atom("production"), Term::atom("eu")]),
                "[production, eu]",
            ),
            (
                Term::Pairs(vec![("probe@localhost".into(), Term::atom("running"))]),
                "[{probe@localhost, running}]",
            ),
            (
                Term::List(vec![Term::Tuple(vec![
                    Term::text("max-length"),
                    Term::Int(100),
                ])]),
                "[{<<\"max-length\">>, 100}]",
            ),
            (
                Term::Tuple(vec![Term::Int(0), Term::Int(9), Term::Int(1)]),
                "{0,9,1}",
            ),
            (
                Term::map([("b", Term::Int(2)), ("a", Term::Int(1))]),
                "#{a => 1, b => 2}",
            ),
            (Term::Address("127.0.0.1".into()), "127.0.0.1"),
            (table(json!({})), "[]"),
            (
                table(arguments),
                "[{\"x-dead-letter-exchange\",\"dlx\"},{\"x-f\",1.5},{\"x-l\",[1,2,\"s\"]},\
                 {\"x-t\",[{\"a\",1},{\"b\",true}]},{\"x-ünï\",\"a\\\"b\"}]",
            ),
        ] {
            assert_eq!(term.cell(), expected);
        }
    }

    #[test]
    fn json_shows_arguments_with_types_and_addresses_as_numbers() {
        let term = table(json!({"a": "b", "n": 10, "f": 1.5, "t": {"x": true}}));
        let expected = json!([
            ["a", "longstr", "b"],
            ["n", "long", 10],
            ["f", "double", 1.5],
            ["t", "table", [["x", "bool", true]]],
        ]);
        assert_eq!(term.to_json(), expected);
        assert_eq!(
            Term::Address("127.0.0.1".into()).to_json(),
            json!([127, 0, 0, 1])
        );
        assert_eq!(
            Term::Address("somewhere".into()).to_json(),
            json!("somewhere")
        );
        assert_eq!(Term::nothing().to_json(), json!(""));
        assert_eq!(Term::flag(true).to_json(), json!(true));
    }

    #[test]
    fn compact_terms_quote_what_erlang_quotes() {
        assert_eq!(Term::atom("probe@localhost").compact(), "probe@localhost");
        assert_eq!(Term::atom("").compact(), "''");
        assert_eq!(Term::atom("PLAIN").compact(), "'PLAIN'");
        assert_eq!(Term::text("").compact(), "<<>>");
        assert_eq!(Term::text("a\u{1}\"").compact(), "<<\"a\\001\\\"\">>");
    }
}
