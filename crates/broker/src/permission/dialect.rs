//! Between PCRE, in which patterns are written, and the engines that run them.
//!
//! Two services: the shape of patterns so simple that no engine is needed, and what PCRE takes literally while stricter
//! engines refuse it or mean something else by it: braces (`{username}`, `a{`), and in a class brackets, hyphens beside
//! an escape (`[\w-.]`) and what others take for operations of sets (`&&`). `\Q` to `\E` is spelled out.

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

/// Escapes what is literal in PCRE: see the file's head.
pub(super) fn from_pcre(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let (mut in_class, mut at_start, mut behind_set) = (false, false, false);
    while let Some(char) = rest.chars().next() {
        let was_behind_set = std::mem::take(&mut behind_set);
        let was_at_start = std::mem::take(&mut at_start);
        let taken = match char {
            '\\' if rest.starts_with("\\Q") => {
                let (quoted, after) = rest[2..].split_once("\\E").unwrap_or((&rest[2..], ""));
                out.push_str(&regex::escape(quoted));
                rest = after;
                continue;
            }
            '\\' => {
                behind_set = in_class && is_set(rest);
                escape_len(rest)
            }
            '[' if !in_class => {
                (in_class, at_start) = (true, true);
                class_start_len(rest)
            }
            '[' if rest.starts_with("[:") && rest.contains(":]") => {
                behind_set = true;
                rest.find(":]").map_or(1, |end| end + 2)
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                1
            }
            '-' if in_class
                && (was_behind_set
                    || is_set(&rest[1..])
                    // Two in a row are the beginning of a range and its sign, or its sign and its end.
                    || was_at_start && rest.starts_with("--")
                    || out.ends_with('-') && !out.ends_with("\\-")) =>
            {
                out.push('\\');
                1
            }
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

/// Whether it begins with an escape that stands for many characters, which no range can begin or end with.
fn is_set(text: &str) -> bool {
    text.strip_prefix('\\').is_some_and(|escape| escape.starts_with(['d', 'D', 'w', 'W', 's', 'S', 'h', 'H', 'v', 'V', 'p', 'P']))
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
    fn escapes_what_is_literal_in_a_class() {
        let cases = [
            ("[\\w-_.]+", "[\\w\\-_.]+"),
            ("^[a-z\\d-_]+$", "^[a-z\\d\\-_]+$"),
            ("[.-\\w]", "[.\\-\\w]"),
            ("[[:alpha:]-x]", "[[:alpha:]\\-x]"),
            ("^[[a]$", "^[\\[a]$"),
            ("[a&&b~~c]", "[a\\&\\&b\\~\\~c]"),
            ("a&&b-[a-c-]", "a&&b-[a-c-]"),
            ("[*--]", "[*-\\-]"),
            ("[--a]", "[\\--a]"),
            ("^\\Qx.y\\E$", "^x\\.y$"),
            ("\\Qx[", "x\\["),
        ];
        for (pattern, expected) in cases {
            assert_eq!(from_pcre(pattern), expected, "{pattern}");
            assert!(super::super::Pattern::compile(pattern).is_ok(), "{pattern}");
        }
        let pattern = super::super::Pattern::compile("^[\\w-_.]+$").unwrap();
        assert!(pattern.is_match("a-b_c.d") && !pattern.is_match("a b"));
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
