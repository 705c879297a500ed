//! Declarations of a queue that the node's tables still have, and that has deleted itself meanwhile.

use super::*;
use crate::id::ConnectionId;
use crate::metadata::QueueSpec;
use crate::metadata::tests::{declare, durable};

/// A client at a node whose tables have such a queue, and what it is.
fn behind(exclusive: Option<ConnectionId>) -> (Client, QueueId) {
    let mut client = open_connection();
    let spec = QueueSpec { auto_delete: true, durable: false, exclusive: exclusive.is_some(), connection: exclusive, ..durable("q") };
    client.world.done(declare(spec));
    let id = client.world.id("q");
    (client, id)
}

fn method(exclusive: bool) -> queue::Declare {
    queue::Declare { queue: short("q"), auto_delete: true, exclusive, ..Default::default() }
}

/// The queue answers that it is gone; by now the metadata have no such queue either.
fn is_gone(client: &mut Client, id: QueueId) {
    client.world.done(Command::DeleteQueue { vhost: "/".into(), name: "q".into(), only: Some(id) });
    client.reply(1, QueueReply::Gone);
}

#[test]
fn a_queue_that_is_gone_is_declared_anew() {
    for (exclusive, owner) in [(false, None), (true, Some(ConnectionId(7))), (true, Some(ConnectionId(8)))] {
        let (mut client, id) = behind(owner);
        client.send(1, method(exclusive));
        assert!(client.fx.propose.is_none());
        is_gone(&mut client, id);
        assert_eq!(client.said(), []);
        client.commit();
        assert_ne!(client.world.id("q"), id);
        client.reply(1, QueueReply::Inspected { messages: 0, consumers: 0 });
        client.expect(1, queue::DeclareOk { queue: short("q"), message_count: 0, consumer_count: 0 });
    }
}

#[test]
fn a_queue_that_is_gone_is_declared_anew_without_an_answer() {
    let (mut client, id) = behind(None);
    client.send(1, queue::Declare { no_wait: true, ..method(false) });
    is_gone(&mut client, id);
    client.commit();
    assert_ne!(client.world.id("q"), id);
    client.send(1, basic::Consume { queue: short("q"), ..Default::default() });
    client.reply(1, QueueReply::Consuming(Ok(())));
    assert!(matches!(client.said()[..], [(1, Method::BasicConsumeOk(_))]));
    // One that is there is not answered either.
    client.send(1, queue::Declare { no_wait: true, ..method(false) });
    client.reply(1, QueueReply::Inspected { messages: 0, consumers: 1 });
    assert_eq!(client.said(), []);
}

#[test]
fn a_queue_that_is_gone_is_not_found_by_who_only_looks() {
    let (mut client, id) = behind(None);
    client.send(1, queue::Declare { passive: true, ..method(false) });
    is_gone(&mut client, id);
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

/// Whatever becomes of it then: it was there, and no active declaration is answered with 404.
#[test]
fn a_queue_that_goes_right_behind_its_declaration_is_declared() {
    let mut client = open_connection();
    client.send(1, method(false));
    client.commit();
    client.reply(1, QueueReply::Gone);
    client.expect(1, queue::DeclareOk { queue: short("q"), message_count: 0, consumer_count: 0 });
}

#[test]
fn a_queue_of_another_connection_that_is_there_is_locked() {
    for reply in [QueueReply::Inspected { messages: 0, consumers: 0 }, QueueReply::Down] {
        let (mut client, _) = behind(Some(ConnectionId(8)));
        client.send(1, method(true));
        client.reply(1, reply);
        match &client.said()[..] {
            [(1, Method::ChannelClose(close))] => assert_eq!((close.reply_code, close.class_id, close.method_id), (405, 50, 10)),
            said => panic!("{said:?}"),
        }
    }
}

#[test]
fn what_is_declared_anew_needs_the_rights_of_what_is_new() {
    let mut client = open_connection();
    let arguments = || amqp::Table::new().with("x-dead-letter-exchange", amqp::Value::LongStr(b"secret".to_vec()));
    let spec = QueueSpec { auto_delete: true, durable: false, arguments: arguments(), ..durable("q") };
    client.world.done(declare(spec));
    let id = client.world.id("q");
    let set = |write: &str| Command::SetPermission {
        vhost: "/".into(),
        user: "alice".into(),
        configure: ".*".into(),
        write: write.into(),
        read: ".*".into(),
    };
    client.world.done(set("q"));
    client.send(1, queue::Declare { arguments: arguments(), ..method(false) });
    is_gone(&mut client, id);
    assert!(client.fx.propose.is_none());
    match &client.said()[..] {
        [(1, Method::ChannelClose(close))] => assert_eq!((close.reply_code, close.class_id, close.method_id), (403, 50, 10)),
        said => panic!("{said:?}"),
    }
}
