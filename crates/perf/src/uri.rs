//! Where a broker is and who logs in there: `amqp://user:password@host:port/vhost`.
//!
//! Every part may be left out, and all but the host may be percent-encoded. As RabbitMQ's clients
//! read it: without a path the virtual host is `/`, and a path of a single `/` names the virtual
//! host with the empty name. Of the query only `heartbeat` and `frame_max` are known; anything else
//! is refused, so that no setting is silently ignored.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use thiserror::Error;

const PORT: u16 = 5672;

/// Address and credentials of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// Name or address; an IPv6 address stands without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Virtual host.
    pub vhost: String,
    /// Heartbeat in seconds, if the query has it.
    pub heartbeat: Option<u16>,
    /// Largest frame, if the query has it.
    pub frame_max: Option<u32>,
}

/// Why a text is not the URI of a broker.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// It begins with something else.
    #[error("the scheme must be amqp://")]
    Scheme,
    /// TLS is asked for.
    #[error("TLS is not supported, use amqp://")]
    Tls,
    /// The part behind the host is no port.
    #[error("not a port: {0}")]
    Port(String),
    /// A percent sign that is not followed by two digits, or bytes that are not UTF-8.
    #[error("not percent-encoded text: {0}")]
    Encoding(String),
    /// The path has more than one part.
    #[error("a virtual host has no unencoded slash: {0}")]
    Path(String),
    /// The query has a name or value that means nothing here.
    #[error("unknown parameter: {0}")]
    Parameter(String),
}

impl Default for Uri {
    fn default() -> Uri {
        Uri {
            host: "localhost".to_owned(),
            port: PORT,
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            vhost: "/".to_owned(),
            heartbeat: None,
            frame_max: None,
        }
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        if text.starts_with("amqps://") {
            return Err(UriError::Tls);
        }
        let rest = text.strip_prefix("amqp://").ok_or(UriError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let mut uri = Uri::default();
        let address = match authority.rsplit_once('@') {
            Some((login, address)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, &uri.password));
                (uri.user, uri.password) = (decode(user)?, decode(password)?);
                address
            }
            None => authority,
        };
        uri.set_address(address)?;
        if let Some(path) = path {
            if path.contains('/') {
                return Err(UriError::Path(path.to_owned()));
            }
            uri.vhost = decode(path)?;
        }
        for parameter in query.split('&').filter(|p| !p.is_empty()) {
            uri.set_parameter(parameter)?;
        }
        Ok(uri)
    }
}

impl Uri {
    fn set_address(&mut self, address: &str) -> Result<(), UriError> {
        let bracketed = address.strip_prefix('[').and_then(|a| a.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        if !host.is_empty() {
            host.clone_into(&mut self.host);
        }
        if let Some(port) = port {
            self.port = port.parse().map_err(|_| UriError::Port(port.to_owned()))?;
        }
        Ok(())
    }

    fn set_parameter(&mut self, parameter: &str) -> Result<(), UriError> {
        let unknown = || UriError::Parameter(parameter.to_owned());
        let (name, value) = parameter.split_once('=').ok_or_else(unknown)?;
        match name {
            "heartbeat" => self.heartbeat = Some(value.parse().map_err(|_| unknown())?),
            "frame_max" => self.frame_max = Some(value.parse().map_err(|_| unknown())?),
            _ => return Err(unknown()),
        }
        Ok(())
    }
}

fn decode(text: &str) -> Result<String, UriError> {
    let wrong = || UriError::Encoding(text.to_owned());
    let digits_follow = |(at, _)| {
        text.as_bytes()
            .get(at + 1..at + 3)
            .is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.match_indices('%').all(digits_follow) {
        return Err(wrong());
    }
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| wrong())?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host, port, user, password and virtual host of a URI.
    fn parts(text: &str) -> (String, u16, String, String, String) {
        let uri: Uri = text.parse().expect("is a URI");
        (uri.host, uri.port, uri.user, uri.password, uri.vhost)
    }

    #[test]
    fn every_part_has_a_default() {
        let table = [
            ("amqp://", ("localhost", 5672, "guest", "guest", "/")),
            ("amqp://rabbit", ("rabbit", 5672, "guest", "guest", "/")),
            ("amqp://rabbit:7", ("rabbit", 7, "guest", "guest", "/")),
            ("amqp://ann@rabbit", ("rabbit", 5672, "ann", "guest", "/")),
            ("amqp://ann:pw@rabbit:7/v", ("rabbit", 7, "ann", "pw", "v")),
            ("amqp://rabbit/", ("rabbit", 5672, "guest", "guest", "")),
            ("amqp:///v", ("localhost", 5672, "guest", "guest", "v")),
            ("amqp://rabbit/%2f", ("rabbit", 5672, "guest", "guest", "/")),
            ("amqp://[::1]:7/v", ("::1", 7, "guest", "guest", "v")),
            ("amqp://[::1]", ("::1", 5672, "guest", "guest", "/")),
            ("amqp://a%40b:c%3A%2f@h", ("h", 5672, "a@b", "c:/", "/")),
        ];
        for (text, (host, port, user, password, vhost)) in table {
            let want = (
                host.to_owned(),
                port,
                user.to_owned(),
                password.to_owned(),
                vhost.to_owned(),
            );
            assert_eq!(parts(text), want, "{text}");
        }
    }

    #[test]
    fn query_sets_what_is_known_and_refuses_the_rest() {
        let uri: Uri = "amqp://h/v?heartbeat=7&frame_max=8192"
            .parse()
            .expect("is a URI");
        assert_eq!((uri.heartbeat, uri.frame_max), (Some(7), Some(8192)));
        for (text, parameter) in [
            ("amqp://h?verify=none", "verify=none"),
            ("amqp://h?heartbeat=soon", "heartbeat=soon"),
            ("amqp://h?heartbeat", "heartbeat"),
        ] {
            let want = Err(UriError::Parameter(parameter.to_owned()));
            assert_eq!(text.parse::<Uri>(), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_uri_is_refused() {
        let table = [
            ("localhost", UriError::Scheme),
            ("http://h", UriError::Scheme),
            ("amqps://h", UriError::Tls),
            ("amqp://h:port", UriError::Port("port".to_owned())),
            ("amqp://h:65536", UriError::Port("65536".to_owned())),
            ("amqp://h/a/b", UriError::Path("a/b".to_owned())),
            ("amqp://h/%2", UriError::Encoding("%2".to_owned())),
            ("amqp://h/%ff", UriError::Encoding("%ff".to_owned())),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Uri>(), Err(error), "{text}");
        }
    }
}
