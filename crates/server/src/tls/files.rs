//! Certificates and keys in PEM files: reading them, and saying what is wrong with them.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TlsOptions;

/// Why TLS cannot be had as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsError {
    /// The setting at fault.
    pub key: String,
    pub path: Option<PathBuf>,
    pub text: String,
}

impl TlsError {
    pub(super) fn new(key: &str, path: Option<&Path>, text: impl Into<String>) -> TlsError {
        TlsError {
            key: key.to_owned(),
            path: path.map(Path::to_owned),
            text: text.into(),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}: {}", self.key, path.display(), self.text),
            None => write!(f, "{}: {}", self.key, self.text),
        }
    }
}

impl std::error::Error for TlsError {}

/// A file of certificates in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFile {
    /// `certfile` or `cacertfile`.
    pub kind: &'static str,
    pub path: PathBuf,
    /// When the first of its certificates ends, in milliseconds since 1970.
    pub not_after: u64,
}

impl CertificateFile {
    /// What to say of a certificate that has ended or soon will.
    pub(super) fn warning(&self, prefix: &str, now: SystemTime) -> Option<String> {
        const SOON: Duration = Duration::from_secs(14 * 86_400);
        let end = SystemTime::UNIX_EPOCH + Duration::from_millis(self.not_after);
        let what = if end <= now {
            "holds a certificate that has expired".to_owned()
        } else if end <= now + SOON {
            let left = end.duration_since(now).unwrap_or_default();
            format!(
                "holds a certificate that expires in {} hours",
                left.as_secs() / 3600
            )
        } else {
            return None;
        };
        Some(format!(
            "{prefix}.{}: {}: {what}",
            self.kind,
            self.path.display()
        ))
    }
}

/// What tells whether a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl Stamp {
    /// The stamp of a file, if it is there.
    pub(super) fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp {
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            length: file.len(),
        })
    }
}

/// What the files hold.
pub(super) struct Material {
    /// The certificate that is shown, then those that lead from it to a trusted one.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) trusted: RootCertStore,
    pub(super) certificates: Vec<CertificateFile>,
    key_pem: Vec<u8>,
}

impl Material {
    /// Reads all files that `options` names.
    pub(super) fn read(prefix: &str, options: &TlsOptions) -> Result<Material, TlsError> {
        let (cert_path, chain) =
            certificates(&format!("{prefix}.certfile"), options.certfile.as_deref())?;
        let mut files = vec![file("certfile", prefix, cert_path, &chain)?];
        let mut trusted = RootCertStore::empty();
        if options.cacertfile.is_some() {
            let key = format!("{prefix}.cacertfile");
            let (path, authorities) = certificates(&key, options.cacertfile.as_deref())?;
            files.push(file("cacertfile", prefix, path, &authorities)?);
            for authority in authorities {
                let added = trusted.add(authority);
                added.map_err(|error| {
                    TlsError::new(
                        &key,
                        Some(path),
                        format!("holds a certificate that cannot be used: {error}"),
                    )
                })?;
            }
        }
        let key = format!("{prefix}.keyfile");
        let key_path = named(&key, options.keyfile.as_deref())?;
        Ok(Material {
            chain,
            trusted,
            certificates: files,
            key_pem: read(&key, key_path)?,
        })
    }

    /// The private key.
    pub(super) fn key(
        &self,
        prefix: &str,
        options: &TlsOptions,
        provider: &CryptoProvider,
    ) -> Result<PrivateKeyDer<'static>, TlsError> {
        let setting = format!("{prefix}.keyfile");
        let path = options.keyfile.as_deref();
        let refused = |text: String| TlsError::new(&setting, path, text);
        let is_encrypted = |line: &str| {
            line.starts_with("-----BEGIN ENCRYPTED") || line.starts_with("Proc-Type: 4,ENCRYPTED")
        };
        if String::from_utf8_lossy(&self.key_pem)
            .lines()
            .any(is_encrypted)
        {
            let shown = path.unwrap_or(Path::new("key.pem")).display();
            let text = format!(
                "the key is encrypted, which is not supported; write it in the clear with \
                 `openssl pkey -in {shown} -out new.pem`, protect that file, and take {prefix}.password out"
            );
            return Err(refused(text));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|error| refused(format!("holds no private key in PEM form ({error})")))?;
        provider.key_provider.load_private_key(key.clone_key()).map_err(|_| {
            refused("the key is of no supported kind; use RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519".into())
        })?;
        Ok(key)
    }
}

/// What is wrong with a chain and a key that each could be read.
pub(super) fn chain_error(prefix: &str, options: &TlsOptions, error: &rustls::Error) -> TlsError {
    let certificate = options.certfile.as_deref().unwrap_or(Path::new(""));
    if let rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) = error {
        let text = format!(
            "the key does not belong to the certificate in {}",
            certificate.display()
        );
        return TlsError::new(
            &format!("{prefix}.keyfile"),
            options.keyfile.as_deref(),
            text,
        );
    }
    TlsError::new(
        &format!("{prefix}.certfile"),
        Some(certificate),
        error.to_string(),
    )
}

fn named<'a>(key: &str, path: Option<&'a Path>) -> Result<&'a Path, TlsError> {
    path.ok_or_else(|| TlsError::new(key, None, "must name a file"))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path)
        .map_err(|error| TlsError::new(key, Some(path), format!("cannot be read: {error}")))
}

/// All certificates of a PEM file, of which there must be one.
fn certificates<'a>(
    key: &str,
    path: Option<&'a Path>,
) -> Result<(&'a Path, Vec<CertificateDer<'static>>), TlsError> {
    let path = named(key, path)?;
    let pem = read(key, path)?;
    let refused = |text: String| TlsError::new(key, Some(path), text);
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| refused(format!("is no PEM file: {error}")))?;
    if certificates.is_empty() {
        return Err(refused(
            "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into(),
        ));
    }
    Ok((path, certificates))
}

fn file(
    kind: &'static str,
    prefix: &str,
    path: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<CertificateFile, TlsError> {
    let mut first_end = u64::MAX;
    for der in certificates {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| {
            TlsError::new(
                &format!("{prefix}.{kind}"),
                Some(path),
                format!("holds a malformed certificate: {error}"),
            )
        })?;
        let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        first_end = first_end.min(end.saturating_mul(1000));
    }
    Ok(CertificateFile {
        kind,
        path: path.to_owned(),
        not_after: first_end,
    })
}
