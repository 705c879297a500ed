//! Patterns and permissions against RabbitMQ's meaning of them.

use std::sync::Arc;

use super::*;
use crate::metadata::Vhost;

#[test]
fn patterns_are_searched_for_unanchored() {
    // pattern, name, found
    let cases = [
        ("", "", true),
        ("", "a", false),
        ("^$", "a", false),
        (".*", "", true),
        (".*", "anything", true),
        ("two.", "one-two-three", true),
        ("^two", "one-two", false),
        ("^two", "two-one", true),
        ("^amq\\.", "amq.direct", true),
        ("^amq\\.", "amqxdirect", false),
        ("^a$", "a", true),
        ("^a$", "ab", false),
        ("^(a|b)$", "b", true),
        ("^(?!amq\\.).*", "amq.direct", false),
        ("^(?!amq\\.).*", "orders", true),
        ("^(a)\\1$", "aa", true),
        ("(?<=x)y", "xy", true),
        ("a{", "a{", true),
        ("[[:digit:]]+$", "q7", true),
        ("\\Aq\\d{2}\\z", "q42", true),
    ];
    for (pattern, name, found) in cases {
        let compiled = Pattern::compile(pattern).unwrap();
        assert_eq!(compiled.is_match(name), found, "{pattern} in {name}");
    }
}

#[test]
fn bad_patterns_are_refused_with_a_reason() {
    for pattern in ["*", "(", "[a", "a**b(", "(?<n", "((a{1000}){1000}){1000}"] {
        let error = Pattern::compile(pattern).unwrap_err();
        assert!(
            !error.0.is_empty() && !error.0.contains('\n'),
            "{pattern}: {error}"
        );
    }
    let long = format!("({})", "a|".repeat(600));
    assert_eq!(
        Pattern::compile(&long).unwrap_err().0,
        "longer than 1024 bytes: 1202"
    );
}

#[test]
fn catastrophic_backtracking_ends_as_no_match() {
    let pattern = Pattern::compile("^(?=(a+)+$)x").unwrap();
    assert!(!pattern.is_match(&format!("{}b", "a".repeat(200))));
}

fn tables(permission: Option<Permission>, topic: Option<TopicPermission>) -> Tables {
    let mut vhost = Vhost::empty("demo".into());
    if let Some(permission) = permission {
        vhost
            .permissions
            .insert_mut(permission.user.clone(), Arc::new(permission));
    }
    if let Some(topic) = topic {
        vhost.topic_permissions.insert_mut(
            (topic.user.clone(), topic.exchange.clone()),
            Arc::new(topic),
        );
    }
    let mut tables = Tables::default();
    tables.vhosts.insert_mut("demo".into(), Arc::new(vhost));
    tables
}

fn alice(configure: &str, write: &str, read: &str) -> Permission {
    let compile = |p: &str| Pattern::compile(p).unwrap();
    Permission {
        user: "alice".into(),
        vhost: "demo".into(),
        configure: compile(configure),
        write: compile(write),
        read: compile(read),
    }
}

#[test]
fn refusals_have_rabbitmqs_texts() {
    let tables = tables(Some(alice("^a", "", ".*")), None);
    let check = |right, resource| access(&tables, "alice", "demo", right, resource);
    assert_eq!(check(Right::Configure, Resource::Queue("ab")), Ok(()));
    assert_eq!(
        check(Right::Configure, Resource::Queue("zz"))
            .unwrap_err()
            .0,
        "configure access to queue 'zz' in vhost 'demo' refused for user 'alice'"
    );
    assert_eq!(
        check(Right::Write, Resource::Exchange("")).unwrap_err().0,
        "write access to exchange 'amq.default' in vhost 'demo' refused for user 'alice'"
    );
    assert_eq!(check(Right::Read, Resource::Exchange("")), Ok(()));
    assert_eq!(
        access(&tables, "bob", "demo", Right::Read, Resource::Queue("q"))
            .unwrap_err()
            .0,
        "read access to queue 'q' in vhost 'demo' refused for user 'bob'"
    );
    assert_eq!(vhost_access(&tables, "alice", "demo"), Ok(()));
    assert_eq!(
        vhost_access(&tables, "alice", "/").unwrap_err().0,
        "access to vhost '/' refused for user 'alice'"
    );
}

#[test]
fn the_default_exchange_is_matched_as_amq_default() {
    let permission = alice("", "^amq\\.default$", "");
    assert!(permission.allows(Right::Write, Resource::Exchange("")));
    assert!(!permission.allows(Right::Write, Resource::Queue("")));
}

#[test]
fn topic_permissions_expand_their_variables_as_literal_text() {
    let compile = |user: &str, write: &str| {
        let (user, exchange) = (Name::from(user), Name::from("amq.topic"));
        TopicPermission::compile(user, "v".into(), exchange, write.into(), "^{vhost}$".into())
    };
    // user, pattern, key, allowed
    let cases = [
        ("alice", "^{username}\\.", "alice.1", true),
        ("alice", "^{username}\\.", "bob.1", false),
        ("a.b", "^{username}$", "axb", false),
        ("a.b", "^{username}$", "a.b", true),
        ("alice", "^{client_id}", "{client_id}", true),
        ("alice", "", "x", false),
        ("alice", "", "", true),
    ];
    for (user, pattern, key, allowed) in cases {
        let permission = compile(user, pattern).unwrap();
        assert_eq!(
            permission.allows(Right::Write, key.as_bytes()),
            allowed,
            "{pattern} {key}"
        );
    }
    assert!(compile("alice", ".*").unwrap().allows(Right::Read, b"v"));
    assert!(compile("alice", "(").is_err());
}

#[test]
fn without_a_topic_permission_every_key_is_allowed() {
    let (user, exchange) = (Name::from("alice"), Name::from("amq.topic"));
    let topic = TopicPermission::compile(
        user.clone(),
        "demo".into(),
        exchange.clone(),
        "^a".into(),
        "^r".into(),
    );
    let tables = tables(None, Some(topic.unwrap()));
    let check = |exchange: &Name, key: &[u8]| {
        topic_access(&tables, &user, "demo", Right::Write, exchange, key)
    };
    assert_eq!(check(&exchange, b"a.1"), Ok(()));
    assert_eq!(check(&"other".into(), b"b.1"), Ok(()));
    assert_eq!(
        check(&exchange, b"b.1").unwrap_err().0,
        "write access to topic 'b.1' in exchange 'amq.topic' in vhost 'demo' refused for user 'alice'"
    );
}
