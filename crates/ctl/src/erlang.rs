//! Terms on lines of 80 columns, broken where Erlang breaks them.
//!
//! A term that fits is written on one line. Else a list or tuple has one element per line, except
//! that atomic elements share lines as long as they fit. A tuple that begins with a word keeps its
//! elements right of the word; if that makes some line too long anywhere in the term, all such
//! tuples indent their elements by four instead.

use crate::term::{Term, atom, typed_table};

const COLUMNS: usize = 80;

/// A term by what matters for layout.
enum Node {
    Atomic(String),
    List(Vec<Node>),
    /// With whether the first element is a word.
    Tuple(Vec<Node>, bool),
    Map(Vec<(Node, Node)>),
}

/// Lays a term out.
pub(crate) fn pretty(term: &Term) -> String {
    let node = node(term);
    for indent in [None, Some(4), Some(1)] {
        let mut layout = Layout {
            out: String::new(),
            column: 0,
            tag_indent: indent,
            is_too_wide: false,
        };
        layout.put(&node, 1, 0);
        if !layout.is_too_wide || indent == Some(1) {
            return layout.out;
        }
    }
    unreachable!("the last indent is taken as it comes")
}

fn node(term: &Term) -> Node {
    match term {
        Term::List(items) if items.is_empty() => Node::Atomic("[]".to_owned()),
        Term::List(items) => Node::List(items.iter().map(node).collect()),
        Term::Tuple(items) => {
            let is_tagged = items.len() > 1 && matches!(items.first(), Some(Term::Atom(_)));
            Node::Tuple(items.iter().map(node).collect(), is_tagged)
        }
        Term::Pairs(pairs) if pairs.is_empty() => Node::Atomic("[]".to_owned()),
        Term::Pairs(pairs) => {
            let pair = |(key, value): &(String, Term)| {
                Node::Tuple(vec![Node::Atomic(atom(key)), node(value)], true)
            };
            Node::List(pairs.iter().map(pair).collect())
        }
        Term::Map(map) => {
            let entry = |(key, value): (&String, &Term)| (Node::Atomic(atom(key)), node(value));
            Node::Map(map.iter().map(entry).collect())
        }
        Term::Table(table) => node(&typed_table(table)),
        other => Node::Atomic(other.compact()),
    }
}

impl Node {
    fn flat(&self, out: &mut String) {
        let series = |items: &[Node], out: &mut String| {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                item.flat(out);
            }
        };
        match self {
            Node::Atomic(text) => out.push_str(text),
            Node::List(items) => {
                out.push('[');
                series(items, out);
                out.push(']');
            }
            Node::Tuple(items, _) => {
                out.push('{');
                series(items, out);
                out.push('}');
            }
            Node::Map(entries) => {
                out.push_str("#{");
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    key.flat(out);
                    out.push_str(" => ");
                    value.flat(out);
                }
                out.push('}');
            }
        }
    }

    fn width(&self) -> usize {
        let mut flat = String::new();
        self.flat(&mut flat);
        flat.chars().count()
    }
}

struct Layout {
    out: String,
    column: usize,
    /// How far the elements of a tagged tuple are indented; `None` puts them right of the tag.
    tag_indent: Option<usize>,
    is_too_wide: bool,
}

impl Layout {
    fn text(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, column: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', column - 1));
        self.column = column - 1;
    }

    /// Writes a node that starts at `column` (from 1) and is followed by `closing` brackets.
    fn put(&mut self, node: &Node, column: usize, closing: usize) {
        if node.width() < COLUMNS - column.min(COLUMNS) - closing.min(COLUMNS - column.min(COLUMNS))
        {
            let mut flat = String::new();
            node.flat(&mut flat);
            return self.text(&flat);
        }
        match node {
            Node::Atomic(text) => {
                self.is_too_wide = true;
                self.text(text);
            }
            Node::List(items) => {
                self.text("[");
                self.series(items, column + 1, closing + 1);
                self.text("]");
            }
            Node::Tuple(items, true) => {
                self.text("{");
                self.tagged(items, column, closing + 1);
                self.text("}");
            }
            Node::Tuple(items, false) => {
                self.text("{");
                self.series(items, column + 1, closing + 1);
                self.text("}");
            }
            Node::Map(entries) => {
                self.text("#{");
                self.entries(entries, column + 2, closing + 1);
                self.text("}");
            }
        }
    }

    fn entries(&mut self, entries: &[(Node, Node)], column: usize, closing: usize) {
        let mut may_share = false;
        for (index, (key, value)) in entries.iter().enumerate() {
            let closing = if index + 1 == entries.len() {
                closing
            } else {
                0
            };
            let is_atomic = matches!((key, value), (Node::Atomic(_), Node::Atomic(_)));
            if index > 0 {
                self.text(",");
                let width = key.width() + " => ".len() + value.width();
                let fits = self.column + 1 + width + closing.max(1) < COLUMNS;
                if !(may_share && is_atomic && fits) {
                    self.line(column);
                }
            }
            let at = self.column + 1;
            self.entry(key, value, at, closing);
            may_share = is_atomic;
        }
    }

    fn entry(&mut self, key: &Node, value: &Node, column: usize, closing: usize) {
        let key_width = key.width() + " => ".len();
        key.flat(&mut self.out);
        self.column += key.width();
        if value.width() + key_width + column + closing < COLUMNS {
            self.text(" => ");
            return self.put(value, column + key_width, closing);
        }
        self.text(" =>");
        self.line(column + 4);
        self.put(value, column + 4, closing);
    }

    fn series(&mut self, items: &[Node], column: usize, closing: usize) {
        let Some((first, rest)) = items.split_first() else {
            return;
        };
        self.put(first, column, if rest.is_empty() { closing } else { 0 });
        self.tail(rest, column, closing, matches!(first, Node::Atomic(_)));
    }

    fn tagged(&mut self, items: &[Node], column: usize, closing: usize) {
        let Some((tag, rest)) = items.split_first() else {
            return;
        };
        let tag_width = tag.width();
        let mut flat = String::new();
        tag.flat(&mut flat);
        self.text(&flat);
        match self.tag_indent {
            Some(indent) if tag_width + 2 > indent => {
                self.tail(rest, column + indent, closing, true);
            }
            _ => {
                self.text(",");
                self.series(rest, column + tag_width + 2, closing);
            }
        }
    }

    /// Elements after the first: atomic ones on the same line while they fit.
    fn tail(&mut self, items: &[Node], column: usize, closing: usize, mut may_share: bool) {
        for (index, item) in items.iter().enumerate() {
            let closing = if index + 1 == items.len() { closing } else { 0 };
            let is_atomic = matches!(item, Node::Atomic(_));
            self.text(",");
            let fits = self.column + 1 + item.width() + closing.max(1) < COLUMNS;
            if !(may_share && is_atomic && fits) {
                self.line(column);
            }
            let at = self.column + 1;
            self.put(item, at, closing);
            may_share = is_atomic;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(entries: &[(&str, Term)]) -> Term {
        Term::Pairs(
            entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        )
    }

    fn words(text: &str) -> Term {
        Term::List(text.split(' ').map(Term::atom).collect())
    }

    #[test]
    fn short_terms_take_one_line() {
        assert_eq!(
            pretty(&pairs(&[("user", Term::text("guest"))])),
            "[{user,<<\"guest\">>}]"
        );
        assert_eq!(pretty(&Term::map([])), "#{}");
    }

    #[test]
    fn rows_break_between_each_other() {
        let row = |name: &str, messages| {
            pairs(&[
                ("name", Term::text(name)),
                ("messages", Term::Int(messages)),
            ])
        };
        let rows = Term::List(vec![
            row("amq.gen-7fQAIQlh0BeLwaArbhYMFw", 0),
            row("qq1", 0),
            row("orders.new", 1286),
        ]);
        assert_eq!(
            pretty(&rows),
            "[[{name,<<\"amq.gen-7fQAIQlh0BeLwaArbhYMFw\">>},{messages,0}],\n \
             [{name,<<\"qq1\">>},{messages,0}],\n \
             [{name,<<\"orders.new\">>},{messages,1286}]]"
        );
    }

    #[test]
    fn elements_stay_right_of_a_word_where_that_fits() {
        let arguments = Term::Table(
            serde_json::json!({"x-max-priority": 3, "x-message-ttl": 60000})
                .as_object()
                .unwrap()
                .clone(),
        );
        let row = Term::List(vec![pairs(&[
            ("name", Term::text("q3")),
            ("arguments", arguments),
            ("policy", Term::text("p1")),
        ])]);
        assert_eq!(
            pretty(&row),
            "[[{name,<<\"q3\">>},\n  \
             {arguments,[{<<\"x-max-priority\">>,long,3},{<<\"x-message-ttl\">>,long,60000}]},\n  \
             {policy,<<\"p1\">>}]]"
        );
    }

    #[test]
    fn words_fill_lines() {
        let ciphers = "chacha20 aes_256_ofb aes_192_ofb aes_128_ofb blowfish_ofb64 blowfish_cfb64 \
                       blowfish_cbc des_cfb des_cbc rc4 rc2_cbc aes_192_cbc aes_256_cbc \
                       aes_128_cfb128 aes_192_cfb128";
        assert_eq!(
            pretty(&words(ciphers)),
            "[chacha20,aes_256_ofb,aes_192_ofb,aes_128_ofb,blowfish_ofb64,blowfish_cfb64,\n \
             blowfish_cbc,des_cfb,des_cbc,rc4,rc2_cbc,aes_192_cbc,aes_256_cbc,\n \
             aes_128_cfb128,aes_192_cfb128]"
        );
    }

    #[test]
    fn all_tagged_tuples_indent_by_four_when_one_would_be_too_wide() {
        let wide = Term::text("v".repeat(55));
        let term = pairs(&[(
            "amqp_client",
            pairs(&[
                ("gen_server_call_timeout", Term::Int(130_000)),
                ("prefer_ipv6", wide),
            ]),
        )]);
        let expected = format!(
            "[{{amqp_client,\n     [{{gen_server_call_timeout,130000}},\n      \
             {{prefer_ipv6,\n          <<\"{}\">>}}]}}]",
            "v".repeat(55)
        );
        assert_eq!(pretty(&term), expected);
    }

    #[test]
    fn maps_break_after_the_arrow() {
        let plugin = Term::map([
            ("enabled", Term::atom("enabled")),
            ("name", Term::atom("rabbitmq_management")),
            ("running", Term::flag(true)),
            ("version", Term::text("3.10.8")),
        ]);
        let term = Term::map([
            ("format", Term::atom("normal")),
            ("plugins", Term::List(vec![plugin.clone(), plugin])),
        ]);
        assert_eq!(
            pretty(&term),
            "#{format => normal,\n  plugins =>\n      \
             [#{enabled => enabled,name => rabbitmq_management,running => true,\n         \
             version => <<\"3.10.8\">>},\n       \
             #{enabled => enabled,name => rabbitmq_management,running => true,\n         \
             version => <<\"3.10.8\">>}]}"
        );
    }
}
