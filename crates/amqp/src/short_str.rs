//! A short string: at most 255 bytes, as a length octet and bytes on the wire.
//!
//! Invariant: never longer than 255 bytes, whichever way it was made (decoded, built, or read back
//! from a snapshot), so encoding cannot fail. The bytes need not be UTF-8: RabbitMQ takes routing
//! keys and header names as they come, and so do we.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error as ThisError;

/// The longest short string.
pub const SHORT_STR_BYTES_MAX: usize = 255;

/// Up to 255 bytes of text.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortStr(Box<[u8]>);

/// More than 255 bytes do not fit a short string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error("longer than 255 bytes: {0}")]
pub struct TooLong(
    /// How many bytes there were.
    pub usize,
);

impl ShortStr {
    /// Takes as many bytes of `text` as fit, without cutting a character.
    #[must_use]
    pub fn truncated(text: &str) -> ShortStr {
        let end = text.floor_char_boundary(SHORT_STR_BYTES_MAX);
        ShortStr(text.as_bytes()[..end].into())
    }

    /// Takes bytes that a length octet counted.
    pub(crate) fn from_wire(bytes: &[u8]) -> ShortStr {
        assert!(
            bytes.len() <= SHORT_STR_BYTES_MAX,
            "a length octet counts to 255"
        );
        ShortStr(bytes.into())
    }

    /// Gives the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives the text, unless it is not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Gives the text, with replacement characters for what is not UTF-8.
    #[must_use]
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl TryFrom<&[u8]> for ShortStr {
    type Error = TooLong;

    fn try_from(bytes: &[u8]) -> Result<ShortStr, TooLong> {
        if bytes.len() > SHORT_STR_BYTES_MAX {
            return Err(TooLong(bytes.len()));
        }
        Ok(ShortStr(bytes.into()))
    }
}

impl TryFrom<Vec<u8>> for ShortStr {
    type Error = TooLong;

    fn try_from(bytes: Vec<u8>) -> Result<ShortStr, TooLong> {
        if bytes.len() > SHORT_STR_BYTES_MAX {
            return Err(TooLong(bytes.len()));
        }
        Ok(ShortStr(bytes.into()))
    }
}

impl TryFrom<&str> for ShortStr {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<ShortStr, TooLong> {
        ShortStr::try_from(text.as_bytes())
    }
}

impl TryFrom<String> for ShortStr {
    type Error = TooLong;

    fn try_from(text: String) -> Result<ShortStr, TooLong> {
        ShortStr::try_from(text.into_bytes())
    }
}

impl Deref for ShortStr {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for ShortStr {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ShortStr {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for ShortStr {
    fn eq(&self, text: &str) -> bool {
        *self.0 == *text.as_bytes()
    }
}

impl PartialEq<&str> for ShortStr {
    fn eq(&self, text: &&str) -> bool {
        *self.0 == *text.as_bytes()
    }
}

impl fmt::Display for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_str_lossy().fmt(f)
    }
}

impl fmt::Debug for ShortStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_str_lossy().fmt(f)
    }
}

impl Serialize for ShortStr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ShortStr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ShortStr, D::Error> {
        deserializer.deserialize_bytes(ShortStrVisitor)
    }
}

struct ShortStrVisitor;

impl<'de> Visitor<'de> for ShortStrVisitor {
    type Value = ShortStr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("at most 255 bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ShortStr, E> {
        ShortStr::try_from(bytes).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ShortStr, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ShortStr, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
            if bytes.len() > SHORT_STR_BYTES_MAX {
                break;
            }
        }
        ShortStr::try_from(bytes).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_255_bytes() {
        assert_eq!(
            ShortStr::try_from("x".repeat(255)).map(|s| s.len()),
            Ok(255)
        );
        assert_eq!(ShortStr::try_from("x".repeat(256)), Err(TooLong(256)));
        assert_eq!(
            ShortStr::truncated(&"ä".repeat(200)),
            "ä".repeat(127).as_str()
        );

        let long = postcard::to_stdvec(&vec![7u8; 256]).expect("encodes");
        assert!(postcard::from_bytes::<ShortStr>(&long).is_err());
    }

    #[test]
    fn bytes_that_are_not_text_survive_a_snapshot() {
        let value = ShortStr::try_from(&[0xff, 0, b'a'][..]).expect("short");
        let stored = postcard::to_stdvec(&value).expect("encodes");
        assert_eq!(
            postcard::from_bytes::<ShortStr>(&stored).expect("decodes"),
            value
        );
        assert_eq!(value.as_str(), None);
        assert_eq!(value.to_string(), "\u{fffd}\0a");
    }
}
