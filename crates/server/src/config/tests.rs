use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::files::memory::MemoryFiles;
use super::key::Status;
use super::{
    Arguments, Config, DiskLimit, Environment, HostPort, Listener, LogLevel, Mechanism,
    MemoryWatermark, PartitionHandling, QueueLocator, Rebalance, TlsVersion, Warning, keys,
};

mod environment;
mod manual;
mod production;
mod refusals;

/// A machine without anything configured.
struct Machine {
    files: MemoryFiles,
    variables: BTreeMap<String, String>,
    arguments: Arguments,
    is_root: bool,
}

impl Machine {
    fn new() -> Machine {
        let files = MemoryFiles::default();
        Machine {
            files,
            variables: BTreeMap::new(),
            arguments: Arguments::default(),
            is_root: false,
        }
    }

    /// With a main configuration file.
    fn configured(text: &str) -> Machine {
        let machine = Machine::new();
        machine.files.put("/etc/warren/warren.conf", text, 0o644);
        machine
    }

    fn file(self, path: &str, text: &str) -> Machine {
        self.files.put(path, text, 0o644);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Machine {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn set(mut self, setting: &str) -> Machine {
        self.arguments.settings.push(setting.into());
        self
    }

    fn environment(&self) -> Environment<'_> {
        Environment {
            arguments: self.arguments.clone(),
            variables: self.variables.clone(),
            files: &self.files,
            host_name: "orders-1.example.com".into(),
            is_root: self.is_root,
        }
    }

    fn load(&self) -> (Config, Vec<Warning>) {
        Config::load(&self.environment()).unwrap_or_else(|error| panic!("refused:\n{error}"))
    }

    fn config(&self) -> Config {
        self.load().0
    }

    /// Everything that is wrong.
    fn refusal(&self) -> String {
        Config::load(&self.environment())
            .expect_err("the configuration should be refused")
            .to_string()
    }
}

/// The configuration a text gives.
fn config(text: &str) -> Config {
    Machine::configured(text).config()
}

/// What a text is warned about.
fn warnings(text: &str) -> Vec<String> {
    Machine::configured(text)
        .load()
        .1
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn listener(text: &str, port: u16) -> Listener {
    Listener {
        ip: text.parse().ok(),
        port,
    }
}

fn production() -> Machine {
    let key = "-----BEGIN";
    Machine::configured(include_str!("tests/production.conf"))
        .file("/etc/warren/tls/ca.pem", key)
        .file("/etc/warren/tls/n1.pem", key)
        .file("/etc/warren/tls/n1.key", key)
        .file("/etc/warren/definitions.json", "{}")
        .variable("NODE", "n1")
        .variable("OPS_PASSWORD", "correct horse")
        .variable("RABBITMQ_NODENAME", "rabbit@orders-1")
}

#[test]
fn nothing_configured_is_a_node_as_rabbitmq_has_it() {
    let (config, warnings) = Machine::new().load();
    assert_eq!(warnings, []);
    assert_eq!(config.node_name.to_string(), "warren@orders-1");
    assert_eq!(
        config.data_dir,
        PathBuf::from("./warren-data/warren@orders-1")
    );
    assert_eq!(
        config,
        Config::new(config.node_name.clone(), config.data_dir.clone())
    );
    assert_eq!(
        (config.network.tcp, config.network.ssl),
        (vec![Listener::on(5672)], vec![])
    );
    assert_eq!(
        (config.limits.frame_max, config.limits.channel_max),
        (131_072, 2047)
    );
    assert_eq!(
        config.limits.consumer_timeout,
        Some(Duration::from_millis(1_800_000))
    );
    assert_eq!(
        config.resources.vm_memory_high_watermark,
        MemoryWatermark::Relative(0.4)
    );
    assert_eq!(
        config.resources.disk_free_limit,
        DiskLimit::Absolute(50_000_000)
    );
    assert_eq!(
        (
            config.access.default_user.as_str(),
            config.access.default_pass.as_str()
        ),
        ("guest", "guest")
    );
    assert_eq!(config.cluster.partition_handling, PartitionHandling::Ignore);
    assert_eq!(config.management.service.tcp, Some(Listener::on(15672)));
    assert_eq!(config.prometheus.service.tcp, Some(Listener::on(15692)));
    assert_eq!(
        config.log.dir.join(config.log.file.name),
        PathBuf::from("./warren-data/warren@orders-1/log/warren@orders-1.log")
    );
}

#[test]
fn the_first_entry_of_a_list_replaces_the_default_list() {
    assert_eq!(
        config("listeners.tcp.other = 5673").network.tcp,
        [Listener::on(5673)]
    );
    assert_eq!(
        config("listeners.tcp = none\nlisteners.tcp.x = 5673")
            .network
            .tcp,
        []
    );
    assert_eq!(
        config("auth_mechanisms.1 = EXTERNAL")
            .access
            .auth_mechanisms,
        [Mechanism::External]
    );
    assert_eq!(
        config("default_user_tags.management = true")
            .access
            .default_user_tags,
        ["management"]
    );
    assert_eq!(
        config("default_user_tags.administrator = false")
            .access
            .default_user_tags,
        [""; 0]
    );
}

#[test]
fn loopback_users() {
    let users = |text: &str| config(text).access.loopback_users;
    assert_eq!(users(""), BTreeSet::from(["guest".to_owned()]));
    assert_eq!(users("loopback_users = none"), BTreeSet::new());
    assert_eq!(users("loopback_users.guest = false"), BTreeSet::new());
    assert_eq!(
        users("loopback_users.a\\.b = true"),
        BTreeSet::from(["a.b".to_owned()])
    );
    assert_eq!(warnings("loopback_users.guest = false"), [""; 0]);
    let said = warnings("\nloopback_users.ops = true");
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("/etc/warren/warren.conf:2: loopback_users: guest is not in the list"),
        "{said:?}"
    );
}

#[test]
fn entries_are_ordered_by_number() {
    let text = "auth_mechanisms.10 = PLAIN\nauth_mechanisms.9 = EXTERNAL\nssl_options.verify = verify_none";
    assert_eq!(
        config(text).access.auth_mechanisms,
        [Mechanism::External, Mechanism::Plain]
    );
}

#[test]
fn absolute_thresholds_win_over_relative_ones_with_a_warning() {
    let text = "vm_memory_high_watermark.relative = 0.5\nvm_memory_high_watermark.absolute = 1GiB\n\
                disk_free_limit.relative = 1.5\n";
    let (config, warnings) = Machine::configured(text).load();
    assert_eq!(
        config.resources.vm_memory_high_watermark,
        MemoryWatermark::Absolute(1 << 30)
    );
    assert_eq!(config.resources.disk_free_limit, DiskLimit::Relative(1.5));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0]
            .text
            .contains("vm_memory_high_watermark.absolute is set too"),
        "{warnings:?}"
    );
}

#[test]
fn http_is_plain_unless_only_tls_is_configured() {
    let service = |text: &str| {
        let service = Machine::configured(text)
            .file("/c", "")
            .file("/k", "")
            .config()
            .management
            .service;
        (service.tcp, service.ssl)
    };
    let files = "management.ssl.certfile = /c\nmanagement.ssl.keyfile = /k\n";
    assert_eq!(service(""), (Some(Listener::on(15672)), None));
    assert_eq!(
        service("management.tcp.port = 1"),
        (Some(Listener::on(1)), None)
    );
    assert_eq!(
        service(&format!("{files}management.ssl.port = 2")),
        (None, Some(Listener::on(2)))
    );
    assert_eq!(service(files), (None, Some(Listener::on(15671))));
    let both = service(&format!("{files}management.tcp.ip = ::1"));
    assert_eq!(
        both,
        (Some(listener("::1", 15672)), Some(Listener::on(15671)))
    );
    assert_eq!(
        service("management.listener.port = 3").0,
        Some(Listener::on(3))
    );
    let legacy = "management.listener.port = 4\nmanagement.listener.ssl = true\n\
                  management.listener.ssl_opts.certfile = /c\nmanagement.listener.ssl_opts.keyfile = /k";
    assert_eq!(service(legacy), (None, Some(Listener::on(4))));
}

#[test]
fn words_of_others_are_understood() {
    assert_eq!(config("max_connections = 5").limits.connection_max, Some(5));
    assert_eq!(
        config("max_channels_per_connection = 5").limits.channel_max,
        5
    );
    let handling = config("cluster_partition_handling = stop_processing")
        .cluster
        .partition_handling;
    assert_eq!(handling, PartitionHandling::PauseMinority);
    assert_eq!(
        config("cluster_rebalance = run").cluster.rebalance,
        Rebalance::OnDemand
    );
    assert_eq!(
        config("cluster_rebalance = appoint").cluster.rebalance,
        Rebalance::Appoint
    );
    assert_eq!(
        config("cluster_nodes.disc_copies = q1, q2")
            .cluster
            .disc_copies,
        ["q1", "q2"]
    );
    for word in ["min-masters", "least-leaders", "balanced"] {
        let locator = config(&format!("queue_leader_locator = {word}"))
            .queues
            .locator();
        assert_eq!(locator, QueueLocator::Balanced, "{word}");
    }
    assert_eq!(
        config("queue_master_locator = round-robin")
            .queues
            .locator(),
        QueueLocator::RoundRobin
    );
    assert_eq!(
        config("anonymous_login_user = none").access.anonymous_login,
        None
    );
}

#[test]
fn all_sources_of_definitions_count() {
    let text =
        "management.load_definitions = /m\nload_definitions = /l\ndefinitions.local.path = /d";
    let machine = Machine::configured(text)
        .file("/m", "")
        .file("/l", "")
        .file("/d/x.json", "");
    let sources: Vec<String> = machine
        .config()
        .definitions
        .sources
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert_eq!(sources, ["/l", "/m", "/d"]);
}

#[test]
fn known_keys_without_effect_are_named_and_their_values_checked() {
    let said =
        warnings("mnesia_table_loading_retry_limit = 10\nauth_ldap.servers.1 = ldap.example");
    assert_eq!(
        said,
        [
            "/etc/warren/warren.conf:2: auth_ldap.servers.1: is known from RabbitMQ and not served yet, it has no effect",
            "/etc/warren/warren.conf:1: mnesia_table_loading_retry_limit: is known from RabbitMQ and has no effect here",
        ]
    );
    assert!(
        Machine::configured("mqtt.prefetch = ten")
            .refusal()
            .contains("mqtt.prefetch must be a whole number")
    );
}

#[test]
fn nodes_speak_tls_with_each_other_when_they_are_told_to() {
    let config = Machine::new().config();
    assert_eq!(config.cluster.inter_node_tls, None);
    let settings = [
        "cacertfile = /etc/warren/tls/ca.pem",
        "certfile = /etc/warren/tls/n1.pem",
        "keyfile = /etc/warren/tls/n1.key",
        "verify = verify_peer",
        "fail_if_no_peer_cert = true",
        "versions.1 = tlsv1.3",
        "ciphers.1 = TLS_AES_256_GCM_SHA384",
    ];
    let mut machine = production();
    for setting in settings {
        machine = machine.set(&format!("inter_node.ssl_options.{setting}"));
    }
    let options = machine.config().cluster.inter_node_tls.unwrap();
    let certificate = PathBuf::from("/etc/warren/tls/n1.pem");
    assert_eq!(options.certfile, Some(certificate));
    assert!(options.verify && options.fail_if_no_peer_cert);
    assert_eq!(options.versions, [TlsVersion::V1_3]);
    assert_eq!(options.ciphers, ["TLS_AES_256_GCM_SHA384"]);
}

#[test]
fn old_versions_of_tls_are_left_out_with_a_warning() {
    let text = "ssl_options.versions.1 = tlsv1.1\nssl_options.versions.2 = tlsv1.2";
    let (config, warnings) = Machine::configured(text).load();
    assert_eq!(config.tls.versions, [TlsVersion::V1_2]);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn what_is_described_can_be_read_again() {
    for machine in [Machine::new(), production()] {
        let config = machine.config();
        let mut text = String::new();
        for (key, value) in config.describe() {
            if value != super::describe::HIDDEN {
                text += &format!("{key} = '{value}'\n");
            }
        }
        let again = Machine {
            files: machine.files,
            variables: machine.variables,
            arguments: Arguments::default(),
            is_root: false,
        };
        again.files.put("/etc/warren/warren.conf", &text, 0o644);
        let mut again = again.config();
        // Secrets are not described.
        again
            .access
            .default_pass
            .clone_from(&config.access.default_pass);
        again
            .access
            .default_users
            .clone_from(&config.access.default_users);
        again.files.clone_from(&config.files);
        assert_eq!(again, config);
    }
}

#[test]
fn no_secret_is_described() {
    let listing = format!("{:?}", production().config().describe());
    assert!(
        !listing.contains("correct horse") && !listing.contains("with a hash"),
        "{listing}"
    );
}

#[test]
fn every_served_key_is_described() {
    let everything = "default_users.x.tags = a\nqueue_leader_locator = random\nlog.file = x\n\
        anonymous_login_user = a\nanonymous_login_pass = b\nmanagement.csp.policy = x\nmanagement.hsts.policy = x\n\
        management.headers.xss_protection = x\nmanagement.headers.content_type_options = x\n\
        ssl_options.password = x\nmanagement.ssl.password = x\nprometheus.tcp.ip = ::1\nprometheus.ssl.ip = ::1\n\
        management.ssl.ip = ::1\ncluster_formation.dns.hostname = x\n\
        prometheus.ssl.password = x\ninter_node.ssl_options.password = x\ncluster_nodes.disc_copies = q\n\
        message_interceptors.incoming.set_header_routing_node.overwrite = true\n";
    let prefixes = ["ssl_options", "management.ssl", "prometheus.ssl", "inter_node.ssl_options"];
    let files = prefixes.map(|prefix| {
        format!("{prefix}.certfile = /etc/warren/tls/ca.pem\n{prefix}.keyfile = /etc/warren/tls/ca.pem\n{prefix}.cacertfile = /etc/warren/tls/ca.pem\n")
    });
    let mut machine = production();
    for line in everything
        .lines()
        .chain(files.iter().flat_map(|text| text.lines()))
    {
        machine = machine.set(line);
    }
    let described: BTreeSet<String> = machine
        .config()
        .describe()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    // Other spellings of keys that are described, and switches that are described as what they switch off.
    let spared = [
        "max_connections",
        "max_channels_per_connection",
        "definitions.local.path",
        "management.load_definitions",
        "listeners.tcp",
        "listeners.ssl",
        "loopback_users",
        "tcp_listen_options",
        "ssl_options",
        "management.cors.allow_origins",
        "credential_validator.regexp",
        "vm_memory_high_watermark.absolute",
        "disk_free_limit.relative",
    ];
    for key in keys::table()
        .keys
        .iter()
        .filter(|key| key.status == Status::Served)
    {
        let is_spared = key.pattern.contains('$')
            || key.pattern.starts_with("management.listener.")
            || key.pattern.starts_with("log.") && key.pattern.ends_with(".level")
            || spared.contains(&key.pattern.as_str());
        assert!(
            is_spared || described.contains(&key.pattern),
            "{} is not described",
            key.pattern
        );
    }
}

#[test]
fn the_witness_is_the_node_that_the_key_names() {
    let is_witness = |name: &str, host: &str, port| {
        let mut config = Config::new(name.parse().unwrap(), PathBuf::from("/nowhere"));
        assert!(!config.is_witness());
        let host = host.to_owned();
        config.cluster.metadata_witness = Some(HostPort { host, port });
        config.is_witness()
    };
    assert!(is_witness("warren@broker-w", "Broker-W", 25672));
    assert!(is_witness("warren@10.0.0.3:7000", "10.0.0.3", 7000));
    assert!(!is_witness("warren@broker-w", "broker-w", 7000));
    assert!(!is_witness("warren@broker-a", "broker-w", 25672));
}
