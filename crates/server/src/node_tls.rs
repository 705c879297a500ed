//! TLS between nodes: for links and for what hosts ask each other, and who may come without.
//!
//! What nodes agree on stands in `docs/formats/node-port.md`. Where there is no TLS a connection is a [`TcpStream`]
//! from end to end: all that handles connections is generic over [`NodeStream`], so plain links pay nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cluster::handshake::Kind;
use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

use crate::config::{Config, NodeName};
use crate::tls::{Tls, TlsError};

/// Where it is configured.
const PREFIX: &str = "inter_node.ssl_options";

/// The first byte of a handshake of TLS; no hello of the node port begins with it.
const HANDSHAKE_RECORD: u8 = 0x16;

/// So long who is refused may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// A connection on the node port, with TLS or without.
pub(crate) trait NodeStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    type Reader: AsyncRead + Unpin + Send + 'static;
    type Writer: AsyncWrite + Unpin + Send + 'static;

    /// The socket beneath.
    fn socket(&self) -> &TcpStream;

    /// For two tasks, one of which reads.
    fn halves(self) -> (Self::Reader, Self::Writer);
}

impl NodeStream for TcpStream {
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;

    fn socket(&self) -> &TcpStream {
        self
    }

    fn halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}

impl NodeStream for TlsStream<TcpStream> {
    type Reader = ReadHalf<TlsStream<TcpStream>>;
    type Writer = WriteHalf<TlsStream<TcpStream>>;

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }

    fn halves(self) -> (Self::Reader, Self::Writer) {
        tokio::io::split(self)
    }
}

/// The TLS of this node with others.
#[derive(Clone, Debug)]
pub(crate) struct NodeTls(Arc<Tls>);

impl NodeTls {
    /// Reads the files that the configuration names, if it names any.
    pub(crate) fn load(config: &Config) -> Result<Option<NodeTls>, TlsError> {
        let Some(options) = &config.cluster.inter_node_tls else { return Ok(None) };
        let (tls, warnings) = Tls::load(PREFIX, options, &[])?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(Some(NodeTls(Arc::new(tls))))
    }

    /// What is behind, to be shown and read again as that of other listeners.
    pub(crate) fn tls(&self) -> &Arc<Tls> {
        &self.0
    }

    /// Begins TLS with a node that was called.
    pub(crate) async fn call(&self, node: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name: NodeName = node.parse().map_err(|error| io::Error::other(format!("'{node}' {error}")))?;
        let host = ServerName::try_from(name.host().to_owned());
        let host = host.map_err(|_| io::Error::other(format!("no certificate can be for the host of {node}")))?;
        let called = self.0.connector().connect(host, stream).await;
        called.map(TlsStream::from).map_err(|error| {
            let broke_off = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            if broke_off.contains(&error.kind()) || matches!(cause(&error), Some(Error::InvalidMessage(_))) {
                return io::Error::other(no_tls_there());
            }
            explained(error)
        })
    }

    /// Begins TLS with somebody who calls.
    pub(crate) async fn answer(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        match self.0.acceptor().accept(stream).into_fallible().await {
            Ok(stream) => Ok(stream.into()),
            Err((error, mut stream)) => {
                // What the other side has sent meanwhile is read, or closing would take back the alert that tells
                // it why.
                let read = async {
                    let _ = stream.shutdown().await;
                    let mut rest = [0; 1024];
                    while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
                };
                let _ = tokio::time::timeout(LINGER, read).await;
                Err(explained(error))
            }
        }
    }
}

/// Whether the other side begins with TLS. One that says nothing at all is at its end.
pub(crate) async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] == HANDSHAKE_RECORD),
    }
}

/// Of somebody who does not begin with TLS where nodes have it.
pub(crate) fn no_tls_there() -> String {
    format!("it speaks no TLS between nodes: {PREFIX} is set here, is it there?")
}

/// What this node tells somebody who begins with TLS where there is none.
pub(crate) fn no_tls_here() -> io::Error {
    io::Error::other(format!("it speaks TLS, and this node has none between nodes: {PREFIX} is not set"))
}

/// What is taken from one side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    Everything,
    /// Tools of the operator, without what only nodes ask.
    Tools,
    Nothing,
}

impl Admitted {
    /// From somebody without TLS, where nodes have it: from another host nothing.
    pub(crate) fn without_tls(from: SocketAddr, own: SocketAddr) -> Admitted {
        let (from, own): (IpAddr, IpAddr) = (from.ip().to_canonical(), own.ip().to_canonical());
        if from.is_loopback() || from == own { Admitted::Tools } else { Admitted::Nothing }
    }

    /// Kinds of connections that are so admitted.
    pub(crate) fn kinds(self) -> &'static [Kind] {
        match self {
            Admitted::Everything => &[Kind::Control, Kind::NodeLink],
            Admitted::Tools => &[Kind::Control],
            Admitted::Nothing => &[],
        }
    }
}

fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The same error, in words that say what to look at.
pub(crate) fn explained(error: io::Error) -> io::Error {
    use AlertDescription as Alert;
    let text = match cause(&error) {
        // The second is another authority of the same name.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            format!("its certificate leads to none in {PREFIX}.cacertfile")
        }
        Some(Error::InvalidCertificate(why)) => format!("its certificate is not accepted: {why}"),
        Some(Error::NoCertificatesPresented) => {
            format!("it shows no certificate, which {PREFIX}.fail_if_no_peer_cert wants")
        }
        Some(Error::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnsupportedCertificate),
        )) => format!("it does not accept the certificate of this node ({alert:?}), its log says why"),
        Some(other) => format!("TLS with it failed: {other}"),
        None => return error,
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests;
