//! Whether a client's certificate is trusted.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::TlsError;
use super::files::Material;
use crate::config::TlsOptions;

/// What decides about the certificates of clients.
pub(super) fn verifier(
    prefix: &str,
    options: &TlsOptions,
    material: &Material,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(material.trusted.clone());
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if options.fail_if_no_peer_cert {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let inner = builder.build().map_err(|error| {
        TlsError::new(
            &format!("{prefix}.cacertfile"),
            options.cacertfile.as_deref(),
            error.to_string(),
        )
    })?;
    Ok(Arc::new(DepthVerifier {
        inner,
        depth: options.depth.into(),
    }))
}

/// Lets a chain lead over so many certificates at most.
///
/// Clients send them in order, each issued by the next (RFC 5246, 7.4.2), so a path of no more than `depth` of them
/// uses none behind the first `depth`; those behind, often the trusted one itself, are not needed.
#[derive(Debug)]
struct DepthVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    depth: usize,
}

impl ClientCertVerifier for DepthVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let near = &intermediates[..intermediates.len().min(self.depth)];
        self.inner.verify_client_cert(end_entity, near, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
