//! Messages that come from no client.

use amqp::{Table, Value};

use super::*;
use crate::channel::post::{Fate, Post, Posting};
use crate::connection::tests::limits;

const KEY: ChannelKey = ChannelKey { connection: ConnectionId(9), number: 1, life: 1 };

/// Posts as alice, who may do everything, or as somebody nobody knows.
fn post(client: &mut Client, user: &str, trusted: bool, key: &str, properties: &Properties) -> Result<Post, Error> {
    let posting = Posting {
        user: &user.into(),
        trusted,
        vhost: &"/".into(),
        exchange: "",
        routing_key: key.as_bytes(),
        properties,
        body: b"x",
    };
    let context = client.context();
    Post::publish(KEY, &context, &limits(), 1, &posting, &mut client.fx)
}

fn with_header(name: &str, value: Value) -> Properties {
    Properties { headers: Some(Table::new().with(name, value)), ..Properties::default() }
}

#[test]
fn a_posted_message_is_taken_when_all_its_queues_hold_it() {
    let (mut client, q) = declared("q");
    let copy = client.world.queue("copy");
    let cc = with_header("BCC", Value::Array(vec![Value::from("copy")]));
    let mut post = post(&mut client, "alice", false, "q", &cc).expect("nothing is wrong with it");
    let told = client.told();
    let mut queues: Vec<QueueId> = told.iter().map(|(queue, _)| *queue).collect();
    queues.sort_unstable();
    assert_eq!(queues, [q, copy]);
    for (_, event) in &told {
        let QueueEvent::Publish { messages, .. } = event else { panic!("{event:?}") };
        assert!(!messages[0].message.view().headers().is_some_and(|headers| headers.contains("BCC")));
    }
    let channel = KEY;
    assert_eq!(post.fate(), None);
    post.hear(&ChannelEvent::Confirmed { channel, runs: vec![(1, 1)] });
    assert_eq!(post.fate(), None);
    post.hear(&ChannelEvent::Confirmed { channel, runs: vec![(1, 1)] });
    assert_eq!(post.fate(), Some(Fate::Taken));
}

#[test]
fn a_posted_message_hears_of_queues_that_refuse_and_of_none_at_all() {
    let (mut client, _) = declared("q");
    let plain = Properties::default();
    let mut refused = post(&mut client, "alice", false, "q", &plain).expect("nothing is wrong with it");
    let channel = KEY;
    refused.hear(&ChannelEvent::Rejected { channel, numbers: vec![1] });
    assert_eq!(refused.fate(), Some(Fate::Rejected));
    let nowhere = post(&mut client, "alice", false, "nowhere", &plain).expect("nothing is wrong with it");
    assert_eq!(nowhere.fate(), Some(Fate::Unroutable));
}

#[test]
fn a_post_is_refused_as_a_publish_is() {
    let (mut client, _) = declared("q");
    let error = post(&mut client, "alice", false, "q", &with_header("CC", "x".into())).expect_err("no list");
    let text = "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}";
    assert!(error.to_string().starts_with(text), "{error}");
    let plain = Properties::default();
    let error = post(&mut client, "nobody", false, "q", &plain).expect_err("no permission");
    assert!(error.to_string().starts_with("ACCESS_REFUSED"), "{error}");
    assert!(client.told().is_empty());
    post(&mut client, "nobody", true, "q", &plain).expect("nobody's permission is asked for");
}
