//! Results as text: for people, as tables, JSON, CSV and Erlang terms.

mod boxes;

use serde_json::Value as Json;

use crate::erlang::pretty;
use crate::output::Output;
use crate::term::{Row, Term};

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formatter {
    Text,
    Table,
    Json,
    Csv,
    PrettyTable,
    Erlang,
    Report,
}

impl Formatter {
    pub(crate) fn of_name(name: &str) -> Option<Formatter> {
        Some(match name {
            "string" | "string_per_line" | "inspect" | "plugins" => Formatter::Text,
            "table" => Formatter::Table,
            "json" | "json_stream" => Formatter::Json,
            "csv" => Formatter::Csv,
            "pretty_table" => Formatter::PrettyTable,
            "erlang" => Formatter::Erlang,
            "report" => Formatter::Report,
            _ => return None,
        })
    }

    /// A program reads this: no banner.
    pub(crate) fn is_for_programs(self) -> bool {
        matches!(self, Formatter::Json | Formatter::Csv)
    }
}

/// What shapes a text beside the formatter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Style {
    pub(crate) node: String,
    pub(crate) without_headers: bool,
    /// Cells are at least as wide as their header.
    pub(crate) pad_to_header: bool,
    /// Boxes are drawn with Unicode instead of the terminal's second character set.
    pub(crate) is_unicode: bool,
    /// No titles in reports.
    pub(crate) is_quiet: bool,
}

/// The complete text of a result, with line ends.
pub(crate) fn render(output: &Output, formatter: Formatter, style: &Style) -> String {
    match output {
        Output::Nothing => String::new(),
        Output::Raw(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Output::Report(parts) => report(parts, style),
        Output::Done => match formatter {
            Formatter::Json => lines(&[ok(style, None)]),
            _ => String::new(),
        },
        Output::Text(text) => match formatter {
            Formatter::Json => lines(&[Term::map([("message", Term::text(text))]).to_json()]),
            Formatter::Csv => csv(&[vec![("message".to_owned(), Term::text(text))]]),
            Formatter::Erlang => lines(&[pretty(&Term::text(text))]),
            Formatter::PrettyTable => boxes::single(text, style.is_unicode),
            Formatter::Text | Formatter::Table | Formatter::Report => lines(&[text]),
        },
        Output::Wrapped(text) => match formatter {
            Formatter::Json => lines(&[ok(style, Some(Json::from(text.as_str())))]),
            other => render(&Output::Text(text.clone()), other, style),
        },
        Output::Both(text, value) => match formatter {
            Formatter::Json | Formatter::Csv => {
                render(&Output::Value(value.clone()), formatter, style)
            }
            Formatter::Erlang if !matches!(value, Term::Map(map) if map.contains_key("result")) => {
                lines(&[pretty(value)])
            }
            other => render(&Output::Text(text.clone()), other, style),
        },
        Output::Value(value) => match formatter {
            Formatter::Json => lines(&[value.to_json()]),
            Formatter::Csv => csv(&[entries(value)]),
            Formatter::PrettyTable => boxes::single(&pretty(value), style.is_unicode),
            _ => lines(&[pretty(value)]),
        },
        Output::List(rows) if rows.is_empty() => match formatter {
            Formatter::Json | Formatter::Erlang => lines(&["[]"]),
            Formatter::PrettyTable => boxes::single("[]", style.is_unicode),
            _ => "\n".to_owned(),
        },
        Output::Rows(rows) | Output::List(rows) => table(rows, formatter, style),
        Output::Lines(texts) => match formatter {
            Formatter::Json => {
                let row = |text: &String| vec![("message".to_owned(), Term::text(text))];
                json_list(&texts.iter().map(row).collect::<Vec<_>>())
            }
            Formatter::Erlang => {
                lines(&[pretty(&Term::List(texts.iter().map(Term::text).collect()))])
            }
            _ => lines(texts),
        },
    }
}

fn lines<T: ToString>(items: &[T]) -> String {
    items.iter().map(|item| item.to_string() + "\n").collect()
}

fn ok(style: &Style, value: Option<Json>) -> Json {
    let mut answer = serde_json::json!({"node": style.node, "result": "ok"});
    if let Some(value) = value {
        answer["value"] = value;
    }
    answer
}

fn table(rows: &[Row], formatter: Formatter, style: &Style) -> String {
    match formatter {
        Formatter::Json => json_list(rows),
        Formatter::Csv => csv(rows),
        Formatter::PrettyTable => boxes::table(rows, style.is_unicode),
        Formatter::Erlang => lines(&[pretty(&Term::List(
            rows.iter().map(|row| Term::Pairs(row.clone())).collect(),
        ))]),
        Formatter::Text | Formatter::Table | Formatter::Report => tabs(rows, style),
    }
}

fn tabs(rows: &[Row], style: &Style) -> String {
    let header = rows.first().filter(|_| !style.without_headers);
    let header = header.map(|row| {
        row.iter()
            .map(|(key, _)| key.clone())
            .collect::<Vec<_>>()
            .join("\t")
    });
    let cell = |(key, value): &(String, Term)| {
        let width = if style.pad_to_header {
            key.chars().count()
        } else {
            0
        };
        format!("{:width$}", value.cell())
    };
    let line = |row: &Row| row.iter().map(cell).collect::<Vec<_>>().join("\t");
    header
        .into_iter()
        .chain(rows.iter().map(line))
        .map(|line| line + "\n")
        .collect()
}

fn json_list(rows: &[Row]) -> String {
    let mut out = "[\n".to_owned();
    for (index, row) in rows.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        out.push_str(&format!("{comma}{}\n", Term::Pairs(row.clone()).to_json()));
    }
    out.push_str("]\n");
    out
}

fn csv(rows: &[Row]) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let Some(first) = rows.first() else {
        return String::new();
    };
    let header: Vec<String> = first.iter().map(|(key, _)| quote(key)).collect();
    let cell = |value: &Term| match value {
        Term::Atom(word) if word == "nil" => quote(""),
        value => quote(&value.cell()),
    };
    let line = |row: &Row| {
        row.iter()
            .map(|(_, value)| cell(value))
            .collect::<Vec<_>>()
            .join(",")
    };
    std::iter::once(header.join(","))
        .chain(rows.iter().map(line))
        .map(|line| line + "\n")
        .collect()
}

/// A value as the columns of one line.
fn entries(value: &Term) -> Row {
    match value {
        Term::Map(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        Term::Pairs(pairs) => pairs.clone(),
        other => vec![("value".to_owned(), other.clone())],
    }
}

fn report(parts: &[(String, Output, Formatter)], style: &Style) -> String {
    let mut out = String::new();
    for (title, output, formatter) in parts {
        out.push('\n');
        if !style.is_quiet {
            out.push_str(title);
            out.push('\n');
        }
        out.push_str(&render(output, *formatter, style));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, messages: i128) -> Row {
        vec![
            ("name".to_owned(), Term::text(name)),
            ("messages".to_owned(), Term::Int(messages)),
        ]
    }

    fn style() -> Style {
        Style {
            node: "warren@box".to_owned(),
            ..Style::default()
        }
    }

    fn show(output: &Output, formatter: Formatter) -> String {
        render(output, formatter, &style())
    }

    #[test]
    fn rows_in_every_form() {
        let rows = Output::Rows(vec![row("qq1", 0), row("a\"b", 2)]);
        assert_eq!(
            show(&rows, Formatter::Table),
            "name\tmessages\nqq1\t0\na\"b\t2\n"
        );
        assert_eq!(
            show(&rows, Formatter::Json),
            "[\n{\"name\":\"qq1\",\"messages\":0}\n,{\"name\":\"a\\\"b\",\"messages\":2}\n]\n"
        );
        assert_eq!(
            show(&rows, Formatter::Csv),
            "\"name\",\"messages\"\n\"qq1\",\"0\"\n\"a\"\"b\",\"2\"\n"
        );
        assert_eq!(
            show(&rows, Formatter::Erlang),
            "[[{name,<<\"qq1\">>},{messages,0}],[{name,<<\"a\\\"b\">>},{messages,2}]]\n"
        );
    }

    #[test]
    fn headers_can_be_left_out() {
        let style = Style {
            without_headers: true,
            ..style()
        };
        assert_eq!(
            render(&Output::Rows(vec![row("q", 1)]), Formatter::Table, &style),
            "q\t1\n"
        );
    }

    #[test]
    fn cells_can_be_as_wide_as_headers() {
        let style = Style {
            pad_to_header: true,
            ..style()
        };
        let text = render(&Output::Rows(vec![row("q", 1)]), Formatter::Table, &style);
        assert_eq!(text, "name\tmessages\nq   \t1       \n");
    }

    #[test]
    fn nothing_to_list_looks_different_by_how_it_came() {
        let (streamed, whole) = (Output::Rows(Vec::new()), Output::List(Vec::new()));
        assert_eq!(
            (
                show(&streamed, Formatter::Table),
                show(&whole, Formatter::Table)
            ),
            (String::new(), "\n".into())
        );
        assert_eq!(
            (
                show(&streamed, Formatter::Json),
                show(&whole, Formatter::Json)
            ),
            ("[\n]\n".into(), "[]\n".into())
        );
        assert_eq!(show(&streamed, Formatter::Csv), "");
    }

    #[test]
    fn sentences_and_outcomes() {
        assert_eq!(show(&Output::Done, Formatter::Text), "");
        assert_eq!(
            show(&Output::Done, Formatter::Json),
            "{\"node\":\"warren@box\",\"result\":\"ok\"}\n"
        );
        let text = Output::Text("Ping succeeded".to_owned());
        assert_eq!(show(&text, Formatter::Text), "Ping succeeded\n");
        assert_eq!(
            show(&text, Formatter::Json),
            "{\"message\":\"Ping succeeded\"}\n"
        );
        assert_eq!(show(&text, Formatter::Erlang), "<<\"Ping succeeded\">>\n");
        let wrapped = Output::Wrapped("{\"max-queues\":3}".to_owned());
        assert_eq!(show(&wrapped, Formatter::Table), "{\"max-queues\":3}\n");
        assert_eq!(
            show(&wrapped, Formatter::Json),
            "{\"node\":\"warren@box\",\"result\":\"ok\",\"value\":\"{\\\"max-queues\\\":3}\"}\n"
        );
    }
}
