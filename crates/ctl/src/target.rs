//! Which node a command is for, and where it is.

/// The port between nodes where nothing else is said.
const PORT: u16 = 25672;

/// A node to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `name@host`, with a port if one was given.
    pub(crate) node: String,
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// The text is no name of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InvalidName {
    pub(crate) node: String,
    pub(crate) reason: &'static str,
}

impl Target {
    /// Reads `name`, `name@host` or `name@host:port`. A missing host is `own_host`, a missing port
    /// `port` or the usual one.
    pub(crate) fn parse(
        text: &str,
        own_host: &str,
        port: Option<u16>,
    ) -> Result<Target, InvalidName> {
        let node = if text.contains('@') {
            text.to_owned()
        } else {
            format!("{text}@{own_host}")
        };
        let invalid = |reason| InvalidName {
            node: node.clone(),
            reason,
        };
        let (name, place) = node.split_once('@').ok_or(invalid("no_host"))?;
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return Err(invalid("invalid_node_name_head"));
        }
        let (host, own_port) = split_port(place).ok_or(invalid("hostname_not_allowed"))?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(invalid("hostname_not_allowed"));
        }
        let (host, port) = (host.to_owned(), own_port.or(port).unwrap_or(PORT));
        Ok(Target { node, host, port })
    }
}

fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match place.split_once(':') {
        // More than one colon: an address of IPv6 that stands by itself.
        Some((_, rest)) if rest.contains(':') => Some((place, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((place, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, port: Option<u16>) -> (String, String, u16) {
        let target = Target::parse(text, "box", port).unwrap();
        (target.node, target.host, target.port)
    }

    #[test]
    fn hosts_and_ports_are_filled_in() {
        assert_eq!(
            parse("hare", None),
            ("hare@box".into(), "box".into(), 25672)
        );
        assert_eq!(
            parse("w@127.0.0.11", Some(25673)),
            ("w@127.0.0.11".into(), "127.0.0.11".into(), 25673)
        );
        assert_eq!(parse("w@h:7", Some(25673)), ("w@h:7".into(), "h".into(), 7));
        assert_eq!(
            parse("w@[::1]:7", None),
            ("w@[::1]:7".into(), "::1".into(), 7)
        );
        assert_eq!(parse("w@::1", None), ("w@::1".into(), "::1".into(), 25672));
    }

    #[test]
    fn other_texts_are_no_nodes() {
        for (text, reason) in [
            ("@h", "invalid_node_name_head"),
            ("w w@h", "invalid_node_name_head"),
            ("w@", "hostname_not_allowed"),
            ("bad@@", "hostname_not_allowed"),
            ("w@h:x", "hostname_not_allowed"),
        ] {
            assert_eq!(
                Target::parse(text, "box", None).unwrap_err().reason,
                reason,
                "{text}"
            );
        }
    }
}
