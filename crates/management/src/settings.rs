//! What the configuration says about the API (`management.*`).

use std::time::Duration;

/// Settings of the API. The server fills them from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Put in front of `/api` (`management.path_prefix`); empty or beginning with a slash.
    pub path_prefix: String,
    /// The longest request body in bytes (`management.http.max_body_size`).
    pub body_bytes_max: usize,
    /// Origins that browsers may call from (`management.cors.allow_origins`); `*` is every origin,
    /// without credentials. Empty: no cross-origin headers at all.
    pub cors_origins: Vec<String>,
    /// How long browsers may remember the answer about origins (`management.cors.max_age`).
    pub cors_max_age: Option<Duration>,
    /// Headers added to every answer (`management.hsts.policy`, `management.csp.policy`, …).
    pub headers: Vec<(String, String)>,
    /// What is sampled (`management.rates_mode`): `basic` or `detailed`, which is the same here, or `none`.
    pub rates_mode: &'static str,
    /// No rates, no totals (`management.disable_stats`).
    pub disable_stats: bool,
    /// With `disable_stats`: queue totals all the same (`management.enable_queue_totals`).
    pub enable_queue_totals: bool,
    /// What `whoami` tells browsers (`management.login_session_timeout`), in minutes.
    pub login_session_timeout: Option<u64>,
    /// How long a delivery may stay unacked where a queue does not say (`consumer_timeout`).
    pub consumer_timeout: Duration,
    /// The names of the mechanisms that clients may log in by (`auth_mechanisms.N`).
    pub auth_mechanisms: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            path_prefix: String::new(),
            body_bytes_max: 20_000_000,
            cors_origins: Vec::new(),
            cors_max_age: Some(Duration::from_secs(1800)),
            headers: Vec::new(),
            rates_mode: "basic",
            disable_stats: false,
            enable_queue_totals: false,
            login_session_timeout: None,
            consumer_timeout: Duration::from_secs(1800),
            auth_mechanisms: vec!["PLAIN", "AMQPLAIN"],
        }
    }
}
