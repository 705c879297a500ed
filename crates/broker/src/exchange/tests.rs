//! Routing, kind by kind, through the tables that commands make.

use std::time::{Duration, Instant};

use amqp::{Properties, PropertiesView, ShortStr, Table, Value};
use proptest::prelude::*;

use super::topic::{Step, steps, words};
use super::*;
use crate::metadata::tests::{
    Fixture, bind, declare_exchange, delete, exchange, policy, set_policy, table, to_exchange,
    to_queue, unbind,
};
use crate::metadata::{Command, ExchangeSpec};
use crate::mutant::{Mutant, notices};

struct Answer {
    queues: Vec<String>,
    routed: Routed,
}

fn ask(fixture: &Fixture, exchange: &str, keys: &[&[u8]], properties: &Properties) -> Answer {
    ask_with(fixture, exchange, keys, properties, 0)
}

fn ask_with(
    fixture: &Fixture,
    exchange: &str,
    keys: &[&[u8]],
    properties: &Properties,
    random: u64,
) -> Answer {
    let bytes = properties.to_bytes();
    let properties = PropertiesView::parse(&bytes).unwrap();
    let tables = fixture.tables();
    let vhost = tables.vhosts.get("/").unwrap();
    let exchange = vhost.exchanges.get(exchange).unwrap();
    let mut out = Vec::new();
    let routing = Routing {
        keys,
        properties: &properties,
        random,
    };
    let routed = route(&tables, vhost, exchange, &routing, &mut out);
    Answer {
        queues: out.iter().map(|queue| queue.name.to_string()).collect(),
        routed,
    }
}

/// The queues that a message with this key goes to.
fn queues(fixture: &Fixture, exchange: &str, key: &str) -> Vec<String> {
    ask(fixture, exchange, &[key.as_bytes()], &Properties::default()).queues
}

fn with_queues(names: &[&str]) -> Fixture {
    let mut fixture = Fixture::new();
    for name in names {
        fixture.queue(name);
    }
    fixture
}

fn headers(entries: &[(&str, Value)]) -> Properties {
    Properties {
        headers: Some(table(entries)),
        ..Properties::default()
    }
}

#[test]
fn kinds_are_known_by_their_public_names() {
    for kind in Kind::PLAIN {
        assert_eq!(Kind::plain(kind.name()), Some(&kind));
    }
    assert_eq!(Kind::plain("x-delayed-message"), None);
    assert_eq!(Kind::Delayed(&Kind::Topic).name(), "x-delayed-message");
    assert_eq!(Kind::Delayed(&Kind::Topic).routing(), Kind::Topic);
}

#[test]
fn the_default_exchange_finds_queues_by_name() {
    let mut fixture = with_queues(&["a", "b"]);
    assert_eq!(queues(&fixture, "", "a"), ["a"]);
    assert_eq!(queues(&fixture, "", "c"), [""; 0]);
    let both = ask(
        &fixture,
        "",
        &[b"b", b"a", b"b", b"\xff"],
        &Properties::default(),
    );
    assert_eq!(both.queues, ["a", "b"]);
    assert!(both.routed.by_keys_alone);
    fixture.done(delete("a"));
    assert_eq!(queues(&fixture, "", "a"), [""; 0]);
}

#[test]
fn a_direct_exchange_compares_keys() {
    let mut fixture = with_queues(&["a", "b"]);
    fixture.bind("amq.direct", "a", "k");
    fixture.bind("amq.direct", "b", "k");
    fixture.bind("amq.direct", "b", "l");
    assert_eq!(queues(&fixture, "amq.direct", "k"), ["a", "b"]);
    assert_eq!(queues(&fixture, "amq.direct", "l"), ["b"]);
    assert_eq!(queues(&fixture, "amq.direct", ""), [""; 0]);
    let answer = ask(
        &fixture,
        "amq.direct",
        &[b"k", b"l"],
        &Properties::default(),
    );
    assert_eq!(answer.queues, ["a", "b"], "each queue once");
    fixture.done(unbind("amq.direct", to_queue("a"), "k", Table::new()));
    assert_eq!(queues(&fixture, "amq.direct", "k"), ["b"]);
}

#[test]
fn bindings_that_differ_in_arguments_alone_are_counted() {
    for exchange in ["amq.direct", "amq.fanout", "amq.topic"] {
        let mut fixture = with_queues(&["q"]);
        let other = || table(&[("n", 1_i64.into())]);
        fixture.bind(exchange, "q", "k");
        fixture.done(bind(exchange, to_queue("q"), "k", other()));
        fixture.done(unbind(exchange, to_queue("q"), "k", Table::new()));
        assert_eq!(queues(&fixture, exchange, "k"), ["q"], "{exchange}");
        fixture.done(unbind(exchange, to_queue("q"), "k", other()));
        assert_eq!(queues(&fixture, exchange, "k"), [""; 0], "{exchange}");
    }
}

#[test]
fn what_is_not_listed_any_more_does_not_route() {
    let mut fixture = with_queues(&["a", "b"]);
    fixture.bind("amq.direct", "a", "k");
    fixture.bind("amq.direct", "b", "k");
    fixture.done(unbind("amq.direct", to_queue("a"), "k", Table::new()));
    let vhost = fixture.vhost();
    assert_eq!(vhost.bindings_from(&"amq.direct".into()).count(), 1);
    assert_eq!(queues(&fixture, "amq.direct", "k"), ["b"]);
}

#[test]
fn a_binding_that_routes_without_being_listed_is_found() {
    notices(
        Mutant::RouteUnlisted,
        what_is_not_listed_any_more_does_not_route,
    );
}

#[test]
fn a_fanout_exchange_ignores_keys() {
    let mut fixture = with_queues(&["a", "b", "c"]);
    fixture.bind("amq.fanout", "c", "x");
    fixture.bind("amq.fanout", "a", "");
    assert_eq!(queues(&fixture, "amq.fanout", "whatever"), ["a", "c"]);
}

#[test]
fn a_topic_exchange_matches_words() {
    // pattern, keys that match, keys that do not
    let cases: [(&str, &[&str], &[&str]); 14] = [
        ("a.b", &["a.b"], &["a", "a.b.c", "a.B", ""]),
        ("a.*", &["a.b", "a."], &["a", "a.b.c", "b.a"]),
        ("*", &["a"], &["", "a.b"]),
        ("*.*", &["a.b", "."], &["a", ""]),
        ("#", &["", "a", "a.b.c", "."], &[]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["b", "ab", ""]),
        ("#.a", &["a", "b.a", "c.b.a"], &["a.b", ""]),
        ("#.a.#", &["a", "b.a", "a.b", "c.a.b"], &["b", "ab"]),
        ("a.#.b", &["a.b", "a.x.b", "a.x.y.b"], &["a", "b", "a.b.c"]),
        ("*.#", &["a", "a.b"], &[""]),
        ("#.*", &["a", "a.b"], &[""]),
        ("#.#", &["", "a", "a.b"], &[]),
        ("#.*.#.*", &["a.b", "a.b.c"], &["a", ""]),
        ("", &[""], &["a", "."]),
    ];
    for (pattern, good, bad) in cases {
        let mut fixture = with_queues(&["q"]);
        fixture.bind("amq.topic", "q", pattern);
        for key in good {
            assert_eq!(queues(&fixture, "amq.topic", key), ["q"], "{pattern} {key}");
        }
        for key in bad {
            assert_eq!(
                queues(&fixture, "amq.topic", key),
                [""; 0],
                "{pattern} {key}"
            );
        }
        fixture.done(unbind("amq.topic", to_queue("q"), pattern, Table::new()));
        for key in good {
            assert_eq!(
                queues(&fixture, "amq.topic", key),
                [""; 0],
                "{pattern} unbound"
            );
        }
    }
}

#[test]
fn patterns_have_a_normal_form() {
    let (word, star, hash) = (Step::Word(b"a"), Step::Star, Step::Hash);
    let cases: [(&str, &[Step<'_>]); 6] = [
        ("#.#.#", &[hash]),
        ("#.*.#", &[star, hash]),
        ("a.#.*.a.#", &[word, star, hash, word, hash]),
        ("#.a", &[hash, word]),
        ("", &[]),
        ("*.*", &[star, star]),
    ];
    for (pattern, expected) in cases {
        assert_eq!(&steps(pattern.as_bytes())[..], expected, "{pattern}");
    }
}

/// The rule as the specification words it.
fn naive(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&b"#", rest)), None) => naive(rest, key),
        (Some((&b"#", rest)), Some((_, after))) => naive(rest, key) || naive(pattern, after),
        (Some((&b"*", rest)), Some((_, after))) => naive(rest, after),
        (Some((word, rest)), Some((first, after))) => word == first && naive(rest, after),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn key_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..7).prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn the_trie_agrees_with_the_rule(
        patterns in prop::collection::vec(key_of(&["a", "b", "*", "#", "#", ""]), 1..12),
        removed in prop::collection::vec(any::<bool>(), 12),
        keys in prop::collection::vec(key_of(&["a", "b", "c", ""]), 1..12),
    ) {
        let mut trie = topic::Trie::default();
        for (id, pattern) in patterns.iter().enumerate() {
            trie.add(pattern.as_bytes(), Target::Queue(QueueId(id as u64)));
        }
        let full = trie.clone();
        for ((id, pattern), removed) in patterns.iter().enumerate().zip(&removed) {
            if *removed {
                trie.remove(pattern.as_bytes(), &Target::Queue(QueueId(id as u64)));
            }
        }
        for key in &keys {
            let key_words: Vec<&[u8]> = words(key.as_bytes()).collect();
            let expected = |all: bool| -> Vec<QueueId> {
                let matches = |(id, pattern): (usize, &String)| {
                    let pattern: Vec<&[u8]> = words(pattern.as_bytes()).collect();
                    let there = all || !removed[id];
                    (there && naive(&pattern, &key_words)).then_some(QueueId(id as u64))
                };
                patterns.iter().enumerate().filter_map(matches).collect()
            };
            for (trie, all) in [(&trie, false), (&full, true)] {
                let mut found = Found::default();
                trie.find(key.as_bytes(), &mut found);
                let mut ids = found.queues.to_vec();
                ids.sort_unstable();
                prop_assert_eq!(ids, expected(all), "{}", key);
            }
        }
    }
}

#[test]
fn hostile_patterns_cost_no_more_than_words_times_places() {
    // One pattern collapses; the others keep every place of the trie busy.
    let patterns = [
        "#.".repeat(50) + "#",
        "#.a.".repeat(40) + "#",
        "#.a.*.".repeat(20) + "#.b",
        "#.*.a.".repeat(20) + "#.c",
    ];
    let mut trie = topic::Trie::default();
    for (id, pattern) in patterns.iter().enumerate() {
        trie.add(pattern.as_bytes(), Target::Queue(QueueId(id as u64)));
    }
    let key = ["a"; 100].join(".");
    let mut best = Duration::MAX;
    for _ in 0..20 {
        // The clock is read by the test alone; the best of several shields it from other work.
        let start = Instant::now();
        let mut found = Found::default();
        trie.find(key.as_bytes(), &mut found);
        best = best.min(start.elapsed());
        assert_eq!(found.queues.len(), 2);
    }
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 1 });
    assert!(best < limit, "{best:?}");
}

#[test]
fn a_headers_exchange_compares_headers() {
    let all = |entries: &[(&str, Value)]| table(entries).with("x-match", "all");
    let any = |entries: &[(&str, Value)]| table(entries).with("x-match", "any");
    let with_x = |mode: &str, entries: &[(&str, Value)]| table(entries).with("x-match", mode);
    let one = || ("a", Value::from(1_i64));
    let two = || ("b", Value::from("2"));
    let x = || ("x-a", Value::from(1_i64));
    // binding arguments, message headers, match
    type Case<'a> = (Table, Vec<(&'a str, Value)>, bool);
    let cases: Vec<Case<'_>> = vec![
        (table(&[one()]), vec![one(), two()], true),
        (table(&[one()]), vec![two()], false),
        (all(&[one(), two()]), vec![one(), two()], true),
        (all(&[one(), two()]), vec![one()], false),
        (any(&[one(), two()]), vec![two()], true),
        (any(&[one(), two()]), vec![("a", 2_i64.into())], false),
        // Nothing to compare: all of nothing fits, any of nothing does not.
        (all(&[]), vec![], true),
        (any(&[]), vec![one()], false),
        // Presence.
        (all(&[("a", Value::Void)]), vec![one()], true),
        (all(&[("a", Value::Void)]), vec![two()], false),
        // The width of numbers does not count, their type does.
        (all(&[one()]), vec![("a", 1_u8.into())], true),
        (all(&[one()]), vec![("a", "1".into())], false),
        (all(&[one()]), vec![("a", 1.0_f64.into())], true),
        (
            all(&[("a", Value::Timestamp(5))]),
            vec![("a", 5_i64.into())],
            true,
        ),
        (all(&[("a", true.into())]), vec![("a", 1_i64.into())], false),
        // Names that begin with x- count only where asked for.
        (all(&[one(), x()]), vec![one()], true),
        (with_x("all-with-x", &[one(), x()]), vec![one()], false),
        (with_x("all-with-x", &[one(), x()]), vec![one(), x()], true),
        (any(&[x()]), vec![x()], false),
        (with_x("any-with-x", &[x()]), vec![x()], true),
    ];
    for (arguments, message, expected) in cases {
        let mut fixture = with_queues(&["q"]);
        fixture.done(bind("amq.headers", to_queue("q"), "", arguments.clone()));
        let answer = ask(&fixture, "amq.headers", &[b""], &headers(&message));
        assert_eq!(
            !answer.queues.is_empty(),
            expected,
            "{arguments:?} {message:?}"
        );
        assert!(!answer.routed.by_keys_alone);
        fixture.done(unbind("amq.headers", to_queue("q"), "", arguments));
        assert!(
            ask(&fixture, "amq.headers", &[b""], &headers(&message))
                .queues
                .is_empty()
        );
    }
}

#[test]
fn a_message_without_headers_matches_what_asks_for_nothing() {
    let mut fixture = with_queues(&["q"]);
    fixture.done(bind("amq.headers", to_queue("q"), "", Table::new()));
    assert_eq!(queues(&fixture, "amq.headers", "k"), ["q"]);
}

fn hash_exchange(arguments: Table, weights: &[(&str, &str)]) -> Fixture {
    let mut fixture = Fixture::new();
    let spec = ExchangeSpec {
        arguments,
        ..exchange("ring", "x-consistent-hash")
    };
    fixture.done(declare_exchange(spec));
    for (queue, weight) in weights {
        fixture.queue(queue);
        fixture.bind("ring", queue, weight);
    }
    fixture
}

fn spread(fixture: &Fixture) -> Vec<String> {
    (0..3000)
        .map(|n| {
            let found = queues(fixture, "ring", &format!("key-{n}"));
            assert_eq!(found.len(), 1, "one queue and no more");
            found.into_iter().next().unwrap()
        })
        .collect()
}

fn share(spread: &[String], queue: &str) -> f64 {
    spread.iter().filter(|name| *name == queue).count() as f64 / spread.len() as f64
}

#[test]
fn a_consistent_hash_exchange_spreads_by_weight() {
    let fixture = hash_exchange(Table::new(), &[("a", "1"), ("b", "1"), ("c", "2")]);
    let spread = spread(&fixture);
    for (queue, expected) in [("a", 0.25), ("b", 0.25), ("c", 0.5)] {
        let share = share(&spread, queue);
        assert!((share - expected).abs() < 0.04, "{queue} {share}");
    }
}

#[test]
fn a_change_of_bindings_moves_no_more_than_it_must() {
    let mut fixture = hash_exchange(Table::new(), &[("a", "10"), ("b", "10"), ("c", "10")]);
    let before = spread(&fixture);
    fixture.queue("d");
    fixture.bind("ring", "d", "10");
    let with_d = spread(&fixture);
    for (old, new) in before.iter().zip(&with_d) {
        assert!(old == new || new == "d", "{old} -> {new}");
    }
    assert!((share(&with_d, "d") - 0.25).abs() < 0.04);
    fixture.done(delete("b"));
    for (old, new) in with_d.iter().zip(spread(&fixture)) {
        assert!(*old == new || old == "b", "{old} -> {new}");
    }
    fixture.done(unbind("ring", to_queue("d"), "10", Table::new()));
    fixture.queue("b");
    fixture.bind("ring", "b", "10");
    assert_eq!(
        spread(&fixture),
        before,
        "the order of bindings does not count"
    );
}

#[test]
fn a_consistent_hash_exchange_hashes_what_it_was_told_to() {
    let many: Vec<String> = (0..20).map(|n| format!("q{n}")).collect();
    let weights: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let text = |text: &str| Some(ShortStr::truncated(text));
    type Make = fn(&mut Properties, Option<ShortStr>, u64);
    let cases: [(&str, &str, Make); 4] = [
        ("hash-header", "h", |p, text, _| {
            p.headers = text.map(|t| Table::new().with("h", &*t.to_str_lossy()));
        }),
        ("hash-property", "message_id", |p, text, _| {
            p.message_id = text
        }),
        ("hash-property", "correlation_id", |p, text, _| {
            p.correlation_id = text
        }),
        ("hash-property", "timestamp", |p, _, number| {
            p.timestamp = Some(number)
        }),
    ];
    for (argument, on, set) in cases {
        let fixture = hash_exchange(table(&[(argument, on.into())]), &weights);
        let find = |key: &str, n: u64| {
            let mut properties = Properties::default();
            set(&mut properties, text(&format!("m{n}")), n);
            ask(&fixture, "ring", &[key.as_bytes()], &properties).queues
        };
        let by_key: Vec<_> = (0..9).map(|n| find(&format!("k{n}"), 1)).collect();
        assert!(
            by_key.windows(2).all(|pair| pair[0] == pair[1]),
            "{on}: the key is ignored"
        );
        let by_value: Vec<_> = (0..30).map(|n| find("k", n)).collect();
        assert!(
            by_value.windows(2).any(|pair| pair[0] != pair[1]),
            "{on}: the value counts"
        );
        let none = ask(&fixture, "ring", &[b"k"], &Properties::default());
        assert_eq!(none.queues.len(), 1, "{on}: without it one queue takes all");
    }
}

#[test]
fn equal_headers_of_other_widths_hash_alike() {
    let fixture = hash_exchange(
        table(&[("hash-header", "h".into())]),
        &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")],
    );
    for n in 0..20_u8 {
        let narrow = ask(&fixture, "ring", &[b""], &headers(&[("h", n.into())])).queues;
        let wide = ask(
            &fixture,
            "ring",
            &[b""],
            &headers(&[("h", i64::from(n).into())]),
        )
        .queues;
        assert_eq!(narrow, wide);
    }
}

#[test]
fn a_random_exchange_takes_each_target_in_turn_of_the_number() {
    let mut fixture = with_queues(&["a", "b", "c"]);
    fixture.exchange("any", "x-random");
    assert_eq!(queues(&fixture, "any", ""), [""; 0]);
    for queue in ["a", "b", "c"] {
        fixture.bind("any", queue, "ignored");
    }
    let pick = |random| ask_with(&fixture, "any", &[b"k"], &Properties::default(), random).queues;
    let picked: Vec<String> = (0..6).flat_map(pick).collect();
    assert_eq!(picked, ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn a_delayed_exchange_routes_as_its_inner_kind() {
    let mut fixture = with_queues(&["q"]);
    let arguments = table(&[("x-delayed-type", "topic".into())]);
    let spec = ExchangeSpec {
        arguments,
        ..exchange("late", "x-delayed-message")
    };
    fixture.done(declare_exchange(spec));
    fixture.bind("late", "q", "a.*");
    assert_eq!(queues(&fixture, "late", "a.b"), ["q"]);
    assert_eq!(queues(&fixture, "late", "b.b"), [""; 0]);
    assert!(!fixture.vhost().exchanges.get("late").unwrap().cacheable());
}

#[test]
fn exchanges_lead_to_exchanges_and_cycles_end() {
    let mut fixture = with_queues(&["a", "b"]);
    for name in ["x", "y", "z"] {
        fixture.exchange(name, "fanout");
    }
    for (from, to) in [("x", "y"), ("y", "z"), ("z", "x"), ("x", "x")] {
        fixture.done(bind(from, to_exchange(to), "", Table::new()));
    }
    fixture.bind("z", "b", "");
    fixture.bind("y", "a", "");
    fixture.bind("x", "b", "");
    for from in ["x", "y", "z"] {
        assert_eq!(queues(&fixture, from, ""), ["a", "b"], "{from}");
    }
    fixture.done(unbind("x", to_exchange("y"), "", Table::new()));
    assert_eq!(queues(&fixture, "x", ""), ["b"]);
}

#[test]
fn unrouted_messages_go_to_the_alternate_exchange() {
    let mut fixture = with_queues(&["hit", "rest"]);
    let arguments = table(&[("alternate-exchange", "spare".into())]);
    let spec = ExchangeSpec {
        arguments,
        ..exchange("x", "direct")
    };
    fixture.done(declare_exchange(spec));
    fixture.bind("x", "hit", "k");
    assert_eq!(
        queues(&fixture, "x", "other"),
        [""; 0],
        "the alternate exchange is missing"
    );
    fixture.exchange("spare", "fanout");
    fixture.bind("spare", "rest", "");
    assert_eq!(queues(&fixture, "x", "k"), ["hit"]);
    assert_eq!(queues(&fixture, "x", "other"), ["rest"]);
    // A chain of alternates, and one that leads back.
    let definition = table(&[("alternate-exchange", "x".into())]);
    fixture.done(set_policy(policy(
        "p",
        "^amq\\.direct$",
        definition.clone(),
    )));
    assert_eq!(queues(&fixture, "amq.direct", "other"), ["rest"]);
    fixture.done(unbind("spare", to_queue("rest"), "", Table::new()));
    fixture.done(set_policy(policy("p", "^spare$", definition)));
    assert_eq!(queues(&fixture, "x", "other"), [""; 0]);
}

#[test]
fn an_exchange_that_routes_to_a_silent_exchange_has_routed() {
    let mut fixture = with_queues(&["rest"]);
    let arguments = table(&[("alternate-exchange", "spare".into())]);
    let spec = ExchangeSpec {
        arguments,
        ..exchange("x", "fanout")
    };
    fixture.done(declare_exchange(spec));
    fixture.exchange("spare", "fanout");
    fixture.bind("spare", "rest", "");
    fixture.exchange("silent", "direct");
    fixture.done(bind("x", to_exchange("silent"), "", Table::new()));
    assert_eq!(queues(&fixture, "x", "k"), [""; 0]);
}

#[test]
fn what_depends_on_more_than_keys_says_so() {
    let mut fixture = with_queues(&["q"]);
    fixture.bind("amq.topic", "q", "#");
    let cacheable = |fixture: &Fixture, name: &str| {
        let answer = ask(fixture, name, &[b"k"], &Properties::default());
        (
            fixture.vhost().exchanges.get(name).unwrap().cacheable(),
            answer.routed.by_keys_alone,
        )
    };
    for name in ["", "amq.direct", "amq.fanout", "amq.topic"] {
        assert_eq!(cacheable(&fixture, name), (true, true), "{name}");
    }
    assert_eq!(cacheable(&fixture, "amq.headers"), (false, false));
    // By way of another exchange: the exchange alone cannot tell, the answer can.
    fixture.done(bind(
        "amq.direct",
        to_exchange("amq.topic"),
        "k",
        Table::new(),
    ));
    assert_eq!(cacheable(&fixture, "amq.direct"), (false, true));
    fixture.done(bind(
        "amq.direct",
        to_exchange("amq.headers"),
        "k",
        Table::new(),
    ));
    assert_eq!(cacheable(&fixture, "amq.direct"), (false, false));
    let definition = table(&[("alternate-exchange", "amq.headers".into())]);
    fixture.done(set_policy(policy("p", "^amq.topic$", definition)));
    assert_eq!(cacheable(&fixture, "amq.topic"), (false, true));
    fixture.done(Command::ClearPolicy {
        vhost: "/".into(),
        kind: crate::metadata::PolicyKind::User,
        name: "p".into(),
    });
    assert_eq!(cacheable(&fixture, "amq.topic"), (true, true));
}
