//! Dead letters: history, cycles, keys.

use std::sync::Arc;

use amqp::{Properties, ShortStr, Table, Value};

use super::dead_letter;
use crate::message::Message;
use crate::metadata::tests::Fixture;
use crate::metadata::{self, Tables};
use crate::queue::{DeadLetter, Reason, Settings};

/// Queue `q` that dead-letters to the default exchange, under a key or the message's own.
fn source(key: Option<&str>) -> (Arc<Tables>, metadata::Queue) {
    let mut fixture = Fixture::new();
    let id = fixture.queue("q");
    fixture.queue("dead");
    fixture.queue("copy");
    let tables = fixture.tables();
    let mut record = metadata::Queue::clone(tables.queues.get(&id).expect("declared"));
    record.settings = Arc::new(Settings {
        dead_letter_exchange: Some("".into()),
        dead_letter_routing_key: key.map(|key| key.as_bytes().to_vec()),
        ..Settings::default()
    });
    (tables, record)
}

fn message(key: &str, headers: Table) -> Message {
    let expiration = Some(ShortStr::truncated("60"));
    let properties = Properties { headers: Some(headers), expiration, ..Properties::default() };
    Message::new(b"", key.as_bytes(), &properties.to_bytes(), b"body").expect("short names")
}

fn die(from: &(Arc<Tables>, metadata::Queue), message: Message, reason: Reason) -> (usize, Option<Message>) {
    let letter = DeadLetter { number: 1, message, reason, count: 0 };
    let (targets, dead) = dead_letter(&from.0, &from.1, &letter, 1000, 0);
    (targets.len(), dead)
}

fn headers(message: &Message) -> Table {
    let properties = Properties::decode(message.properties()).expect("valid");
    assert_eq!(properties.expiration, None, "it would expire again");
    properties.headers.expect("a dead letter has headers")
}

fn deaths(message: &Message) -> Vec<Table> {
    let headers = headers(message);
    let deaths = headers.get("x-death").and_then(Value::as_array).expect("a history");
    deaths.iter().map(|death| death.as_table().expect("a table").clone()).collect()
}

fn keys(list: &[&str]) -> Table {
    let mut table = Table::new();
    let list = list.iter().map(|key| Value::LongStr(key.as_bytes().to_vec())).collect();
    table.insert(ShortStr::truncated("CC"), Value::Array(list));
    table
}

#[test]
fn the_same_death_is_counted_and_another_goes_first() {
    let from = source(Some("dead"));
    let (targets, dead) = die(&from, message("q", Table::new()), Reason::Expired);
    assert_eq!(targets, 1);
    let dead = dead.expect("routed");
    let first = &deaths(&dead)[0];
    let text = |what: &str| first.get(what).and_then(Value::as_bytes).map(<[u8]>::to_vec);
    assert_eq!(text("reason"), Some(b"expired".to_vec()));
    assert_eq!(text("queue"), Some(b"q".to_vec()));
    assert_eq!(text("original-expiration"), Some(b"60".to_vec()));
    assert_eq!(first.get("time"), Some(&Value::Timestamp(1000)));
    let again = die(&from, dead, Reason::Expired).1.expect("routed");
    assert_eq!(deaths(&again)[0].get("count"), Some(&Value::I64(2)));
    let rejected = die(&from, again, Reason::Rejected).1.expect("routed");
    let reasons: Vec<_> =
        deaths(&rejected).iter().map(|d| d.get("reason").and_then(Value::as_bytes).unwrap_or_default().to_vec()).collect();
    assert_eq!(reasons, [b"rejected".to_vec(), b"expired".to_vec()]);
    let facts = headers(&rejected);
    assert_eq!(facts.get("x-first-death-reason").and_then(Value::as_bytes), Some(&b"expired"[..]));
    assert_eq!(facts.get("x-last-death-reason").and_then(Value::as_bytes), Some(&b"rejected"[..]));
}

#[test]
fn a_count_that_a_client_made_up_stops_nothing() {
    let from = source(Some("dead"));
    let mut death = Table::new();
    death.insert(ShortStr::truncated("queue"), Value::LongStr(b"q".to_vec()));
    death.insert(ShortStr::truncated("reason"), Value::LongStr(b"expired".to_vec()));
    death.insert(ShortStr::truncated("count"), Value::I64(i64::MAX));
    let mut forged = Table::new();
    forged.insert(ShortStr::truncated("x-death"), Value::Array(vec![Value::Table(death)]));
    assert_eq!(die(&from, message("q", forged), Reason::Expired).0, 1);
}

#[test]
fn a_cycle_ends_unless_somebody_rejected() {
    let from = source(Some("q"));
    assert_eq!(die(&from, message("q", Table::new()), Reason::Expired).0, 0);
    assert_eq!(die(&from, message("q", Table::new()), Reason::Rejected).0, 1);
}

#[test]
fn extra_keys_count_unless_the_queue_names_its_own() {
    let (targets, dead) = die(&source(None), message("dead", keys(&["copy"])), Reason::Rejected);
    assert_eq!(targets, 2);
    let routing_keys = deaths(&dead.expect("routed"))[0].get("routing-keys").and_then(Value::as_array).map(<[_]>::len);
    assert_eq!(routing_keys, Some(2));
    let (targets, dead) = die(&source(Some("dead")), message("q", keys(&["copy"])), Reason::Rejected);
    assert_eq!(targets, 1);
    assert_eq!(headers(&dead.expect("routed")).get("CC"), None);
}
