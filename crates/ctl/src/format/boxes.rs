//! Tables in boxes.
//!
//! Without a Unicode terminal the lines are drawn with the second character set of the VT100, as
//! RabbitMQ's tools do: every piece of line is switched on (`ESC ( 0`) and off (`ESC ( B`).

use crate::term::{Row, Term};

/// A table with a bold header and a line between all rows.
pub(crate) fn table(rows: &[Row], is_unicode: bool) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let header = first.iter().map(|(key, _)| vec![key.clone()]).collect();
    let cell = |(_, value): &(String, Term)| content(value).lines().map(str::to_owned).collect();
    let body = rows.iter().map(|row| row.iter().map(cell).collect());
    draw(header, body.collect(), is_unicode)
}

/// One text in a box titled `Output`.
pub(crate) fn single(text: &str, is_unicode: bool) -> String {
    let lines = text.lines().map(str::to_owned).collect();
    draw(
        vec![vec!["Output".to_owned()]],
        vec![vec![lines]],
        is_unicode,
    )
}

fn content(value: &Term) -> String {
    match value {
        Term::Float(number) => format!("{number:.6}"),
        Term::List(items) if items.is_empty() => String::new(),
        Term::Table(table) if table.is_empty() => String::new(),
        other => other.cell(),
    }
}

/// Lines of a cell.
type Cell = Vec<String>;

struct Pen {
    is_unicode: bool,
}

impl Pen {
    /// A horizontal line: left end, crossing, right end.
    fn rule(&self, widths: &[usize], vt100: [char; 3], unicode: [char; 3]) -> String {
        let ([left, cross, right], dash) = if self.is_unicode {
            (unicode, '─')
        } else {
            (vt100, 'q')
        };
        let spans: Vec<String> = widths
            .iter()
            .map(|width| dash.to_string().repeat(width + 2))
            .collect();
        let line = format!("{left}{}{right}", spans.join(&cross.to_string()));
        if self.is_unicode {
            line + "\n"
        } else {
            format!("\u{1b}(0{line}\u{1b}(B\n")
        }
    }

    fn bar(&self) -> &'static str {
        if self.is_unicode {
            "│"
        } else {
            "\u{1b}(0x\u{1b}(B"
        }
    }

    fn row(&self, cells: &[Cell], widths: &[usize], is_bold: bool) -> String {
        let height = cells.iter().map(Vec::len).max().unwrap_or_default().max(1);
        let mut out = String::new();
        for line in 0..height {
            for (cell, width) in cells.iter().zip(widths) {
                let text = cell.get(line).map(String::as_str).unwrap_or_default();
                let padding = " ".repeat(width - text.chars().count());
                let text = if is_bold {
                    crate::help::bold(text)
                } else {
                    text.to_owned()
                };
                out.push_str(&format!("{} {text}{padding} ", self.bar()));
            }
            out.push_str(self.bar());
            out.push('\n');
        }
        out
    }
}

fn draw(header: Vec<Cell>, body: Vec<Vec<Cell>>, is_unicode: bool) -> String {
    let pen = Pen { is_unicode };
    let width = |column: usize| {
        let cells = std::iter::once(&header)
            .chain(&body)
            .filter_map(|row| row.get(column));
        cells
            .flatten()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = pen.rule(&widths, ['l', 'w', 'k'], ['┌', '┬', '┐']);
    out.push_str(&pen.row(&header, &widths, true));
    for row in &body {
        out.push_str(&pen.rule(&widths, ['t', 'n', 'u'], ['├', '┼', '┤']));
        out.push_str(&pen.row(row, &widths, false));
    }
    out.push_str(&pen.rule(&widths, ['m', 'v', 'j'], ['└', '┴', '┘']));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_on_a_unicode_terminal() {
        let row = |name: &str| {
            vec![
                ("name".to_owned(), Term::text(name)),
                ("n".to_owned(), Term::Int(10)),
            ]
        };
        assert_eq!(
            table(&[row("a"), row("queue")], true),
            "┌───────┬────┐\n\
             │ \u{1b}[1mname\u{1b}[0m  │ \u{1b}[1mn\u{1b}[0m  │\n\
             ├───────┼────┤\n\
             │ a     │ 10 │\n\
             ├───────┼────┤\n\
             │ queue │ 10 │\n\
             └───────┴────┘\n"
        );
    }

    #[test]
    fn a_text_of_several_lines_is_one_cell() {
        let text = single("one\ntwelve", true);
        assert_eq!(text.lines().count(), 6);
        assert!(text.contains("│ one    │\n│ twelve │\n"));
    }

    #[test]
    fn without_rows_there_is_no_box() {
        assert_eq!(table(&[], false), "");
    }
}
