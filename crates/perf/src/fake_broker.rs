//! A broker for tests: just enough AMQP on a socket of its own for one queue.
//!
//! Every publish is confirmed, all of one read together, and delivered to the consumers in turn.
//! What a test wants to see is noted: methods that came, and deliveries that were acknowledged. A
//! broker can be told to refuse a method, or to block publishers.
//!
//! It lives as long as its process; each connection has a thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use amqp::frame::PROTOCOL_HEADER;
use amqp::method::{basic, channel, confirm, connection, exchange, queue};
use amqp::{
    Ack, Deliver, FrameKind, Method, ShortStr, Table, split, whole_publish, write_ack, write_body,
    write_content_header, write_deliver, write_method,
};

const FRAME_MAX: u32 = 4096;

/// What a broker does differently.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    /// Answers this method by closing the channel.
    pub(crate) refuses: Option<&'static str>,
    /// Confirms nothing.
    pub(crate) never_confirms: bool,
    /// Says first that publishers are blocked, then that they are not.
    pub(crate) blocks_once: bool,
    /// Ends the connection of a publisher at the first message.
    pub(crate) drops_publisher: bool,
}

/// A running broker.
#[derive(Clone, Debug)]
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What it has seen.
#[derive(Debug, Default)]
pub(crate) struct State {
    consumers: Vec<ToConsumer>,
    turn: usize,
    /// Names of the methods that came, but for publish and ack.
    pub(crate) methods: Vec<&'static str>,
    /// Deliveries that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Frames with acks.
    pub(crate) acks: u64,
}

#[derive(Debug)]
struct ToConsumer {
    stream: TcpStream,
    channel: u16,
    delivered: u64,
    /// Deliveries to write.
    out: Vec<u8>,
}

impl FakeBroker {
    /// Listens on a free port.
    pub(crate) fn start(behaviour: Behaviour) -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let broker = FakeBroker {
            address: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
        };
        let accepting = broker.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&accepting.state);
                let stream = stream.expect("a connection");
                stream.set_nodelay(true).expect("an option of TCP");
                thread::spawn(move || Peer::new(stream, state, behaviour).serve());
            }
        });
        broker
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics with the lock held")
    }
}

/// One connection.
struct Peer {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    behaviour: Behaviour,
    published: u64,
    confirmed: u64,
    confirms: bool,
    acknowledged: u64,
    blocked: bool,
}

impl Peer {
    fn new(stream: TcpStream, state: Arc<Mutex<State>>, behaviour: Behaviour) -> Peer {
        Peer {
            stream,
            state,
            behaviour,
            published: 0,
            confirmed: 0,
            confirms: false,
            acknowledged: 0,
            blocked: false,
        }
    }

    /// Reads and answers until the client goes.
    fn serve(mut self) {
        let mut header = [0; 8];
        self.stream
            .read_exact(&mut header)
            .expect("a client speaks first");
        assert_eq!(&header, PROTOCOL_HEADER);
        self.send(0, start());
        let (mut input, mut bytes) = (Vec::new(), vec![0; 256 * 1024]);
        while let Ok(count @ 1..) = self.stream.read(&mut bytes) {
            input.extend_from_slice(&bytes[..count]);
            let mut used = 0;
            loop {
                let rest = &input[used..];
                if let Some(publish) = whole_publish(rest, FRAME_MAX) {
                    if self.behaviour.drops_publisher {
                        return;
                    }
                    self.deliver(publish.publish.routing_key, publish.body);
                    used += publish.used;
                    continue;
                }
                match split(rest, FRAME_MAX).expect("right frames") {
                    // A publish whose body has not come yet.
                    Some((frame, _)) if is_publish(frame.payload) => break,
                    Some((frame, frame_bytes)) => {
                        if frame.kind == FrameKind::Method {
                            let method = Method::decode(frame.payload).expect("right method");
                            if !self.answer(frame.channel, method) {
                                return;
                            }
                        }
                        used += frame_bytes;
                    }
                    None => break,
                }
            }
            input.drain(..used);
            self.flush();
        }
    }

    fn send(&mut self, channel: u16, method: impl Into<Method>) {
        let mut bytes = Vec::new();
        write_method(&mut bytes, channel, &method.into());
        // A client that has gone is noticed when nothing can be read.
        let _ = self.stream.write_all(&bytes);
    }

    /// Adds a delivery for the consumer that has its turn.
    fn deliver(&mut self, routing_key: &[u8], body: &[u8]) {
        self.published += 1;
        let mut state = self.state.lock().expect("no thread panics with it");
        let count = state.consumers.len();
        let Some(turn) = state.turn.checked_rem(count) else {
            return;
        };
        state.turn += 1;
        let consumer = &mut state.consumers[turn];
        consumer.delivered += 1;
        let deliver = Deliver {
            consumer_tag: b"0",
            delivery_tag: consumer.delivered,
            redelivered: false,
            exchange: b"",
            routing_key,
        };
        write_deliver(&mut consumer.out, consumer.channel, &deliver);
        write_content_header(
            &mut consumer.out,
            consumer.channel,
            body.len() as u64,
            &[0, 0],
        );
        write_body(&mut consumer.out, consumer.channel, body, FRAME_MAX);
    }

    /// Sends what has gathered: deliveries, and one confirm for all publishes.
    fn flush(&mut self) {
        if self.published == self.confirmed {
            return;
        }
        if self.behaviour.blocks_once && !self.blocked {
            self.blocked = true;
            let reason = ShortStr::truncated("low on memory");
            self.send(0, connection::Blocked { reason });
            self.send(0, connection::Unblocked {});
        }
        let mut state = self.state.lock().expect("no thread panics with it");
        for consumer in &mut state.consumers {
            // As above.
            let _ = consumer.stream.write_all(&consumer.out);
            consumer.out.clear();
        }
        drop(state);
        if self.confirms && !self.behaviour.never_confirms {
            let mut bytes = Vec::new();
            write_ack(&mut bytes, 1, self.published, true);
            let _ = self.stream.write_all(&bytes);
        }
        self.confirmed = self.published;
    }

    /// Answers a method; `false` ends the connection.
    fn answer(&mut self, channel: u16, method: Method) -> bool {
        if let Method::BasicAck(ack) = method {
            self.acknowledge(Ack {
                delivery_tag: ack.delivery_tag,
                multiple: ack.multiple,
            });
            return true;
        }
        {
            let mut state = self.state.lock().expect("no thread panics with it");
            state.methods.push(method.name());
        }
        if self.behaviour.refuses == Some(method.name()) {
            self.send(channel, refusal(&method));
            return true;
        }
        let answer: Method = match method {
            Method::ConnectionStartOk(_) => tune().into(),
            Method::ConnectionOpen(_) => connection::OpenOk {}.into(),
            Method::ConnectionClose(_) => {
                self.send(0, connection::CloseOk {});
                return false;
            }
            Method::ChannelOpen(_) => channel::OpenOk {}.into(),
            Method::ExchangeDeclare(_) => exchange::DeclareOk {}.into(),
            Method::QueueBind(_) => queue::BindOk {}.into(),
            Method::BasicQos(_) => basic::QosOk {}.into(),
            Method::ConfirmSelect(_) => {
                self.confirms = true;
                confirm::SelectOk {}.into()
            }
            Method::QueueDeclare(declare) => queue::DeclareOk {
                queue: match declare.queue.is_empty() {
                    true => ShortStr::truncated("amq.gen-1"),
                    false => declare.queue,
                },
                ..queue::DeclareOk::default()
            }
            .into(),
            Method::BasicConsume(consume) => {
                let stream = self.stream.try_clone().expect("a second handle");
                let consumer_tag = consume.consumer_tag;
                self.send(channel, basic::ConsumeOk { consumer_tag });
                let mut state = self.state.lock().expect("no thread panics with it");
                state.consumers.push(ToConsumer {
                    stream,
                    channel,
                    delivered: 0,
                    out: Vec::new(),
                });
                return true;
            }
            _ => return true,
        };
        self.send(channel, answer);
        true
    }

    fn acknowledge(&mut self, ack: Ack) {
        let mut state = self.state.lock().expect("no thread panics with it");
        state.acks += 1;
        if ack.multiple {
            state.acknowledged += ack.delivery_tag - self.acknowledged;
            self.acknowledged = ack.delivery_tag;
        } else {
            state.acknowledged += 1;
        }
    }
}

fn is_publish(payload: &[u8]) -> bool {
    matches!(amqp::Publish::peek(payload), Ok(Some(_)))
}

fn start() -> connection::Start {
    connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: Table::new().with("product", "fake"),
        mechanisms: b"PLAIN AMQPLAIN".to_vec(),
        locales: b"en_US".to_vec(),
    }
}

fn tune() -> connection::Tune {
    connection::Tune {
        channel_max: 2047,
        frame_max: FRAME_MAX,
        heartbeat: 60,
    }
}

fn refusal(method: &Method) -> channel::Close {
    let (class_id, method_id) = method.id();
    channel::Close {
        reply_code: 403,
        reply_text: ShortStr::truncated("ACCESS_REFUSED - not for you"),
        class_id,
        method_id,
    }
}
