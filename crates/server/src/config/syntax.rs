//! The text of one configuration file: `key = value` lines, `#` comments, `include` lines.
//!
//! The dialect is the one of cuttlefish, which RabbitMQ reads its files with, down to two corners that surprise
//! people and are therefore warned about by the caller: a `#` ends an unquoted value even without a blank before it
//! (`ends_at_hash`), and double quotes are part of the value.
//!
//! A line that cannot be read does not stop the reading, so that all such lines can be reported together.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Place, Problem};

/// A key, cut at its dots; `\.` is a dot within a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyPath(pub(super) Vec<String>);

impl std::fmt::Display for KeyPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            f.write_str(&segment.replace('.', "\\."))?;
        }
        Ok(())
    }
}

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Setting {
        key: KeyPath,
        value: String,
        /// A comment follows without a blank between.
        ends_at_hash: bool,
    },
    /// Another file, or several by a `*` in the last part of the path.
    Include(String),
}

/// A statement and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) statement: Statement,
}

/// Reads the text of the file at `path`.
pub(super) fn parse(text: &str, path: PathBuf) -> (Vec<Line>, Vec<Problem>) {
    let path = Arc::new(path);
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut lines, mut problems, mut number) = (Vec::new(), Vec::new(), 1);
    while !rest.is_empty() {
        let place = Place::File {
            path: path.clone(),
            line: number,
        };
        let (outcome, after) = statement(rest);
        match outcome {
            Ok(Some(statement)) => lines.push(Line { place, statement }),
            Ok(None) => {}
            Err(text) => problems.push(Problem::Syntax { place, text }),
        }
        number += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
    }
    (lines, problems)
}

type Outcome = Result<Option<Statement>, String>;

/// Reads one statement and returns what follows its last line.
fn statement(text: &str) -> (Outcome, &str) {
    let (whole, after) = split_line(text);
    let line = whole.trim_start_matches([' ', '\t']);
    if line.is_empty() || line.starts_with('#') {
        return (Ok(None), after);
    }
    let Some((key, value)) = line.split_once('=') else {
        return (include(line), after);
    };
    let key = match key_path(key.trim_matches([' ', '\t'])) {
        Ok(key) => key,
        Err(text) => return (Err(text), after),
    };
    let value = value.trim_start_matches([' ', '\t']);
    if let Some(quoted) = value.strip_prefix("'''") {
        return multiline(key, &text[whole.len() - quoted.len()..]);
    }
    (single_line(key, value), after)
}

/// The first line without its end, and what follows it.
fn split_line(text: &str) -> (&str, &str) {
    let end = text.find('\n').map_or(text.len(), |end| end + 1);
    let (line, after) = text.split_at(end);
    let line = line.strip_suffix('\n').unwrap_or(line);
    (line.strip_suffix('\r').unwrap_or(line), after)
}

fn include(line: &str) -> Outcome {
    let Some(path) = line
        .strip_prefix("include")
        .filter(|path| path.starts_with([' ', '\t']))
    else {
        return Err(format!("expected `key = value`, found {line:?}"));
    };
    let path = path
        .split('#')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t']);
    let is_valid = !path.is_empty()
        && path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '/'));
    if is_valid {
        Ok(Some(Statement::Include(path.to_owned())))
    } else {
        Err("expected `include file.conf`".into())
    }
}

/// Cuts a key at its dots.
pub(super) fn key_path(text: &str) -> Result<KeyPath, String> {
    let mut segments = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let segment = segments.last_mut().expect("there is always a last segment");
        match c {
            '.' => segments.push(String::new()),
            '\\' if chars.as_str().starts_with('.') => segment.extend(chars.next()),
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') => segment.push(c),
            c => {
                return Err(format!(
                    "a key is made of letters, digits, `_`, `-` and dots (a dot within a segment as `\\.`), not {c:?}"
                ));
            }
        }
    }
    if segments.iter().any(String::is_empty) {
        return Err(format!("a key has no empty segments, found {text:?}"));
    }
    Ok(KeyPath(segments))
}

/// A value between `'''` and `'''`, of which `text` begins after the first.
fn multiline(key: KeyPath, text: &str) -> (Outcome, &str) {
    let Some((value, rest)) = text.split_once("'''") else {
        return (
            Err(format!("the value of {key} begins with ''' and never ends")),
            "",
        );
    };
    let (trailer, after) = split_line(rest);
    if !is_blank_or_comment(trailer) {
        return (
            Err(format!(
                "nothing but a comment may follow ''', found {trailer:?}"
            )),
            after,
        );
    }
    let value = value.trim_matches(['\n', '\r', '\'']).to_owned();
    (
        Ok(Some(Statement::Setting {
            key,
            value,
            ends_at_hash: false,
        })),
        after,
    )
}

fn single_line(key: KeyPath, value: &str) -> Outcome {
    // Without a second quote on the line, the first one is an ordinary character.
    if let Some((quoted, trailer)) = value
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
    {
        if !is_blank_or_comment(trailer) {
            return Err(format!(
                "nothing but a comment may follow a quoted value, found {trailer:?}"
            ));
        }
        return Ok(Some(Statement::Setting {
            key,
            value: quoted.to_owned(),
            ends_at_hash: false,
        }));
    }
    let (value, ends_at_hash) = match value.find('#') {
        Some(hash) => (&value[..hash], !value[..hash].ends_with([' ', '\t'])),
        None => (value, false),
    };
    let value = value.trim_end_matches([' ', '\t']);
    if value.is_empty() {
        return Err(format!("{key} has no value; an empty one is written ''"));
    }
    Ok(Some(Statement::Setting {
        key,
        value: value.to_owned(),
        ends_at_hash,
    }))
}

fn is_blank_or_comment(text: &str) -> bool {
    let text = text.trim_start_matches([' ', '\t']);
    text.is_empty() || text.starts_with('#')
}

#[cfg(test)]
mod tests;
