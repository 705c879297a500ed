//! The end of making a configuration: pieces are put together, and checked against each other.

use std::collections::BTreeSet;

use super::super::error::{Problem, Warning};
use super::super::model::{
    CertificateLogin, CredentialValidator, DiskLimit, HttpService, Listener, Mechanism,
    MemoryWatermark, PartitionHandling, PeerDiscovery, Rebalance, TlsOptions,
};
use super::super::source::Settings;
use super::super::value;
use super::{Draft, HttpDraft, LoginSource, PartitionMode, RebalanceMode, Validation};

impl Draft {
    /// Puts together what came in pieces. `settings` says where a piece came from.
    pub(in super::super) fn finish(&mut self, settings: &Settings) {
        self.finish_network(settings);
        self.finish_resources(settings);
        self.finish_access(settings);
        self.finish_cluster(settings);
        self.finish_http();
        self.check_tls(settings);
        let sources = self.definitions.iter_mut().filter_map(Option::take);
        self.config.definitions.sources = sources.collect();
        if let Some(dir) = self.log_dir.take() {
            self.config.log.dir = dir;
        }
        if let Some(name) = self.log_file.take() {
            self.config.log.file.name = name;
        }
    }

    fn finish_network(&mut self, settings: &Settings) {
        let network = &mut self.config.network;
        if !self.tcp.is_empty() {
            network.tcp = std::mem::take(&mut self.tcp);
        }
        for (off, key, listeners) in [
            (self.tcp_off, "listeners.tcp", &mut network.tcp),
            (self.ssl_off, "listeners.ssl", &mut network.ssl),
        ] {
            if off {
                listeners.clear();
            }
            let mut seen = BTreeSet::new();
            for listener in listeners
                .iter()
                .filter(|listener| listener.port != 0 && !seen.insert(**listener))
            {
                let text = format!("two listeners have the same address {listener}");
                self.problems.push(Problem::Conflict {
                    place: settings.place_under(key),
                    key: key.into(),
                    text,
                });
            }
        }
    }

    fn finish_resources(&mut self, settings: &Settings) {
        let resources = &mut self.config.resources;
        let absolute_wins = |key: &str| Warning {
            place: settings.place_of(&format!("{key}.relative")),
            key: format!("{key}.relative"),
            text: format!("has no effect, {key}.absolute is set too and takes precedence"),
        };
        match (self.memory_absolute, self.memory_relative) {
            (Some(absolute), relative) => {
                resources.vm_memory_high_watermark = MemoryWatermark::Absolute(absolute);
                self.warnings
                    .extend(relative.map(|_| absolute_wins("vm_memory_high_watermark")));
            }
            (None, Some(relative)) => {
                resources.vm_memory_high_watermark = MemoryWatermark::Relative(relative)
            }
            (None, None) => {}
        }
        match (self.disk_absolute, self.disk_relative) {
            (Some(absolute), relative) => {
                resources.disk_free_limit = DiskLimit::Absolute(absolute);
                self.warnings
                    .extend(relative.map(|_| absolute_wins("disk_free_limit")));
            }
            (None, Some(relative)) => resources.disk_free_limit = DiskLimit::Relative(relative),
            (None, None) => {}
        }
    }

    fn finish_access(&mut self, settings: &Settings) {
        let access = &mut self.config.access;
        if let Some(tags) = self.user_tags.take() {
            access.default_user_tags = tags;
        }
        if let Some(users) = self.loopback_users.take() {
            // As in RabbitMQ, naming one user takes the default one off the list.
            if !users.is_empty()
                && !users.contains("guest")
                && settings.place_of("loopback_users.guest").is_none()
            {
                let text = "guest is not in the list any more and may log in from anywhere; \
                            loopback_users.guest = true keeps it in";
                let place = settings.place_under("loopback_users");
                self.warnings.push(Warning {
                    place,
                    key: "loopback_users".into(),
                    text: text.into(),
                });
            }
            access.loopback_users = users;
        }
        if self.loopback_none {
            access.loopback_users.clear();
        }
        if !self.mechanisms.is_empty() {
            access.auth_mechanisms = std::mem::take(&mut self.mechanisms);
        }
        let given = (self.anonymous_user.take(), self.anonymous_pass.take());
        access.anonymous_login = match (given, access.anonymous_login.take()) {
            ((Some(user), _), _) if user == "none" => None,
            ((user, pass), Some(login)) => Some((user.unwrap_or(login.0), pass.unwrap_or(login.1))),
            (_, None) => None,
        };
        self.finish_credentials(settings);
    }

    fn finish_credentials(&mut self, settings: &Settings) {
        let access = &mut self.config.access;
        access.credential_validator = match self.validation {
            Validation::Everything => CredentialValidator::AcceptEverything,
            Validation::MinLength => CredentialValidator::MinLength(self.validation_min_length),
            Validation::Regexp => {
                CredentialValidator::Regexp(std::mem::take(&mut self.validation_regexp))
            }
        };
        if access.credential_validator == CredentialValidator::Regexp(String::new()) {
            let key = "credential_validator.validation_backend";
            let text = "needs credential_validator.regexp".to_owned();
            self.problems.push(Problem::Conflict {
                place: settings.place_of(key),
                key: key.into(),
                text,
            });
        }
        access.ssl_cert_login = match self.login_source {
            LoginSource::Distinguished => CertificateLogin::DistinguishedName,
            LoginSource::Common => CertificateLogin::CommonName,
            LoginSource::Alternative => CertificateLogin::AlternativeName {
                kind: self.login_san_kind,
                index: self.login_san_index,
            },
        };
    }

    fn finish_cluster(&mut self, settings: &Settings) {
        let cluster = &mut self.config.cluster;
        let mut conflict = |key: &str, text: &str| {
            let place = settings.place_of(key).or_else(|| settings.place_under(key));
            self.problems.push(Problem::Conflict {
                place,
                key: key.into(),
                text: text.into(),
            });
        };
        if let Some(min) = self.port_min {
            (cluster.distribution.port_min, cluster.distribution.port_max) = (min, min);
        }
        if let Some(max) = self.port_max {
            cluster.distribution.port_max = max;
            if max < cluster.distribution.port_min {
                let min = cluster.distribution.port_min;
                conflict(
                    "distribution.listener.port_range.max",
                    &format!("must not be below the first port, {min}"),
                );
            }
        }
        cluster.rebalance = match self.rebalance_mode {
            RebalanceMode::OnDemand => Rebalance::OnDemand,
            RebalanceMode::Appoint => Rebalance::Appoint,
            RebalanceMode::Timer => Rebalance::Timer(self.rebalance_interval),
        };
        // Any key of it asks for TLS, also one that is left out with a warning.
        if settings.place_under("inter_node.ssl_options").is_some() {
            cluster
                .inter_node_tls
                .get_or_insert_with(TlsOptions::default);
        }
        let formation = &cluster.formation;
        if formation.peer_discovery_backend == PeerDiscovery::Dns
            && formation.dns_hostname.is_none()
        {
            let text = "dns needs cluster_formation.dns.hostname";
            conflict("cluster_formation.peer_discovery_backend", text);
        }
        self.finish_partitions(settings);
    }

    fn finish_partitions(&mut self, settings: &Settings) {
        let key = "cluster_partition_handling";
        let mut conflict = |text: &str| {
            let place = settings.place_of(key);
            self.problems.push(Problem::Conflict {
                place,
                key: key.into(),
                text: text.into(),
            });
        };
        self.config.cluster.partition_handling = match self.partition_mode {
            PartitionMode::Ignore => PartitionHandling::Ignore,
            PartitionMode::Autoheal => PartitionHandling::Autoheal,
            PartitionMode::PauseMinority => PartitionHandling::PauseMinority,
            PartitionMode::PauseIfAllDown => {
                if self.partition_nodes.is_empty() {
                    conflict(
                        "pause_if_all_down needs cluster_partition_handling.pause_if_all_down.nodes.1",
                    );
                }
                if self.partition_autoheal.is_none() {
                    let text = "pause_if_all_down needs cluster_partition_handling.pause_if_all_down.recover, \
                                which must be ignore or autoheal";
                    conflict(text);
                }
                let nodes = std::mem::take(&mut self.partition_nodes);
                PartitionHandling::PauseIfAllDown {
                    nodes,
                    autoheal: self.partition_autoheal == Some(true),
                }
            }
        };
    }

    fn finish_http(&mut self) {
        place_service(&mut self.config.management.service, &self.management, 15671);
        place_service(&mut self.config.prometheus.service, &self.prometheus, 15691);
        if self.cors_none {
            self.config.management.headers.cors_allow_origins.clear();
        }
        if let Some(retention) = self.retention.take() {
            let kept = &mut self.config.management.sample_retention_policies;
            for (kept, given) in [
                (&mut kept.global, retention.global),
                (&mut kept.basic, retention.basic),
                (&mut kept.detailed, retention.detailed),
            ] {
                if !given.is_empty() {
                    *kept = given;
                    kept.sort_unstable();
                }
            }
        }
    }

    fn check_tls(&mut self, settings: &Settings) {
        let config = &self.config;
        let has_legacy = settings
            .place_under("management.listener.ssl_opts")
            .is_some();
        let management = if has_legacy {
            "management.listener.ssl_opts"
        } else {
            "management.ssl"
        };
        let mut found = tls_problems(
            "ssl_options",
            &config.tls,
            (!config.network.ssl.is_empty()).then_some(LISTENER),
            settings,
        );
        for (prefix, service) in [
            (management, &config.management.service),
            ("prometheus.ssl", &config.prometheus.service),
        ] {
            found.extend(tls_problems(
                prefix,
                &service.ssl_options,
                service.ssl.is_some().then_some(LISTENER),
                settings,
            ));
        }
        if let Some(options) = &config.cluster.inter_node_tls {
            let why = "since other settings of TLS between nodes are there";
            found.extend(tls_problems(
                "inter_node.ssl_options",
                options,
                Some(why),
                settings,
            ));
        }
        let mechanisms = &config.access.auth_mechanisms;
        if mechanisms.contains(&Mechanism::External) && !config.tls.verify {
            let text =
                "EXTERNAL lets nobody in without ssl_options.verify = verify_peer".to_owned();
            let place = settings.place_under("auth_mechanisms");
            self.warnings.push(Warning {
                place,
                key: "auth_mechanisms".into(),
                text,
            });
        }
        self.problems.extend(found);
    }
}

/// Why a listener needs files.
const LISTENER: &str = "since there is a listener for TLS";

/// What is missing or contradictory in TLS settings. `used` says why they matter, if they do.
fn tls_problems(
    prefix: &str,
    options: &TlsOptions,
    used: Option<&str>,
    settings: &Settings,
) -> Vec<Problem> {
    let conflict = |suffix: &str, text: String| {
        let key = format!("{prefix}.{suffix}");
        let place = settings
            .place_of(&key)
            .or_else(|| settings.place_under(prefix));
        Problem::Conflict { place, key, text }
    };
    let mut problems = Vec::new();
    if let Some(why) = used {
        for (suffix, file) in [
            ("certfile", &options.certfile),
            ("keyfile", &options.keyfile),
        ] {
            if file.is_none() {
                problems.push(conflict(suffix, format!("must be set, {why}")));
            }
        }
    }
    if options.verify && options.cacertfile.is_none() {
        problems.push(conflict(
            "verify",
            format!("verify_peer needs {prefix}.cacertfile"),
        ));
    }
    if options.fail_if_no_peer_cert && !options.verify {
        let text = format!("has no meaning without {prefix}.verify = verify_peer");
        problems.push(conflict("fail_if_no_peer_cert", text));
    }
    let asked = settings
        .place_under(&format!("{prefix}.versions"))
        .is_some();
    if asked && options.versions.is_empty() {
        let allowed = value::one_of(["tlsv1.2", "tlsv1.3"].into_iter());
        problems.push(conflict(
            "versions",
            format!("none of the versions is supported; use {allowed}"),
        ));
    }
    problems
}

/// As RabbitMQ has it: plain HTTP unless only TLS is configured.
fn place_service(service: &mut HttpService, draft: &HttpDraft, ssl_port: u16) {
    let (tcp_ip, tcp_port, ssl_ip, ssl_port_given) =
        if draft.legacy_port.is_none() && draft.legacy_ip.is_none() {
            (draft.tcp_ip, draft.tcp_port, draft.ssl_ip, draft.ssl_port)
        } else if draft.legacy_ssl {
            (
                draft.tcp_ip,
                draft.tcp_port,
                draft.ssl_ip.or(draft.legacy_ip),
                draft.ssl_port.or(draft.legacy_port),
            )
        } else {
            (
                draft.tcp_ip.or(draft.legacy_ip),
                draft.tcp_port.or(draft.legacy_port),
                draft.ssl_ip,
                draft.ssl_port,
            )
        };
    let has_tcp = tcp_ip.is_some() || tcp_port.is_some();
    let has_ssl =
        ssl_ip.is_some() || ssl_port_given.is_some() || service.ssl_options.certfile.is_some();
    if has_ssl {
        service.ssl = Some(Listener {
            ip: ssl_ip,
            port: ssl_port_given.unwrap_or(ssl_port),
        });
        if !has_tcp {
            service.tcp = None;
        }
    }
    if let Some(tcp) = &mut service.tcp {
        *tcp = Listener {
            ip: tcp_ip,
            port: tcp_port.unwrap_or(tcp.port),
        };
    }
}
