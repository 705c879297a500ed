//! Names in certificates, as RabbitMQ writes them: user names depend on every letter.
//!
//! A distinguished name is written as RFC 4514 has it, the last part first, with two habits of RabbitMQ: whatever is
//! not printable ASCII is written as `\XX` for each byte of its UTF-8 form, and so is a tilde.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use x509_parser::der_parser::Oid;
use x509_parser::der_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Name};

use super::session::PeerCertificate;
use crate::config::{CertificateLogin, SanKind};

/// The parts of a name that have a short form. RabbitMQ's has STREET too, under a number no certificate uses.
const SHORT_FORMS: [(&str, &str); 16] = [
    ("2.5.4.4", "SN"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.6", "C"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

const COMMON_NAME: &str = "2.5.4.3";

/// The user name in a certificate. An empty one is none.
pub(super) fn login_name(der: &CertificateDer<'_>, from: CertificateLogin) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = match from {
        CertificateLogin::DistinguishedName => distinguished_name(certificate.subject()),
        CertificateLogin::CommonName => common_names(certificate.subject()),
        CertificateLogin::AlternativeName { kind, index } => {
            let names = certificate.subject_alternative_name().ok().flatten()?;
            names
                .value
                .general_names
                .iter()
                .filter_map(|name| alternative_name(name, kind))
                .nth(index)?
        }
    };
    Some(name).filter(|name| !name.is_empty())
}

/// A certificate for listings.
pub(super) fn described(der: &CertificateDer<'_>) -> Option<PeerCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    Some(PeerCertificate {
        subject: distinguished_name(certificate.subject()),
        issuer: distinguished_name(certificate.issuer()),
        validity: format!(
            "{} - {}",
            moment(&validity.not_before),
            moment(&validity.not_after)
        ),
    })
}

/// A name as text, the last part first.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in name.iter_rdn() {
        let attributes: Vec<String> = part
            .iter()
            .map(|attribute| {
                format!(
                    "{}={}",
                    short_form(attribute.attr_type()),
                    escaped(&text(attribute.attr_value()))
                )
            })
            .collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

/// All common names, as they are, with commas between.
fn common_names(name: &X509Name<'_>) -> String {
    let is_common = |oid: &Oid<'_>| oid.to_id_string() == COMMON_NAME;
    let names = name
        .iter_attributes()
        .filter(|attribute| is_common(attribute.attr_type()));
    names
        .map(|attribute| text(attribute.attr_value()))
        .collect::<Vec<String>>()
        .join(",")
}

fn short_form(oid: &Oid<'_>) -> String {
    let id = oid.to_id_string();
    let known = SHORT_FORMS
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, short)| (*short).to_owned());
    known.unwrap_or(id)
}

/// The text in any of the string types of ASN.1.
fn text(value: &Any<'_>) -> String {
    let data = value.data;
    match value.tag() {
        Tag::BmpString => {
            let units: Vec<u16> = data
                .chunks_exact(2)
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        Tag::UniversalString => {
            let units = data
                .chunks_exact(4)
                .map(|unit| u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]]));
            units
                .map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        // As everybody does, this is taken for Latin-1.
        Tag::TeletexString => data.iter().map(|byte| char::from(*byte)).collect(),
        _ => String::from_utf8_lossy(data).into_owned(),
    }
}

/// A value with the letters escaped that mean something within a name (RFC 4514, 2.4).
fn escaped(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = String::with_capacity(value.len());
    for (index, byte) in bytes.iter().enumerate() {
        let (is_first, is_last) = (index == 0, index + 1 == bytes.len());
        match byte {
            b' ' | b'#' if is_first => out.extend(['\\', char::from(*byte)]),
            b' ' if is_last => out.push_str("\\ "),
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.extend(['\\', char::from(*byte)])
            }
            0..32 | 126.. => write!(out, "\\{byte:02X}").expect("a String takes everything"),
            _ => out.push(char::from(*byte)),
        }
    }
    out
}

/// The value of an alternative name, if it is of that kind.
fn alternative_name(name: &GeneralName<'_>, kind: SanKind) -> Option<String> {
    match (kind, name) {
        (SanKind::Dns, GeneralName::DNSName(name))
        | (SanKind::Email, GeneralName::RFC822Name(name))
        | (SanKind::Uri, GeneralName::URI(name)) => Some((*name).to_owned()),
        (SanKind::Ip, GeneralName::IPAddress(bytes)) => address(bytes),
        (SanKind::OtherName, GeneralName::OtherName(_, value)) => Some(other_name(value)),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).to_string())
}

/// The text within `[0] EXPLICIT`; whatever else is there, as text.
fn other_name(value: &[u8]) -> String {
    let inner = Any::from_der(value)
        .ok()
        .and_then(|(_, outer)| Any::from_der(outer.data).ok());
    inner.map_or_else(
        || String::from_utf8_lossy(value).into_owned(),
        |(_, inner)| text(&inner),
    )
}

/// `2026-01-31T23:59:59Z`.
fn moment(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests;
