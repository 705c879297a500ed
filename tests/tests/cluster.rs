//! Several nodes are one broker: what one is told all know, whichever is asked.

mod discovery;
mod gone;
mod health;
mod listings;
mod members;
mod offline;
mod placement;
mod tls;
mod witness;

use black_box::{Closed, Cluster, Frame, Method, Node, Wire, http, until};
use serde_json::Value as Json;

use crate::methods::{confirm_select, declare};

const ACK: (u16, u16) = (60, 80);
const NACK: (u16, u16) = (60, 120);
const GET_OK: (u16, u16) = (60, 71);
const GET_EMPTY: (u16, u16) = (60, 72);
const CONSUME_OK: (u16, u16) = (60, 21);
const CANCEL: (u16, u16) = (60, 30);
const DELIVER: (u16, u16) = (60, 60);
const CONFIRM_OK: (u16, u16) = (85, 11);
const DECLARE_OK: (u16, u16) = (50, 11);
const PURGE_OK: (u16, u16) = (50, 31);
const DELETE_OK: (u16, u16) = (50, 41);

/// A client of a node, whose channel is opened again after the broker has closed it.
pub(crate) struct Client(pub(crate) Wire);

impl Client {
    pub(crate) fn of(node: &Node) -> Client {
        Client(Wire::open(node.amqp()))
    }

    /// As user and password of the same name, in a virtual host.
    #[track_caller]
    pub(crate) fn of_user(node: &Node, user: &str, vhost: &str) -> Client {
        Client(Wire::open_as(node.amqp(), user, user, vhost).unwrap())
    }

    /// Says something and waits for its answer, or for the refusal.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &Method, answer: (u16, u16)) -> Result<Frame, Closed> {
        self.0.method(1, method);
        let answered = self.0.take(answer);
        if matches!(answered, Err(Closed::Channel(..))) {
            self.0.method(1, &Method::new(20, 10).text(""));
            self.0.expect((20, 11));
        }
        answered
    }

    #[track_caller]
    pub(crate) fn declare(&mut self, queue: &str, bits: u8) {
        self.ask(&declare(queue, bits, &[]), DECLARE_OK).unwrap();
    }

    /// Asks for confirms.
    pub(crate) fn confirms(mut self) -> Client {
        self.ask(&confirm_select(), CONFIRM_OK).unwrap();
        self
    }

    /// Publishes a persistent message to a queue; whether it was confirmed.
    #[track_caller]
    pub(crate) fn publish(&mut self, queue: &str, body: &str) -> bool {
        self.0.publish("", queue, 0x1000, &[2], body.as_bytes());
        loop {
            match self.0.next().expect("the connection stays").method() {
                Some(ACK) => return true,
                Some(NACK) => return false,
                _ => {}
            }
        }
    }

    /// Takes the message at the head of a queue, for good.
    #[track_caller]
    pub(crate) fn get(&mut self, queue: &str) -> Option<String> {
        self.0.method(1, &Method::new(60, 70).short(0).text(queue).octet(1));
        let answer = self.0.next().expect("the connection stays");
        match answer.method() {
            Some(GET_OK) => Some(self.body()),
            Some(GET_EMPTY) => None,
            _ => panic!("no answer to a get: {answer:?}"),
        }
    }

    /// Header and body of a message of one frame.
    #[track_caller]
    pub(crate) fn body(&mut self) -> String {
        let header = self.0.next().expect("a header");
        assert_eq!(header.kind, 2);
        let body = self.0.next().expect("a body");
        String::from_utf8(body.payload).unwrap()
    }

    #[track_caller]
    fn delivery(&mut self) -> String {
        self.0.expect(DELIVER);
        self.body()
    }
}

/// What the API of a node answers.
#[track_caller]
pub(crate) fn api(node: &Node, path: &str) -> Json {
    let (status, body) = http(node.http(), "GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// What all running nodes answer alike, once it is as it should be.
#[track_caller]
pub(crate) fn agreed(cluster: &Cluster, path: &str, is_right: impl Fn(&Json) -> bool) -> Json {
    until(&format!("all nodes agree on {path}"), || {
        let mut answers = cluster.iter().filter(|node| node.is_up()).map(|node| api(node, path));
        let first = answers.next()?;
        (is_right(&first) && answers.all(|answer| answer == first)).then_some(first)
    })
}

fn count(list: &Json) -> usize {
    list.as_array().map_or(0, Vec::len)
}

#[test]
fn a_queue_is_declared_on_one_node_and_used_from_the_others() {
    let cluster = Cluster::start(3);
    Client::of(&cluster[0]).declare("shared", crate::methods::DURABLE);
    let mut publisher = Client::of(&cluster[1]).confirms();
    for n in 0..10 {
        assert!(publisher.publish("shared", &n.to_string()));
    }
    let mut consumer = Client::of(&cluster[2]);
    let bits = crate::methods::NO_ACK;
    consumer.ask(&crate::methods::consume("shared", "", bits), CONSUME_OK).unwrap();
    for n in 0..10 {
        assert_eq!(consumer.delivery(), n.to_string());
    }
}
