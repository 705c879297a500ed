//! `ssl_options.*`, and the same suffixes wherever else TLS is spoken.

use super::super::draft::Draft;
use super::super::key::{Status, Table};
use super::super::model::{TlsOptions, TlsVersion};
use super::super::value::{Kind, boolean, choice, integer, readable, secret, text};

pub(super) fn add(table: &mut Table) {
    table.served("ssl_options", choice(&[("none", ())]), |draft, _, ()| {
        draft.config.tls = TlsOptions::default()
    });
    served_under(table, "ssl_options", |draft| &mut draft.config.tls);
    table.known(Status::NoEffect, "", "ssl_allow_poodle_attack boolean");
}

/// Adds all TLS settings below `prefix`; they go where `options` points.
pub(super) fn served_under(
    table: &mut Table,
    prefix: &str,
    options: impl Fn(&mut Draft) -> &mut TlsOptions + Copy + 'static,
) {
    let key = |suffix: &str| format!("{prefix}.{suffix}");
    table.served(&key("cacertfile"), readable(), move |draft, _, value| {
        options(draft).cacertfile = Some(value)
    });
    table.served(&key("certfile"), readable(), move |draft, _, value| {
        options(draft).certfile = Some(value)
    });
    table.served(&key("keyfile"), readable(), move |draft, _, value| {
        options(draft).keyfile = Some(value)
    });
    table.served(&key("password"), secret(), move |draft, _, value| {
        options(draft).password = Some(value)
    });
    let verify = choice(&[("verify_peer", true), ("verify_none", false)]);
    table.served(&key("verify"), verify, move |draft, _, value| {
        options(draft).verify = value
    });
    table.served(
        &key("fail_if_no_peer_cert"),
        boolean(),
        move |draft, _, value| {
            options(draft).fail_if_no_peer_cert = value;
        },
    );
    table.served(
        &key("depth"),
        integer(0..=u8::MAX),
        move |draft, _, value| options(draft).depth = value,
    );
    table.served(
        &key("versions.$version"),
        version(),
        move |draft, entry, value| match value {
            Some(version) => options(draft).versions.push(version),
            None => draft.warn(
                entry,
                "versions of TLS before 1.2 are not supported, this one is left out",
            ),
        },
    );
    table.served(&key("ciphers.$cipher"), text(), move |draft, _, value| {
        options(draft).ciphers.push(value)
    });
    table.served(
        &key("honor_cipher_order"),
        boolean(),
        move |draft, _, value| {
            options(draft).honor_cipher_order = value;
        },
    );
    // To leave a revocation check out silently would let in whom it should keep out.
    let check = choice(&[("false", ())]).in_words("false; revocation lists are not served yet");
    table.served(&key("crl_check"), check, |_, _, ()| {});
    table.known(Status::NoEffect, &key(""), UNTUNABLE);
    table.known(Status::NotServed, &key(""), NOT_SERVED);
}

/// A version that is supported, or `None` for one of the old ones.
fn version() -> Kind<Option<TlsVersion>> {
    choice(&[
        ("tlsv1.3", Some(TlsVersion::V1_3)),
        ("tlsv1.2", Some(TlsVersion::V1_2)),
        ("tlsv1.1", None),
        ("tlsv1", None),
    ])
    .in_words("tlsv1.3 or tlsv1.2")
}

/// Adds the settings of a TLS client that is not there.
pub(super) fn known_under(table: &mut Table, prefix: &str) {
    table.known(Status::NotServed, &format!("{prefix}."), CLIENT);
}

const UNTUNABLE: &str = "
    bypass_pem_cache boolean
    client_renegotiation boolean
    dh text
    dhfile text
    honor_ecc_order boolean
    log_alert boolean
    log_level emergency|alert|critical|error|warning|notice|info|debug
    reuse_session boolean
    reuse_sessions boolean
    secure_renegotiate boolean
";

const NOT_SERVED: &str = "
    cacerts.$name text
    cert text
    key.RSAPrivateKey secret
    key.DSAPrivateKey secret
    key.PrivateKeyInfo secret
    psk_identity text
";

const CLIENT: &str = "
    bypass_pem_cache boolean
    cacertfile text
    cacerts.$name text
    cert text
    certfile text
    ciphers.$cipher text
    client_renegotiation boolean
    crl_check true|false|peer|best_effort
    depth integer
    dh text
    dhfile text
    fail_if_no_peer_cert boolean
    honor_cipher_order boolean
    honor_ecc_order boolean
    hostname_verification wildcard|none
    key.DSAPrivateKey secret
    key.PrivateKeyInfo secret
    key.RSAPrivateKey secret
    keyfile text
    log_alert boolean
    log_level emergency|alert|critical|error|warning|notice|info|debug
    password secret
    psk_identity text
    reuse_session boolean
    reuse_sessions boolean
    secure_renegotiate boolean
    sni text
    verify verify_peer|verify_none
    versions.$version text
";
