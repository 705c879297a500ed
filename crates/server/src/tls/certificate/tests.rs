use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Name};

use super::{common_names, described, distinguished_name, login_name};
use crate::config::{CertificateLogin, SanKind};

const UTF8: u8 = 12;
const PRINTABLE: u8 = 19;
const TELETEX: u8 = 20;
const IA5: u8 = 22;
const UNIVERSAL: u8 = 28;
const BMP: u8 = 30;

const CN: &[u8] = &[0x55, 4, 3];
const O: &[u8] = &[0x55, 4, 10];
const OU: &[u8] = &[0x55, 4, 11];
const STREET: &[u8] = &[0x55, 4, 9];
const DC: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, u8::try_from(content.len()).expect("tests are short")];
    out.extend(content);
    out
}

/// What it is, its string type, its bytes.
type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

/// A name of parts of attributes.
fn name(parts: &[&[Attribute<'_>]]) -> Vec<u8> {
    let part = |attributes: &&[Attribute<'_>]| {
        let attribute = |(oid, tag, value): &Attribute<'_>| {
            der(0x30, &[der(6, oid), der(*tag, value)].concat())
        };
        der(
            0x31,
            &attributes
                .iter()
                .map(attribute)
                .collect::<Vec<_>>()
                .concat(),
        )
    };
    der(0x30, &parts.iter().map(part).collect::<Vec<_>>().concat())
}

fn check(parts: &[&[Attribute<'_>]], expected: &str) {
    let bytes = name(parts);
    let (_, parsed) = X509Name::from_der(&bytes).expect("the name is well-formed");
    assert_eq!(distinguished_name(&parsed), expected);
}

#[test]
fn the_last_part_comes_first() {
    check(
        &[
            &[(O, UTF8, b"Orders")],
            &[(OU, UTF8, b"EU")],
            &[(CN, UTF8, b"worker")],
        ],
        "CN=worker,OU=EU,O=Orders",
    );
    check(
        &[&[(DC, IA5, b"example")], &[(DC, IA5, b"orders")]],
        "DC=orders,DC=example",
    );
    check(
        &[&[(CN, UTF8, b"a"), (EMAIL, IA5, b"a@b")]],
        "CN=a+EMAILADDRESS=a@b",
    );
    check(&[], "");
}

#[test]
fn parts_without_a_short_form_go_by_their_number() {
    check(&[&[(STREET, UTF8, b"Main 1")]], "2.5.4.9=Main 1");
}

#[test]
fn letters_that_mean_something_are_escaped() {
    check(
        &[&[(CN, UTF8, b"a,b+c\"d\\e<f>g;h=i#j")]],
        r#"CN=a\,b\+c\"d\\e\<f\>g\;h=i#j"#,
    );
    check(&[&[(CN, UTF8, b"# x ")]], r"CN=\# x\ ");
    check(&[&[(CN, UTF8, b"  ")]], r"CN=\ \ ");
    check(&[&[(CN, UTF8, b" ")]], r"CN=\ ");
    check(&[&[(CN, UTF8, b"a\nb~")]], r"CN=a\0Ab\7E");
    check(&[&[(CN, UTF8, "größe".as_bytes())]], r"CN=gr\C3\B6\C3\9Fe");
}

#[test]
fn all_string_types_are_read() {
    check(&[&[(CN, PRINTABLE, b"abc")]], "CN=abc");
    check(&[&[(CN, TELETEX, &[b'a', 0xe9])]], r"CN=a\C3\A9");
    check(&[&[(CN, BMP, &[0, b'a', 0x03, 0xbb])]], r"CN=a\CE\BB");
    check(
        &[&[(CN, UNIVERSAL, &[0, 0, 0, b'a', 0, 1, 0xf6, 0])]],
        r"CN=a\F0\9F\98\80",
    );
}

#[test]
fn several_common_names_are_joined_as_they_are() {
    let bytes = name(&[
        &[(CN, UTF8, b"a,b")],
        &[(O, UTF8, b"x")],
        &[(CN, UTF8, "ö".as_bytes())],
    ]);
    let (_, parsed) = X509Name::from_der(&bytes).expect("the name is well-formed");
    assert_eq!(common_names(&parsed), "a,b,ö");
}

fn certificate(
    alternatives: Vec<rcgen::SanType>,
    common_name: Option<&str>,
) -> CertificateDer<'static> {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = alternatives;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = common_name {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
    }
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2061, 12, 31);
    let key = rcgen::KeyPair::generate().expect("a key can be made");
    params
        .self_signed(&key)
        .expect("a certificate can be made")
        .der()
        .clone()
}

#[test]
fn alternative_names_are_counted_by_kind() {
    let text = |text: &str| text.try_into().expect("plain letters");
    let other = rcgen::OtherNameValue::Utf8String("principal@realm".into());
    let der = certificate(
        vec![
            rcgen::SanType::DnsName(text("one.example")),
            rcgen::SanType::Rfc822Name(text("ops@example")),
            rcgen::SanType::DnsName(text("two.example")),
            rcgen::SanType::URI(text("spiffe://example/worker")),
            rcgen::SanType::IpAddress("10.0.0.7".parse().expect("an address")),
            rcgen::SanType::IpAddress("::1".parse().expect("an address")),
            rcgen::SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], other)),
        ],
        None,
    );
    let name = |kind, index| login_name(&der, CertificateLogin::AlternativeName { kind, index });
    assert_eq!(name(SanKind::Dns, 0).as_deref(), Some("one.example"));
    assert_eq!(name(SanKind::Dns, 1).as_deref(), Some("two.example"));
    assert_eq!(name(SanKind::Dns, 2), None);
    assert_eq!(name(SanKind::Email, 0).as_deref(), Some("ops@example"));
    assert_eq!(
        name(SanKind::Uri, 0).as_deref(),
        Some("spiffe://example/worker")
    );
    assert_eq!(name(SanKind::Ip, 0).as_deref(), Some("10.0.0.7"));
    assert_eq!(name(SanKind::Ip, 1).as_deref(), Some("::1"));
    assert_eq!(
        name(SanKind::OtherName, 0).as_deref(),
        Some("principal@realm")
    );
}

#[test]
fn a_certificate_without_a_name_logs_nobody_in() {
    let der = certificate(Vec::new(), None);
    assert_eq!(login_name(&der, CertificateLogin::DistinguishedName), None);
    assert_eq!(login_name(&der, CertificateLogin::CommonName), None);
    let der = certificate(Vec::new(), Some("worker"));
    assert_eq!(
        login_name(&der, CertificateLogin::DistinguishedName).as_deref(),
        Some("CN=worker")
    );
    assert_eq!(
        login_name(&der, CertificateLogin::CommonName).as_deref(),
        Some("worker")
    );
    assert_eq!(
        login_name(
            &CertificateDer::from(vec![1, 2, 3]),
            CertificateLogin::CommonName
        ),
        None
    );
}

#[test]
fn certificates_are_described_for_listings() {
    let shown = described(&certificate(Vec::new(), Some("worker"))).expect("it is a certificate");
    assert_eq!(
        (shown.subject.as_str(), shown.issuer.as_str()),
        ("CN=worker", "CN=worker")
    );
    assert_eq!(
        shown.validity,
        "2026-01-02T00:00:00Z - 2061-12-31T00:00:00Z"
    );
}
