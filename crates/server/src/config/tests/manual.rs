use std::collections::BTreeSet;

use crate::config::key::Status;
use crate::config::syntax::key_path;
use crate::config::{keys, manual};

/// The page of the manual that lists the keys.
const PAGE: &str = include_str!("../../../../../docs/configuration.md");

const BEGIN: &str = "<!-- keys: begin -->\n";
const END: &str = "<!-- keys: end -->\n";

#[test]
fn the_page_lists_all_keys_with_what_they_do() {
    let (before, rest) = PAGE
        .split_once(BEGIN)
        .expect("the page has no place for the keys");
    let (listed, after) = rest
        .split_once(END)
        .expect("the place for the keys has no end");
    let current = manual();
    if std::env::var_os("UPDATE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        std::fs::write(path, format!("{before}{BEGIN}{current}{END}{after}"))
            .expect("the page cannot be written");
    } else {
        assert!(
            listed == current,
            "docs/configuration.md is out of date; run the tests of this crate with UPDATE=1"
        );
    }
}

#[test]
fn each_key_is_known_once_and_found_by_its_own_name() {
    let table = keys::table();
    let mut seen = BTreeSet::new();
    for key in &table.keys {
        assert!(seen.insert(&key.pattern), "{} is there twice", key.pattern);
        let name = key.pattern.replace('$', "");
        let path = key_path(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (found, _) = table
            .find(&path)
            .unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!(
            found.pattern, key.pattern,
            "{name} is taken for another key"
        );
    }
    for key in table.keys.iter().step_by(50) {
        let path = key_path(&key.pattern.replace('$', "")).expect("checked above");
        assert_eq!(table.nearest(&path), Some(path.to_string()));
    }
}

#[test]
fn no_key_of_rabbitmq_is_unknown() {
    let table = keys::table();
    let known: BTreeSet<&str> = table.keys.iter().map(|key| key.pattern.as_str()).collect();
    let names = include_str!("rabbitmq-keys.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for name in names {
        assert!(known.contains(name), "{name} is not known");
    }
    let count = |status: Status| table.keys.iter().filter(|key| key.status == status).count();
    assert!(
        count(Status::Served) >= 150,
        "only {} keys are served",
        count(Status::Served)
    );
}
