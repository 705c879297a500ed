//! How two ends of a connection to the node port prove to each other that they know the cookie.
//!
//! ```text
//!  initiator                                            acceptor
//!      | hello: magic, kind, nonce, name                    |
//!      |--------------------------------------------------->|
//!      | hello: magic, kind, nonce, name  (or a refusal)    |
//!      |<---------------------------------------------------|
//!      | proof: HMAC(cookie, "initiator", both hellos)      |
//!      |--------------------------------------------------->|
//!      | 0, proof: HMAC(cookie, "acceptor", both hellos)    |
//!      |<------------------------------- (or a refusal) ----|
//! ```
//!
//! Promises, as long as the cookie is not known to others: the cookie itself is never sent; a proof
//! is good for one connection, one direction and these two names, so it can be neither replayed nor
//! sent back to its maker; who comes uninvited proves first, so nobody can collect material for
//! guessing a weak cookie by merely connecting; an initiator that expects a certain node proves
//! nothing to another. The bytes after the handshake are neither encrypted nor authenticated, unless
//! the whole is said inside TLS; an acceptor can be told which kinds come without ([`Acceptor::taking`]).
//!
//! Pure: bytes in, bytes out, the nonce is handed in. `docs/formats/node-port.md` has the bytes.

use std::fmt;

use bytes::{Buf, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What every hello begins with; the last byte is the version.
const MAGIC: [u8; 7] = *b"WARREN\x01";
/// Bytes of a hello before the name: magic, kind, nonce, length of the name.
const HELLO_HEAD_BYTES: usize = MAGIC.len() + 1 + NONCE_BYTES + 1;
const PROOF_BYTES: usize = 32;
const REFUSAL_CODE_MAX: u8 = 15;
const INITIATOR: &[u8] = b"warren node port 1, initiator\0";
const ACCEPTOR: &[u8] = b"warren node port 1, acceptor\0";

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Longest name of a node or tool, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Unpredictable bytes that make a handshake unlike every other. Never use one twice.
pub type Nonce = [u8; NONCE_BYTES];

/// The secret that nodes of a cluster and their tools share.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie(Vec<u8>);

impl Cookie {
    /// Takes the text of a cookie file or setting; white space around it does not count. `None`
    /// when nothing is left.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Cookie> {
        let text = text.trim_ascii();
        (!text.is_empty()).then(|| Cookie(text.to_vec()))
    }

    /// The secret itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tool of the operator: HTTP/1.1 requests follow.
    Control,
    /// Another node.
    NodeLink,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Control => 1,
            Kind::NodeLink => 2,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        match code {
            1 => Some(Kind::Control),
            2 => Some(Kind::NodeLink),
            _ => None,
        }
    }
}

/// Why an acceptor sends somebody away, as told to the initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The initiator's proof was made with another cookie.
    WrongCookie,
    /// The acceptor does not speak this version.
    UnknownVersion,
    /// The acceptor does not serve this kind of connection.
    UnknownKind,
    /// The acceptor takes this kind of connection by TLS only.
    WantsTls,
    /// A code of a later version.
    Other(u8),
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Refusal::WrongCookie => 1,
            Refusal::UnknownVersion => 2,
            Refusal::UnknownKind => 3,
            Refusal::WantsTls => 4,
            Refusal::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Refusal {
        match code {
            1 => Refusal::WrongCookie,
            2 => Refusal::UnknownVersion,
            3 => Refusal::UnknownKind,
            4 => Refusal::WantsTls,
            other => Refusal::Other(other),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::WrongCookie => f.write_str("the cookies of the two sides differ"),
            Refusal::UnknownVersion => f.write_str("it does not speak this version"),
            Refusal::UnknownKind => f.write_str("it does not serve this kind of connection"),
            Refusal::WantsTls => f.write_str("it wants TLS between nodes: inter_node.ssl_options"),
            Refusal::Other(code) => write!(f, "for a reason this version does not know ({code})"),
        }
    }
}

/// Why a handshake failed. The connection is to be closed, after what is in the output was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// What came is not of this protocol: another program listens or connects there.
    #[error("the other side does not speak the protocol of the node port")]
    NotWarren,
    /// A version this side does not speak.
    #[error(
        "the other side speaks version {0} of the node port, this side \
 version 1"
    )]
    UnknownVersion(u8),
    /// A kind of connection this side does not serve, or not the one that was asked for.
    #[error("unknown kind of connection {0}")]
    UnknownKind(u8),
    /// A kind of connection that this side takes by TLS only.
    #[error("{0} speaks no TLS, and this node wants TLS between nodes: inter_node.ssl_options")]
    WithoutTls(String),
    /// The proof of the other side was made with another cookie.
    #[error("{0} does not know the cookie of this side")]
    WrongCookie(String),
    /// The acceptor refused.
    #[error("refused by the node: {0}")]
    Refused(Refusal),
    /// A node answers, but not the one that was expected. It got no proof.
    #[error("the node there is called {found}")]
    OtherNode {
        /// What the node that answered calls itself.
        found: String,
    },
    /// More bytes than the protocol allows at this point.
    #[error("bytes before the handshake was complete")]
    EarlyBytes,
}

/// The other side, after it proved that it knows the cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What the connection is for.
    pub kind: Kind,
    /// The name that the other side gave itself.
    pub name: String,
}

/// One side's hello.
#[derive(Clone, Debug)]
struct Hello {
    kind: Kind,
    nonce: Nonce,
    name: String,
}

impl Hello {
    fn new(kind: Kind, name: &str, nonce: Nonce) -> Hello {
        assert!(
            !name.is_empty() && name.len() <= NAME_BYTES_MAX,
            "a name has 1 to 255 bytes"
        );
        Hello {
            kind,
            nonce,
            name: name.to_owned(),
        }
    }

    fn write(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&MAGIC);
        output.push(self.kind.code());
        output.extend_from_slice(&self.nonce);
        output.push(u8::try_from(self.name.len()).expect("checked when the hello was made"));
        output.extend_from_slice(self.name.as_bytes());
    }

    /// Takes a hello from the input; `None` when more bytes are needed. Fails at the first wrong
    /// byte, so that a foreign program is told apart before it has sent a whole hello.
    fn take(input: &mut BytesMut) -> Result<Option<Hello>, HandshakeError> {
        let name_start = MAGIC.len() - 1;
        let seen = input.len().min(name_start);
        if input[..seen] != MAGIC[..seen] {
            return Err(HandshakeError::NotWarren);
        }
        if let Some(&version) = input.get(name_start)
            && version != MAGIC[name_start]
        {
            return Err(HandshakeError::UnknownVersion(version));
        }
        if let Some(&code) = input.get(MAGIC.len())
            && Kind::from_code(code).is_none()
        {
            return Err(HandshakeError::UnknownKind(code));
        }
        let Some(&name_bytes) = input.get(HELLO_HEAD_BYTES - 1) else {
            return Ok(None);
        };
        if input.len() < HELLO_HEAD_BYTES + usize::from(name_bytes) {
            return Ok(None);
        }
        input.advance(MAGIC.len());
        let kind = Kind::from_code(input.get_u8()).expect("checked above");
        let mut nonce = [0; NONCE_BYTES];
        input.copy_to_slice(&mut nonce);
        input.advance(1);
        let name = input.split_to(usize::from(name_bytes));
        match std::str::from_utf8(&name) {
            Ok(name) if is_printable(name) => Ok(Some(Hello::new(kind, name, nonce))),
            _ => Err(HandshakeError::NotWarren),
        }
    }
}

/// A name ends up in logs and on terminals.
pub(crate) fn is_printable(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(char::is_control)
}

/// Everything both sides have said, under a label that differs by direction. The names go in with
/// their lengths, so that no two pairs of hellos give the same bytes.
fn transcript(cookie: &Cookie, label: &[u8], initiator: &Hello, acceptor: &Hello) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(cookie.bytes()).expect("HMAC takes any key");
    mac.update(label);
    for hello in [initiator, acceptor] {
        let mut bytes = Vec::with_capacity(HELLO_HEAD_BYTES + hello.name.len());
        hello.write(&mut bytes);
        mac.update(&bytes);
    }
    mac
}

/// The side that connects.
#[derive(Debug)]
pub struct Initiator {
    cookie: Cookie,
    own: Hello,
    expected: Option<String>,
    acceptor: Option<Hello>,
}

impl Initiator {
    /// Starts a handshake and writes the hello to the output. With `expected`, a node that gives
    /// itself another name (ports in the names aside) gets no proof.
    ///
    /// # Panics
    /// When the own name is empty or longer than [`NAME_BYTES_MAX`].
    #[must_use]
    pub fn new(
        kind: Kind,
        own_name: &str,
        expected: Option<&str>,
        cookie: Cookie,
        nonce: Nonce,
        output: &mut Vec<u8>,
    ) -> Initiator {
        let own = Hello::new(kind, own_name, nonce);
        own.write(output);
        Initiator {
            cookie,
            own,
            expected: expected.map(str::to_owned),
            acceptor: None,
        }
    }

    /// Takes what has come, adds what is to be sent. The peer once the handshake is complete; what
    /// the acceptor sent after it stays in the input.
    ///
    /// # Errors
    /// When the handshake has failed for good.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Peer>, HandshakeError> {
        if self.acceptor.is_none() {
            // No hello begins with a code of refusal, nor does an answer of HTTP, TLS or Erlang.
            if let Some(&code @ 1..=REFUSAL_CODE_MAX) = input.first() {
                return Err(HandshakeError::Refused(Refusal::from_code(code)));
            }
            let Some(hello) = Hello::take(input)? else {
                return Ok(None);
            };
            if hello.kind != self.own.kind {
                return Err(HandshakeError::UnknownKind(hello.kind.code()));
            }
            if let Some(expected) = &self.expected
                && !is_same_node(expected, &hello.name)
            {
                return Err(HandshakeError::OtherNode { found: hello.name });
            }
            let proof = transcript(&self.cookie, INITIATOR, &self.own, &hello).finalize();
            output.extend_from_slice(&proof.into_bytes());
            self.acceptor = Some(hello);
        }
        let acceptor = self.acceptor.as_ref().expect("set above");
        match input.first() {
            None => return Ok(None),
            Some(0) => {}
            Some(&code @ 1..=REFUSAL_CODE_MAX) => {
                return Err(HandshakeError::Refused(Refusal::from_code(code)));
            }
            Some(_) => return Err(HandshakeError::NotWarren),
        }
        if input.len() < 1 + PROOF_BYTES {
            return Ok(None);
        }
        input.advance(1);
        let proof = input.split_to(PROOF_BYTES);
        transcript(&self.cookie, ACCEPTOR, &self.own, acceptor)
            .verify_slice(&proof)
            .map_err(|_| HandshakeError::WrongCookie(acceptor.name.clone()))?;
        Ok(Some(Peer {
            kind: acceptor.kind,
            name: acceptor.name.clone(),
        }))
    }
}

/// The side that was connected to.
///
/// ```
/// use bytes::BytesMut;
/// use cluster::handshake::{Acceptor, Cookie, HandshakeError, Peer};
///
/// async fn accept<S>(socket: &mut S, cookie: Cookie, nonce: [u8; 32]) -> std::io::Result<Peer>
/// where S: AsyncSocket {
///     let mut handshake = Acceptor::new("warren@box", cookie, nonce);
///     let (mut input, mut output) = (BytesMut::new(), Vec::new());
///     loop {
///         if socket.read_buf(&mut input).await? == 0 {
///             return Err(std::io::ErrorKind::UnexpectedEof.into());
///         }
///         let step = handshake.receive(&mut input, &mut output);
///         socket.write_all(&output).await?; // a refusal is sent too
///         output.clear();
///         match step {
///             Ok(Some(peer)) => return Ok(peer), // input is empty: serve the socket by peer.kind
///             Ok(None) => {}
///             Err(error) => return Err(std::io::Error::other(error)), // log it once, then close
///         }
///     }
/// }
/// # #[allow(async_fn_in_trait)]
/// # trait AsyncSocket {
/// #     async fn read_buf(&mut self, input: &mut BytesMut) -> std::io::Result<usize>;
/// #     async fn write_all(&mut self, output: &[u8]) -> std::io::Result<()>;
/// # }
/// ```
/// The caller bounds the time: nothing here ends a handshake whose other side falls silent.
#[derive(Debug)]
pub struct Acceptor {
    cookie: Cookie,
    own_name: String,
    nonce: Nonce,
    taken: &'static [Kind],
    hellos: Option<(Hello, Hello)>,
}

impl Acceptor {
    /// Waits for a hello.
    ///
    /// # Panics
    /// When the own name is empty or longer than [`NAME_BYTES_MAX`].
    #[must_use]
    pub fn new(own_name: &str, cookie: Cookie, nonce: Nonce) -> Acceptor {
        assert!(
            !own_name.is_empty() && own_name.len() <= NAME_BYTES_MAX,
            "a name has 1 to 255 bytes"
        );
        Acceptor {
            cookie,
            own_name: own_name.to_owned(),
            nonce,
            taken: &[Kind::Control, Kind::NodeLink],
            hellos: None,
        }
    }

    /// Takes connections of these kinds; those of others are told to come by TLS.
    #[must_use]
    pub fn taking(self, kinds: &'static [Kind]) -> Acceptor {
        Acceptor {
            taken: kinds,
            ..self
        }
    }

    /// Takes what has come, adds what is to be sent (also on an error: the initiator is told why).
    /// The peer once the handshake is complete; the input is empty then, as an initiator says
    /// nothing more before it has seen the acceptor's proof.
    ///
    /// # Errors
    /// When the handshake has failed for good.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Peer>, HandshakeError> {
        if self.hellos.is_none() {
            let hello = Hello::take(input).inspect_err(|error| match error {
                HandshakeError::UnknownVersion(_) => output.push(Refusal::UnknownVersion.code()),
                HandshakeError::UnknownKind(_) => output.push(Refusal::UnknownKind.code()),
                _ => {}
            })?;
            let Some(hello) = hello else { return Ok(None) };
            if !self.taken.contains(&hello.kind) {
                output.push(Refusal::WantsTls.code());
                return Err(HandshakeError::WithoutTls(hello.name));
            }
            let own = Hello::new(hello.kind, &self.own_name, self.nonce);
            own.write(output);
            self.hellos = Some((hello, own));
        }
        let (initiator, own) = self.hellos.as_ref().expect("set above");
        if input.len() > PROOF_BYTES {
            return Err(HandshakeError::EarlyBytes);
        }
        if input.len() < PROOF_BYTES {
            return Ok(None);
        }
        let proof = input.split_to(PROOF_BYTES);
        let verdict = transcript(&self.cookie, INITIATOR, initiator, own).verify_slice(&proof);
        if verdict.is_err() {
            output.push(Refusal::WrongCookie.code());
            return Err(HandshakeError::WrongCookie(initiator.name.clone()));
        }
        output.push(0);
        let proof = transcript(&self.cookie, ACCEPTOR, initiator, own).finalize();
        output.extend_from_slice(&proof.into_bytes());
        Ok(Some(Peer {
            kind: initiator.kind,
            name: initiator.name.clone(),
        }))
    }
}

/// Whether two node names mean the same node: `name@host` counts, `:port` does not.
#[must_use]
pub fn is_same_node(one: &str, other: &str) -> bool {
    without_port(one) == without_port(other)
}

fn without_port(node: &str) -> &str {
    match node.rsplit_once(':') {
        Some((rest, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => node,
    }
}

#[cfg(test)]
mod tests;
