//! What a command has to say when it succeeded, before a formatter makes text of it.

use crate::term::{Row, Term};

/// The result of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// Done; nothing to show but in JSON.
    Done,
    /// Not even in JSON.
    Nothing,
    /// A sentence; `{"message": …}` in JSON.
    Text(String),
    /// A text for people and a value for programs.
    Both(String, Term),
    /// A text that JSON wraps: `{"node": …, "result": "ok", "value": …}`.
    Wrapped(String),
    /// A value that has no other form than a term or JSON.
    Value(Term),
    /// Lines of a table that came one by one: no line, no header.
    Rows(Vec<Row>),
    /// Lines of a table that came at once: without any, an empty line is printed.
    List(Vec<Row>),
    /// Lines of text.
    Lines(Vec<String>),
    /// Bytes without a line end.
    Raw(Vec<u8>),
    /// Texts in sections with titles, for the report.
    Report(Vec<(String, Output, crate::format::Formatter)>),
}

impl Output {
    /// A check that passed.
    pub(crate) fn passed(is_silent: bool, text: impl Into<String>, json: Term) -> Output {
        if is_silent {
            Output::Nothing
        } else {
            Output::Both(text.into(), json)
        }
    }
}
