//! Between PCRE, in which patterns are written, and the engines that run them.
//!
//! Two services: the shape of patterns so simple that no engine is needed, and the braces that PCRE
//! takes literally (`{username}`, `a{`) while stricter engines refuse them.

/// A pattern that needs no engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Everything,
    Empty,
    Exactly(String),
    StartsWith(String),
}

/// Recognizes the simplest patterns.
pub(super) fn shape(pattern: &str) -> Option<Shape> {
    match pattern {
        "" | "^$" => return Some(Shape::Empty),
        ".*" | "^.*" | ".*$" | "^.*$" => return Some(Shape::Everything),
        _ => {}
    }
    let anchored = pattern.strip_prefix('^')?;
    if let Some(text) = anchored.strip_suffix('$') {
        return Some(Shape::Exactly(literal(text)?));
    }
    Some(Shape::StartsWith(literal(
        anchored.strip_suffix(".*").unwrap_or(anchored),
    )?))
}

/// The text that a pattern without operators stands for.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.push(chars.next().filter(|c| ".-_/:".contains(*c))?),
            c if c.is_ascii_alphanumeric() || "-_/: ".contains(c) => text.push(c),
            _ => return None,
        }
    }
    Some(text)
}

/// Escapes the braces that open neither a quantifier nor the argument of an escape.
pub(super) fn from_pcre(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(char) = rest.chars().next() {
        let taken = match char {
            '\\' => escape_len(rest),
            '[' if !in_class => {
                in_class = true;
                class_start_len(rest)
            }
            '[' if rest.starts_with("[:") => rest.find(":]").map_or(1, |end| end + 2),
            ']' if in_class => {
                in_class = false;
                1
            }
            '{' if !in_class && quantifier_len(rest).is_none() => {
                out.push('\\');
                1
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// Bytes of an escape, with its braces where it takes them: `\p{L}`, `\x{1F}`, `\k{name}`.
fn escape_len(text: &str) -> usize {
    let Some(escaped) = text[1..].chars().next() else {
        return 1;
    };
    let end = 1 + escaped.len_utf8();
    if "pPxNugko".contains(escaped) && text[end..].starts_with('{') {
        text[end..].find('}').map_or(end, |close| end + close + 1)
    } else {
        end
    }
}

/// Bytes of `[`, `[^`, `[]` or `[^]`: a bracket in the first place is literal.
fn class_start_len(text: &str) -> usize {
    let mut len = 1;
    if text[len..].starts_with('^') {
        len += 1;
    }
    if text[len..].starts_with(']') {
        len += 1;
    }
    len
}

/// Bytes of `{n}`, `{n,}` or `{n,m}`.
fn quantifier_len(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (low, high) = match text[1..end].split_once(',') {
        Some((low, high)) => (low, high),
        None => (&text[1..end], ""),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    (!low.is_empty() && digits(low) && digits(high)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_simple_shapes() {
        let starts = |text: &str| Some(Shape::StartsWith(text.to_owned()));
        let exactly = |text: &str| Some(Shape::Exactly(text.to_owned()));
        let cases = [
            ("", Some(Shape::Empty)),
            ("^$", Some(Shape::Empty)),
            (".*", Some(Shape::Everything)),
            ("^.*$", Some(Shape::Everything)),
            ("^ha-", starts("ha-")),
            ("^ha\\.", starts("ha.")),
            ("^ha-.*", starts("ha-")),
            ("^ha.", None),
            ("^a$", exactly("a")),
            ("a", None),
            ("^a|b$", None),
            ("^a\\d$", None),
            ("^a*", None),
        ];
        for (pattern, expected) in cases {
            assert_eq!(shape(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn escapes_literal_braces_alone() {
        let cases = [
            ("{username}-.*", "\\{username}-.*"),
            ("a{2}b{2,}c{2,3}", "a{2}b{2,}c{2,3}"),
            ("a{,3}", "a\\{,3}"),
            ("\\{a", "\\{a"),
            ("\\p{L}{", "\\p{L}\\{"),
            ("[{]{", "[{]\\{"),
            ("[]{]{", "[]{]\\{"),
            ("[[:alpha:]{]{x", "[[:alpha:]{]\\{x"),
            ("ä{", "ä\\{"),
            ("\\", "\\"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(from_pcre(pattern), expected, "{pattern}");
        }
    }
}
