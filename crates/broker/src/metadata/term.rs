//! Values as error texts show them. RabbitMQ prints Erlang terms there, and clients and scripts match
//! on the texts, so numbers are bare, text is `<<"...">>` and objects are `#{...}`.

use std::fmt;

use amqp::{ShortStr, Value};

/// Shows a value.
pub(crate) struct Term<'a>(pub(crate) &'a Value);

/// Shows bytes as a binary.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

/// Shows names and values as a list of pairs.
pub(crate) struct Pairs<'a>(pub(crate) &'a [(ShortStr, Value)]);

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Bool(bit) => write!(f, "{bit}"),
            Value::F32(n) => write!(f, "{n:?}"),
            Value::F64(n) => write!(f, "{n:?}"),
            Value::Decimal { scale, value } => write!(f, "{{{scale},{value}}}"),
            Value::LongStr(bytes) | Value::Binary(bytes) => Bytes(bytes).fmt(f),
            Value::Timestamp(seconds) => write!(f, "{seconds}"),
            Value::Void => f.write_str("null"),
            Value::Array(values) => {
                f.write_str("[")?;
                separated(f, values, |f, value| Term(value).fmt(f))?;
                f.write_str("]")
            }
            Value::Table(table) => {
                f.write_str("#{")?;
                separated(f, &table.0, |f, (key, value)| {
                    write!(f, "{} => {}", Bytes(key.as_bytes()), Term(value))
                })?;
                f.write_str("}")
            }
            integer => write!(f, "{}", integer.as_i64().unwrap_or_default()),
        }
    }
}

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match str::from_utf8(self.0) {
            Ok(text) if text.is_ascii() => write!(f, "<<\"{}\">>", text.escape_default()),
            Ok(text) => write!(f, "<<\"{text}\"/utf8>>"),
            Err(_) => {
                f.write_str("<<")?;
                separated(f, self.0, |f, byte| write!(f, "{byte}"))?;
                f.write_str(">>")
            }
        }
    }
}

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        separated(f, self.0, |f, (key, value)| {
            write!(f, "{{{},{}}}", Bytes(key.as_bytes()), Term(value))
        })?;
        f.write_str("]")
    }
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut show: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(",")?;
        }
        show(f, item)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use amqp::Table;

    use super::*;

    #[test]
    fn shows_terms_as_erlang_does() {
        let cases = [
            (Value::from(-1_i64), "-1"),
            (Value::from(1.0_f64), "1.0"),
            (Value::from("a\"b"), "<<\"a\\\"b\">>"),
            (Value::from("ä"), "<<\"ä\"/utf8>>"),
            (Value::LongStr(vec![255, 1]), "<<255,1>>"),
            (Value::from(true), "true"),
            (Value::Void, "null"),
            (
                Value::from(vec![Value::from(1_i64), Value::from("x")]),
                "[1,<<\"x\">>]",
            ),
            (
                Value::from(Table::new().with("k", 2_i64)),
                "#{<<\"k\">> => 2}",
            ),
        ];
        for (value, text) in cases {
            assert_eq!(Term(&value).to_string(), text);
        }
        let table = Table::new().with("nonsense", 1_i64).with("b", "c");
        assert_eq!(
            Pairs(&table.0).to_string(),
            "[{<<\"nonsense\">>,1},{<<\"b\">>,<<\"c\">>}]"
        );
    }
}
