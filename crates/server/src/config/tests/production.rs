use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{listener, production};
use crate::config::{
    CertificateLogin, CredentialValidator, Listener, LogFormat, LogLevel, Mechanism,
    PartitionHandling, PasswordHashing, PolicyValue, QueueLocator, QueueType, RatesMode, Rebalance,
    SanKind, TlsVersion,
};

#[test]
fn a_production_file_is_read_as_it_is() {
    let (config, warnings) = production().load();
    let network = &config.network;
    assert_eq!(
        network.tcp,
        [
            listener("10.0.7.11", 5672),
            listener("127.0.0.1", 5672),
            listener("::1", 5672)
        ]
    );
    assert_eq!(network.ssl, [Listener::on(5671)]);
    assert_eq!(network.handshake_timeout, Some(Duration::from_secs(20)));
    assert_eq!(
        (
            network.tcp_listen_options.backlog,
            network.tcp_listen_options.keepalive
        ),
        (4096, Some(true))
    );
    assert_eq!(
        (config.limits.frame_max, config.limits.initial_frame_max),
        (131_072, 8192)
    );
    assert_eq!(
        (
            config.limits.connection_max,
            config.limits.channel_max_per_node
        ),
        (Some(20_000), None)
    );
    assert_eq!(
        config.tls.certfile,
        Some(PathBuf::from("/etc/warren/tls/n1.pem"))
    );
    assert_eq!((config.tls.verify, config.tls.depth), (true, 2));
    assert_eq!(config.tls.versions, [TlsVersion::V1_3, TlsVersion::V1_2]);
    let login = CertificateLogin::AlternativeName {
        kind: SanKind::Dns,
        index: 1,
    };
    assert_eq!(config.access.ssl_cert_login, login);
    assert_eq!(
        config.log.category_levels,
        BTreeMap::from([("connection".into(), LogLevel::Debug)])
    );
    assert_eq!(
        (config.log.console.format, config.log.file.level),
        (LogFormat::Json, LogLevel::Warning)
    );
    assert_eq!(
        config.log_file(),
        Some(PathBuf::from("/var/log/orders/orders.log"))
    );
    let about: Vec<&str> = warnings
        .iter()
        .map(|warning| warning.key.as_str())
        .collect();
    assert_eq!(
        about,
        [
            "mqtt.listeners.tcp.default",
            "num_acceptors.tcp",
            "reverse_dns_lookups",
            "tcp_listen_options.exit_on_close",
            "vm_memory_calculation_strategy",
        ]
    );
}

#[test]
fn a_production_file_says_who_may_do_what() {
    let access = production().config().access;
    assert_eq!(
        (access.default_user.as_str(), access.default_pass.as_str()),
        ("ops", "correct horse")
    );
    assert_eq!(access.default_user_tags, ["administrator", "robots"]);
    assert_eq!(access.default_permissions.write, r"^(?:orders|audit)\..*");
    assert_eq!(
        access.auth_mechanisms,
        [Mechanism::Plain, Mechanism::AmqPlain, Mechanism::External]
    );
    assert_eq!(access.password_hashing_module, PasswordHashing::Sha512);
    assert_eq!(
        access.credential_validator,
        CredentialValidator::MinLength(14)
    );
    let [user] = access.default_users.as_slice() else {
        panic!("{:?}", access.default_users)
    };
    assert_eq!(
        (user.name.as_str(), user.password.as_deref()),
        ("monitor", Some("p#ss, with a hash"))
    );
    assert_eq!(user.tags, ["monitoring", "management"]);
    assert_eq!(
        (
            user.permissions.configure.as_str(),
            user.permissions.read.as_str()
        ),
        ("^$", ".*")
    );
    let [limit] = access.default_limits.as_slice() else {
        panic!("{:?}", access.default_limits)
    };
    assert_eq!(
        (limit.max_connections, limit.max_queues),
        (Some(500), Some(1000))
    );
    let [policy] = access.default_policies.as_slice() else {
        panic!("{:?}", access.default_policies)
    };
    let expected = [
        ("ha-mode", PolicyValue::Text("exactly".into())),
        ("ha-params", PolicyValue::Number(2)),
        ("ha-sync-mode", PolicyValue::Text("automatic".into())),
        ("max-length", PolicyValue::Number(100_000)),
        ("max-length-bytes", PolicyValue::Number(64 << 20)),
        ("message-ttl", PolicyValue::Number(604_800_000)),
    ];
    assert_eq!(
        policy.definition,
        expected.map(|(key, value)| (key.to_owned(), value)).into()
    );
}

#[test]
fn a_production_file_says_how_the_cluster_lives() {
    let config = production().config();
    let cluster = &config.cluster;
    assert_eq!(cluster.cluster_name.as_deref(), Some("orders-eu"));
    let nodes: Vec<String> = cluster
        .formation
        .nodes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        nodes,
        [
            "rabbit@orders-1",
            "rabbit@orders-2",
            "rabbit@orders-3:25673"
        ]
    );
    let PartitionHandling::PauseIfAllDown {
        nodes,
        autoheal: true,
    } = &cluster.partition_handling
    else {
        panic!("{:?}", cluster.partition_handling)
    };
    assert_eq!(nodes.len(), 2);
    assert_eq!(
        (cluster.distribution.port_min, cluster.distribution.port_max),
        (25672, 25680)
    );
    assert_eq!(
        cluster.rebalance,
        Rebalance::Timer(Duration::from_secs(300))
    );
    assert_eq!(cluster.mirroring_sync_max_throughput, 50_000_000);
    assert_eq!(
        (config.queues.locator(), config.queues.default_queue_type),
        (QueueLocator::Balanced, QueueType::Quorum)
    );
    assert_eq!(
        config.definitions.sources,
        [PathBuf::from("/etc/warren/definitions.json")]
    );
    let management = &config.management;
    assert_eq!(management.service.tcp, Some(listener("10.0.7.11", 15672)));
    assert_eq!(management.service.ssl, Some(Listener::on(15671)));
    assert_eq!(
        (management.path_prefix.as_str(), management.rates_mode),
        ("/broker", RatesMode::Detailed)
    );
    assert_eq!(
        management.headers.cors_allow_origins,
        ["https://ops.example"]
    );
    assert_eq!(
        management.sample_retention_policies.global,
        [(60, 5), (3600, 60)]
    );
    assert_eq!(
        management.sample_retention_policies.basic,
        [(605, 5), (3600, 60)]
    );
    assert_eq!(
        (
            config.prometheus.path.as_str(),
            config.prometheus.return_per_object_metrics
        ),
        ("/metrics", true)
    );
}
