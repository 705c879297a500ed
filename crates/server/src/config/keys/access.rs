//! Users, passwords, how clients say who they are, and what new virtual hosts come with.

use super::super::draft::{Draft, LoginSource, Validation};
use super::super::key::{Entry, Status, Table};
use super::super::model::{Mechanism, PasswordHashing, Permissions, PolicyValue, SanKind};
use super::super::value::{
    at_least, boolean, byte_size, choice, integer, list, millis, one_of, pattern, readable, secret,
    text, word,
};

pub(super) fn add(table: &mut Table) {
    default_user(table);
    passwords(table);
    login(table);
    certificate_login(table);
    virtual_hosts(table);
    policies(table);
    policy_values(table);
    mirroring_values(table);
    definitions(table);
}

fn default_user(table: &mut Table) {
    table.served("default_user", word(), |draft, _, value| {
        draft.config.access.default_user = value
    });
    table.served("default_pass", secret(), |draft, _, value| {
        draft.config.access.default_pass = value
    });
    table.served("default_vhost", word(), |draft, _, value| {
        draft.config.access.default_vhost = value
    });
    table.served(
        "default_user_tags.$tag",
        boolean(),
        |draft, entry, value| {
            let tags = draft.user_tags.get_or_insert_default();
            if value {
                tags.push(entry.capture().to_owned());
            }
        },
    );
    permissions(table, "default_permissions", |draft, _| {
        &mut draft.config.access.default_permissions
    });
    table.served("loopback_users", choice(&[("none", ())]), |draft, _, ()| {
        draft.loopback_none = true
    });
    table.served("loopback_users.$user", boolean(), |draft, entry, value| {
        let users = draft.loopback_users.get_or_insert_default();
        if value {
            users.insert(entry.capture().to_owned());
        }
    });
}

fn passwords(table: &mut Table) {
    let (sha256, sha512, md5) = (
        PasswordHashing::Sha256,
        PasswordHashing::Sha512,
        PasswordHashing::Md5,
    );
    let hashing = choice(&[
        ("rabbit_password_hashing_sha256", sha256),
        ("rabbit_password_hashing_sha512", sha512),
        ("rabbit_password_hashing_md5", md5),
    ]);
    table.served("password_hashing_module", hashing, |draft, _, value| {
        draft.config.access.password_hashing_module = value;
    });
    let backends = [
        (
            "rabbit_credential_validator_accept_everything",
            Validation::Everything,
        ),
        (
            "rabbit_credential_validator_min_password_length",
            Validation::MinLength,
        ),
        (
            "rabbit_credential_validator_password_regexp",
            Validation::Regexp,
        ),
    ];
    table.served(
        "credential_validator.validation_backend",
        choice(&backends),
        |draft, _, value| {
            draft.validation = value;
        },
    );
    table.served(
        "credential_validator.min_length",
        integer(0..=65535),
        |draft, _, value: u16| {
            draft.validation_min_length = value.into();
        },
    );
    table.served(
        "credential_validator.regexp",
        pattern(),
        |draft, _, value| draft.validation_regexp = value,
    );
}

fn permissions(
    table: &mut Table,
    prefix: &str,
    of: impl for<'a, 'b> Fn(&'a mut Draft, &'b str) -> &'a mut Permissions + Copy + 'static,
) {
    // An empty pattern is allowed and matches the empty name only.
    let kind = || {
        text().only("a regular expression", |text| {
            regex::Regex::new(text).is_ok()
        })
    };
    table.served(
        &format!("{prefix}.configure"),
        kind(),
        move |draft, entry, value| of(draft, entry.capture()).configure = value,
    );
    table.served(
        &format!("{prefix}.write"),
        kind(),
        move |draft, entry, value| of(draft, entry.capture()).write = value,
    );
    table.served(
        &format!("{prefix}.read"),
        kind(),
        move |draft, entry, value| of(draft, entry.capture()).read = value,
    );
}

fn login(table: &mut Table) {
    let mechanisms = [
        Mechanism::Plain,
        Mechanism::AmqPlain,
        Mechanism::External,
        Mechanism::Anonymous,
    ];
    table.served(
        "auth_mechanisms.$name",
        choice(&mechanisms.map(|mechanism| (mechanism.name(), mechanism))),
        |draft, _, value| draft.mechanisms.push(value),
    );
    // A backend that is silently left out would decide otherwise than the operator meant, so it is refused.
    let backend = || {
        let allowed = "internal (or rabbit_auth_backend_internal); no other backend is served yet";
        choice(&[("internal", ()), ("rabbit_auth_backend_internal", ())]).in_words(allowed)
    };
    let chain_index = |draft: &mut Draft, entry: &Entry<'_>, ()| {
        if entry.capture().parse::<u32>().is_err() {
            draft.conflict(
                entry,
                "the position in the chain must be a number, as in auth_backends.1",
            );
        }
    };
    table.served("auth_backends.$num", backend(), chain_index);
    table.served("auth_backends.$num.authn", backend(), chain_index);
    table.served("auth_backends.$num.authz", backend(), chain_index);
    table.served("anonymous_login_user", word(), |draft, _, value| {
        draft.anonymous_user = Some(value)
    });
    table.served("anonymous_login_pass", secret(), |draft, _, value| {
        draft.anonymous_pass = Some(value)
    });
}

fn certificate_login(table: &mut Table) {
    let sources = [
        ("distinguished_name", LoginSource::Distinguished),
        ("common_name", LoginSource::Common),
        ("subject_alternative_name", LoginSource::Alternative),
        ("subject_alt_name", LoginSource::Alternative),
    ];
    table.served(
        "ssl_cert_login_from",
        choice(&sources),
        |draft, _, value| draft.login_source = value,
    );
    let kinds = [
        ("dns", SanKind::Dns),
        ("ip", SanKind::Ip),
        ("email", SanKind::Email),
        ("uri", SanKind::Uri),
        ("other_name", SanKind::OtherName),
    ];
    table.served(
        "ssl_cert_login_san_type",
        choice(&kinds),
        |draft, _, value| draft.login_san_kind = value,
    );
    table.served(
        "ssl_cert_login_san_index",
        integer(0..=1000),
        |draft, _, value| draft.login_san_index = value,
    );
}

fn virtual_hosts(table: &mut Table) {
    table.served(
        "default_users.$name.vhost_pattern",
        pattern(),
        |draft, entry, value| {
            draft.user(entry.capture()).vhost_pattern = value;
        },
    );
    table.served(
        "default_users.$name.password",
        secret(),
        |draft, entry, value| {
            draft.user(entry.capture()).password = Some(value);
        },
    );
    permissions(table, "default_users.$name", |draft, name| {
        &mut draft.user(name).permissions
    });
    table.served("default_users.$name.tags", list(), |draft, entry, value| {
        draft.user(entry.capture()).tags = value
    });
    table.served(
        "default_limits.vhosts.$id.pattern",
        pattern(),
        |draft, entry, value| {
            draft.vhost_limit(entry.capture()).pattern = value;
        },
    );
    table.served(
        "default_limits.vhosts.$id.max_connections",
        at_least(1),
        |draft, entry, value| {
            draft.vhost_limit(entry.capture()).max_connections = Some(value);
        },
    );
    table.served(
        "default_limits.vhosts.$id.max_queues",
        at_least(1),
        |draft, entry, value| {
            draft.vhost_limit(entry.capture()).max_queues = Some(value);
        },
    );
}

/// Before the name of each setting of a policy.
const PREFIX: &str = "default_policies.operator.$id";

fn policies(table: &mut Table) {
    table.served(
        &format!("{PREFIX}.vhost_pattern"),
        pattern(),
        |draft, entry, value| {
            draft.policy(entry.capture()).vhost_pattern = value;
        },
    );
    table.served(
        &format!("{PREFIX}.queue_pattern"),
        pattern(),
        |draft, entry, value| {
            draft.policy(entry.capture()).queue_pattern = value;
        },
    );
    let targets = ["queues", "classic_queues", "quorum_queues", "streams"];
    let target = word().only(one_of(targets.into_iter()), move |text| {
        targets.contains(&text.as_str())
    });
    table.served(
        &format!("{PREFIX}.apply_to"),
        target,
        |draft, entry, value| {
            draft.policy(entry.capture()).apply_to = value;
        },
    );
}

/// The keys a policy can define.
fn policy_values(table: &mut Table) {
    for (key, name) in [("expires", "expires"), ("message_ttl", "message-ttl")] {
        table.served(
            &format!("{PREFIX}.{key}"),
            millis(),
            move |draft, entry, value| {
                let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
                draft.define(entry.capture(), name, PolicyValue::Number(millis));
            },
        );
    }
    for (key, name) in [
        ("max_length_bytes", "max-length-bytes"),
        ("max_in_memory_bytes", "max-in-memory-bytes"),
    ] {
        let kind = byte_size().only("a size above zero, such as 1048576 or 10MB", |size| {
            *size > 0
        });
        table.served(
            &format!("{PREFIX}.{key}"),
            kind,
            move |draft, entry, value| {
                draft.define(entry.capture(), name, PolicyValue::Number(value));
            },
        );
    }
    let numbers = [
        ("max_length", "max-length"),
        ("max_in_memory_length", "max-in-memory-length"),
        ("delivery_limit", "delivery-limit"),
        ("classic_queues.queue_version", "queue-version"),
    ];
    for (key, name) in numbers {
        table.served(
            &format!("{PREFIX}.{key}"),
            at_least(1),
            move |draft, entry, value| {
                draft.define(entry.capture(), name, PolicyValue::Number(value));
            },
        );
    }
}

/// The keys that only policies for classic queues have.
fn mirroring_values(table: &mut Table) {
    let words: [(&str, &str, &[&str]); 2] = [
        (
            "classic_queues.ha_mode",
            "ha-mode",
            &["all", "exactly", "nodes"],
        ),
        (
            "classic_queues.ha_sync_mode",
            "ha-sync-mode",
            &["manual", "automatic"],
        ),
    ];
    for (key, name, allowed) in words {
        let kind = word().only(one_of(allowed.iter().copied()), |text| {
            allowed.contains(&text.as_str())
        });
        table.served(
            &format!("{PREFIX}.{key}"),
            kind,
            move |draft, entry, value| {
                draft.define(entry.capture(), name, PolicyValue::Text(value));
            },
        );
    }
    let kind = list().only(
        "a number of mirrors, or a list of nodes such as warren@a,warren@b",
        |list| !list.is_empty(),
    );
    table.served(
        &format!("{PREFIX}.classic_queues.ha_params"),
        kind,
        |draft, entry, value| {
            let count = value
                .first()
                .filter(|_| value.len() == 1)
                .and_then(|count| count.parse().ok());
            draft.define(
                entry.capture(),
                "ha-params",
                count.map_or(PolicyValue::List(value), PolicyValue::Number),
            );
        },
    );
}

/// The ways to name what is imported at the start, in the order they are imported.
pub(in super::super) const DEFINITION_KEYS: [&str; 3] = [
    "load_definitions",
    "management.load_definitions",
    "definitions.local.path",
];

fn definitions(table: &mut Table) {
    for (index, key) in DEFINITION_KEYS.into_iter().enumerate() {
        table.served(key, readable(), move |draft, _, value| {
            draft.definitions[index] = Some(value);
        });
    }
    table.served(
        "definitions.skip_if_unchanged",
        boolean(),
        |draft, _, value| {
            draft.config.definitions.skip_if_unchanged = value;
        },
    );
    let backends = choice(&[
        ("local_filesystem", ()),
        ("local", ()),
        ("rabbit_definitions_import_local_filesystem", ()),
        ("rabbitmq_definitions_import_local_filesystem", ()),
    ])
    .in_words("local_filesystem; import from another place is not served yet");
    table.served("definitions.import_backend", backends, |_, _, ()| {});
    table.known(
        Status::NoEffect,
        "",
        "definitions.hashing.algorithm sha|sha224|sha256|sha384|sha512",
    );
    table.known(Status::NotServed, "definitions.", "https.url text");
    table.known(
        Status::NotServed,
        "runtime_parameters.",
        "limits.$category integer",
    );
}
