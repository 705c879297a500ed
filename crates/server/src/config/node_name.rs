//! The name of a node: `name@host`, or `name@host:port` where its port between nodes is not the usual one.
//!
//! Invariant: `name` is not empty and made of letters, digits, `-`, `_` and `.`; `host` is a host name or an IP
//! address, without brackets.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Names a node within its cluster, and says where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName {
    name: String,
    host: String,
    port: Option<u16>,
}

/// What a node name looks like, for error texts.
pub(super) const NODE_NAME_FORM: &str = "a node name such as warren@host1 or warren@host1:25672";

impl NodeName {
    /// The part before the `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port between nodes, where the name gives one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Reads a name that may lack `@host`, which is then `host`.
    ///
    /// # Errors
    /// When it does not look like a node name.
    pub fn parse_with_host(text: &str, host: &str) -> Result<NodeName, ParseNodeNameError> {
        if text.contains('@') {
            text.parse()
        } else {
            format!("{text}@{host}").parse()
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => {
                write!(f, "{}@[{}]:{port}", self.name, self.host)
            }
            Some(port) => write!(f, "{}@{}:{port}", self.name, self.host),
            None if self.host.contains(':') => write!(f, "{}@[{}]", self.name, self.host),
            None => write!(f, "{}@{}", self.name, self.host),
        }
    }
}

/// The text is no node name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseNodeNameError;

impl fmt::Display for ParseNodeNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be {NODE_NAME_FORM}")
    }
}

impl std::error::Error for ParseNodeNameError {}

impl FromStr for NodeName {
    type Err = ParseNodeNameError;

    fn from_str(text: &str) -> Result<NodeName, ParseNodeNameError> {
        let (name, place) = text.split_once('@').ok_or(ParseNodeNameError)?;
        let name_is_valid = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let (host, port) = split_host_port(place).ok_or(ParseNodeNameError)?;
        if !name_is_valid || port == Some(0) {
            return Err(ParseNodeNameError);
        }
        Ok(NodeName {
            name: name.to_owned(),
            host,
            port,
        })
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn split_host_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        match rest.strip_prefix(':') {
            Some(port) => (address, Some(port.parse().ok()?)),
            None if rest.is_empty() => (address, None),
            None => return None,
        }
    } else if let Some((host, port)) = text.split_once(':') {
        (host, Some(port.parse().ok()?))
    } else {
        (text, None)
    };
    let is_valid = host.contains(':')
        || !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    is_valid.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::NodeName;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in [
            "warren@host1",
            "rabbit@127.0.0.11",
            "a-b_c.d@host.example.com:25673",
            "w@[::1]",
            "w@[fe80::1]:9",
        ] {
            assert_eq!(text.parse::<NodeName>().unwrap().to_string(), text);
        }
        let name: NodeName = "w@h:25673".parse().unwrap();
        assert_eq!(
            (name.name(), name.host(), name.port()),
            ("w", "h", Some(25673))
        );
    }

    #[test]
    fn other_texts_are_no_names() {
        for text in [
            "",
            "warren",
            "@host",
            "w@",
            "w@h:",
            "w@h:x",
            "w@h:0",
            "w@h:70000",
            "w w@h",
            "w@h@i",
            "w@::1",
            "w@[::1",
        ] {
            assert!(
                text.parse::<NodeName>().is_err(),
                "{text:?} was taken for a node name"
            );
        }
    }

    #[test]
    fn the_host_can_be_left_to_the_machine() {
        assert_eq!(
            NodeName::parse_with_host("hare", "box")
                .unwrap()
                .to_string(),
            "hare@box"
        );
        assert_eq!(
            NodeName::parse_with_host("hare@there", "box")
                .unwrap()
                .to_string(),
            "hare@there"
        );
    }
}
