use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::verifier::Unverified;
use super::{LOOK_INTERVAL, Session, Tls};
use crate::config::{CertificateLogin, TlsOptions, TlsVersion};

mod refusals;

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn params(common_name: &str) -> CertificateParams {
    let mut params =
        CertificateParams::new(vec!["localhost".to_owned()]).expect("that is a host name");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Orders");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(crate) fn authority(common_name: &str) -> Issuer {
    CertifiedIssuer::self_signed(authority_params(common_name), key())
        .expect("an authority can be made")
}

/// A client, by the certificates it shows.
#[derive(Clone, Default)]
struct Client {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
}

impl Client {
    fn with_certificate(common_name: &str, issuer: &Issuer) -> Client {
        let key = key();
        let certificate = params(common_name)
            .signed_by(&key, issuer)
            .expect("a certificate can be signed");
        Client {
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
            versions: Vec::new(),
        }
    }
}

/// A folder with the files of a server.
pub(crate) struct Folder {
    dir: TempDir,
}

impl Folder {
    /// With `ca.pem`, `cert.pem` and `key.pem`.
    pub(crate) fn of(authority: &Issuer) -> Folder {
        let folder = Folder {
            dir: tempfile::tempdir().expect("a folder can be made"),
        };
        folder.write("ca.pem", &authority.pem());
        folder.write_server("server", authority);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file in its place at once, as tools that renew certificates do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let unfinished = self.path("unfinished");
        std::fs::write(&unfinished, text).expect("the file can be written");
        std::fs::rename(unfinished, self.path(name)).expect("the file can be moved");
    }

    fn write_server(&self, common_name: &str, authority: &Issuer) {
        let key = key();
        let certificate = params(common_name)
            .signed_by(&key, authority)
            .expect("a certificate can be signed");
        self.write("cert.pem", &certificate.pem());
        self.write("key.pem", &key.serialize_pem());
    }

    pub(crate) fn options(&self) -> TlsOptions {
        TlsOptions {
            cacertfile: Some(self.path("ca.pem")),
            certfile: Some(self.path("cert.pem")),
            keyfile: Some(self.path("key.pem")),
            ..TlsOptions::default()
        }
    }

    fn load(&self) -> Tls {
        load(&self.options())
    }
}

fn load(options: &TlsOptions) -> Tls {
    let (tls, warnings) =
        Tls::load("ssl_options", options, &[]).unwrap_or_else(|error| panic!("refused: {error}"));
    assert_eq!(warnings, [""; 0]);
    tls
}

/// What came of a connection.
#[derive(Debug)]
struct Met {
    session: Session,
    login: Option<String>,
    /// Who the server said it is.
    server: String,
    protocol: Option<Vec<u8>>,
}

/// Connects a client to the server, both in this process; the error is the server's.
fn meet(tls: &Tls, client: &Client) -> Result<Met, String> {
    let versions = if client.versions.is_empty() {
        rustls::ALL_VERSIONS.to_vec()
    } else {
        client.versions.clone()
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions)
        .expect("these are versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(
            ring::default_provider().signature_verification_algorithms,
        )));
    let mut config = if client.chain.is_empty() {
        builder.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(client.key.clone()));
        builder
            .with_client_auth_cert(client.chain.clone(), key)
            .expect("the key belongs to the certificate")
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = tls.acceptor();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async move {
        let name = ServerName::try_from("localhost").expect("that is a name");
        let (accepted, connected) =
            tokio::join!(acceptor.accept(near), connector.connect(name, far));
        let accepted = accepted.map_err(|error| error.to_string())?;
        let connected = connected.map_err(|error| format!("client: {error}"))?;
        let chain = connected
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default();
        let server = chain
            .first()
            .and_then(super::certificate::described)
            .map(|shown| shown.subject);
        let connection = accepted.get_ref().1;
        Ok(Met {
            session: tls.session(connection),
            login: tls.login_name(connection, CertificateLogin::DistinguishedName),
            server: server.unwrap_or_default(),
            protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        })
    })
}

fn words(session: &Session) -> [&str; 4] {
    [
        &session.protocol,
        &session.key_exchange,
        &session.cipher,
        &session.hash,
    ]
}

#[test]
fn connections_are_described_in_rabbitmqs_words() {
    let tls = Folder::of(&authority("CA")).load();
    let met = meet(&tls, &Client::default()).unwrap();
    assert_eq!(
        words(&met.session),
        ["tlsv1.3", "any", "aes_256_gcm", "aead"]
    );
    assert_eq!((met.session.peer, met.login), (None, None));
    assert_eq!(met.server, "CN=server,O=Orders");
    let old = Client {
        versions: vec![&rustls::version::TLS12],
        ..Client::default()
    };
    assert_eq!(
        words(&meet(&tls, &old).unwrap().session),
        ["tlsv1.2", "ecdhe_ecdsa", "aes_256_gcm", "aead"]
    );
}

#[test]
fn only_versions_that_are_allowed_are_spoken() {
    let folder = Folder::of(&authority("CA"));
    let tls = load(&TlsOptions {
        versions: vec![TlsVersion::V1_3],
        ..folder.options()
    });
    let old = Client {
        versions: vec![&rustls::version::TLS12],
        ..Client::default()
    };
    assert!(meet(&tls, &old).is_err());
    assert_eq!(
        meet(&tls, &Client::default()).unwrap().session.protocol,
        "tlsv1.3"
    );
    let tls = load(&TlsOptions {
        versions: vec![TlsVersion::V1_2],
        ..folder.options()
    });
    assert_eq!(
        meet(&tls, &Client::default()).unwrap().session.protocol,
        "tlsv1.2"
    );
}

#[test]
fn ciphers_go_by_either_name_and_in_the_order_given() {
    let folder = Folder::of(&authority("CA"));
    let ciphers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let options = TlsOptions {
        ciphers: ciphers(&[
            "TLS_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ]),
        honor_cipher_order: true,
        ..folder.options()
    };
    let tls = load(&options);
    assert_eq!(
        meet(&tls, &Client::default()).unwrap().session.cipher,
        "chacha20_poly1305"
    );
    let old = Client {
        versions: vec![&rustls::version::TLS12],
        ..Client::default()
    };
    assert_eq!(meet(&tls, &old).unwrap().session.cipher, "aes_128_gcm");
    let options = TlsOptions {
        ciphers: ciphers(&[
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            "DHE-RSA-AES256-SHA256",
        ]),
        ..folder.options()
    };
    let (tls, warnings) = Tls::load("ssl_options", &options, &[]).unwrap();
    assert_eq!(
        warnings,
        ["ssl_options.ciphers: not supported and left out: DHE-RSA-AES256-SHA256"]
    );
    // Without a cipher for it, 1.3 is not spoken.
    assert_eq!(
        meet(&tls, &Client::default()).unwrap().session.protocol,
        "tlsv1.2"
    );
}

#[test]
fn a_protocol_can_be_offered() {
    let folder = Folder::of(&authority("CA"));
    let (tls, _) = Tls::load("management.ssl", &folder.options(), &[b"http/1.1"]).unwrap();
    assert_eq!(
        meet(&tls, &Client::default()).unwrap().protocol.as_deref(),
        Some(b"http/1.1".as_slice())
    );
}

#[test]
fn without_verification_no_certificate_is_asked_for() {
    let ca = authority("CA");
    let met = meet(
        &Folder::of(&ca).load(),
        &Client::with_certificate("worker", &ca),
    )
    .unwrap();
    assert_eq!((met.session.peer, met.login), (None, None));
}

#[test]
fn verified_clients_are_known_by_name() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    for fail_if_no_peer_cert in [false, true] {
        let tls = load(&TlsOptions {
            verify: true,
            fail_if_no_peer_cert,
            ..folder.options()
        });
        let met = meet(&tls, &Client::with_certificate("worker", &ca)).unwrap();
        assert_eq!(met.login.as_deref(), Some("CN=worker,O=Orders"));
        let peer = met.session.peer.expect("there is a certificate");
        assert_eq!(
            (peer.subject.as_str(), peer.issuer.as_str()),
            ("CN=worker,O=Orders", "CN=CA,O=Orders")
        );
        let stranger = Client::with_certificate("worker", &authority("Other"));
        assert!(
            meet(&tls, &stranger).is_err(),
            "a certificate of nobody's was taken"
        );
        let anonymous = meet(&tls, &Client::default());
        assert_eq!(anonymous.is_ok(), !fail_if_no_peer_cert);
        assert_eq!(anonymous.ok().and_then(|met| met.login), None);
    }
}

#[test]
fn chains_are_as_long_as_is_allowed() {
    let ca = authority("CA");
    let middle = CertifiedIssuer::signed_by(authority_params("Middle"), key(), &ca).unwrap();
    let low = CertifiedIssuer::signed_by(authority_params("Low"), key(), &middle).unwrap();
    let mut client = Client::with_certificate("worker", &low);
    client
        .chain
        .extend([low.der().clone(), middle.der().clone(), ca.der().clone()]);
    let folder = Folder::of(&ca);
    for (depth, is_allowed) in [(0, false), (1, false), (2, true), (10, true)] {
        let tls = load(&TlsOptions {
            verify: true,
            depth,
            ..folder.options()
        });
        assert_eq!(
            meet(&tls, &client).is_ok(),
            is_allowed,
            "with a depth of {depth}"
        );
    }
    // A client that shows less than the whole chain is not trusted for it.
    client.chain.truncate(2);
    let tls = load(&TlsOptions {
        verify: true,
        ..folder.options()
    });
    assert!(meet(&tls, &client).is_err());
}

fn server_after(tls: &Tls, time: Duration) -> String {
    tls.look(Instant::now() + time);
    meet(tls, &Client::default()).unwrap().server
}

#[test]
fn changed_files_are_taken_up_after_a_while() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    let tls = folder.load();
    folder.write_server("renewed", &ca);
    assert_eq!(server_after(&tls, Duration::ZERO), "CN=server,O=Orders");
    assert_eq!(server_after(&tls, LOOK_INTERVAL * 2), "CN=renewed,O=Orders");
}

#[test]
fn changed_files_are_taken_up_on_request() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    let tls = folder.load();
    folder.write_server("renewed", &ca);
    tls.reload().unwrap();
    assert_eq!(
        meet(&tls, &Client::default()).unwrap().server,
        "CN=renewed,O=Orders"
    );
}

#[test]
fn a_change_that_does_not_fit_leaves_the_old_files_in_force() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    let tls = folder.load();
    let text = std::fs::read_to_string(folder.path("key.pem")).unwrap();
    folder.write_server("renewed", &ca);
    let renewed_key = std::fs::read_to_string(folder.path("key.pem")).unwrap();
    folder.write("key.pem", &text);
    assert_eq!(server_after(&tls, LOOK_INTERVAL * 2), "CN=server,O=Orders");
    assert!(
        tls.reload()
            .unwrap_err()
            .to_string()
            .contains("does not belong to the certificate")
    );
    folder.write("key.pem", &renewed_key);
    assert_eq!(server_after(&tls, LOOK_INTERVAL * 4), "CN=renewed,O=Orders");
    std::fs::remove_file(folder.path("cert.pem")).unwrap();
    assert_eq!(server_after(&tls, LOOK_INTERVAL * 6), "CN=renewed,O=Orders");
}

#[test]
fn new_authorities_are_taken_up_too() {
    let (ca, other) = (authority("CA"), authority("Other"));
    let folder = Folder::of(&ca);
    let tls = load(&TlsOptions {
        verify: true,
        ..folder.options()
    });
    let client = Client::with_certificate("worker", &other);
    assert!(meet(&tls, &client).is_err());
    folder.write("ca.pem", &format!("{}{}", ca.pem(), other.pem()));
    tls.reload().unwrap();
    assert_eq!(
        meet(&tls, &client).unwrap().login.as_deref(),
        Some("CN=worker,O=Orders")
    );
}

/// Writes a server certificate that ends then.
fn write_ending(folder: &Folder, ca: &Issuer, year: i32) {
    let key = key();
    let mut params = params("server");
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, ca).unwrap();
    // The certificate that ends later stands in the file too.
    folder.write("cert.pem", &format!("{}{}", certificate.pem(), ca.pem()));
    folder.write("key.pem", &key.serialize_pem());
}

#[test]
fn certificates_are_listed_with_the_first_end_in_the_file() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    write_ending(&folder, &ca, 2040);
    let certificates = folder.load().certificates();
    let listed: Vec<(&str, &Path)> = certificates
        .iter()
        .map(|file| (file.kind, file.path.as_path()))
        .collect();
    let (cert, authorities) = (folder.path("cert.pem"), folder.path("ca.pem"));
    assert_eq!(
        listed,
        [
            ("certfile", cert.as_path()),
            ("cacertfile", authorities.as_path())
        ]
    );
    assert_eq!(certificates[0].not_after, 2_208_988_800_000);
}

#[test]
fn certificates_that_have_ended_are_pointed_out() {
    let ca = authority("CA");
    let folder = Folder::of(&ca);
    write_ending(&folder, &ca, 2001);
    let (_, warnings) = Tls::load("ssl_options", &folder.options(), &[]).unwrap();
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(
        warning.starts_with("ssl_options.certfile: ") && warning.ends_with("has expired"),
        "{warning}"
    );
}
