//! What listings show of an encrypted connection, in RabbitMQ's words.

use rustls::{ProtocolVersion, ServerConnection};

use super::certificate;
use super::suites;

/// What was agreed on in a handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// `tlsv1.2` or `tlsv1.3`.
    pub protocol: String,
    /// `ecdhe_rsa`, `ecdhe_ecdsa`; `any` in TLS 1.3.
    pub key_exchange: String,
    /// `aes_256_gcm`, `aes_128_gcm` or `chacha20_poly1305`.
    pub cipher: String,
    /// `aead`, as for all of these ciphers.
    pub hash: String,
    pub peer: Option<PeerCertificate>,
}

/// The client's certificate. It was verified if the listener verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerCertificate {
    pub subject: String,
    pub issuer: String,
    /// `2026-01-01T00:00:00Z - 2027-01-01T00:00:00Z`.
    pub validity: String,
}

impl Session {
    /// What a connection is like once its handshake is done.
    pub(super) fn of(connection: &ServerConnection) -> Session {
        let protocol = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "tlsv1.3",
            Some(ProtocolVersion::TLSv1_2) => "tlsv1.2",
            _ => "",
        };
        let suite = connection
            .negotiated_cipher_suite()
            .and_then(|suite| suites::named(suite.suite()));
        let peer = connection
            .peer_certificates()
            .and_then(|chain| chain.first());
        Session {
            protocol: protocol.to_owned(),
            key_exchange: suite.map_or(String::new(), |suite| suite.key_exchange.to_owned()),
            cipher: suite.map_or(String::new(), |suite| suite.cipher.to_owned()),
            hash: suite.map_or(String::new(), |_| "aead".to_owned()),
            peer: peer.and_then(certificate::described),
        }
    }
}
