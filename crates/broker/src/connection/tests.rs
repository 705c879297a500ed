//! Bytes in, bytes out and effects: a client's dialogue with a connection, told in our nouns.

mod leave;

use std::time::Duration;

use amqp::method::{basic, queue};
use amqp::Properties;

use super::*;
use crate::id::QueueId;
use crate::metadata::tests::Fixture;
use crate::metadata::{Command, UserSpec};
use crate::queue::{QueueEvent, QueueReply};

/// A client, its connection, and the world behind it.
pub(crate) struct Client {
    pub(crate) world: Fixture,
    pub(crate) connection: Connection,
    pub(crate) now: Time,
    pub(crate) fx: ConnectionEffects,
    /// Bytes that were not consumed.
    rest: Vec<u8>,
    pub(crate) counts: OpenCounts,
}

pub(crate) fn limits() -> Limits {
    Limits {
        frame_max: 131_072,
        initial_frame_max: 4096,
        channel_max: 2047,
        heartbeat: 60,
        handshake_timeout: Duration::from_secs(10),
        message_bytes_max: 1 << 20,
        consumers_per_channel_max: None,
        consumer_timeout: Some(Duration::from_secs(1800)),
        mechanisms: vec!["PLAIN", "AMQPLAIN"],
        loopback_users: Vec::new(),
        anonymous: None,
        channels_per_node_max: None,
        stamps: Default::default(),
        server_properties: Table::new(),
        node: "warren@a".into(),
    }
}

impl Client {
    pub(crate) fn new() -> Client {
        Client::with(limits())
    }

    pub(crate) fn with(limits: Limits) -> Client {
        let mut world = Fixture::new();
        world.done(Command::PutUser(UserSpec {
            name: "alice".into(),
            password_hash: crate::user::Hashing::Sha256.hash([1, 2, 3, 4], b"secret"),
            hashing_algorithm: crate::user::DEFAULT_HASHING.into(),
            tags: Vec::new(),
            create_only: false,
        }));
        world.done(Command::SetPermission {
            vhost: "/".into(),
            user: "alice".into(),
            configure: ".*".into(),
            write: ".*".into(),
            read: ".*".into(),
        });
        let peer = Peer {
            address: "127.0.0.1:50000".parse().unwrap(),
            host: "127.0.0.1:5672".parse().unwrap(),
            tls: None,
            certificate_name: None,
        };
        let now = Time::START;
        let connection = Connection::new(ConnectionId(7), Arc::new(limits), peer, 42, now, 0);
        let (fx, rest, counts) = (ConnectionEffects::default(), Vec::new(), OpenCounts::default());
        Client { world, connection, now, fx, rest, counts }
    }

    pub(crate) fn context(&self) -> Context {
        Context { now: self.now, unix_millis: 0, tables: self.world.tables() }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let context = self.context();
        loop {
            let used = self.connection.receive(&context, &self.rest, &mut self.fx);
            self.rest.drain(..used);
            if self.connection.asks_counts().is_none() {
                return;
            }
            self.connection.counted(self.counts);
        }
    }

    pub(crate) fn send(&mut self, channel: u16, method: impl Into<Method>) {
        let mut bytes = Vec::new();
        amqp::write_method(&mut bytes, channel, &method.into());
        self.bytes(&bytes);
    }

    pub(crate) fn publish(&mut self, channel: u16, exchange: &str, key: &str, properties: &Properties, body: &[u8]) {
        let mut bytes = Vec::new();
        amqp::write_method(&mut bytes, channel, &publish_method(exchange, key).into());
        amqp::write_content_header(&mut bytes, channel, body.len() as u64, &properties.to_bytes());
        amqp::write_body(&mut bytes, channel, body, 4096);
        self.bytes(&bytes);
    }

    /// What the broker has said since: methods with their channels.
    pub(crate) fn said(&mut self) -> Vec<(u16, Method)> {
        let mut out = std::mem::take(&mut self.connection.out);
        let mut said = Vec::new();
        while let Some((frame, used)) = amqp::split(&out, 0).unwrap() {
            if frame.kind == FrameKind::Method {
                said.push((frame.channel, Method::decode(frame.payload).unwrap()));
            }
            out.drain(..used);
        }
        assert!(out.is_empty(), "half a frame");
        said
    }

    pub(crate) fn expect(&mut self, channel: u16, method: impl Into<Method>) {
        assert_eq!(self.said(), [(channel, method.into())]);
    }

    pub(crate) fn expect_channel_close(&mut self, channel: u16, code: u16, text: &str) {
        match &self.said()[..] {
            [.., (number, Method::ChannelClose(close))] => {
                let found = (*number, close.reply_code, close.reply_text.to_str_lossy().into_owned());
                assert_eq!(found, (channel, code, text.to_owned()));
            }
            said => panic!("{said:?} instead of {text}"),
        }
    }

    pub(crate) fn expect_close(&mut self, code: u16, text: &str) {
        match &self.said()[..] {
            [.., (0, Method::ConnectionClose(close))] => {
                assert_eq!((close.reply_code, &*close.reply_text.to_str_lossy()), (code, text));
            }
            said => panic!("{said:?} instead of {text}"),
        }
    }

    /// Applies the command that was proposed, and answers.
    pub(crate) fn commit(&mut self) {
        let command = self.fx.propose.take().expect("a proposal");
        let answer = self.world.apply(command);
        let context = self.context();
        self.connection.proposed(&context, answer, &mut self.fx);
        self.bytes(&[]);
    }

    pub(crate) fn event(&mut self, event: ChannelEvent) {
        self.connection.deliver(event);
        let context = self.context();
        self.connection.fill(&context, &mut self.fx);
    }

    pub(crate) fn key(&self, channel: u16) -> ChannelKey {
        self.connection.channels[&channel].key
    }

    /// What was sent to queues.
    pub(crate) fn told(&mut self) -> Vec<(QueueId, QueueEvent)> {
        self.fx.taken();
        std::mem::take(&mut self.fx.to_queues)
    }

    /// The queue that the channel waits for answers.
    pub(crate) fn reply(&mut self, channel: u16, reply: QueueReply) {
        let queue = self.connection.channels[&channel].asks().expect("a question");
        let channel = self.key(channel);
        self.event(ChannelEvent::Replied { channel, queue, reply });
    }
}

pub(crate) fn publish_method(exchange: &str, key: &str) -> basic::Publish {
    basic::Publish {
        exchange: short(exchange),
        routing_key: short(key),
        mandatory: false,
        immediate: false,
    }
}

pub(crate) fn short(text: &str) -> ShortStr {
    ShortStr::truncated(text)
}

/// A client whose connection has got as far as start-ok.
pub(crate) fn authenticated(capabilities: &[&str]) -> Client {
    logged_in(limits(), capabilities)
}

fn logged_in(limits: Limits, capabilities: &[&str]) -> Client {
    let mut client = Client::with(limits);
    client.bytes(amqp::frame::PROTOCOL_HEADER);
    let table = capabilities.iter().fold(Table::new(), |table, name| table.with(name, true));
    client.send(0, connection::StartOk {
        client_properties: Table::new().with("capabilities", table),
        mechanism: short("PLAIN"),
        response: b"\0alice\0secret".to_vec(),
        locale: short("en_US"),
    });
    client.said();
    client
}

pub(crate) fn open_method() -> connection::Open {
    connection::Open { virtual_host: short("/") }
}

/// A client with channel 1 open.
pub(crate) fn open_connection() -> Client {
    open_capable(&["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"])
}

pub(crate) fn open_capable(capabilities: &[&str]) -> Client {
    opened(authenticated(capabilities))
}

/// A client with channel 1 open, of a node with other limits than usual.
pub(crate) fn open_limited(limits: Limits) -> Client {
    opened(logged_in(limits, &[]))
}

fn opened(mut client: Client) -> Client {
    client.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 60 });
    client.send(0, open_method());
    client.send(1, channel::Open {});
    client.said();
    client
}

#[test]
fn the_limit_of_a_virtual_host_holds_even_if_everything_comes_in_one_write() {
    let mut client = authenticated(&[]);
    client.world.done(Command::SetVhostLimits { vhost: "/".into(), limits: vec![("max-connections".into(), 2)] });
    client.counts.of_vhost = 2;
    let mut bytes = Vec::new();
    let tune = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    amqp::write_method(&mut bytes, 0, &tune.into());
    amqp::write_method(&mut bytes, 0, &open_method().into());
    client.bytes(&bytes);
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'alice': connection limit (2) is reached";
    client.expect_close(530, text);
}

#[test]
fn channels_of_a_limited_user_are_counted_over_all_its_connections() {
    let mut client = open_connection();
    client.world.done(Command::SetUserLimits { user: "alice".into(), limits: vec![("max-channels".into(), 3)] });
    client.counts.user_channels = 2;
    client.send(2, channel::Open {});
    client.expect(2, channel::OpenOk {});
    client.counts.user_channels = 3;
    client.send(3, channel::Open {});
    let text = "NOT_ALLOWED - number of channels opened for user 'alice' has reached the maximum allowed user limit of (3)";
    client.expect_close(530, text);
}

#[test]
fn exclusive_queues_are_gone_when_the_client_hears_close_ok() {
    let mut client = open_connection();
    client.send(1, queue::Declare { queue: short("mine"), exclusive: true, no_wait: true, ..Default::default() });
    client.commit();
    assert!(client.world.vhost().queues.get("mine").is_some());
    client.send(0, connection::Close::default());
    assert_eq!(client.said(), []);
    client.commit();
    assert!(client.world.vhost().queues.get("mine").is_none());
    client.expect(0, connection::CloseOk {});
    assert!(client.connection.is_closed());
}

#[test]
fn exclusive_queues_go_even_if_the_commit_never_answers() {
    let mut client = open_connection();
    client.send(1, queue::Declare { queue: short("mine"), exclusive: true, no_wait: true, ..Default::default() });
    client.commit();
    client.send(0, connection::Close::default());
    client.now = client.now + CLOSE_WAIT;
    let context = client.context();
    client.connection.tick(&context, &mut client.fx);
    client.expect(0, connection::CloseOk {});
    client.connection.ended(&mut client.fx);
    assert_eq!(client.fx.propose_and_forget, [Command::ConnectionEnded { connection: ConnectionId(7) }]);
}

#[test]
fn an_alarm_blocks_who_publishes_bodies_of_many_frames() {
    let mut client = open_connection();
    client.connection.alarm(Some("low on memory"));
    assert_eq!(client.said(), [], "who does not publish is not told");
    client.publish(1, "", "q", &Properties::default(), &[7; 10_000]);
    client.expect(0, connection::Blocked { reason: short("low on memory") });
    assert!(!client.connection.wants_bytes());
    client.connection.alarm(None);
    client.expect(0, connection::Unblocked {});
    assert!(client.connection.wants_bytes());
}

#[test]
fn a_blocked_client_that_is_closed_is_heard_saying_close_ok() {
    let mut client = open_connection();
    client.connection.alarm(Some("low on disk"));
    client.publish(1, "", "q", &Properties::default(), b"x");
    client.expect(0, connection::Blocked { reason: short("low on disk") });
    let context = client.context();
    client.connection.close(&context, "shutdown", &mut client.fx);
    client.expect_close(320, "CONNECTION_FORCED - shutdown");
    client.send(0, connection::CloseOk {});
    assert!(client.connection.is_closed());
}

#[test]
fn connection_blocked_is_told_to_the_capable_alone() {
    let mut client = open_capable(&[]);
    client.connection.alarm(Some("low on memory"));
    client.publish(1, "", "q", &Properties::default(), b"x");
    assert!(!client.connection.wants_bytes());
    assert_eq!(client.said(), []);
}

#[test]
fn the_clock_does_not_spin_while_an_answer_is_awaited() {
    let mut client = open_connection();
    client.send(1, queue::Declare { queue: short("q"), ..Default::default() });
    for _ in 0..20 {
        let deadline = client.connection.deadline().unwrap();
        client.now = client.now.max(deadline);
        let context = client.context();
        client.connection.tick(&context, &mut client.fx);
        assert!(client.connection.deadline().unwrap() > client.now);
    }
    assert!(client.connection.is_running());
}

#[test]
fn two_silent_intervals_end_a_connection() {
    let mut client = open_connection();
    client.now = client.now + Duration::from_secs(119);
    let context = client.context();
    client.connection.tick(&context, &mut client.fx);
    assert!(client.connection.is_running());
    client.now = client.now + Duration::from_secs(1);
    let context = client.context();
    client.connection.tick(&context, &mut client.fx);
    assert!(client.connection.is_closed());
}

#[test]
fn the_handshake_timeout_is_a_total() {
    let mut client = Client::new();
    for byte in *b"AMQP\0\0\x09" {
        client.now = client.now + Duration::from_secs(1);
        client.bytes(&[byte]);
    }
    assert_eq!(client.connection.deadline(), Some(Time::START + Duration::from_secs(10)));
}

#[test]
fn methods_that_have_no_place_on_channel_0_are_504() {
    let mut client = open_connection();
    client.send(0, basic::Qos::default());
    client.expect_close(504, "CHANNEL_ERROR - unexpected method in connection state running");
}

#[test]
fn a_method_of_the_server_is_unimplemented() {
    let mut client = open_connection();
    client.send(1, basic::QosOk {});
    client.expect_close(503, "COMMAND_INVALID - unimplemented method");
}

#[test]
fn unfinished_messages_of_many_channels_are_bounded() {
    let mut client = open_connection();
    let mut bytes = Vec::new();
    for number in 2..100 {
        amqp::write_method(&mut bytes, number, &channel::Open {}.into());
        amqp::write_method(&mut bytes, number, &publish_method("", "q").into());
        amqp::write_content_header(&mut bytes, number, 1 << 20, &Properties::default().to_bytes());
        amqp::write_body(&mut bytes, number, &[0; 1_000_000], 131_072);
    }
    client.bytes(&bytes);
    assert!(!client.connection.is_running());
    assert_eq!(client.connection.unfinished_bytes(), 0);
}

/// Random methods, damaged frames and random answers: no panic, a bounded rest, one answer to each question.
#[test]
fn nothing_a_peer_sends_brings_the_machine_down() {
    for seed in 0..300 {
        let mut rng = stdx::Rng::new(seed);
        let mut client = open_connection();
        for _ in 0..200 {
            let mut bytes = Vec::new();
            let number = 1 + rng.below(3) as u16;
            amqp::write_method(&mut bytes, number, &random_method(&mut rng));
            if rng.one_in(3) {
                amqp::write_content_header(&mut bytes, number, 2, &Properties::default().to_bytes());
                amqp::write_body(&mut bytes, number, b"hi", 4096);
            }
            if rng.one_in(40) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            client.bytes(&bytes);
            assert!(client.connection.waiting.is_none() || !client.connection.wants_bytes());
            if client.connection.wants_bytes() {
                assert!(client.rest.len() <= 131_072 + 8, "{} bytes are left", client.rest.len());
            }
            answer(&mut client, &mut rng);
            if !client.connection.is_running() {
                client.connection.ended(&mut client.fx);
                assert_eq!(client.connection.unfinished_bytes(), 0);
                client = open_connection();
            }
        }
        client.connection.ended(&mut client.fx);
        assert_eq!(client.connection.unfinished_bytes(), 0);
    }
}

fn random_method(rng: &mut stdx::Rng) -> Method {
    let name = short(["", "a", "b", "amq.topic", "amq.rabbitmq.reply-to", "amq.x"][rng.below(6) as usize]);
    let no_wait = rng.one_in(3);
    match rng.below(14) {
        0 => channel::Open {}.into(),
        1 => channel::Close::default().into(),
        2 => {
            let (exclusive, auto_delete) = (rng.one_in(4), rng.one_in(2));
            let passive = rng.one_in(4);
            queue::Declare { queue: name, exclusive, auto_delete, passive, no_wait, ..Default::default() }.into()
        }
        3 => queue::Delete { queue: name, no_wait, ..Default::default() }.into(),
        4 => basic::Consume { queue: name, no_ack: rng.one_in(2), no_wait, ..Default::default() }.into(),
        5 => basic::Get { queue: name, ..Default::default() }.into(),
        6 => basic::Ack { delivery_tag: rng.below(3), multiple: rng.one_in(2) }.into(),
        7 => amqp::method::tx::Select {}.into(),
        8 => amqp::method::tx::Commit {}.into(),
        9 => amqp::method::confirm::Select { no_wait }.into(),
        10 => basic::Recover { requeue: true }.into(),
        11 => basic::Cancel { consumer_tag: name, no_wait }.into(),
        12 => queue::Bind { queue: name, exchange: short("amq.topic"), no_wait, ..Default::default() }.into(),
        _ => publish_method("", &name.to_str_lossy()).into(),
    }
}

/// Answers what is open, in any order that the world may choose.
fn answer(client: &mut Client, rng: &mut stdx::Rng) {
    while client.fx.propose.is_some() {
        client.commit();
    }
    for (queue, event) in client.told() {
        let (channel, reply) = match event {
            QueueEvent::Consume(ask) => (ask.consumer.channel, QueueReply::Consuming(Ok(()))),
            QueueEvent::Cancel { consumer, .. } => (consumer.channel, QueueReply::Cancelled(consumer.number)),
            QueueEvent::Get { channel, .. } => (channel, QueueReply::Got(None)),
            QueueEvent::Inspect { channel } => (channel, QueueReply::Inspected { messages: 0, consumers: 0 }),
            QueueEvent::Delete { channel, .. } => (channel, QueueReply::Deletable(Ok(0))),
            QueueEvent::Publish { from: crate::queue::Publisher::Channel(channel), messages } => {
                let numbers: Vec<u64> = messages.iter().map(|m| m.number).filter(|n| *n > 0).collect();
                client.event(if rng.one_in(4) {
                    ChannelEvent::Rejected { channel, numbers }
                } else {
                    ChannelEvent::Confirmed { channel, runs: numbers.iter().map(|n| (*n, *n)).collect() }
                });
                continue;
            }
            _ => continue,
        };
        let reply = if rng.one_in(10) { QueueReply::Gone } else { reply };
        client.event(ChannelEvent::Replied { channel, queue, reply });
        client.bytes(&[]);
    }
    if client.fx.propose.is_some() || !client.fx.to_queues.is_empty() {
        return answer(client, rng);
    }
    assert_eq!(client.connection.waiting, None, "a question without an answer");
    assert!(client.connection.leaving.is_none(), "somebody cannot leave");
    client.connection.out.clear();
    client.fx.notes.clear();
}

#[test]
fn channels_are_counted_when_they_open_and_close() {
    let mut client = open_connection();
    client.send(2, channel::Open {});
    client.send(2, channel::Close { reply_code: 200, reply_text: short(""), class_id: 0, method_id: 0 });
    client.send(3, channel::Open {});
    client.send(3, basic::Ack { delivery_tag: 9, multiple: false });
    client.send(4, channel::Open {});
    client.send(4, queue::Declare { queue: short("q"), ..Default::default() });
    client.commit();
    client.connection.ended(&mut client.fx);
    assert_eq!((client.fx.channels_opened, client.fx.channels_closed, client.fx.queues_declared), (4, 4, 1));
}

#[test]
fn the_channels_of_a_node_can_be_limited() {
    let mut client = open_limited(Limits { channels_per_node_max: Some(5), ..limits() });
    client.counts.node_channels = 4;
    client.send(2, channel::Open {});
    client.expect(2, channel::OpenOk {});
    client.counts.node_channels = 5;
    client.send(3, channel::Open {});
    client.expect_close(
        530,
        "NOT_ALLOWED - number of channels opened on node 'warren@a' has reached the maximum allowed limit of (5)",
    );
}

#[test]
fn anonymous_clients_are_the_user_that_the_node_names() {
    let anonymous = |name: &str, password: &str| Limits {
        mechanisms: vec!["PLAIN", "ANONYMOUS"],
        anonymous: Some((name.to_owned(), password.to_owned())),
        ..limits()
    };
    let start_ok = || connection::StartOk {
        client_properties: Table::new(),
        mechanism: short("ANONYMOUS"),
        response: b"whoever".to_vec(),
        locale: short("en_US"),
    };
    for (limits, accepted) in [
        (anonymous("alice", "secret"), true),
        (anonymous("alice", "wrong"), false),
        (anonymous("nobody", "secret"), false),
        (Limits { anonymous: None, ..anonymous("", "") }, false),
    ] {
        let mut client = Client::with(limits);
        client.bytes(amqp::frame::PROTOCOL_HEADER);
        client.said();
        client.send(0, start_ok());
        let said = client.said();
        assert_eq!(matches!(said[..], [(0, Method::ConnectionTune(_))]), accepted, "{said:?}");
    }
}
