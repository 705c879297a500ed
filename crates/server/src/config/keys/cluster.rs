//! Clusters: names, ports between nodes, how nodes find each other, partitions, and where queues go.

use std::time::Duration;

use super::super::draft::{PartitionMode, RebalanceMode};
use super::super::key::{Status, Table};
use super::super::model::{PeerDiscovery, QueueLocator, QueueType, TlsOptions};
use super::super::value::{
    boolean, choice, host_port, integer, ip, list, millis, node, port, seconds, word,
};

pub(super) fn add(table: &mut Table) {
    names_and_ports(table);
    formation(table);
    partitions(table);
    ours(table);
    queues(table);
    table.known(Status::NoEffect, "cluster_formation.", UNTUNABLE);
    table.known(Status::NotServed, "", NOT_SERVED);
    for prefix in [
        "cluster_formation.consul.ssl_options",
        "cluster_formation.etcd.ssl_options",
    ] {
        super::tls::known_under(table, prefix);
    }
}

fn names_and_ports(table: &mut Table) {
    table.served("cluster_name", word(), |draft, _, value| {
        draft.config.cluster.cluster_name = Some(value)
    });
    table.served(
        "net_ticktime",
        seconds().only("a number of seconds above zero", |time| !time.is_zero()),
        |draft, _, value| draft.config.cluster.net_ticktime = value,
    );
    table.served(
        "cluster_keepalive_interval",
        millis().only("a number of milliseconds above zero", |t| !t.is_zero()),
        |draft, _, value| draft.config.cluster.keepalive_interval = value,
    );
    table.served(
        "distribution.listener.interface",
        ip(),
        |draft, _, value| {
            draft.config.cluster.distribution.interface = Some(value);
        },
    );
    table.served(
        "distribution.listener.port_range.min",
        port(),
        |draft, _, value| draft.port_min = Some(value),
    );
    table.served(
        "distribution.listener.port_range.max",
        port(),
        |draft, _, value| draft.port_max = Some(value),
    );
    super::tls::served_under(table, "inter_node.ssl_options", |draft| {
        let tls = &mut draft.config.cluster.inter_node_tls;
        tls.get_or_insert_with(TlsOptions::default)
    });
}

fn formation(table: &mut Table) {
    // A backend that is silently left out would make each node a cluster of its own, so it is refused.
    let backend = choice(&[
        ("classic_config", PeerDiscovery::ClassicConfig),
        ("classic", PeerDiscovery::ClassicConfig),
        ("config", PeerDiscovery::ClassicConfig),
        (
            "rabbit_peer_discovery_classic_config",
            PeerDiscovery::ClassicConfig,
        ),
        ("dns", PeerDiscovery::Dns),
        ("rabbit_peer_discovery_dns", PeerDiscovery::Dns),
    ])
    .in_words("classic_config or dns; discovery by aws, consul, etcd or k8s is not served yet");
    table.served(
        "cluster_formation.peer_discovery_backend",
        backend,
        |draft, _, value| {
            draft.config.cluster.formation.peer_discovery_backend = value;
        },
    );
    table.served(
        "cluster_formation.classic_config.nodes.$node",
        node(),
        |draft, _, value| {
            draft.config.cluster.formation.nodes.push(value);
        },
    );
    table.served(
        "cluster_formation.dns.hostname",
        word(),
        |draft, _, value| {
            draft.config.cluster.formation.dns_hostname = Some(value);
        },
    );
    table.served(
        "cluster_formation.discovery_retry_limit",
        integer(1..=u32::MAX),
        |draft, _, value| {
            draft.config.cluster.formation.discovery_retry_limit = value;
        },
    );
    table.served(
        "cluster_formation.discovery_retry_interval",
        millis(),
        |draft, _, value| {
            draft.config.cluster.formation.discovery_retry_interval = value;
        },
    );
    table.served(
        "cluster_formation.target_cluster_size_hint",
        integer(1..=u32::MAX),
        |draft, _, value| {
            draft.config.cluster.formation.target_cluster_size_hint = Some(value);
        },
    );
    let kind = choice(&[("disc", false), ("disk", false), ("ram", true)]);
    table.served("cluster_formation.node_type", kind, |draft, _, value| {
        draft.config.cluster.formation.ram_node = value;
    });
}

fn partitions(table: &mut Table) {
    let modes = [
        ("ignore", PartitionMode::Ignore),
        ("autoheal", PartitionMode::Autoheal),
        ("pause_minority", PartitionMode::PauseMinority),
        ("stop_processing", PartitionMode::PauseMinority),
        ("pause_if_all_down", PartitionMode::PauseIfAllDown),
    ];
    table.served(
        "cluster_partition_handling",
        choice(&modes),
        |draft, _, value| draft.partition_mode = value,
    );
    let recover = choice(&[("ignore", false), ("autoheal", true)]);
    table.served(
        "cluster_partition_handling.pause_if_all_down.recover",
        recover,
        |draft, _, value| {
            draft.partition_autoheal = Some(value);
        },
    );
    table.served(
        "cluster_partition_handling.pause_if_all_down.nodes.$name",
        node(),
        |draft, _, value| {
            draft.partition_nodes.push(value);
        },
    );
}

/// Settings RabbitMQ does not have.
fn ours(table: &mut Table) {
    let modes = [
        ("on-demand", RebalanceMode::OnDemand),
        ("run", RebalanceMode::OnDemand),
        ("appoint", RebalanceMode::Appoint),
        ("timer", RebalanceMode::Timer),
    ];
    table.served("cluster_rebalance", choice(&modes), |draft, _, value| {
        draft.rebalance_mode = value
    });
    let interval = seconds().only("a duration of at least one second, such as 60s", |t| {
        *t >= Duration::from_secs(1)
    });
    table.served("cluster_rebalance.interval", interval, |draft, _, value| {
        draft.rebalance_interval = value
    });
    table.served("cluster_nodes.disc_copies", list(), |draft, _, value| {
        draft.config.cluster.disc_copies = value
    });
    table.served("metadata_witness", host_port(), |draft, _, value| {
        draft.config.cluster.metadata_witness = Some(value);
    });
    let time = || {
        millis().only("a duration of at least 100ms, such as 3s", |t| {
            *t >= Duration::from_millis(100)
        })
    };
    table.served("failure_timeout", time(), |draft, _, value| {
        draft.config.cluster.failure_timeout = value
    });
    table.served("replica_timeout", time(), |draft, _, value| {
        draft.config.cluster.replica_timeout = value
    });
    table.served("publish_failover_timeout", time(), |draft, _, value| {
        draft.config.cluster.publish_failover_timeout = value;
    });
}

fn queues(table: &mut Table) {
    let locator = || {
        choice(&[
            ("client-local", QueueLocator::ClientLocal),
            ("balanced", QueueLocator::Balanced),
            ("min-masters", QueueLocator::Balanced),
            ("least-leaders", QueueLocator::Balanced),
            ("random", QueueLocator::Random),
            ("min-messages", QueueLocator::MinMessages),
            ("min-connections", QueueLocator::MinConnections),
            ("round-robin", QueueLocator::RoundRobin),
        ])
    };
    table.served("queue_master_locator", locator(), |draft, _, value| {
        draft.config.queues.queue_master_locator = Some(value);
    });
    table.served("queue_leader_locator", locator(), |draft, _, value| {
        draft.config.queues.queue_leader_locator = Some(value);
    });
    let kind = choice(&[
        ("classic", QueueType::Classic),
        ("quorum", QueueType::Quorum),
        ("stream", QueueType::Stream),
        ("rabbit_classic_queue", QueueType::Classic),
        ("rabbit_quorum_queue", QueueType::Quorum),
        ("rabbit_stream_queue", QueueType::Stream),
    ]);
    table.served("default_queue_type", kind, |draft, _, value| {
        draft.config.queues.default_queue_type = value
    });
    table.served(
        "message_interceptors.incoming.set_header_timestamp.overwrite",
        boolean(),
        |draft, _, value| {
            draft.config.queues.set_header_timestamp = Some(value);
        },
    );
    table.served(
        "message_interceptors.incoming.set_header_routing_node.overwrite",
        boolean(),
        |draft, _, value| {
            draft.config.queues.set_header_routing_node = Some(value);
        },
    );
}

const UNTUNABLE: &str = "
    randomized_startup_delay_range.min integer
    randomized_startup_delay_range.max integer
    internal_lock_retries integer
    lock_retry_limit integer
    lock_retry_timeout integer
";

const NOT_SERVED: &str = "
    cluster_tags.$tag text
    node_tags.$tag text
    quorum_queue.initial_cluster_size integer
    quorum_queue.commands_soft_limit integer
    quorum_queue.property_equivalence.relaxed_checks_on_redeclaration boolean
    quorum_queue.continuous_membership_reconciliation.enabled boolean
    quorum_queue.continuous_membership_reconciliation.auto_remove boolean
    quorum_queue.continuous_membership_reconciliation.interval integer
    quorum_queue.continuous_membership_reconciliation.trigger_interval integer
    quorum_queue.continuous_membership_reconciliation.target_group_size integer
    cluster_formation.node_cleanup.interval integer
    cluster_formation.node_cleanup.only_log_warning boolean
    cluster_formation.proxy.http_proxy text
    cluster_formation.proxy.https_proxy text
    cluster_formation.proxy.proxy_exclusions.$name text
    cluster_formation.aws.region text
    cluster_formation.aws.use_private_ip boolean
    cluster_formation.aws.access_key_id secret
    cluster_formation.aws.secret_key secret
    cluster_formation.aws.use_autoscaling_group boolean
    cluster_formation.aws.instance_tags none
    cluster_formation.aws.instance_tags.$name text
    cluster_formation.aws.hostname_path text
    cluster_formation.aws.hostname_path.$name text
    cluster_formation.consul.host text
    cluster_formation.consul.port port
    cluster_formation.consul.scheme text
    cluster_formation.consul.acl_token secret
    cluster_formation.consul.cluster_name text
    cluster_formation.consul.svc text
    cluster_formation.consul.svc_addr text
    cluster_formation.consul.svc_addr_auto boolean
    cluster_formation.consul.svc_addr_nic text
    cluster_formation.consul.svc_addr_use_nodename boolean
    cluster_formation.consul.domain_suffix text
    cluster_formation.consul.include_nodes_with_warnings boolean
    cluster_formation.consul.svc_port port
    cluster_formation.consul.svc_ttl integer
    cluster_formation.consul.deregister_after integer
    cluster_formation.consul.use_longname boolean
    cluster_formation.consul.svc_tags none
    cluster_formation.consul.svc_tags.$name text
    cluster_formation.consul.svc_meta none
    cluster_formation.consul.svc_meta.$name text
    cluster_formation.consul.lock_prefix text
    cluster_formation.consul.lock_wait_time integer
    cluster_formation.consul.lock_timeout integer
    cluster_formation.consul.ssl_options none
    cluster_formation.etcd.endpoints none
    cluster_formation.etcd.endpoints.$index text
    cluster_formation.etcd.host text
    cluster_formation.etcd.port port
    cluster_formation.etcd.scheme text
    cluster_formation.etcd.key_prefix text
    cluster_formation.etcd.cluster_name text
    cluster_formation.etcd.node_ttl integer
    cluster_formation.etcd.lock_wait_time integer
    cluster_formation.etcd.lock_timeout integer
    cluster_formation.etcd.username text
    cluster_formation.etcd.password secret
    cluster_formation.etcd.ssl_options none
    cluster_formation.k8s.ordinal_start integer
    cluster_formation.k8s.seed_node text
    cluster_formation.k8s.host text
    cluster_formation.k8s.port port
    cluster_formation.k8s.scheme text
    cluster_formation.k8s.token_path text
    cluster_formation.k8s.cert_path text
    cluster_formation.k8s.namespace_path text
    cluster_formation.k8s.service_name text
    cluster_formation.k8s.address_type hostname|ip
    cluster_formation.k8s.hostname_suffix text
    cluster_formation.k8s.tls.cacertfile text
    cluster_formation.k8s.tls.certfile text
    cluster_formation.k8s.tls.keyfile text
    cluster_formation.k8s.tls.verify verify_peer|verify_none
    cluster_formation.k8s.tls.fail_if_no_peer_cert boolean
";
