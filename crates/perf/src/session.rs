//! A connection while it is set up: one request, one answer, waiting for each.
//!
//! Here a connection is opened, channels are opened on it and queues declared. When all is there,
//! [`Session::into_parts`] hands the socket to a worker, with whatever has been read already.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use amqp::field::Table;
use amqp::frame::{FRAME_MIN_SIZE, PROTOCOL_HEADER};
use amqp::method::{channel, connection};
use amqp::{FrameKind, Method, ShortStr, split, write_method};
use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::failure::Failure;
use crate::uri::Uri;

/// How long the broker may take for an answer while a connection is set up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection being set up.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    input: Vec<u8>,
    limits: Limits,
}

/// What both sides have settled on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest frame; never 0.
    pub(crate) frame_max: u32,
    /// Seconds; 0 is no heartbeats.
    pub(crate) heartbeat: u16,
}

/// Size of the largest frame where neither side has a limit.
const FRAME_MAX: u32 = 128 * 1024;

impl Session {
    /// Connects and logs in. A `frame_max` or `heartbeat` of 0 takes what the broker offers; `name`
    /// is what the broker shows for the connection.
    pub(crate) fn open(uri: &Uri, wanted: Limits, name: &str) -> Result<Session, Failure> {
        let stream = TcpStream::connect((uri.host.as_str(), uri.port));
        let stream = stream.map_err(|error| Failure::Unreachable {
            address: format!("{}:{}", uri.host, uri.port),
            error,
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let mut session = Session {
            stream,
            input: Vec::new(),
            limits: Limits {
                frame_max: FRAME_MIN_SIZE,
                heartbeat: 0,
            },
        };
        session.stream.write_all(PROTOCOL_HEADER)?;
        session.log_in(uri, name)?;
        session.tune(wanted)?;
        let open = connection::Open {
            virtual_host: ShortStr::truncated(&uri.vhost),
        };
        match session.call(0, open)? {
            Method::ConnectionOpenOk(_) => Ok(session),
            answer => Err(unexpected("connection.open", &answer)),
        }
    }

    fn log_in(&mut self, uri: &Uri, name: &str) -> Result<(), Failure> {
        let start = match self.receive(0)? {
            Method::ConnectionStart(start) => start,
            answer => return Err(unexpected("the protocol header", &answer)),
        };
        let mechanisms = String::from_utf8_lossy(&start.mechanisms).into_owned();
        if !mechanisms.split(' ').any(|mechanism| mechanism == "PLAIN") {
            return Err(Failure::Mechanisms(mechanisms));
        }
        let response = format!("\0{}\0{}", uri.user, uri.password);
        self.send(
            0,
            connection::StartOk {
                client_properties: client_properties(name),
                mechanism: ShortStr::truncated("PLAIN"),
                response: response.into_bytes(),
                locale: ShortStr::truncated("en_US"),
            },
        )
    }

    fn tune(&mut self, wanted: Limits) -> Result<(), Failure> {
        let tune = match self.receive(0)? {
            Method::ConnectionTune(tune) => tune,
            answer => return Err(unexpected("connection.start-ok", &answer)),
        };
        self.limits = Limits {
            frame_max: match settle(wanted.frame_max, tune.frame_max) {
                0 => FRAME_MAX,
                frame_max => frame_max.max(FRAME_MIN_SIZE),
            },
            heartbeat: settle(wanted.heartbeat, tune.heartbeat),
        };
        let Limits {
            frame_max,
            heartbeat,
        } = self.limits;
        self.send(
            0,
            connection::TuneOk {
                channel_max: tune.channel_max,
                frame_max,
                heartbeat,
            },
        )
    }

    /// What has been settled.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Opens a channel.
    pub(crate) fn open_channel(&mut self, channel: u16) -> Result<(), Failure> {
        match self.call(channel, channel::Open {})? {
            Method::ChannelOpenOk(_) => Ok(()),
            answer => Err(unexpected("channel.open", &answer)),
        }
    }

    /// Sends a method without waiting.
    pub(crate) fn send(&mut self, channel: u16, method: impl Into<Method>) -> Result<(), Failure> {
        let mut bytes = Vec::new();
        write_method(&mut bytes, channel, &method.into());
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Sends a method and waits for the answer; a closed channel or connection is a failure.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        method: impl Into<Method>,
    ) -> Result<Method, Failure> {
        self.send(channel, method)?;
        self.receive(channel)
    }

    /// Waits for the next method of a channel. Heartbeats and news of the connection are skipped.
    fn receive(&mut self, channel: u16) -> Result<Method, Failure> {
        loop {
            while let Some((frame, used)) = split(&self.input, self.limits.frame_max)? {
                let of_channel = frame.channel == channel;
                let method = match frame.kind {
                    FrameKind::Method => Some(Method::decode(frame.payload)?),
                    _ => None,
                };
                self.input.drain(..used);
                match method {
                    None | Some(Method::ConnectionBlocked(_) | Method::ConnectionUnblocked(_)) => {}
                    Some(Method::ConnectionClose(close)) => {
                        self.send(0, connection::CloseOk {})?;
                        return Err(close.into());
                    }
                    Some(Method::ChannelClose(close)) => {
                        self.send(channel, channel::CloseOk {})?;
                        return Err(close.into());
                    }
                    Some(method) if of_channel => return Ok(method),
                    Some(method) => return Err(unexpected("a request", &method)),
                }
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(Failure::Closed),
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(Failure::Silent(ANSWER_TIMEOUT.as_secs()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends the connection.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        match self.call(0, close())? {
            Method::ConnectionCloseOk(_) => Ok(()),
            answer => Err(unexpected("connection.close", &answer)),
        }
    }

    /// Sets how much the system takes from us before the broker does.
    pub(crate) fn limit_send_buffer(&self, bytes: usize) -> Result<(), Failure> {
        set_socket_send_buffer_size(&self.stream, bytes).map_err(io::Error::from)?;
        Ok(())
    }

    /// Gives the socket and what has been read from it but not looked at.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>, Limits) {
        (self.stream, self.input, self.limits)
    }
}

/// The orderly end of a connection.
pub(crate) fn close() -> connection::Close {
    connection::Close {
        reply_code: amqp::ReplyCode::REPLY_SUCCESS.value(),
        reply_text: ShortStr::truncated("the run has ended"),
        class_id: 0,
        method_id: 0,
    }
}

/// As RabbitMQ's clients settle a limit: the lower one, where 0 is no limit.
fn settle<N: Ord + Default>(ours: N, theirs: N) -> N {
    let none = N::default();
    if ours == none || theirs == none {
        ours.max(theirs)
    } else {
        ours.min(theirs)
    }
}

fn client_properties(name: &str) -> Table {
    let capabilities = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ];
    let capabilities = capabilities
        .into_iter()
        .fold(Table::new(), |table, name| table.with(name, true));
    Table::new()
        .with("product", "warren perf")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("platform", "Rust")
        .with("connection_name", name)
        .with("capabilities", capabilities)
}

pub(crate) fn unexpected(request: &'static str, answer: &Method) -> Failure {
    Failure::Unexpected {
        request,
        answer: answer.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_settle_on_the_lower_one_and_zero_is_none() {
        let table = [
            (0, 0, 0),
            (0, 60, 60),
            (10, 0, 10),
            (10, 60, 10),
            (60, 10, 10),
        ];
        for (ours, theirs, settled) in table {
            assert_eq!(settle(ours, theirs), settled, "{ours} {theirs}");
        }
    }
}
