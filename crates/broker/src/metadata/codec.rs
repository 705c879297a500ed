//! Commands and answers as bytes: for the log, and between nodes.
//!
//! The first byte is the version. Version 1 is the postcard encoding of the types in `command`, whose
//! variants are never changed or reordered; a change that cannot be a new variant is a new version.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::command::{Command, Outcome, Refusal};
use crate::id::ConnectionId;
use crate::mutant::{Mutant, breaks};

/// How a command went.
pub type Answer = Result<Outcome, Refusal>;

const VERSION: u8 = 1;

/// Bytes that are not what they should be, or come from a later version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("empty")]
    Empty,
    #[error("unknown version: {0}")]
    Version(u8),
    #[error("malformed: {0}")]
    Malformed(String),
}

impl Command {
    /// The bytes that go into the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    /// Reads them back.
    ///
    /// # Errors
    /// When the bytes are not a command of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Command, Unreadable> {
        match decode(VERSION, bytes) {
            Err(_) if breaks(Mutant::SkipUnknown) => Ok(Command::ConnectionEnded {
                connection: ConnectionId(0),
            }),
            decoded => decoded,
        }
    }
}

/// The bytes of an answer, for the node that proposed the command.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    encode(VERSION, answer)
}

/// Reads an answer.
///
/// # Errors
/// When the bytes are not an answer of a known version.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, Unreadable> {
    decode(VERSION, bytes)
}

pub(super) fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version]).expect("memory takes whatever is written to it")
}

pub(super) fn decode<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Result<T, Unreadable> {
    match bytes.split_first() {
        None => Err(Unreadable::Empty),
        Some((found, _)) if *found != version => Err(Unreadable::Version(*found)),
        Some((_, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(Unreadable::Malformed(format!(
                "{} bytes too many",
                rest.len()
            ))),
            Err(error) => Err(Unreadable::Malformed(error.to_string())),
        },
    }
}
