//! The cluster and its queues, as keys and values.

use super::super::Config;
use super::super::keys::DEFINITION_KEYS;
use super::super::model::{
    Cluster, Formation, PartitionHandling, PeerDiscovery, QueueLocator, QueueType, Rebalance,
};
use super::access::tls;
use super::{Listing, add, add_some, millis, path};

pub(super) fn cluster(config: &Config, out: &mut Listing) {
    let cluster = &config.cluster;
    add_some(out, "cluster_name", cluster.cluster_name.as_ref());
    add_some(
        out,
        "distribution.listener.interface",
        cluster.distribution.interface.as_ref(),
    );
    add(
        out,
        "distribution.listener.port_range.min",
        cluster.distribution.port_min,
    );
    add(
        out,
        "distribution.listener.port_range.max",
        cluster.distribution.port_max,
    );
    if let Some(options) = &cluster.inter_node_tls {
        tls("inter_node.ssl_options", options, out);
    }
    add(out, "net_ticktime", cluster.net_ticktime.as_secs());
    add(
        out,
        "cluster_keepalive_interval",
        millis(cluster.keepalive_interval),
    );
    formation(&cluster.formation, out);
    partitions(config, out);
    timing(cluster, out);
}

fn formation(formation: &Formation, out: &mut Listing) {
    let backend = match formation.peer_discovery_backend {
        PeerDiscovery::ClassicConfig => "classic_config",
        PeerDiscovery::Dns => "dns",
    };
    add(out, "cluster_formation.peer_discovery_backend", backend);
    for (index, node) in formation.nodes.iter().enumerate() {
        add(
            out,
            format!("cluster_formation.classic_config.nodes.{}", index + 1),
            node,
        );
    }
    add_some(
        out,
        "cluster_formation.dns.hostname",
        formation.dns_hostname.as_ref(),
    );
    add(
        out,
        "cluster_formation.discovery_retry_limit",
        formation.discovery_retry_limit,
    );
    add(
        out,
        "cluster_formation.discovery_retry_interval",
        millis(formation.discovery_retry_interval),
    );
    let hint = formation.target_cluster_size_hint.as_ref();
    add_some(out, "cluster_formation.target_cluster_size_hint", hint);
    add(
        out,
        "cluster_formation.node_type",
        if formation.ram_node { "ram" } else { "disc" },
    );
}

/// How fast, how often and how long.
fn timing(cluster: &Cluster, out: &mut Listing) {
    add(
        out,
        "mirroring_sync_batch_size",
        cluster.mirroring_sync_batch_size,
    );
    add(
        out,
        "mirroring_sync_max_throughput",
        cluster.mirroring_sync_max_throughput,
    );
    let (mode, interval) = match cluster.rebalance {
        Rebalance::OnDemand => ("on-demand", None),
        Rebalance::Appoint => ("appoint", None),
        Rebalance::Timer(interval) => ("timer", Some(interval.as_secs())),
    };
    add(out, "cluster_rebalance", mode);
    add_some(out, "cluster_rebalance.interval", interval.as_ref());
    if !cluster.disc_copies.is_empty() {
        add(
            out,
            "cluster_nodes.disc_copies",
            cluster.disc_copies.join(","),
        );
    }
    let witness = cluster
        .metadata_witness
        .as_ref()
        .map(|witness| format!("{}:{}", witness.host, witness.port));
    add_some(out, "metadata_witness", witness.as_ref());
    add(out, "failure_timeout", millis(cluster.failure_timeout));
    add(out, "replica_timeout", millis(cluster.replica_timeout));
    add(
        out,
        "publish_failover_timeout",
        millis(cluster.publish_failover_timeout),
    );
}

fn partitions(config: &Config, out: &mut Listing) {
    let mode = match &config.cluster.partition_handling {
        PartitionHandling::Ignore => "ignore",
        PartitionHandling::Autoheal => "autoheal",
        PartitionHandling::PauseMinority => "pause_minority",
        PartitionHandling::PauseIfAllDown { nodes, autoheal } => {
            let prefix = "cluster_partition_handling.pause_if_all_down";
            for (index, node) in nodes.iter().enumerate() {
                add(out, format!("{prefix}.nodes.{}", index + 1), node);
            }
            add(
                out,
                format!("{prefix}.recover"),
                if *autoheal { "autoheal" } else { "ignore" },
            );
            "pause_if_all_down"
        }
    };
    add(out, "cluster_partition_handling", mode);
}

pub(super) fn queues(config: &Config, out: &mut Listing) {
    let locator = |locator: QueueLocator| match locator {
        QueueLocator::ClientLocal => "client-local",
        QueueLocator::Balanced => "balanced",
        QueueLocator::Random => "random",
        QueueLocator::MinMessages => "min-messages",
        QueueLocator::MinConnections => "min-connections",
        QueueLocator::RoundRobin => "round-robin",
    };
    let queues = &config.queues;
    add_some(
        out,
        "queue_master_locator",
        queues.queue_master_locator.map(locator).as_ref(),
    );
    add_some(
        out,
        "queue_leader_locator",
        queues.queue_leader_locator.map(locator).as_ref(),
    );
    let kind = match queues.default_queue_type {
        QueueType::Classic => "classic",
        QueueType::Quorum => "quorum",
        QueueType::Stream => "stream",
    };
    add(out, "default_queue_type", kind);
    let prefix = "message_interceptors.incoming";
    let timestamp = queues.set_header_timestamp.as_ref();
    add_some(
        out,
        &format!("{prefix}.set_header_timestamp.overwrite"),
        timestamp,
    );
    let node = queues.set_header_routing_node.as_ref();
    add_some(
        out,
        &format!("{prefix}.set_header_routing_node.overwrite"),
        node,
    );
    for (key, source) in DEFINITION_KEYS.into_iter().zip(&config.definitions.sources) {
        path(out, key, Some(source));
    }
    add(out, "definitions.import_backend", "local_filesystem");
    add(
        out,
        "definitions.skip_if_unchanged",
        config.definitions.skip_if_unchanged,
    );
}
