//! The HTTP API with its pages, and Prometheus.

use std::time::Duration;

use super::super::draft::{Draft, HttpDraft};
use super::super::key::{Status, Table};
use super::super::model::{RatesMode, Retention};
use super::super::value::{at_least, boolean, choice, ip, port, seconds, text, word};

pub(super) fn add(table: &mut Table) {
    service(table, "management", |draft| &mut draft.management);
    super::tls::served_under(table, "management.ssl", |draft| {
        &mut draft.config.management.service.ssl_options
    });
    service(table, "prometheus", |draft| &mut draft.prometheus);
    super::tls::served_under(table, "prometheus.ssl", |draft| {
        &mut draft.config.prometheus.service.ssl_options
    });
    legacy_listener(table);
    management(table);
    headers(table);
    samples(table);
    prometheus(table);
    table.known(Status::NotServed, "management.", NOT_SERVED);
    table.known(Status::NotServed, "management.oauth_", OAUTH);
    table.known(
        Status::NotServed,
        "management.oauth_resource_servers.$name.",
        OAUTH_SERVER,
    );
}

fn service(
    table: &mut Table,
    prefix: &str,
    of: impl Fn(&mut Draft) -> &mut HttpDraft + Copy + 'static,
) {
    table.served(
        &format!("{prefix}.tcp.port"),
        port(),
        move |draft, _, value| of(draft).tcp_port = Some(value),
    );
    table.served(&format!("{prefix}.tcp.ip"), ip(), move |draft, _, value| {
        of(draft).tcp_ip = Some(value)
    });
    table.served(
        &format!("{prefix}.ssl.port"),
        port(),
        move |draft, _, value| of(draft).ssl_port = Some(value),
    );
    table.served(&format!("{prefix}.ssl.ip"), ip(), move |draft, _, value| {
        of(draft).ssl_ip = Some(value)
    });
    for transport in ["tcp", "ssl"] {
        table.known(
            Status::NoEffect,
            &format!("{prefix}.{transport}."),
            UNTUNABLE,
        );
    }
}

/// The spelling from before RabbitMQ 3.7.9.
fn legacy_listener(table: &mut Table) {
    table.served("management.listener.port", port(), |draft, _, value| {
        draft.management.legacy_port = Some(value)
    });
    table.served("management.listener.ip", ip(), |draft, _, value| {
        draft.management.legacy_ip = Some(value)
    });
    table.served("management.listener.ssl", boolean(), |draft, _, value| {
        draft.management.legacy_ssl = value
    });
    table.known(Status::NoEffect, "management.listener.server.", UNTUNABLE);
    table.known(Status::NoEffect, "management.listener.", "ssl_opts none");
    super::tls::served_under(table, "management.listener.ssl_opts", |draft| {
        &mut draft.config.management.service.ssl_options
    });
}

fn management(table: &mut Table) {
    table.served("management.path_prefix", text(), |draft, _, value| {
        let prefix = value.trim_matches('/');
        draft.config.management.path_prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        };
    });
    let modes = [
        ("basic", RatesMode::Basic),
        ("detailed", RatesMode::Detailed),
        ("none", RatesMode::None),
    ];
    table.served(
        "management.rates_mode",
        choice(&modes),
        |draft, _, value| draft.config.management.rates_mode = value,
    );
    table.served("management.disable_stats", boolean(), |draft, _, value| {
        draft.config.management.disable_stats = value;
    });
    table.served(
        "management.enable_queue_totals",
        boolean(),
        |draft, _, value| {
            draft.config.management.enable_queue_totals = value;
        },
    );
    table.served(
        "management.http.max_body_size",
        at_least(0),
        |draft, _, value| {
            draft.config.management.max_body_size = value;
        },
    );
    let minutes = at_least(1).only("a number of minutes from 1 to 525600 (a year)", |minutes| {
        *minutes <= 525_600
    });
    table.served(
        "management.login_session_timeout",
        minutes,
        |draft, _, value| {
            draft.config.management.login_session_timeout = Duration::from_secs(value * 60);
        },
    );
    table.served(
        "management.disable_basic_auth",
        boolean(),
        |draft, _, value| {
            draft.config.management.disable_basic_auth = value;
        },
    );
    table.served(
        "management.restrictions.operator_policy_changes.disabled",
        boolean(),
        |draft, _, value| {
            draft.config.management.operator_policy_changes_disabled = value;
        },
    );
    table.served(
        "management_agent.disable_metrics_collector",
        boolean(),
        |draft, _, value| {
            draft.config.management.disable_metrics_collector = value;
        },
    );
}

fn headers(table: &mut Table) {
    table.served(
        "management.cors.allow_origins",
        choice(&[("none", ())]),
        |draft, _, ()| draft.cors_none = true,
    );
    table.served(
        "management.cors.allow_origins.$name",
        word(),
        |draft, _, value| {
            draft
                .config
                .management
                .headers
                .cors_allow_origins
                .push(value);
        },
    );
    table.served("management.cors.max_age", seconds(), |draft, _, value| {
        draft.config.management.headers.cors_max_age = Some(value);
    });
    table.served("management.csp.policy", word(), |draft, _, value| {
        draft.config.management.headers.content_security_policy = Some(value);
    });
    table.served("management.hsts.policy", word(), |draft, _, value| {
        draft.config.management.headers.strict_transport_security = Some(value);
    });
    table.served(
        "management.headers.content_type_options",
        word(),
        |draft, _, value| {
            draft.config.management.headers.content_type_options = Some(value);
        },
    );
    table.served(
        "management.headers.xss_protection",
        word(),
        |draft, _, value| {
            draft.config.management.headers.xss_protection = Some(value);
        },
    );
    table.served(
        "management.headers.frame_options",
        word(),
        |draft, _, value| {
            draft.config.management.headers.frame_options = Some(value);
        },
    );
}

fn samples(table: &mut Table) {
    for name in ["global", "basic", "detailed"] {
        let key = format!("management.sample_retention_policies.{name}.$interval");
        let allowed = "a number of seconds above zero, the distance between samples";
        table.served(
            &key,
            at_least(1).in_words(allowed),
            move |draft, entry, distance| {
                let kept = match entry.capture() {
                    "minute" => 60,
                    "hour" => 3600,
                    "day" => 86_400,
                    seconds => seconds.parse().unwrap_or(0),
                };
                if kept == 0 {
                    draft.conflict(
                        entry,
                        "the last part must be minute, hour, day or a number of seconds",
                    );
                }
                let retention = draft.retention.get_or_insert(EMPTY);
                let section = match name {
                    "global" => &mut retention.global,
                    "basic" => &mut retention.basic,
                    _ => &mut retention.detailed,
                };
                section.push((kept, distance));
            },
        );
    }
}

const EMPTY: Retention = Retention {
    global: Vec::new(),
    basic: Vec::new(),
    detailed: Vec::new(),
};

fn prometheus(table: &mut Table) {
    table.served("prometheus.path", word(), |draft, _, value| {
        draft.config.prometheus.path = format!("/{}", value.trim_matches('/'));
    });
    table.served(
        "prometheus.return_per_object_metrics",
        boolean(),
        |draft, _, value| {
            draft.config.prometheus.return_per_object_metrics = value;
        },
    );
    table.known(
        Status::NotServed,
        "prometheus.",
        "authentication.enabled boolean",
    );
    let pattern = "filter_aggregated_queue_metrics_pattern text";
    table.known(Status::NotServed, "prometheus.", pattern);
    table.known(Status::NotServed, "management_agent.", pattern);
}

const UNTUNABLE: &str = "
    backlog integer
    compress boolean
    idle_timeout integer
    inactivity_timeout integer
    max_connections limit
    max_keepalive integer
    request_timeout integer
    shutdown_timeout integer
";

const NOT_SERVED: &str = "
    http_log_dir text
    delegate_count integer
    db_cache_multiplier integer
    require_auth_for_api_reference boolean
    restrictions.quorum_queue_replica_operations.disabled boolean
    credential_encryption_secret secret
    definitions.require_json_extension boolean
    headers.referrer_policy text
    http.hide_allow_header boolean
";

const OAUTH: &str = "
    enabled boolean
    disable_basic_auth boolean
    provider_url text
    client_id text
    client_secret secret
    response_type text
    metadata_url text
    authorization_endpoint_params.$name text
    token_endpoint_params.$name text
    scopes text
    initiated_logon_type sp_initiated|idp_initiated
";

const OAUTH_SERVER: &str = "
    id text
    disabled boolean
    label text
    oauth_provider_url text
    oauth_client_id text
    oauth_client_secret secret
    oauth_response_type text
    oauth_scopes text
    oauth_metadata_url text
    oauth_initiated_logon_type sp_initiated|idp_initiated
    oauth_authorization_endpoint_params.$name text
    oauth_token_endpoint_params.$name text
";
