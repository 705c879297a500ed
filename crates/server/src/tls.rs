//! TLS of a listener: from `ssl_options.*` to handshakes, and from a handshake to who the client is. Nodes that call each
//! other are clients too, with the same settings and files.
//!
//! Files that cannot be read or do not fit together stop the node, by name. Once it runs, files that change are taken
//! up: looked at when a client connects, at most every few seconds, and on request (SIGHUP). A change that cannot be
//! taken up, such as a new certificate whose key is still the old one, leaves the old files in force and is logged
//! once; the next change is tried again.
//!
//! The cryptography is ring, named in each call; nothing depends on a process-wide default.

mod certificate;
mod files;
mod session;
mod suites;
mod verifier;

pub(crate) use files::{CertificateFile, TlsError};
pub(crate) use session::{PeerCertificate, Session};

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ServerConfig, ServerConnection, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{CertificateLogin, TlsOptions, TlsVersion};
use files::{Material, Stamp};

/// How often, at most, files are looked at when clients connect.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The TLS settings of a listener and what they give.
pub(crate) struct Tls {
    /// The key the settings stand under, for messages.
    prefix: String,
    options: TlsOptions,
    protocols: Vec<Vec<u8>>,
    loaded: ArcSwap<Loaded>,
    watched: Mutex<Watched>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// For calling others of the same kind.
    calling: Arc<ClientConfig>,
    certificates: Vec<CertificateFile>,
}

struct Watched {
    next_look: Instant,
    stamps: Vec<Option<Stamp>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.prefix)
    }
}

impl Tls {
    /// Reads the files that `options`, which stand under the key `prefix`, name. `protocols` are offered by ALPN;
    /// AMQP has none. The texts returned are for the log.
    ///
    /// # Errors
    /// When a file is missing, unreadable, or not what it should be, or when the files do not fit together.
    pub(crate) fn load(
        prefix: &str,
        options: &TlsOptions,
        protocols: &[&[u8]],
    ) -> Result<(Tls, Vec<String>), TlsError> {
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
        let stamps = stamps(options);
        let (loaded, warnings) = load(prefix, options, &protocols)?;
        let tls = Tls {
            prefix: prefix.to_owned(),
            options: options.clone(),
            protocols,
            loaded: ArcSwap::from_pointee(loaded),
            watched: Mutex::new(Watched {
                next_look: Instant::now() + LOOK_INTERVAL,
                stamps,
            }),
        };
        Ok((tls, warnings))
    }

    /// What makes a connection of a socket, with the files as they are.
    #[must_use]
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.look(Instant::now());
        TlsAcceptor::from(Arc::clone(&self.loaded.load().config))
    }

    /// The same for calling another node: this one shows its certificate, and checks the other's if it verifies.
    #[must_use]
    pub(crate) fn connector(&self) -> TlsConnector {
        self.look(Instant::now());
        TlsConnector::from(Arc::clone(&self.loaded.load().calling))
    }

    /// Reads the files again, whether they have changed or not.
    ///
    /// # Errors
    /// As `load`; then the files read before stay in force.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let mut watched = self.watched.lock();
        watched.stamps = stamps(&self.options);
        self.take_up()
    }

    /// The certificates that are shown and trusted, with their ends.
    #[must_use]
    pub(crate) fn certificates(&self) -> Vec<CertificateFile> {
        self.loaded.load().certificates.clone()
    }

    /// What was agreed on in a handshake, and with whom.
    #[must_use]
    pub(crate) fn session(&self, connection: &ServerConnection) -> Session {
        Session::of(connection)
    }

    /// The name under which a client may log in by its certificate. Nothing where certificates are not verified,
    /// since anybody can make one.
    #[must_use]
    pub(crate) fn login_name(
        &self,
        connection: &ServerConnection,
        from: CertificateLogin,
    ) -> Option<String> {
        let certificate = connection.peer_certificates()?.first()?;
        if self.options.verify {
            certificate::login_name(certificate, from)
        } else {
            None
        }
    }

    /// Takes up changed files, if it is time to look for them.
    fn look(&self, now: Instant) {
        // Whoever finds it locked knows that somebody else is looking.
        let Some(mut watched) = self.watched.try_lock() else {
            return;
        };
        if now < watched.next_look {
            return;
        }
        watched.next_look = now + LOOK_INTERVAL;
        let stamps = stamps(&self.options);
        if stamps == watched.stamps {
            return;
        }
        watched.stamps = stamps;
        match self.take_up() {
            Ok(()) => tracing::info!("the changed files of {} are in force", self.prefix),
            Err(error) => tracing::warn!(
                "changed files are left out, those read before stay in force: {error}"
            ),
        }
    }

    fn take_up(&self) -> Result<(), TlsError> {
        let (loaded, warnings) = load(&self.prefix, &self.options, &self.protocols)?;
        self.loaded.store(Arc::new(loaded));
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

fn stamps(options: &TlsOptions) -> Vec<Option<Stamp>> {
    let files = [&options.cacertfile, &options.certfile, &options.keyfile];
    files
        .into_iter()
        .flatten()
        .map(|path| Stamp::of(Path::new(path)))
        .collect()
}

fn load(
    prefix: &str,
    options: &TlsOptions,
    protocols: &[Vec<u8>],
) -> Result<(Loaded, Vec<String>), TlsError> {
    let refused = |error: rustls::Error| TlsError::new(prefix, None, error.to_string());
    let mut warnings = Vec::new();
    let material = Material::read(prefix, options)?;
    let cipher_suites = suites::chosen(prefix, &options.ciphers, &mut warnings)?;
    let provider = Arc::new(CryptoProvider {
        cipher_suites,
        ..ring::default_provider()
    });
    let versions = versions(prefix, options, &provider)?;
    let key = material.key(prefix, options, &provider)?;
    let unfit = |error| files::chain_error(prefix, options, &error);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&versions).map_err(refused)?;
    let calling = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier::of_nodes(prefix, options, &material, &provider)?)
        .with_client_auth_cert(material.chain.clone(), key.clone_key())
        .map_err(unfit)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&versions).map_err(refused)?;
    let builder = if options.verify {
        builder
            .with_client_cert_verifier(verifier::of_clients(prefix, options, &material, &provider)?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder
        .with_single_cert(material.chain.clone(), key)
        .map_err(unfit)?;
    config.ignore_client_order = options.honor_cipher_order;
    config.alpn_protocols = protocols.to_vec();
    let now = SystemTime::now();
    warnings.extend(
        material
            .certificates
            .iter()
            .filter_map(|certificate| certificate.warning(prefix, now)),
    );
    Ok((
        Loaded {
            config: Arc::new(config),
            calling: Arc::new(calling),
            certificates: material.certificates,
        },
        warnings,
    ))
}

/// The versions asked for, of those for which there is a cipher suite.
fn versions(
    prefix: &str,
    options: &TlsOptions,
    provider: &CryptoProvider,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let asked =
        |version: TlsVersion| options.versions.is_empty() || options.versions.contains(&version);
    let has_suite = |version: &SupportedProtocolVersion| {
        provider
            .cipher_suites
            .iter()
            .any(|suite| suite.version() == version)
    };
    let known = [
        (TlsVersion::V1_3, &rustls::version::TLS13),
        (TlsVersion::V1_2, &rustls::version::TLS12),
    ];
    let versions: Vec<_> = known
        .into_iter()
        .filter(|(name, version)| asked(*name) && has_suite(version))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        let text = "none of the ciphers belongs to one of the versions of TLS that are allowed";
        return Err(TlsError::new(&format!("{prefix}.ciphers"), None, text));
    }
    Ok(versions)
}

#[cfg(test)]
pub(crate) mod tests;
