//! AMQP 0-9-1 by hand: frames in and out of a socket, with nothing that keeps a caller from breaking
//! the rules.
//!
//! Written from the specification and apart from the broker's own codec on purpose: where the two
//! disagree, a test fails.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A value in a field table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i32),
    Long(i64),
    Text(&'static str),
    List(Vec<Value>),
}

/// A method under construction.
#[derive(Clone, Debug)]
pub struct Method(Vec<u8>);

impl Method {
    /// A method of `class` without arguments yet.
    #[must_use]
    pub fn new(class: u16, method: u16) -> Method {
        Method(Vec::new()).short(class).short(method)
    }

    /// Adds an octet; also for bits, the first of which is the lowest.
    #[must_use]
    pub fn octet(mut self, value: u8) -> Method {
        self.0.push(value);
        self
    }

    /// Adds a short integer.
    #[must_use]
    pub fn short(mut self, value: u16) -> Method {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Adds a long integer.
    #[must_use]
    pub fn long(mut self, value: u32) -> Method {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Adds a long-long integer.
    #[must_use]
    pub fn long_long(mut self, value: u64) -> Method {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Adds a short string.
    ///
    /// # Panics
    /// If it is longer than 255 bytes.
    #[must_use]
    pub fn text(mut self, value: &str) -> Method {
        self.0.push(u8::try_from(value.len()).expect("a short string"));
        self.0.extend(value.as_bytes());
        self
    }

    /// Adds a long string.
    ///
    /// # Panics
    /// If it is longer than 4 GiB.
    #[must_use]
    pub fn long_text(mut self, value: &[u8]) -> Method {
        self.0.extend(u32::try_from(value.len()).expect("a long string").to_be_bytes());
        self.0.extend(value);
        self
    }

    /// Adds a field table.
    #[must_use]
    pub fn table(self, entries: &[(&str, Value)]) -> Method {
        self.long_text(&table(entries))
    }

    /// The payload of the method's frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The entries of a field table, without the length in front.
fn table(entries: &[(&str, Value)]) -> Vec<u8> {
    let mut out = Method(Vec::new());
    for (name, value) in entries {
        out = out.text(name);
        out.0.extend(field(value));
    }
    out.0
}

fn field(value: &Value) -> Vec<u8> {
    let out = Method(Vec::new());
    match value {
        Value::Bool(value) => out.octet(b't').octet(u8::from(*value)),
        Value::Int(value) => out.octet(b'I').long(u32::from_be_bytes(value.to_be_bytes())),
        Value::Long(value) => out.octet(b'l').long_long(u64::from_be_bytes(value.to_be_bytes())),
        Value::Text(value) => out.octet(b'S').long_text(value.as_bytes()),
        Value::List(values) => out.octet(b'A').long_text(&values.iter().flat_map(field).collect::<Vec<u8>>()),
    }
    .0
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Class and method of a method frame.
    #[must_use]
    pub fn method(&self) -> Option<(u16, u16)> {
        match self.payload[..] {
            [a, b, c, d, ..] if self.kind == 1 => Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            _ => None,
        }
    }

    /// Reply code and text of `connection.close` and `channel.close`.
    fn reason(&self) -> (u16, String) {
        let code = u16::from_be_bytes([self.payload[4], self.payload[5]]);
        let length = usize::from(self.payload[6]);
        (code, String::from_utf8_lossy(&self.payload[7..7 + length]).into_owned())
    }
}

/// What the broker closed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    Channel(u16, String),
    Connection(u16, String),
    /// The socket ended without a word.
    Silently,
}

/// A connection; see the file's head.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn connect(at: SocketAddr) -> Wire {
        let stream = TcpStream::connect(at).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out above zero");
        stream.set_nodelay(true).expect("a TCP socket");
        Wire { stream, read: Vec::new() }
    }

    /// Connects as guest to the default virtual host, and opens channel 1.
    ///
    /// # Panics
    /// If that is refused.
    #[must_use]
    pub fn open(at: SocketAddr) -> Wire {
        Wire::open_as(at, "guest", "guest", "/").unwrap_or_else(|closed| panic!("login: {closed:?}"))
    }

    /// Logs in and opens channel 1, or tells how the broker refused.
    ///
    /// # Errors
    /// What the broker closed the connection with.
    pub fn open_as(at: SocketAddr, user: &str, password: &str, vhost: &str) -> Result<Wire, Closed> {
        let mut wire = Wire::connect(at);
        wire.send(b"AMQP\x00\x00\x09\x01");
        wire.expect((10, 10));
        wire.start_ok(user, password);
        wire.take((10, 30))?;
        wire.method(0, &Method::new(10, 31).short(2047).long(131_072).short(0));
        wire.method(0, &Method::new(10, 40).text(vhost).text("").octet(0));
        wire.take((10, 41))?;
        wire.method(1, &Method::new(20, 10).text(""));
        wire.take((20, 11))?;
        Ok(wire)
    }

    /// Sends `connection.start-ok` with the capabilities that change what the broker tells a client.
    pub fn start_ok(&mut self, user: &str, password: &str) {
        let yes = Value::Bool(true);
        let capabilities = table(&[
            ("authentication_failure_close", yes.clone()),
            ("connection.blocked", yes.clone()),
            ("consumer_cancel_notify", yes.clone()),
            ("basic.nack", yes),
        ]);
        let mut properties = Method(Vec::new()).text("capabilities").octet(b'F').long_text(&capabilities);
        let answer = format!("\0{user}\0{password}");
        properties = Method::new(10, 11).long_text(&properties.0);
        self.method(0, &properties.text("PLAIN").long_text(answer.as_bytes()).text("en_US"));
    }

    /// Sends bytes as they are. That the broker has closed already shows in what is read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// If the payload is longer than 4 GiB.
    pub fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).expect("a frame").to_be_bytes());
        bytes.extend(payload);
        bytes.push(0xCE);
        self.send(&bytes);
    }

    /// Sends a method.
    pub fn method(&mut self, channel: u16, method: &Method) {
        self.frame(1, channel, &method.0);
    }

    /// Publishes on channel 1 with the property flags and properties given.
    pub fn publish(&mut self, exchange: &str, key: &str, flags: u16, properties: &[u8], body: &[u8]) {
        self.method(1, &Method::new(60, 40).short(0).text(exchange).text(key).octet(0));
        let header = Method::new(60, 0).long_long(body.len() as u64).short(flags);
        self.frame(2, 1, &[&header.0, properties].concat());
        if !body.is_empty() {
            self.frame(3, 1, body);
        }
    }

    /// The next frame that is no heartbeat; nothing at the end of the stream.
    ///
    /// # Panics
    /// If nothing comes for long.
    #[track_caller]
    #[expect(clippy::should_implement_trait, reason = "reading on may panic, which no iterator should")]
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next_of_any_kind()?;
            if frame.kind != 8 {
                return Some(frame);
            }
        }
    }

    /// The next frame; nothing at the end of the stream.
    ///
    /// # Panics
    /// If nothing comes for long.
    #[track_caller]
    pub fn next_of_any_kind(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.whole() {
                return Some(frame);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The bytes until the broker closes the socket.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.read)
    }

    /// Reads on until this method comes.
    ///
    /// # Panics
    /// If the broker closes instead.
    #[track_caller]
    pub fn expect(&mut self, method: (u16, u16)) -> Frame {
        self.take(method).unwrap_or_else(|closed| panic!("{method:?} awaited: {closed:?}"))
    }

    /// Reads on until this method comes, or a close.
    ///
    /// # Errors
    /// What the broker closed.
    #[track_caller]
    pub fn take(&mut self, method: (u16, u16)) -> Result<Frame, Closed> {
        loop {
            let Some(frame) = self.next() else { return Err(Closed::Silently) };
            match frame.method() {
                Some(found) if found == method => return Ok(frame),
                Some((10, 50)) => {
                    let (code, text) = frame.reason();
                    self.method(0, &Method::new(10, 51));
                    return Err(Closed::Connection(code, text));
                }
                Some((20, 40)) => {
                    let (code, text) = frame.reason();
                    self.method(frame.channel, &Method::new(20, 41));
                    return Err(Closed::Channel(code, text));
                }
                _ => {}
            }
        }
    }

    /// What the broker closes next.
    ///
    /// # Panics
    /// If it closes nothing.
    #[track_caller]
    pub fn closed(&mut self) -> Closed {
        match self.take((0, 0)) {
            Err(closed) => closed,
            Ok(frame) => panic!("no such method: {frame:?}"),
        }
    }

    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing from the broker: {error}; held: {:?}", self.read),
        }
    }

    fn whole(&mut self) -> Option<Frame> {
        let [kind, a, b, c, d, e, f, ..] = self.read[..] else { return None };
        let size = u32::from_be_bytes([c, d, e, f]) as usize;
        if self.read.len() < size + 8 {
            return None;
        }
        let bytes: Vec<u8> = self.read.drain(..size + 8).collect();
        assert_eq!(bytes[size + 7], 0xCE, "the frame ends with its end octet");
        Some(Frame { kind, channel: u16::from_be_bytes([a, b]), payload: bytes[7..size + 7].to_vec() })
    }
}
