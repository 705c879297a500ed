//! Cipher suites by the names people write (OpenSSL's or IANA's) and the words RabbitMQ lists them with.

use rustls::crypto::ring::ALL_CIPHER_SUITES;
use rustls::{CipherSuite, SupportedCipherSuite};

use super::TlsError;

/// How a cipher suite is called.
pub(super) struct SuiteName {
    suite: CipherSuite,
    openssl: &'static str,
    pub(super) key_exchange: &'static str,
    pub(super) cipher: &'static str,
}

const fn name(
    suite: CipherSuite,
    openssl: &'static str,
    key_exchange: &'static str,
    cipher: &'static str,
) -> SuiteName {
    SuiteName {
        suite,
        openssl,
        key_exchange,
        cipher,
    }
}

/// All that are supported.
const NAMES: [SuiteName; 9] = [
    name(
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384",
        "any",
        "aes_256_gcm",
    ),
    name(
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256",
        "any",
        "aes_128_gcm",
    ),
    name(
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256",
        "any",
        "chacha20_poly1305",
    ),
    name(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ecdhe_ecdsa",
        "aes_256_gcm",
    ),
    name(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ecdhe_ecdsa",
        "aes_128_gcm",
    ),
    name(
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ecdhe_ecdsa",
        "chacha20_poly1305",
    ),
    name(
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ecdhe_rsa",
        "aes_256_gcm",
    ),
    name(
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ecdhe_rsa",
        "aes_128_gcm",
    ),
    name(
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ecdhe_rsa",
        "chacha20_poly1305",
    ),
];

/// The names of a suite.
pub(super) fn named(suite: CipherSuite) -> Option<&'static SuiteName> {
    NAMES.iter().find(|name| name.suite == suite)
}

/// The suites of `ciphers`, in its order; all where it is empty. Unsupported ones are left out with a warning.
pub(super) fn chosen(
    prefix: &str,
    ciphers: &[String],
    warnings: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    if ciphers.is_empty() {
        return Ok(ALL_CIPHER_SUITES.to_vec());
    }
    let mut suites = Vec::new();
    let mut left_out = Vec::new();
    for cipher in ciphers {
        let name = NAMES
            .iter()
            .find(|name| name.openssl == cipher || name.suite.as_str() == Some(cipher));
        match name.and_then(|name| {
            ALL_CIPHER_SUITES
                .iter()
                .find(|suite| suite.suite() == name.suite)
        }) {
            Some(suite) if suites.contains(suite) => {}
            Some(suite) => suites.push(*suite),
            None => left_out.push(cipher.as_str()),
        }
    }
    if suites.is_empty() {
        let supported: Vec<&str> = NAMES.iter().map(|name| name.openssl).collect();
        let text = format!(
            "none of the ciphers is supported; use some of {}",
            supported.join(", ")
        );
        return Err(TlsError::new(&format!("{prefix}.ciphers"), None, text));
    }
    if !left_out.is_empty() {
        warnings.push(format!(
            "{prefix}.ciphers: not supported and left out: {}",
            left_out.join(", ")
        ));
    }
    Ok(suites)
}
