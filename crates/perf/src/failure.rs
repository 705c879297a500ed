//! Why a run fails.

use std::io;

use amqp::method::{channel, connection};
use amqp::{ConnectionError, ReplyCode};
use thiserror::Error;

/// What ends a connection, and the run with it.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The broker closed the connection or a channel.
    #[error("the broker closed the {what}: {code} {text}")]
    Refused {
        what: &'static str,
        code: u16,
        text: String,
    },
    /// The broker sent what the protocol does not allow.
    #[error("the broker broke the protocol: {0}")]
    Protocol(ConnectionError),
    /// Nobody listens, or the name has no address.
    #[error("cannot connect to {address}: {error}")]
    Unreachable { address: String, error: io::Error },
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// The broker went away without a word.
    #[error("the broker closed the socket")]
    Closed,
    /// Nothing came for two heartbeats.
    #[error("the broker was silent for {0} s")]
    Silent(u64),
    /// A confirm is overdue.
    #[error("no confirm for {0} s")]
    Unconfirmed(u64),
    /// The queue of a consumer is gone.
    #[error("the broker cancelled the consumer {0}")]
    Cancelled(String),
    /// The broker answered a request with something else.
    #[error("the broker answered {request} with {answer}")]
    Unexpected {
        request: &'static str,
        answer: &'static str,
    },
    /// The broker offers no login that we know.
    #[error("the broker does not offer the login mechanism PLAIN: {0}")]
    Mechanisms(String),
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Failure {
        Failure::Protocol(error)
    }
}

impl From<connection::Close> for Failure {
    fn from(close: connection::Close) -> Failure {
        Failure::Refused {
            what: "connection",
            code: close.reply_code,
            text: with_name(close.reply_code, &close.reply_text.to_str_lossy()),
        }
    }
}

impl From<channel::Close> for Failure {
    fn from(close: channel::Close) -> Failure {
        Failure::Refused {
            what: "channel",
            code: close.reply_code,
            text: with_name(close.reply_code, &close.reply_text.to_str_lossy()),
        }
    }
}

/// RabbitMQ's texts begin with the name of the code; add it where it is missing.
fn with_name(code: u16, text: &str) -> String {
    let name = ReplyCode::from_value(code).name();
    if text.starts_with(name) {
        text.to_owned()
    } else {
        format!("{name} - {text}")
    }
}
