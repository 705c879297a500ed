//! The HTTP API and Prometheus, as keys and values.

use super::super::Config;
use super::super::model::{HttpHeaders, HttpService, Listener, RatesMode, Retention};
use super::access::tls;
use super::{Listing, add, add_some};

fn service(prefix: &str, service: &HttpService, out: &mut Listing) {
    for (transport, listener) in [("tcp", service.tcp), ("ssl", service.ssl)] {
        if let Some(Listener { ip, port }) = listener {
            add(out, format!("{prefix}.{transport}.port"), port);
            add_some(out, &format!("{prefix}.{transport}.ip"), ip.as_ref());
        }
    }
    if service.ssl.is_some() {
        tls(&format!("{prefix}.ssl"), &service.ssl_options, out);
    }
}

pub(super) fn management(config: &Config, out: &mut Listing) {
    let management = &config.management;
    service("management", &management.service, out);
    add(out, "management.path_prefix", &management.path_prefix);
    let mode = match management.rates_mode {
        RatesMode::Basic => "basic",
        RatesMode::Detailed => "detailed",
        RatesMode::None => "none",
    };
    add(out, "management.rates_mode", mode);
    add(out, "management.disable_stats", management.disable_stats);
    add(
        out,
        "management.enable_queue_totals",
        management.enable_queue_totals,
    );
    add(
        out,
        "management.http.max_body_size",
        management.max_body_size,
    );
    add(
        out,
        "management.login_session_timeout",
        management.login_session_timeout.as_secs() / 60,
    );
    add(
        out,
        "management.disable_basic_auth",
        management.disable_basic_auth,
    );
    let disabled = management.operator_policy_changes_disabled;
    add(
        out,
        "management.restrictions.operator_policy_changes.disabled",
        disabled,
    );
    add(
        out,
        "management_agent.disable_metrics_collector",
        management.disable_metrics_collector,
    );
    headers(&management.headers, out);
    samples(&management.sample_retention_policies, out);
}

fn headers(headers: &HttpHeaders, out: &mut Listing) {
    for (index, origin) in headers.cors_allow_origins.iter().enumerate() {
        add(
            out,
            format!("management.cors.allow_origins.{}", index + 1),
            origin,
        );
    }
    let max_age = headers.cors_max_age.map(|age| age.as_secs());
    add_some(out, "management.cors.max_age", max_age.as_ref());
    add_some(
        out,
        "management.csp.policy",
        headers.content_security_policy.as_ref(),
    );
    add_some(
        out,
        "management.hsts.policy",
        headers.strict_transport_security.as_ref(),
    );
    add_some(
        out,
        "management.headers.content_type_options",
        headers.content_type_options.as_ref(),
    );
    add_some(
        out,
        "management.headers.xss_protection",
        headers.xss_protection.as_ref(),
    );
    add_some(
        out,
        "management.headers.frame_options",
        headers.frame_options.as_ref(),
    );
}

fn samples(samples: &Retention, out: &mut Listing) {
    for (section, policies) in [
        ("global", &samples.global),
        ("basic", &samples.basic),
        ("detailed", &samples.detailed),
    ] {
        for (kept, distance) in policies {
            add(
                out,
                format!("management.sample_retention_policies.{section}.{kept}"),
                distance,
            );
        }
    }
}

pub(super) fn prometheus(config: &Config, out: &mut Listing) {
    let prometheus = &config.prometheus;
    service("prometheus", &prometheus.service, out);
    add(out, "prometheus.path", &prometheus.path);
    add(
        out,
        "prometheus.return_per_object_metrics",
        prometheus.return_per_object_metrics,
    );
}
