//! Codes and texts of refusals, word for word as RabbitMQ 3.13 gives them: clients, and people's
//! scripts, match on them.

use black_box::{Closed, Method, Node, Value, Wire};

use crate::methods::{
    ALONE, Arguments, DECLARE_OK, DURABLE, EXCLUSIVE, INTERNAL, NO_ACK, PASSIVE, ack, bind, confirm_select, consume,
    declare, delete, delete_exchange, exchange, get, qos, tx_select,
};

/// What a client does before the broker closes something.
type Steps = fn(&mut Wire);

/// A name, the steps, and what the broker says.
type Row = (&'static str, Steps, Closed);

fn channel(code: u16, text: &str) -> Closed {
    Closed::Channel(code, text.to_owned())
}

fn connection(code: u16, text: &str) -> Closed {
    Closed::Connection(code, text.to_owned())
}

/// Runs every row on a connection of its own, and tells of all that differ.
#[track_caller]
fn check(node: &Node, rows: &[Row]) {
    let mut differences = String::new();
    for (name, steps, expected) in rows {
        let mut wire = Wire::open(node.amqp());
        steps(&mut wire);
        let found = wire.closed();
        if found != *expected {
            differences.push_str(&format!("{name}:\n  expected {expected:?}\n  found    {found:?}\n"));
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}

fn declared(wire: &mut Wire, queue: &str, bits: u8, arguments: Arguments) {
    wire.method(1, &declare(queue, bits, arguments));
    wire.expect(DECLARE_OK);
}

/// Publishes with one property: its flag and its bytes.
fn with_property(wire: &mut Wire, flag: u16, property: &[u8]) {
    wire.publish("", "anything", flag, property, b"x");
}

fn headers(entries: Arguments) -> Vec<u8> {
    Method::new(0, 0).table(entries).bytes()[4..].to_vec()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn names_and_equivalence() {
    let rows: &[Row] = &[
        (
            "durable differs",
            |w| {
                declared(w, "texts.dead", DURABLE, &[]);
                w.method(1, &declare("texts.dead", 0, &[]));
            },
            channel(
                406,
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'texts.dead' in vhost '/': received \
                 'false' but current is 'true'",
            ),
        ),
        (
            "ttl differs",
            |w| {
                declared(w, "texts.ttl", DURABLE, &[("x-message-ttl", Value::Long(60_000))]);
                w.method(1, &declare("texts.ttl", DURABLE, &[]));
            },
            channel(
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'texts.ttl' in vhost '/': received \
                 none but current is the value '60000' of type 'long'",
            ),
        ),
        (
            "passive, no queue",
            |w| w.method(1, &declare("nosuch", PASSIVE, &[])),
            channel(404, "NOT_FOUND - no queue 'nosuch' in vhost '/'"),
        ),
        (
            "passive, no exchange",
            |w| w.method(1, &exchange("nosuch", "direct", PASSIVE, &[])),
            channel(404, "NOT_FOUND - no exchange 'nosuch' in vhost '/'"),
        ),
        (
            "reserved queue name",
            |w| w.method(1, &declare("amq.foo", 0, &[])),
            channel(403, "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'"),
        ),
        (
            "reserved exchange name",
            |w| w.method(1, &exchange("amq.foo", "direct", 0, &[])),
            channel(403, "ACCESS_REFUSED - exchange name 'amq.foo' contains reserved prefix 'amq.*'"),
        ),
        (
            "unknown exchange type",
            |w| w.method(1, &exchange("texts.x", "nosuchtype", 0, &[])),
            connection(503, "COMMAND_INVALID - unknown exchange type 'nosuchtype'"),
        ),
        (
            "exchange type differs",
            |w| {
                w.method(1, &exchange("texts.events", "topic", 0, &[]));
                w.method(1, &exchange("texts.events", "direct", 0, &[]));
            },
            channel(
                406,
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'texts.events' in vhost '/': received \
                 'direct' but current is 'topic'",
            ),
        ),
        (
            "last declared queue, there is none",
            |w| w.method(1, &get("")),
            channel(404, "NOT_FOUND - no previously declared queue"),
        ),
        (
            "passive, no name",
            |w| w.method(1, &declare("", PASSIVE, &[])),
            channel(404, "NOT_FOUND - no queue '' in vhost '/'"),
        ),
        (
            "consume, no queue",
            |w| w.method(1, &consume("nosuch", "", 0)),
            channel(404, "NOT_FOUND - no queue 'nosuch' in vhost '/'"),
        ),
        ("get, no queue", |w| w.method(1, &get("nosuch")), channel(404, "NOT_FOUND - no queue 'nosuch' in vhost '/'")),
        (
            "bind, no exchange",
            |w| {
                declared(w, "texts.bind", 0, &[]);
                w.method(1, &bind("texts.bind", "nosuch", ""));
            },
            channel(404, "NOT_FOUND - no exchange 'nosuch' in vhost '/'"),
        ),
        (
            "bind to the default exchange",
            |w| {
                declared(w, "texts.bind", 0, &[]);
                w.method(1, &bind("texts.bind", "", "k"));
            },
            channel(403, "ACCESS_REFUSED - operation not permitted on the default exchange"),
        ),
        (
            "delete a system exchange",
            |w| w.method(1, &delete_exchange("amq.direct")),
            channel(403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"),
        ),
        (
            "delete if empty",
            |w| {
                declared(w, "texts.ne", 0, &[]);
                w.publish("", "texts.ne", 0, &[], b"x");
                w.method(1, &delete("texts.ne", 2));
            },
            channel(406, "PRECONDITION_FAILED - queue 'texts.ne' in vhost '/' not empty"),
        ),
    ];
    check(&Node::start(), rows);
}

#[test]
fn arguments_of_queues() {
    let rows: &[Row] = &[
        (
            "ttl below zero",
            |w| w.method(1, &declare("probe.q", 0, &[("x-message-ttl", Value::Long(-1))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'probe.q' in vhost '/': \
                 {value_negative,-1}",
            ),
        ),
        (
            "ttl is text",
            |w| w.method(1, &declare("probe.q", 0, &[("x-message-ttl", Value::Text("a"))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'probe.q' in vhost '/': \"expected \
                 integer, got longstr\"",
            ),
        ),
        (
            "unknown overflow",
            |w| w.method(1, &declare("probe.q", 0, &[("x-overflow", Value::Text("zz"))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'probe.q' in vhost '/': invalid_overflow",
            ),
        ),
        (
            "priority above the limit",
            |w| w.method(1, &declare("probe.q", 0, &[("x-max-priority", Value::Int(300))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'probe.q' in vhost '/': \
                 {max_value_exceeded,300}",
            ),
        ),
        (
            "expires at once",
            |w| w.method(1, &declare("probe.q", 0, &[("x-expires", Value::Int(0))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'probe.q' in vhost '/': {value_zero,0}",
            ),
        ),
        (
            "dead-letter key without exchange",
            |w| w.method(1, &declare("probe.q", 0, &[("x-dead-letter-routing-key", Value::Text("k"))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue 'probe.q' in vhost '/': \
                 routing_key_but_no_dlx_defined",
            ),
        ),
        (
            "unknown queue type",
            |w| w.method(1, &declare("probe.q", 0, &[("x-queue-type", Value::Text("zz"))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'probe.q' in vhost '/': \"unsupported \
                 queue type 'zz'\"",
            ),
        ),
    ];
    check(&Node::start(), rows);
}

#[test]
fn publishing_and_acking() {
    const HEADERS: u16 = 1 << 13;
    const EXPIRATION: u16 = 1 << 8;
    const USER_ID: u16 = 1 << 4;
    let rows: &[Row] = &[
        (
            "no exchange",
            |w| w.publish("nosuch", "k", 0, &[], b"x"),
            channel(404, "NOT_FOUND - no exchange 'nosuch' in vhost '/'"),
        ),
        (
            "internal exchange",
            |w| {
                w.method(1, &exchange("probe.int", "direct", INTERNAL | 2, &[]));
                w.publish("probe.int", "k", 0, &[], b"x");
            },
            channel(403, "ACCESS_REFUSED - cannot publish to internal exchange 'probe.int' in vhost '/'"),
        ),
        (
            "immediate",
            |w| {
                w.method(1, &Method::new(60, 40).short(0).text("").text("k").octet(2));
                w.frame(2, 1, Method::new(60, 0).long_long(0).short(0).bytes());
            },
            connection(540, "NOT_IMPLEMENTED - immediate=true"),
        ),
        (
            "somebody else's user-id",
            |w| with_property(w, USER_ID, b"\x02zz"),
            channel(
                406,
                "PRECONDITION_FAILED - user_id property set to 'zz' but authenticated user was 'guest'",
            ),
        ),
        (
            "expiration is no number",
            |w| with_property(w, EXPIRATION, b"\x03abc"),
            channel(406, "PRECONDITION_FAILED - invalid expiration 'abc': no_integer"),
        ),
        (
            "CC is no list",
            |w| with_property(w, HEADERS, &headers(&[("CC", Value::Text("a"))])),
            channel(
                406,
                "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
            ),
        ),
        (
            "unknown delivery tag",
            |w| w.method(1, &ack(99)),
            channel(406, "PRECONDITION_FAILED - unknown delivery tag 99"),
        ),
        (
            "acked twice",
            |w| {
                declared(w, "texts.twice", 0, &[]);
                w.publish("", "texts.twice", 0, &[], b"x");
                w.method(1, &get("texts.twice"));
                w.expect((60, 71));
                w.method(1, &ack(1));
                w.method(1, &ack(1));
            },
            channel(406, "PRECONDITION_FAILED - unknown delivery tag 1"),
        ),
        (
            "recover without requeue",
            |w| w.method(1, &Method::new(60, 110).octet(0)),
            connection(540, "NOT_IMPLEMENTED - requeue=false"),
        ),
    ];
    check(&Node::start(), rows);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn modes_and_consumers() {
    let rows: &[Row] = &[
        (
            "confirm, then transactions",
            |w| {
                w.method(1, &confirm_select());
                w.method(1, &tx_select());
            },
            channel(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"),
        ),
        (
            "transactions, then confirm",
            |w| {
                w.method(1, &tx_select());
                w.method(1, &confirm_select());
            },
            channel(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode"),
        ),
        (
            "commit without transactions",
            |w| w.method(1, &Method::new(90, 20)),
            channel(406, "PRECONDITION_FAILED - channel is not transactional"),
        ),
        (
            "rollback without transactions",
            |w| w.method(1, &Method::new(90, 30)),
            channel(406, "PRECONDITION_FAILED - channel is not transactional"),
        ),
        (
            "prefetch in bytes",
            |w| w.method(1, &qos(10, 0)),
            connection(540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
        ),
        (
            "channel.flow",
            |w| w.method(1, &Method::new(20, 20).octet(0)),
            connection(540, "NOT_IMPLEMENTED - active=false"),
        ),
        (
            "consumer tag twice",
            |w| {
                declared(w, "texts.tag", 0, &[]);
                w.method(1, &consume("texts.tag", "a", 0));
                w.method(1, &consume("texts.tag", "a", 0));
            },
            connection(530, "NOT_ALLOWED - attempt to reuse consumer tag 'a'"),
        ),
        (
            "second consumer wants to be alone",
            |w| {
                declared(w, "texts.alone", 0, &[]);
                w.method(1, &consume("texts.alone", "a", 0));
                w.method(1, &consume("texts.alone", "b", ALONE));
            },
            channel(403, "ACCESS_REFUSED - queue 'texts.alone' in vhost '/' in exclusive use"),
        ),
        (
            "first consumer is alone",
            |w| {
                declared(w, "texts.first", 0, &[]);
                w.method(1, &consume("texts.first", "a", ALONE));
                w.method(1, &consume("texts.first", "b", 0));
            },
            channel(403, "ACCESS_REFUSED - queue 'texts.first' in vhost '/' in exclusive use"),
        ),
        (
            "reply consumer that acks",
            |w| w.method(1, &consume("amq.rabbitmq.reply-to", "", 0)),
            channel(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"),
        ),
        (
            "reply wanted, nobody listens",
            |w| {
                const REPLY_TO: u16 = 1 << 9;
                with_property(w, REPLY_TO, b"\x15amq.rabbitmq.reply-to");
            },
            channel(406, "PRECONDITION_FAILED - fast reply consumer does not exist"),
        ),
        (
            "second reply consumer",
            |w| {
                w.method(1, &consume("amq.rabbitmq.reply-to", "", NO_ACK));
                w.expect((60, 21));
                w.method(1, &consume("amq.rabbitmq.reply-to", "", NO_ACK));
            },
            channel(406, "PRECONDITION_FAILED - reply consumer already set"),
        ),
    ];
    check(&Node::start(), rows);
}

#[test]
fn another_connections_exclusive_queue() {
    let node = Node::start();
    let mut owner = Wire::open(node.amqp());
    declared(&mut owner, "probe.ex", EXCLUSIVE, &[]);
    let text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'probe.ex' in vhost '/'. It could be \
                originally declared on another connection or the exclusive property value does not match that of the \
                original declaration.";
    for method in [declare("probe.ex", EXCLUSIVE, &[]), consume("probe.ex", "", 0), get("probe.ex"), delete("probe.ex", 0)] {
        let mut other = Wire::open(node.amqp());
        other.method(1, &method);
        assert_eq!(other.closed(), channel(405, text), "{method:?}");
    }
}

#[test]
fn logins() {
    let node = Node::start();
    node.put("/api/vhosts/demo", "{}");
    node.put("/api/users/alice", r#"{"password": "secret", "tags": ""}"#);
    node.put("/api/permissions/demo/alice", r#"{"configure": "^a", "write": ".*", "read": "^a"}"#);
    let login = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker \
                 logfile.";
    let refusals = [
        ("alice", "wrong", "demo", connection(403, login)),
        ("nobody", "secret", "demo", connection(403, login)),
        ("alice", "secret", "/", connection(530, "NOT_ALLOWED - access to vhost '/' refused for user 'alice'")),
        ("alice", "secret", "nosuchvh", connection(530, "NOT_ALLOWED - vhost nosuchvh not found")),
    ];
    for (user, password, vhost, expected) in refusals {
        let found = Wire::open_as(node.amqp(), user, password, vhost).map(|_| ()).unwrap_err();
        assert_eq!(found, expected, "{user} {password} {vhost}");
    }
}

#[test]
fn permissions() {
    let node = Node::start();
    node.put("/api/vhosts/demo", "{}");
    node.put("/api/users/alice", r#"{"password": "secret", "tags": ""}"#);
    node.put("/api/permissions/demo/alice", r#"{"configure": "^a", "write": "^(a|amq)", "read": "^a"}"#);
    node.put(
        "/api/topic-permissions/demo/alice",
        r#"{"exchange": "amq.topic", "write": "^a", "read": ".*"}"#,
    );
    let rows: &[Row] = &[
        (
            "configure a queue",
            |w| w.method(1, &declare("zz", 0, &[])),
            channel(403, "ACCESS_REFUSED - configure access to queue 'zz' in vhost 'demo' refused for user 'alice'"),
        ),
        (
            "configure an exchange",
            |w| w.method(1, &exchange("zz", "fanout", 0, &[])),
            channel(
                403,
                "ACCESS_REFUSED - configure access to exchange 'zz' in vhost 'demo' refused for user 'alice'",
            ),
        ),
        (
            "read a queue",
            |w| w.method(1, &get("zz")),
            channel(403, "ACCESS_REFUSED - read access to queue 'zz' in vhost 'demo' refused for user 'alice'"),
        ),
        (
            "write an exchange",
            |w| w.publish("zz", "k", 0, &[], b"x"),
            channel(403, "ACCESS_REFUSED - write access to exchange 'zz' in vhost 'demo' refused for user 'alice'"),
        ),
        (
            "write a topic",
            |w| w.publish("amq.topic", "b.1", 0, &[], b"x"),
            channel(
                403,
                "ACCESS_REFUSED - write access to topic 'b.1' in exchange 'amq.topic' in vhost 'demo' refused for \
                 user 'alice'",
            ),
        ),
    ];
    for (name, steps, expected) in rows {
        let mut wire = Wire::open_as(node.amqp(), "alice", "secret", "demo").unwrap();
        steps(&mut wire);
        assert_eq!(wire.closed(), *expected, "{name}");
    }
}
