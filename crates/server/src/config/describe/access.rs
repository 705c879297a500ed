//! Users, passwords, certificates, as keys and values.

use super::super::Config;
use super::super::model::{
    CertificateLogin, CredentialValidator, DefaultPolicy, PasswordHashing, Permissions,
    PolicyValue, SanKind, TlsOptions, TlsVersion,
};
use super::{HIDDEN, Listing, add, add_some, path};

fn permissions(out: &mut Listing, prefix: &str, permissions: &Permissions) {
    add(out, format!("{prefix}.configure"), &permissions.configure);
    add(out, format!("{prefix}.write"), &permissions.write);
    add(out, format!("{prefix}.read"), &permissions.read);
}

pub(super) fn access(config: &Config, out: &mut Listing) {
    let access = &config.access;
    add(out, "default_user", &access.default_user);
    add(out, "default_pass", HIDDEN);
    add(out, "default_vhost", &access.default_vhost);
    for tag in &access.default_user_tags {
        add(out, format!("default_user_tags.{tag}"), true);
    }
    permissions(out, "default_permissions", &access.default_permissions);
    if access.loopback_users.is_empty() {
        add(out, "loopback_users", "none");
    }
    for user in &access.loopback_users {
        add(
            out,
            format!("loopback_users.{}", user.replace('.', "\\.")),
            true,
        );
    }
    let hashing = match access.password_hashing_module {
        PasswordHashing::Sha256 => "rabbit_password_hashing_sha256",
        PasswordHashing::Sha512 => "rabbit_password_hashing_sha512",
        PasswordHashing::Md5 => "rabbit_password_hashing_md5",
    };
    add(out, "password_hashing_module", hashing);
    for (index, mechanism) in access.auth_mechanisms.iter().enumerate() {
        add(
            out,
            format!("auth_mechanisms.{}", index + 1),
            mechanism.name(),
        );
    }
    add(out, "auth_backends.1", "internal");
    add(
        out,
        "anonymous_login_user",
        access
            .anonymous_login
            .as_ref()
            .map_or("none", |(user, _)| user),
    );
    if access.anonymous_login.is_some() {
        add(out, "anonymous_login_pass", HIDDEN);
    }
    credentials(config, out);
}

fn credentials(config: &Config, out: &mut Listing) {
    let access = &config.access;
    let backend = match &access.credential_validator {
        CredentialValidator::AcceptEverything => "rabbit_credential_validator_accept_everything",
        CredentialValidator::MinLength(length) => {
            add(out, "credential_validator.min_length", length);
            "rabbit_credential_validator_min_password_length"
        }
        CredentialValidator::Regexp(pattern) => {
            add(out, "credential_validator.regexp", pattern);
            "rabbit_credential_validator_password_regexp"
        }
    };
    add(out, "credential_validator.validation_backend", backend);
    let from = match access.ssl_cert_login {
        CertificateLogin::DistinguishedName => "distinguished_name",
        CertificateLogin::CommonName => "common_name",
        CertificateLogin::AlternativeName { kind, index } => {
            add(out, "ssl_cert_login_san_type", san_kind(kind));
            add(out, "ssl_cert_login_san_index", index);
            "subject_alternative_name"
        }
    };
    add(out, "ssl_cert_login_from", from);
}

const fn san_kind(kind: SanKind) -> &'static str {
    match kind {
        SanKind::Dns => "dns",
        SanKind::Ip => "ip",
        SanKind::Email => "email",
        SanKind::Uri => "uri",
        SanKind::OtherName => "other_name",
    }
}

pub(super) fn virtual_hosts(config: &Config, out: &mut Listing) {
    for user in &config.access.default_users {
        let prefix = format!("default_users.{}", user.name.replace('.', "\\."));
        add(out, format!("{prefix}.vhost_pattern"), &user.vhost_pattern);
        if user.password.is_some() {
            add(out, format!("{prefix}.password"), HIDDEN);
        }
        permissions(out, &prefix, &user.permissions);
        if !user.tags.is_empty() {
            add(out, format!("{prefix}.tags"), user.tags.join(","));
        }
    }
    for limit in &config.access.default_limits {
        let prefix = format!("default_limits.vhosts.{}", limit.id.replace('.', "\\."));
        add(out, format!("{prefix}.pattern"), &limit.pattern);
        add_some(
            out,
            &format!("{prefix}.max_connections"),
            limit.max_connections.as_ref(),
        );
        add_some(
            out,
            &format!("{prefix}.max_queues"),
            limit.max_queues.as_ref(),
        );
    }
    for policy in &config.access.default_policies {
        default_policy(policy, out);
    }
}

fn default_policy(policy: &DefaultPolicy, out: &mut Listing) {
    let prefix = format!(
        "default_policies.operator.{}",
        policy.id.replace('.', "\\.")
    );
    add(
        out,
        format!("{prefix}.vhost_pattern"),
        &policy.vhost_pattern,
    );
    add(
        out,
        format!("{prefix}.queue_pattern"),
        &policy.queue_pattern,
    );
    add(out, format!("{prefix}.apply_to"), &policy.apply_to);
    for (key, value) in &policy.definition {
        let of_classic = key.starts_with("ha-") || key == "queue-version";
        let key = format!(
            "{prefix}.{}{}",
            if of_classic { "classic_queues." } else { "" },
            key.replace('-', "_")
        );
        match value {
            PolicyValue::Number(number) => add(out, key, number),
            PolicyValue::Text(text) => add(out, key, text),
            PolicyValue::List(list) => add(out, key, list.join(",")),
        }
    }
}

pub(super) fn tls(prefix: &str, options: &TlsOptions, out: &mut Listing) {
    path(
        out,
        &format!("{prefix}.cacertfile"),
        options.cacertfile.as_deref(),
    );
    path(
        out,
        &format!("{prefix}.certfile"),
        options.certfile.as_deref(),
    );
    path(
        out,
        &format!("{prefix}.keyfile"),
        options.keyfile.as_deref(),
    );
    if options.password.is_some() {
        add(out, format!("{prefix}.password"), HIDDEN);
    }
    add(
        out,
        format!("{prefix}.verify"),
        if options.verify {
            "verify_peer"
        } else {
            "verify_none"
        },
    );
    add(
        out,
        format!("{prefix}.fail_if_no_peer_cert"),
        options.fail_if_no_peer_cert,
    );
    add(out, format!("{prefix}.depth"), options.depth);
    for (index, version) in options.versions.iter().enumerate() {
        let name = match version {
            TlsVersion::V1_2 => "tlsv1.2",
            TlsVersion::V1_3 => "tlsv1.3",
        };
        add(out, format!("{prefix}.versions.{}", index + 1), name);
    }
    for (index, cipher) in options.ciphers.iter().enumerate() {
        add(out, format!("{prefix}.ciphers.{}", index + 1), cipher);
    }
    add(
        out,
        format!("{prefix}.honor_cipher_order"),
        options.honor_cipher_order,
    );
    add(out, format!("{prefix}.crl_check"), false);
}
