use std::fmt::Debug;
use std::time::Duration;

use super::{
    Kind, at_least, boolean, byte_size, bytes, choice, flag, host_port, integer, ip, limit, list,
    listener, millis, millis_or_infinity, node, pattern, ratio, readable, seconds, secret, text,
};
use crate::config::files::memory::MemoryFiles;

fn check<T: Debug + PartialEq + 'static>(kind: &Kind<T>, good: &[(&str, T)], bad: &[&str]) {
    let files = MemoryFiles::of(&[("/etc/key.pem", "k")]);
    for (text, expected) in good {
        assert_eq!(
            kind.read(text, &files).as_ref(),
            Some(expected),
            "{text:?} as {}",
            kind.allowed
        );
    }
    for text in bad {
        assert_eq!(
            kind.read(text, &files),
            None,
            "{text:?} as {}",
            kind.allowed
        );
    }
}

#[test]
fn words_and_numbers() {
    check(
        &boolean(),
        &[("true", true), ("false", false)],
        &["on", "yes", "TRUE", "1", ""],
    );
    check(&flag(), &[("on", true), ("off", false)], &["true", ""]);
    check(
        &choice(&[("a", 1), ("b", 2)]),
        &[("b", 2)],
        &["c", "ab", "A"],
    );
    check(
        &integer(1..=9),
        &[("1", 1), ("9", 9)],
        &["0", "10", "-1", "1.5", "", "x", "1 "],
    );
    check(
        &at_least(1),
        &[("1", 1), ("18446744073709551615", u64::MAX)],
        &["0", "-1", "18446744073709551616"],
    );
    check(
        &limit(1),
        &[("infinity", None), ("7", Some(7))],
        &["0", "-1", "inf", "unlimited"],
    );
    check(&text(), &[("", String::new())], &[]);
    check(
        &list(),
        &[
            ("a, b,,c ", vec!["a".into(), "b".into(), "c".into()]),
            ("", vec![]),
        ],
        &[],
    );
    check(&pattern(), &[("^a.*$", "^a.*$".into())], &["", "(", "*"]);
    check(
        &secret(),
        &[("s3cret", "s3cret".into())],
        &["encrypted:abcdef"],
    );
    check(
        &readable(),
        &[
            ("/etc/key.pem", "/etc/key.pem".into()),
            ("/etc", "/etc".into()),
        ],
        &["/etc/cert.pem", ""],
    );
}

#[test]
fn ratios() {
    check(
        &ratio(),
        &[
            ("0.4", 0.4),
            ("1", 1.0),
            ("40%", 0.4),
            ("0", 0.0),
            ("2.5", 2.5),
        ],
        &["", "-0.1", "x", "nan", "inf"],
    );
}

#[test]
fn sizes_of_memory_and_disk_are_decimal_unless_they_say_otherwise() {
    let good = [
        ("0", 0),
        ("1234", 1234),
        ("50MB", 50_000_000),
        ("50mb", 50_000_000),
        ("500kB", 500_000),
        ("2GB", 2_000_000_000),
        ("512MiB", 512 << 20),
        ("512M", 512 << 20),
        ("512Mi", 512 << 20),
        ("4k", 4096),
        ("1GiB", 1 << 30),
        ("1TB", 1_000_000_000_000),
        ("1PiB", 1 << 50),
    ];
    check(
        &bytes(),
        &good,
        &[
            "",
            "MB",
            "-1",
            "1.5GB",
            "10XB",
            "10MBs",
            "5 MB",
            "99999999999PB",
            "1é",
        ],
    );
}

#[test]
fn sizes_of_frames_are_binary() {
    check(
        &byte_size(),
        &[
            ("4096", 4096),
            ("128KB", 131_072),
            ("1mb", 1 << 20),
            ("1GB", 1 << 30),
        ],
        &["", "kb", "1.5"],
    );
}

#[test]
fn durations() {
    let ms = Duration::from_millis;
    let good = [
        ("0", ms(0)),
        ("10000", ms(10_000)),
        ("500ms", ms(500)),
        ("30s", ms(30_000)),
        ("1m30s", ms(90_000)),
        ("1h30m", ms(5_400_000)),
        ("1.5m", ms(90_000)),
        (".5s", ms(500)),
        ("1.5999s", ms(1600)),
        ("1W1D", ms(691_200_000)),
        ("31536000000", ms(31_536_000_000)),
    ];
    check(
        &millis(),
        &good,
        &[
            "",
            "s",
            "1q",
            "1s2",
            "-5",
            "5 s",
            "1.s.",
            "99999999999999999999",
            "9999w",
        ],
    );
    check(
        &seconds(),
        &[("60", ms(60_000)), ("500ms", ms(500)), ("1m", ms(60_000))],
        &["x"],
    );
    let good = [("infinity", None), ("5s", Some(ms(5000)))];
    check(&millis_or_infinity(), &good, &["0", "never"]);
}

#[test]
fn addresses() {
    let at = |text: &str, port| super::Listener {
        ip: text.parse().ok(),
        port,
    };
    let good = [
        ("5672", at("", 5672)),
        ("0", at("", 0)),
        ("127.0.0.1:5672", at("127.0.0.1", 5672)),
        ("::1:5672", at("::1", 5672)),
        ("[::1]:5672", at("::1", 5672)),
        (":::5672", at("::", 5672)),
        ("0.0.0.0:1", at("0.0.0.0", 1)),
    ];
    let bad = [
        "",
        "70000",
        "localhost:5672",
        "127.0.0.1",
        "127.0.0.1:",
        "1.2.3:4",
        "unix:/run/x.sock:0",
        "x",
    ];
    check(&listener(), &good, &bad);
    check(
        &ip(),
        &[
            ("::1", "::1".parse().unwrap()),
            ("[::1]", "::1".parse().unwrap()),
        ],
        &["localhost", "1.2.3.4:5", ""],
    );
    let witness = super::HostPort {
        host: "w.example".into(),
        port: 25672,
    };
    check(
        &host_port(),
        &[("w.example:25672", witness)],
        &["w.example", ":25672", "w:x", ""],
    );
    check(
        &node(),
        &[("rabbit@h1", "rabbit@h1".parse().unwrap())],
        &["rabbit", ""],
    );
}

#[test]
fn what_is_allowed_is_said_in_words() {
    assert_eq!(choice(&[("a", 1), ("b", 2), ("c", 3)]).allowed, "a, b or c");
    assert_eq!(limit(1).allowed, "a whole number of at least 1 or infinity");
    assert_eq!(integer(0..=7).allowed, "a whole number from 0 to 7");
}
