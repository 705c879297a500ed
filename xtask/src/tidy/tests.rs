use super::files;
use super::layers::{Import, judge};

#[test]
fn the_tree_is_tidy() {
    let complaints = super::check(&crate::root()).unwrap();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn import(from: &str, name: &str, is_ours: bool) -> Option<String> {
    judge(&Import { from, name, for_tests: false }, is_ours)
}

#[test]
fn walls_stand() {
    assert_eq!(import("broker", "amqp", true), None);
    assert_eq!(import("server", "tokio", false), None);
    assert_eq!(import("amqp", "store", true).unwrap(), "amqp: may not import store; it may import stdx");
    assert_eq!(import("black-box", "amqp", true).unwrap(), "black-box: may not import amqp; it may import nothing of ours");
    assert!(import("broker", "tokio", false).unwrap().starts_with("broker: only computes, and tokio is not on its list"));
    assert_eq!(import("server", "redb", false).unwrap(), "server: imports redb, which only consensus may know");
    assert_eq!(import("ctl", "broker", true).unwrap(), "ctl: may not import broker; it may import cluster, management");
}

#[test]
fn tests_may_use_what_the_code_may_not() {
    assert_eq!(judge(&Import { from: "broker", name: "proptest", for_tests: true }, false), None);
    assert_eq!(judge(&Import { from: "consensus", name: "stdx", for_tests: true }, true), None);
    assert!(judge(&Import { from: "black-box", name: "stdx", for_tests: true }, true).is_some());
    assert!(judge(&Import { from: "store", name: "redb", for_tests: true }, false).is_some());
}

#[test]
fn long_files_and_refused_words_are_named() {
    let long = format!("//! x\n{}", "\n".repeat(1000));
    assert_eq!(files::judge("crates/a/src/b.rs", &long), ["crates/a/src/b.rs: 1001 lines; split it below 1000"]);
    let word = concat!("//! x\n// FIX", "ME later");
    assert_eq!(files::judge("a.rs", word).len(), 1);
    assert_eq!(files::judge("a.rs", "fn f() {}"), ["a.rs: does not open by saying what it promises (//!)"]);
    let path = concat!("see /ro", "ot/x");
    assert_eq!(files::judge("docs/a.md", path).len(), 1);
    assert_eq!(files::judge("a.rs", "//! x\nfn f() {}\n"), Vec::<String>::new());
}
