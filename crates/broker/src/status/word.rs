//! Words of a fixed vocabulary on their way between nodes: they are sent as texts and read as the
//! constants that they were, for `#[serde(with = "word")]`.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serializer};

/// A word. (Under a name of its own, since a derived reader takes `&'static str` for borrowed.)
pub type Word = &'static str;

/// What a word becomes that only a later version knows.
const UNKNOWN: Word = "unknown";

/// Every word that a status may carry, by what it is about.
const VOCABULARY: &[&[&str]] = &[
    // Nothing to say.
    &[""],
    // States of queues, connections and channels.
    &["running", "flow", "syncing", "down", "stopped", "crashed", "idle"],
    &["blocked", "blocking", "opening", "tuning", "closing", "closed", "starting"],
    // Consumers.
    &["up", "single_active", "waiting"],
    // How mirrors catch up.
    &["full", "incremental", "event"],
    // Ways to log in, and protocols.
    &["PLAIN", "AMQPLAIN", "EXTERNAL"],
    &["amqp", "amqp/ssl", "amqp091", "http", "https", "http/prometheus", "https/prometheus", "clustering"],
];

/// The constant of a word.
#[must_use]
pub fn known(text: &str) -> Word {
    let mut all = VOCABULARY.iter().copied().flatten();
    all.find(|word| **word == text).copied().unwrap_or(UNKNOWN)
}

/// Writes a word.
///
/// # Errors
/// The writer's.
pub fn serialize<S: Serializer>(word: &Word, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(word)
}

/// Reads a word.
///
/// # Errors
/// If there is no text.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
    let text = Cow::<str>::deserialize(from)?;
    Ok(known(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_again() {
        for word in VOCABULARY.iter().copied().flatten() {
            assert_eq!(known(word), *word);
        }
        assert_eq!(known("a word of next year"), UNKNOWN);
    }
}
