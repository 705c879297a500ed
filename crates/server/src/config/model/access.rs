//! Users, passwords and certificates: who may log in, and how connections are made private.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Three patterns: what may be configured, written and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    pub configure: String,
    pub write: String,
    pub read: String,
}

impl Default for Permissions {
    fn default() -> Permissions {
        Permissions {
            configure: ".*".into(),
            write: ".*".into(),
            read: ".*".into(),
        }
    }
}

/// How new passwords are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordHashing {
    Sha256,
    Sha512,
    Md5,
}

/// A way for a client to say who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    AmqPlain,
    External,
    Anonymous,
}

impl Mechanism {
    /// The name AMQP uses for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::AmqPlain => "AMQPLAIN",
            Mechanism::External => "EXTERNAL",
            Mechanism::Anonymous => "ANONYMOUS",
        }
    }
}

/// What a new user name and password have to satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialValidator {
    AcceptEverything,
    MinLength(usize),
    Regexp(String),
}

/// A user that is given access to each new virtual host whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultUser {
    pub name: String,
    pub vhost_pattern: String,
    /// `None` leaves it to the server to draw one.
    pub password: Option<String>,
    pub permissions: Permissions,
    pub tags: Vec<String>,
}

/// Limits that each new virtual host gets whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultVhostLimit {
    pub id: String,
    pub pattern: String,
    pub max_connections: Option<u64>,
    pub max_queues: Option<u64>,
}

/// A value of a policy given in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyValue {
    Number(u64),
    Text(String),
    List(Vec<String>),
}

/// An operator policy that each new virtual host gets whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultPolicy {
    pub id: String,
    pub vhost_pattern: String,
    pub queue_pattern: String,
    pub apply_to: String,
    /// By policy key, in the spelling policies use (`message-ttl`).
    pub definition: BTreeMap<String, PolicyValue>,
}

/// Who may log in, and what a fresh database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub default_user: String,
    pub default_pass: String,
    pub default_vhost: String,
    pub default_user_tags: Vec<String>,
    pub default_permissions: Permissions,
    pub loopback_users: BTreeSet<String>,
    pub password_hashing_module: PasswordHashing,
    pub auth_mechanisms: Vec<Mechanism>,
    /// Who an ANONYMOUS client is; `None` refuses such clients.
    pub anonymous_login: Option<(String, String)>,
    pub credential_validator: CredentialValidator,
    pub default_users: Vec<DefaultUser>,
    pub default_limits: Vec<DefaultVhostLimit>,
    pub default_policies: Vec<DefaultPolicy>,
    pub ssl_cert_login: CertificateLogin,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            default_user: "guest".into(),
            default_pass: "guest".into(),
            default_vhost: "/".into(),
            default_user_tags: vec!["administrator".into()],
            default_permissions: Permissions::default(),
            loopback_users: BTreeSet::from(["guest".into()]),
            password_hashing_module: PasswordHashing::Sha256,
            auth_mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain],
            anonymous_login: Some(("guest".into(), "guest".into())),
            credential_validator: CredentialValidator::AcceptEverything,
            default_users: Vec::new(),
            default_limits: Vec::new(),
            default_policies: Vec::new(),
            ssl_cert_login: CertificateLogin::DistinguishedName,
        }
    }
}

/// Which alternative name of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    Dns,
    Ip,
    Email,
    Uri,
    OtherName,
}

/// Where in a client's certificate its user name is found (EXTERNAL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateLogin {
    DistinguishedName,
    CommonName,
    AlternativeName {
        kind: SanKind,
        /// Counted from zero among the names of this kind.
        index: usize,
    },
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// `ssl_options.*`, and the same suffixes under `management.ssl.`, `prometheus.ssl.` and `inter_node.ssl_options.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    pub cacertfile: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub password: Option<String>,
    /// `verify_peer`: ask for a certificate, and refuse one that does not lead to `cacertfile`.
    pub verify: bool,
    pub fail_if_no_peer_cert: bool,
    /// How many certificates may stand between the client's and a trusted one.
    pub depth: u8,
    /// Empty is all that are supported.
    pub versions: Vec<TlsVersion>,
    /// In the order of preference; empty is all that are supported.
    pub ciphers: Vec<String>,
    /// The order of `ciphers` decides, not the client's.
    pub honor_cipher_order: bool,
}

impl Default for TlsOptions {
    fn default() -> TlsOptions {
        TlsOptions {
            cacertfile: None,
            certfile: None,
            keyfile: None,
            password: None,
            verify: false,
            fail_if_no_peer_cert: false,
            depth: 10,
            versions: Vec::new(),
            ciphers: Vec::new(),
            honor_cipher_order: false,
        }
    }
}
