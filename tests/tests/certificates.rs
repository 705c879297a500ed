//! Certificates, made by the tests that need them.

use std::path::Path;

use black_box::address;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

/// Somebody who issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Writes its own certificate, as `ca.pem`.
    pub(crate) fn write(&self, folder: &Path) {
        write(folder, "ca.pem", &self.0.pem());
    }

    /// Writes a certificate for the address of this test process, as `<name>.pem`, and its key, as `<name>.key`.
    pub(crate) fn issue(&self, folder: &Path, name: &str, common_name: &str) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names.push(SanType::IpAddress(address()));
        let key = KeyPair::generate().expect("a key");
        write(folder, &format!("{name}.pem"), &params.signed_by(&key, &self.0).expect("a certificate").pem());
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the folder is ours");
}
