//! The HTTP API with its pages, and the Prometheus endpoint.

use std::time::Duration;

use super::{Listener, TlsOptions};

/// How much is counted for the management pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatesMode {
    Basic,
    Detailed,
    None,
}

/// Headers of every HTTP answer; `None` leaves a header out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpHeaders {
    pub content_security_policy: Option<String>,
    pub strict_transport_security: Option<String>,
    pub content_type_options: Option<String>,
    pub xss_protection: Option<String>,
    pub frame_options: Option<String>,
    pub cors_allow_origins: Vec<String>,
    pub cors_max_age: Option<Duration>,
}

/// How long samples are kept, and how far apart they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// (kept for, distance) in seconds.
    pub global: Vec<(u64, u64)>,
    pub basic: Vec<(u64, u64)>,
    pub detailed: Vec<(u64, u64)>,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            global: vec![(605, 5), (3660, 60), (29_400, 600), (86_400, 1800)],
            basic: vec![(605, 5), (3600, 60)],
            detailed: vec![(605, 5)],
        }
    }
}

/// An HTTP service: without TLS, with it, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpService {
    pub tcp: Option<Listener>,
    pub ssl: Option<Listener>,
    pub ssl_options: TlsOptions,
}

/// The HTTP API and the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    pub service: HttpService,
    /// Empty, or begins with a slash and does not end with one.
    pub path_prefix: String,
    pub rates_mode: RatesMode,
    pub disable_stats: bool,
    pub enable_queue_totals: bool,
    pub max_body_size: u64,
    pub login_session_timeout: Duration,
    pub disable_basic_auth: bool,
    pub headers: HttpHeaders,
    pub sample_retention_policies: Retention,
    pub operator_policy_changes_disabled: bool,
    pub disable_metrics_collector: bool,
}

impl Default for Management {
    fn default() -> Management {
        Management {
            service: HttpService {
                tcp: Some(Listener::on(15672)),
                ssl: None,
                ssl_options: TlsOptions::default(),
            },
            path_prefix: String::new(),
            rates_mode: RatesMode::Basic,
            disable_stats: false,
            enable_queue_totals: false,
            max_body_size: 20_000_000,
            login_session_timeout: Duration::from_secs(480 * 60),
            disable_basic_auth: false,
            headers: HttpHeaders::default(),
            sample_retention_policies: Retention::default(),
            operator_policy_changes_disabled: false,
            disable_metrics_collector: false,
        }
    }
}

/// The Prometheus endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    pub service: HttpService,
    pub path: String,
    pub return_per_object_metrics: bool,
}

impl Default for Prometheus {
    fn default() -> Prometheus {
        Prometheus {
            service: HttpService {
                tcp: Some(Listener::on(15692)),
                ssl: None,
                ssl_options: TlsOptions::default(),
            },
            path: "/metrics".into(),
            return_per_object_metrics: false,
        }
    }
}
