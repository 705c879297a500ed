//! What an operator is told when the node cannot be reached.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster::handshake::{HandshakeError, Refusal};
use md5::{Digest, Md5};

use crate::cookie::Found;
use crate::outside::Trouble;
use crate::target::Target;

/// Who asks.
pub(crate) struct Asker<'a> {
    pub(crate) name: String,
    pub(crate) home: Option<&'a str>,
    pub(crate) cookie: Option<&'a Found>,
}

/// A hash of the cookie by which operators compare cookies without showing them.
pub(crate) fn cookie_hash(cookie: &[u8]) -> String {
    STANDARD.encode(Md5::digest(cookie))
}

/// The whole text. It begins with a sentence that scripts know.
pub(crate) fn explain(target: &Target, trouble: &Trouble, asker: &Asker<'_>) -> String {
    let node = &target.node;
    let findings: String = findings(target, trouble)
        .iter()
        .map(|line| format!("  * {line}\n"))
        .collect();
    let hash = asker.cookie.map_or_else(
        || "(no cookie)".to_owned(),
        |found| {
            format!(
                "{} (from {})",
                cookie_hash(found.cookie.bytes()),
                found.source
            )
        },
    );
    format!(
        "Error: unable to perform an operation on node '{node}'. Please \
         see diagnostics information and suggestions below.\n\nMost \
         common reasons for this are:\n\n * Target node is unreachable \
         (e.g. due to hostname resolution, TCP connection or firewall \
         issues)\n * CLI tool fails to authenticate with the server \
         (e.g. due to CLI tool's Erlang cookie not matching that of the \
         server)\n * Target node is not running\n\nIn addition to the \
         diagnostics info below:\n\n * Consult server logs on node \
         {node}\n * Say with -n which node is meant, as name@host or \
         name@host:port\n\nDIAGNOSTICS\n===========\n\nattempted to \
         contact: [{node}]\n\n{node}:\n{findings}\nCurrent node \
         details:\n * node name: '{}'\n * effective user's home \
         directory: {}\n * Erlang cookie hash: {hash}\n",
        asker.name,
        asker.home.unwrap_or("(none)"),
    )
}

#[expect(clippy::too_many_lines, reason = "an arm for each trouble")]
fn findings(target: &Target, trouble: &Trouble) -> Vec<String> {
    let (host, port) = (&target.host, target.port);
    let connected = format!("connected to the node port ({port}) on {host}");
    let short_name = target.node.split('@').next().unwrap_or_default();
    match trouble {
        Trouble::Unresolved(reason) => vec![
            format!("unable to resolve host {host}: {reason}"),
            "suggestion: check the host name, and hostname resolution on \
             this machine"
                .to_owned(),
        ],
        Trouble::Unreachable(reason) => vec![
            format!("unable to connect to the node port ({port}) on {host}: {reason}"),
            "suggestion: start the node, or say another port with \
             name@host:port or WARREN_DIST_PORT"
                .to_owned(),
        ],
        Trouble::Handshake(HandshakeError::OtherNode { found }) => vec![
            connected,
            format!(
                "node '{short_name}' not running there: the node that answers \
                 is called {found}"
            ),
            format!("suggestion: use -n {found}, or start the node"),
        ],
        Trouble::Handshake(
            HandshakeError::Refused(Refusal::WrongCookie) | HandshakeError::WrongCookie(_),
        ) => {
            vec![
                connected,
                "TCP connection succeeded but authentication failed: the \
                 cookies of node and tool differ"
                    .to_owned(),
                "suggestion: check if the Erlang cookie is identical for all \
                 server nodes and CLI tools"
                    .to_owned(),
            ]
        }
        Trouble::Handshake(HandshakeError::Refused(Refusal::WantsTls)) => vec![
            connected,
            "the node has TLS between nodes (inter_node.ssl_options) and \
             takes tools from its own host only"
                .to_owned(),
            format!("suggestion: run this command on {host}"),
        ],
        Trouble::Handshake(error) => vec![
            connected,
            format!("TCP connection succeeded but the handshake failed: {error}"),
            "suggestion: check that this is the node port of Warren, not \
             one for clients"
                .to_owned(),
        ],
        Trouble::Silent => vec![
            connected,
            "TCP connection succeeded but the node does not answer".to_owned(),
            "suggestion: check that this is the node port of Warren, and \
             the load of the node"
                .to_owned(),
        ],
        Trouble::Broken(reason) => vec![
            connected,
            format!("authentication succeeded but the connection broke: {reason}"),
            "suggestion: check if the node is stopping, and its log".to_owned(),
        ],
        Trouble::NoCookie(none) => {
            let mut lines =
                vec!["there is no cookie to authenticate with; it was looked for in".to_owned()];
            lines.extend(none.0.iter().cloned());
            lines.push("suggestion: use --erlang-cookie or WARREN_COOKIE".to_owned());
            lines
        }
        Trouble::TimedOut => vec![connected, "the node did not answer in time".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_cookie_is_that_of_rabbitmq() {
        assert_eq!(cookie_hash(b"PROBECOOKIE"), "UguKoLuHZaPSkdy6q4r77w==");
    }
}
