use super::{Line, Statement, parse};
use crate::config::error::{Place, Problem};

/// The settings of a text as `key=value`, includes as `<path`.
fn check(text: &str, expected: &[&str]) {
    let (lines, problems) = parse(text, "t.conf".into());
    assert_eq!(problems, [], "in {text:?}");
    let found: Vec<String> = lines
        .into_iter()
        .map(|Line { statement, .. }| match statement {
            Statement::Setting { key, value, .. } => format!("{key}={value}"),
            Statement::Include(path) => format!("<{path}"),
        })
        .collect();
    assert_eq!(found, expected, "in {text:?}");
}

fn check_refused(text: &str, line: usize, part: &str) {
    let (_, problems) = parse(text, "t.conf".into());
    let [
        Problem::Syntax {
            place: Place::File { line: found, .. },
            text: said,
        },
    ] = problems.as_slice()
    else {
        panic!("{text:?} gave {problems:?}");
    };
    assert_eq!(*found, line, "in {text:?}");
    assert!(said.contains(part), "{said:?} lacks {part:?}");
}

#[test]
fn settings_comments_and_blank_lines() {
    check("", &[]);
    check("a=1", &["a=1"]);
    check(
        "# x\n\n  \t\n  a.b-c_D.1 \t=  x y z \t \n",
        &["a.b-c_D.1=x y z"],
    );
    check("\u{feff}a = 1\r\nb = 2\r\n", &["a=1", "b=2"]);
    check("a = 1 # one\nb = 2\t#two\n  # c = 3", &["a=1", "b=2"]);
    check(
        "a = x=y\nb = /path/with:odd,things;(1)",
        &["a=x=y", "b=/path/with:odd,things;(1)"],
    );
    check("a = \"x\"", &["a=\"x\""]);
    check("a = größe", &["a=größe"]);
}

#[test]
fn a_hash_ends_a_value_unless_it_is_quoted() {
    let (lines, _) = parse("a = p#q\nb = p #q\nc = 'p#q' # r", "t.conf".into());
    let found: Vec<(String, bool)> = lines
        .into_iter()
        .map(|line| match line.statement {
            Statement::Setting {
                value,
                ends_at_hash,
                ..
            } => (value, ends_at_hash),
            Statement::Include(path) => panic!("included {path}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            ("p".into(), true),
            ("p".into(), false),
            ("p#q".into(), false)
        ]
    );
}

#[test]
fn quotes() {
    check("a = ''", &["a="]);
    check("a = ' x '", &["a= x "]);
    // One quote alone is a letter like others.
    check("a = it's\nb = 'x", &["a=it's", "b='x"]);
    check(
        "a = '''\n{ \"x\": 1,\n  # not a comment\n  \"y\": 'z' }\n''' # done\nb = 1",
        &["a={ \"x\": 1,\n  # not a comment\n  \"y\": 'z' }", "b=1"],
    );
    check("  a = '''one line'''\nb = 2", &["a=one line", "b=2"]);
}

#[test]
fn dots_within_a_segment() {
    check(
        "loopback_users.a\\.b = true",
        &["loopback_users.a\\.b=true"],
    );
    let (lines, _) = parse("x.a\\.b.c = 1", "t.conf".into());
    let Statement::Setting { key, .. } = &lines[0].statement else {
        panic!("no setting")
    };
    assert_eq!(key.0, ["x", "a.b", "c"]);
}

#[test]
fn includes() {
    check(
        "include a.conf\n include  dir/*.conf # all\n",
        &["<a.conf", "<dir/*.conf"],
    );
    check("include = 1", &["include=1"]);
}

#[test]
fn lines_are_counted_across_long_values() {
    let (lines, _) = parse("# 1\na = '''\n3\n4\n'''\nb = 6\r\n\nc = 8", "t.conf".into());
    let numbers: Vec<usize> = lines
        .iter()
        .map(|line| match line.place {
            Place::File { line, .. } => line,
            _ => panic!("not in a file"),
        })
        .collect();
    assert_eq!(numbers, [2, 6, 8]);
}

#[test]
fn what_is_no_setting_is_refused_with_its_line() {
    check_refused("a = 1\nwhat is this\n", 2, "expected `key = value`");
    check_refused("a =\n", 1, "an empty one is written ''");
    check_refused("a = # nothing", 1, "an empty one is written ''");
    check_refused("a..b = 1", 1, "no empty segments");
    check_refused("= 1", 1, "no empty segments");
    check_refused("a b = 1", 1, "a key is made of");
    check_refused("{rabbit, [{x, 1}]}.", 1, "expected `key = value`");
    check_refused("a = 'x' y", 1, "nothing but a comment");
    check_refused("\na = '''x\ny", 2, "never ends");
    check_refused("a = '''x''' y", 1, "nothing but a comment");
    check_refused("include", 1, "expected `key = value`");
    check_refused("include a b", 1, "expected `include");
}

#[test]
fn one_bad_line_does_not_hide_another() {
    let (lines, problems) = parse("x\na = 1\ny\nb = 2", "t.conf".into());
    assert_eq!((lines.len(), problems.len()), (2, 2));
}
