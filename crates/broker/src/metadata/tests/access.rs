//! Permissions and topic permissions as commands.

use super::*;
use crate::permission::{Resource, Right, access, topic_access};

fn grant(user: &str, configure: &str, write: &str, read: &str) -> Command {
    Command::SetPermission {
        vhost: "/".into(),
        user: user.into(),
        configure: configure.into(),
        write: write.into(),
        read: read.into(),
    }
}

fn grant_topic(exchange: &str, write: &str, read: &str) -> Command {
    Command::SetTopicPermission {
        vhost: "/".into(),
        user: "alice".into(),
        exchange: exchange.into(),
        write: write.into(),
        read: read.into(),
    }
}

#[test]
fn a_permission_is_granted_changed_and_withdrawn() {
    let mut fixture = Fixture::new();
    let may = |fixture: &Fixture| {
        access(
            &fixture.tables(),
            "alice",
            "/",
            Right::Write,
            Resource::Queue("q"),
        )
        .is_ok()
    };
    assert!(!may(&fixture));
    fixture.done(grant("alice", "", ".*", ""));
    assert!(may(&fixture));
    fixture.done(grant("alice", "", "^x", ""));
    assert!(!may(&fixture));
    assert_eq!(
        fixture.take_changes(),
        [Change::RightsChanged, Change::RightsChanged]
    );
    let clear = || Command::ClearPermission {
        vhost: "/".into(),
        user: "alice".into(),
    };
    assert_eq!(fixture.done(clear()), Outcome::Deleted { existed: true });
    assert_eq!(fixture.done(clear()), Outcome::Deleted { existed: false });
    assert_eq!(fixture.take_changes(), [Change::RightsChanged]);
}

#[test]
fn permissions_need_a_user_a_virtual_host_and_good_patterns() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.refused(grant("bob", "", "", "")),
        Refusal::NoSuchUser("bob".into())
    );
    let elsewhere = Command::ClearPermission {
        vhost: "no".into(),
        user: "alice".into(),
    };
    assert_eq!(
        fixture.refused(elsewhere),
        Refusal::NoSuchVhost("no".into())
    );
    let text = fixture.refused_text(grant("alice", ".*", "*", ".*"));
    assert!(
        text.starts_with("invalid regular expression '*': "),
        "{text}"
    );
    let text = fixture.refused_text(grant_topic("amq.topic", ".*", "("));
    assert!(
        text.starts_with("invalid regular expression '(': "),
        "{text}"
    );
}

#[test]
fn topic_permissions_are_cleared_one_by_one_or_all() {
    let mut fixture = Fixture::new();
    for exchange in ["a", "b", "c"] {
        fixture.done(grant_topic(exchange, "^{username}", ".*"));
    }
    let alice = Name::from("alice");
    let check = |fixture: &Fixture, exchange: &str, key: &[u8]| {
        topic_access(
            &fixture.tables(),
            &alice,
            "/",
            Right::Write,
            &exchange.into(),
            key,
        )
        .is_ok()
    };
    assert!(check(&fixture, "a", b"alice.x") && !check(&fixture, "a", b"x"));
    let clear = |exchange: Option<&str>| Command::ClearTopicPermission {
        vhost: "/".into(),
        user: "alice".into(),
        exchange: exchange.map(Name::from),
    };
    assert_eq!(
        fixture.done(clear(Some("b"))),
        Outcome::Deleted { existed: true }
    );
    assert_eq!(
        fixture.done(clear(Some("b"))),
        Outcome::Deleted { existed: false }
    );
    assert!(check(&fixture, "b", b"x") && !check(&fixture, "c", b"x"));
    fixture.check_restores();
    assert_eq!(
        fixture.done(clear(None)),
        Outcome::Deleted { existed: true }
    );
    assert!(fixture.vhost().topic_permissions.is_empty());
}

#[test]
fn deleting_a_user_withdraws_its_rights_everywhere() {
    let mut fixture = Fixture::new();
    fixture.done(Command::PutUser(user("bob")));
    fixture.done(grant("alice", ".*", ".*", ".*"));
    fixture.done(grant("bob", ".*", ".*", ".*"));
    fixture.done(grant_topic("amq.topic", ".*", ".*"));
    fixture.done(Command::DeleteUser {
        user: "alice".into(),
    });
    let vhost = fixture.vhost();
    assert_eq!(names(vhost.permissions.keys()), ["bob"]);
    assert!(vhost.topic_permissions.is_empty());
}

#[test]
fn parameters_are_set_and_cleared() {
    let mut fixture = Fixture::new();
    let set = |component: &str, name: &str, value: Value| Command::SetParameter {
        vhost: "/".into(),
        component: component.into(),
        name: name.into(),
        value,
    };
    let clear = |component: &str, name: &str| Command::ClearParameter {
        vhost: "/".into(),
        component: component.into(),
        name: name.into(),
    };
    let upstream = Value::from(table(&[("uri", "amqp://b".into())]));
    fixture.done(set("federation-upstream", "u", upstream.clone()));
    let key = ("federation-upstream".into(), "u".into());
    assert_eq!(fixture.vhost().parameters.get(&key), Some(&upstream));
    fixture.check_restores();
    fixture.done(clear("federation-upstream", "u"));
    assert_eq!(
        fixture.refused(clear("federation-upstream", "u")),
        Refusal::NoSuchParameter
    );
    let texts = [
        (
            set("policy", "p", Value::Void),
            "policies may not be set using this method",
        ),
        (
            clear("policy", "p"),
            "policies may not be cleared using this method",
        ),
        (
            set("nope", "p", Value::Void),
            "Validation failed\n\ncomponent nope not found\n",
        ),
        (
            set("federation-upstream", "u", Table::new().into()),
            "Validation failed\n\nKey \"uri\" not found in u\n",
        ),
        (
            set("shovel", "s", 1_i64.into()),
            "Validation failed\n\ns not a list 1\n",
        ),
    ];
    for (command, text) in texts {
        assert_eq!(fixture.refused_text(command), text);
    }
}

#[test]
fn limits_and_operator_policies_may_come_as_parameters() {
    let mut fixture = Fixture::new();
    let set = |component: &str, name: &str, value: Table| Command::SetParameter {
        vhost: "/".into(),
        component: component.into(),
        name: name.into(),
        value: value.into(),
    };
    fixture.done(set(
        "vhost-limits",
        "limits",
        table(&[("max-queues", 3_i64.into())]),
    ));
    assert_eq!(fixture.vhost().limits.max_queues, Some(3));
    let definition = table(&[("max-length", 10_i64.into())]);
    let policy = table(&[("pattern", ".*".into()), ("definition", definition.into())]);
    fixture.done(set("operator_policy", "cap", policy));
    let q = fixture.queue("q");
    assert_eq!(
        fixture.tables().queues.get(&q).unwrap().settings.length_max,
        Some(10)
    );
    for (component, name) in [("vhost-limits", "limits"), ("operator_policy", "cap")] {
        let clear = || Command::ClearParameter {
            vhost: "/".into(),
            component: component.into(),
            name: name.into(),
        };
        fixture.done(clear());
        assert_eq!(
            fixture.refused(clear()),
            Refusal::NoSuchParameter,
            "{component}"
        );
    }
    assert_eq!(
        fixture.tables().queues.get(&q).unwrap().settings.length_max,
        None
    );
}

#[test]
fn global_parameters_are_set_and_cleared() {
    let mut fixture = Fixture::new();
    let set = |value: &str| Command::SetGlobalParameter {
        name: "cluster_name".into(),
        value: value.into(),
    };
    fixture.done(set("shop"));
    let revision = fixture.tables().revision;
    fixture.done(set("shop"));
    assert_eq!(fixture.tables().revision, revision, "nothing changed");
    assert_eq!(
        fixture.tables().global_parameters.get("cluster_name"),
        Some(&"shop".into())
    );
    let clear = || Command::ClearGlobalParameter {
        name: "cluster_name".into(),
    };
    fixture.done(clear());
    assert_eq!(fixture.refused(clear()), Refusal::NoSuchParameter);
}
