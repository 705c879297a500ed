//! Bindings, and what goes with them.

use super::*;

#[test]
fn binding_needs_both_ends() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    let default = Refusal::AccessRefused("operation not permitted on the default exchange".into());
    let no_exchange = |name: &str| Refusal::NoSuchExchange {
        vhost: "/".into(),
        name: name.into(),
    };
    let no_queue = Refusal::NoSuchQueue {
        vhost: "/".into(),
        name: "no".into(),
    };
    let cases = [
        ("", to_queue("q"), default.clone()),
        ("amq.direct", to_exchange(""), default),
        ("no", to_queue("q"), no_exchange("no")),
        ("amq.direct", to_queue("no"), no_queue),
        ("amq.direct", to_exchange("none"), no_exchange("none")),
        // With both missing the source is named.
        ("no", to_queue("nope"), no_exchange("no")),
    ];
    for (source, destination, refusal) in cases {
        assert_eq!(
            fixture.refused(bind(source, destination, "k", Table::new())),
            refusal
        );
    }
}

#[test]
fn binding_arguments_are_checked_by_kind() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    fixture.exchange("ring", "x-consistent-hash");
    let match_by = |value: Value| table(&[("x-match", value)]);
    let texts = [
        (
            bind("amq.headers", to_queue("q"), "", match_by("most".into())),
            "Invalid x-match field value <<\"most\">>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            bind("amq.headers", to_queue("q"), "", match_by(1_i64.into())),
            "Invalid x-match field type long (value 1); expected longstr",
        ),
        (
            bind("ring", to_queue("q"), "x", Table::new()),
            "The binding key must be an integer: <<\"x\">>",
        ),
        (
            bind("ring", to_queue("q"), "", Table::new()),
            "The binding key must be an integer: <<\"\">>",
        ),
        (
            bind("ring", to_queue("q"), "0", Table::new()),
            "The binding key must be greater than 0",
        ),
        (
            bind("ring", to_queue("q"), "-3", Table::new()),
            "The binding key must be greater than 0",
        ),
    ];
    for (command, text) in texts {
        assert_eq!(fixture.refused_text(command), text);
    }
    fixture.done(bind("ring", to_queue("q"), "20", Table::new()));
    fixture.done(bind(
        "amq.headers",
        to_queue("q"),
        "",
        match_by("any-with-x".into()),
    ));
}

#[test]
fn a_binding_key_is_no_longer_than_the_wire_can_carry() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    fixture.bind("amq.topic", "q", &".".repeat(255));
    let long = bind("amq.topic", to_queue("q"), &".".repeat(256), Table::new());
    assert_eq!(
        fixture.refused_text(long),
        "routing key is longer than 255 bytes"
    );
}

#[test]
fn a_binding_is_its_four_fields() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    let a = table(&[("a", 1_i64.into()), ("b", 2_i64.into())]);
    let b = table(&[("b", 2_i64.into()), ("a", 1_i64.into())]);
    let deleted = |existed| Outcome::Deleted { existed };
    let bindings = |fixture: &Fixture| fixture.vhost().bindings.size();
    fixture.bind("amq.direct", "q", "k");
    let revision = fixture.tables().revision;
    fixture.bind("amq.direct", "q", "k");
    assert_eq!(
        (fixture.tables().revision, bindings(&fixture)),
        (revision, 1)
    );
    fixture.done(bind("amq.direct", to_queue("q"), "k", a));
    fixture.bind("amq.direct", "q", "l");
    assert_eq!(bindings(&fixture), 3);
    // The order of arguments does not count.
    assert_eq!(
        fixture.done(unbind("amq.direct", to_queue("q"), "k", b)),
        deleted(true)
    );
    let missing = || unbind("amq.direct", to_queue("q"), "zz", Table::new());
    assert_eq!(fixture.done(missing()), deleted(false));
    let missing = unbind("no", to_queue("nope"), "", Table::new());
    assert_eq!(fixture.done(missing), deleted(false));
    assert_eq!(bindings(&fixture), 2);
    fixture.check_restores();
}

#[test]
fn deleting_a_queue_takes_its_bindings_along() {
    let mut fixture = Fixture::new();
    let q = fixture.queue("q");
    fixture.queue("other");
    for (source, key) in [("amq.direct", "a"), ("amq.direct", "b"), ("amq.topic", "#")] {
        fixture.bind(source, "q", key);
        fixture.bind(source, "other", key);
    }
    fixture.take_changes();
    fixture.done(delete("q"));
    assert_eq!(fixture.take_changes(), [Change::QueueDeleted(q)]);
    let vhost = fixture.vhost();
    assert_eq!(vhost.bindings.size(), 3);
    assert_eq!(vhost.bindings_to(&to_queue("q")).count(), 0);
    assert_eq!(vhost.bindings_to(&to_queue("other")).count(), 3);
    assert_eq!(vhost.exchanges.get("amq.direct").unwrap().bindings, 2);
    assert_eq!(
        fixture.done(delete("q")),
        Outcome::Deleted { existed: false }
    );
    // Another life, another id.
    assert_ne!(fixture.queue("q"), q);
    fixture.check_restores();
}

#[test]
fn a_queue_is_deleted_by_name_by_life_or_by_id_alone() {
    let mut fixture = Fixture::new();
    let first = fixture.queue("q");
    let delete = |vhost: &str, name: &str, only| Command::DeleteQueue {
        vhost: vhost.into(),
        name: name.into(),
        only,
    };
    let gone = |existed| Outcome::Deleted { existed };
    assert_eq!(
        fixture.done(delete("/", "q", Some(QueueId(77)))),
        gone(false)
    );
    assert_eq!(fixture.done(delete("/", "q", Some(first))), gone(true));
    let second = fixture.queue("q");
    assert_eq!(fixture.done(delete("", "", Some(first))), gone(false));
    assert_eq!(fixture.done(delete("", "", Some(second))), gone(true));
    assert_eq!(
        fixture.refused(delete("", "", None)),
        Refusal::NoSuchVhost("".into())
    );
}

fn auto_delete(name: &str, kind: &str) -> Command {
    declare_exchange(ExchangeSpec {
        auto_delete: true,
        ..exchange(name, kind)
    })
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    fixture.done(auto_delete("x", "direct"));
    let exists = |fixture: &Fixture| fixture.vhost().exchanges.contains_key("x");
    fixture.bind("x", "q", "a");
    fixture.bind("x", "q", "b");
    fixture.done(unbind("x", to_queue("q"), "a", Table::new()));
    assert!(exists(&fixture));
    fixture.done(unbind("x", to_queue("q"), "b", Table::new()));
    assert!(!exists(&fixture));
    // By the deletion of the queue as well; being a destination does not hold it.
    fixture.done(auto_delete("x", "direct"));
    fixture.bind("x", "q", "a");
    fixture.done(bind("amq.topic", to_exchange("x"), "#", Table::new()));
    fixture.done(delete("q"));
    assert!(!exists(&fixture));
    assert_eq!(fixture.vhost().bindings.size(), 0);
    assert_eq!(
        fixture.vhost().exchanges.get("amq.topic").unwrap().bindings,
        0
    );
    fixture.check_restores();
}

#[test]
fn auto_deletion_goes_up_a_long_chain() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    let name = |n: u32| format!("x{n}");
    let commands = (0..5000).flat_map(|n| {
        let to = if n == 0 {
            to_queue("q")
        } else {
            to_exchange(&name(n - 1))
        };
        [
            auto_delete(&name(n), "fanout"),
            bind(&name(n), to, "", Table::new()),
        ]
    });
    fixture.done(Command::Batch(commands.collect()));
    assert_eq!(fixture.vhost().exchanges.size(), 7 + 5000);
    fixture.done(delete("q"));
    assert_eq!(fixture.vhost().exchanges.size(), 7);
    assert_eq!(fixture.vhost().bindings.size(), 0);
}

#[test]
fn deleting_an_exchange_takes_the_bindings_of_both_sides_along() {
    let mut fixture = Fixture::new();
    fixture.queue("q");
    fixture.exchange("a", "fanout");
    fixture.exchange("b", "fanout");
    fixture.bind("b", "q", "");
    fixture.done(bind("a", to_exchange("b"), "", Table::new()));
    fixture.done(bind("b", to_exchange("b"), "", Table::new()));
    fixture.bind("a", "q", "");
    assert_eq!(
        fixture.refused_text(delete_exchange("b", true)),
        "exchange 'b' in vhost '/' in use"
    );
    fixture.done(delete_exchange("b", false));
    assert_eq!(fixture.vhost().bindings.size(), 1);
    assert_eq!(fixture.vhost().exchanges.get("a").unwrap().bindings, 1);
    let gone = Outcome::Deleted { existed: false };
    assert_eq!(fixture.done(delete_exchange("b", false)), gone);
    // Being a destination is no use.
    fixture.exchange("c", "fanout");
    fixture.done(bind("a", to_exchange("c"), "", Table::new()));
    fixture.done(delete_exchange("c", true));
    fixture.check_restores();
}

#[test]
fn exchanges_of_the_system_stay() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.refused_text(delete_exchange("amq.direct", false)),
        "deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
    assert_eq!(
        fixture.refused_text(delete_exchange("", false)),
        "operation not permitted on the default exchange"
    );
}

#[test]
fn bindings_are_found_from_both_ends() {
    let mut fixture = Fixture::new();
    for queue in ["a", "b"] {
        fixture.queue(queue);
    }
    fixture.bind("amq.direct", "a", "1");
    fixture.bind("amq.direct", "b", "1");
    fixture.bind("amq.direct", "a", "2");
    fixture.bind("amq.fanout", "a", "3");
    let vhost = fixture.vhost();
    let keys = |bindings: Vec<&Arc<Binding>>| -> Vec<String> {
        bindings
            .iter()
            .map(|b| String::from_utf8(b.routing_key.clone()).unwrap())
            .collect()
    };
    assert_eq!(
        keys(vhost.bindings_from(&"amq.direct".into()).collect()),
        ["1", "2", "1"]
    );
    assert_eq!(
        keys(vhost.bindings_to(&to_queue("a")).collect()),
        ["1", "2", "3"]
    );
    let between = vhost.bindings_between(&"amq.direct".into(), &to_queue("b"));
    assert_eq!(keys(between.collect()), ["1"]);
    assert_eq!(vhost.bindings_from(&"amq".into()).count(), 0);
}
