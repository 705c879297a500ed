//! The nodes of the cluster: health, resources, listeners.
//!
//! Fields that describe an Erlang runtime carry the nearest truth (tasks for processes) or zero.

use broker::exchange::Kind;
use serde_json::{Value as Json, json};

use super::{Outcome, is_same_node, object};
use crate::counters::{self, Rates};
use crate::error::Error;
use crate::list;
use crate::node::NodeStatus;
use crate::reply::Reply;
use crate::request::Request;
use crate::stats::{Key, Ranges};
use crate::value::Object;
use crate::{PRODUCT_NAME, RABBITMQ_VERSION};

/// Tasks are limited by memory alone; tools divide by this.
const TASKS_MAX: u64 = 1_048_576;

/// RabbitMQ's categories of memory. `other_system` takes what no other claims.
const MEMORY_CATEGORIES: &[&str] = &[
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "queue_slave_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "metadata_store_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
];

/// `GET /api/nodes`
pub(crate) async fn index(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let nodes = request.node().nodes().await;
    let items = nodes
        .iter()
        .map(|node| render(&request, node, ranges))
        .collect();
    list::whole(&request.query, items, &["name"])
}

/// `GET /api/nodes/:node`
pub(crate) async fn show(request: Request) -> Outcome {
    let ranges = Ranges::of(&request.query, request.node().now())?;
    let node = find(&request).await?;
    let mut shown = object(render(&request, &node, ranges));
    if request.query.flag("memory") {
        shown.insert("memory".to_owned(), memory_breakdown(&node));
    }
    if request.query.flag("binary") {
        let binary = node
            .memory_shares
            .iter()
            .filter(|(name, _)| *name == "binary");
        shown.insert(
            "binary".to_owned(),
            json!({"other": binary.map(|(_, n)| n).sum::<u64>()}),
        );
    }
    list::one(&request.query, Json::Object(shown))
}

/// `GET /api/nodes/:node/memory`
pub(crate) async fn memory(request: Request) -> Outcome {
    let node = find(&request).await?;
    list::one(&request.query, json!({"memory": memory_breakdown(&node)}))
}

/// `GET /api/nodes/:node/memory/relative`: percents, rounded up.
pub(crate) async fn memory_relative(request: Request) -> Outcome {
    let node = find(&request).await?;
    let shares = memory_shares(&node);
    let total = shares.iter().map(|(_, bytes)| bytes).sum::<u64>().max(1);
    let mut shown = object(json!({"total": 100}));
    for (name, bytes) in shares {
        shown.insert(name.to_owned(), json!((bytes * 100).div_ceil(total)));
    }
    list::one(&request.query, json!({"memory": shown}))
}

/// `GET /api/auth/attempts/:node`
pub(crate) async fn auth_attempts(request: Request) -> Outcome {
    let node = find(&request).await?;
    let show = |attempts: &crate::node::AuthAttempts| {
        json!({
            "protocol": attempts.protocol,
            "auth_attempts": attempts.succeeded + attempts.failed,
            "auth_attempts_failed": attempts.failed,
            "auth_attempts_succeeded": attempts.succeeded,
        })
    };
    let items = node.auth_attempts.iter().map(show).collect();
    list::whole(&request.query, items, &["protocol"])
}

/// `GET /api/auth/attempts/:node/source`: attempts are not kept per source.
pub(crate) async fn auth_attempts_by_source(request: Request) -> Outcome {
    find(&request).await?;
    Ok(Reply::ok(json!([])))
}

async fn find(request: &Request) -> Result<NodeStatus, Error> {
    let name = request.param("node");
    let nodes = request.node().nodes().await;
    nodes
        .into_iter()
        .find(|node| is_same_node(&node.name, name))
        .ok_or_else(Error::object_not_found)
}

fn render(request: &Request, node: &NodeStatus, ranges: Ranges) -> Json {
    let mut shown = object(json!({
        "name": node.name,
        "type": node.kind.name(),
        "running": node.running,
        "being_drained": node.being_drained,
    }));
    if !node.running {
        return Json::Object(shown);
    }
    put_facts(&mut shown, node);
    shown.insert("rates_mode".to_owned(), json!(request.rates_mode()));
    let mechanisms = auth_mechanisms(&request.app.settings.auth_mechanisms);
    shown.insert("auth_mechanisms".to_owned(), mechanisms);
    put_averages(&mut shown, node);
    let sampler = request.app.sampler();
    let series = sampler.series(&Key::Node(broker::Name::clone(&node.name)));
    counters::put_node(
        &mut shown,
        node,
        Rates {
            series,
            range: ranges.nodes,
        },
    );
    Json::Object(shown)
}

fn put_facts(shown: &mut Object, node: &NodeStatus) {
    let links = node.links.iter().map(|link| {
        json!({
            "peer_addr": link.peer_address,
            "peer_port": link.peer_port,
            "sock_addr": link.own_address,
            "sock_port": link.own_port,
            "name": link.peer,
            "stats": {"recv_bytes": link.received_bytes, "send_bytes": link.sent_bytes},
        })
    });
    shown.append(&mut object(json!({
        "partitions": node.partitions,
        "os_pid": node.os_pid.to_string(),
        "fd_total": node.fds_total,
        "sockets_total": node.sockets_total,
        "mem_limit": node.memory_limit,
        "mem_alarm": node.memory_alarm,
        "disk_free_limit": node.disk_free_limit,
        "disk_free_alarm": node.disk_free_alarm,
        "proc_total": TASKS_MAX,
        "uptime": u64::try_from(node.uptime.as_millis()).unwrap_or(u64::MAX),
        "run_queue": node.run_queue,
        "processors": node.processors,
        "exchange_types": exchange_types(),
        "applications": applications(node),
        "contexts": contexts(&[node], false),
        "log_files": node.log_files,
        "db_dir": node.data_dir,
        "config_files": node.config_files,
        "net_ticktime": 60,
        "enabled_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
        "mem_calculation_strategy": "rss",
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": PRODUCT_NAME,
        "product_version": node.version,
        "ra_open_file_metrics": {"ra_log_wal": 0, "ra_log_segment_writer": 0},
        "cluster_links": links.collect::<Vec<_>>(),
        "metrics_gc_queue_length": {
            "connection_closed": 0, "channel_closed": 0, "consumer_deleted": 0,
            "exchange_deleted": 0, "queue_deleted": 0, "vhost_deleted": 0,
            "node_node_deleted": 0, "channel_consumer_deleted": 0,
        },
    })));
}

/// Milliseconds per operation of the disk, and counters of stores that Warren does not have.
fn put_averages(shown: &mut Object, node: &NodeStatus) {
    let disk = &node.disk;
    for (name, time, count) in [
        ("io_read_avg_time", disk.read_time, disk.reads),
        ("io_write_avg_time", disk.write_time, disk.writes),
        ("io_sync_avg_time", disk.sync_time, disk.syncs),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let average = if count == 0 {
            0.0
        } else {
            time.as_secs_f64() * 1000.0 / count as f64
        };
        shown.insert(name.to_owned(), json!(average));
        shown.insert(format!("{name}_details"), json!({"rate": 0.0}));
    }
    for name in [
        "io_seek_count",
        "io_seek_avg_time",
        "io_reopen_count",
        "mnesia_ram_tx_count",
        "mnesia_disk_tx_count",
        "msg_store_read_count",
        "msg_store_write_count",
        "queue_index_write_count",
        "queue_index_read_count",
    ] {
        shown.insert(name.to_owned(), json!(0));
        shown.insert(format!("{name}_details"), json!({"rate": 0.0}));
    }
}

fn memory_shares(node: &NodeStatus) -> Vec<(&'static str, u64)> {
    let claimed: u64 = node.memory_shares.iter().map(|(_, bytes)| bytes).sum();
    let share = |name: &'static str| {
        let given = node
            .memory_shares
            .iter()
            .filter(|(given, _)| *given == name);
        let bytes: u64 = given.map(|(_, bytes)| bytes).sum();
        let rest = if name == "other_system" {
            node.memory_used.saturating_sub(claimed)
        } else {
            0
        };
        (name, bytes + rest)
    };
    MEMORY_CATEGORIES.iter().map(|name| share(name)).collect()
}

pub(crate) fn memory_breakdown(node: &NodeStatus) -> Json {
    let mut shown = Object::new();
    for (name, bytes) in memory_shares(node) {
        shown.insert(name.to_owned(), json!(bytes));
    }
    shown.insert("strategy".to_owned(), json!("rss"));
    let allocated = if node.memory_allocated == 0 {
        node.memory_used
    } else {
        node.memory_allocated
    };
    shown.insert(
        "total".to_owned(),
        json!({"erlang": node.memory_used, "rss": node.memory_used, "allocated": allocated}),
    );
    Json::Object(shown)
}

pub(crate) fn exchange_types() -> Json {
    let describe = |kind: Kind| match kind {
        Kind::Direct => "AMQP direct exchange, as per the AMQP specification",
        Kind::Fanout => "AMQP fanout exchange, as per the AMQP specification",
        Kind::Topic => "AMQP topic exchange, as per the AMQP specification",
        Kind::Headers => "AMQP headers exchange, as per the AMQP specification",
        Kind::ConsistentHash => "Consistent Hashing Exchange",
        Kind::Random => "Randomly picks a binding (queue) to route via (to).",
        Kind::Delayed(_) => "Delayed Message Exchange.",
    };
    let delayed = Kind::Delayed(&Kind::Direct);
    let mut kinds: Vec<Kind> = Kind::PLAIN.into_iter().chain([delayed]).collect();
    kinds.sort_by_key(|kind| kind.name());
    let show =
        |kind: Kind| json!({"name": kind.name(), "description": describe(kind), "enabled": true});
    kinds.into_iter().map(show).collect()
}

/// What is built in is always shown; the others where RabbitMQ would have a plugin for them switched on. The nodes of
/// a cluster are taken to offer the same.
fn auth_mechanisms(offered: &[&str]) -> Json {
    let mechanisms = [
        ("PLAIN", "SASL PLAIN authentication mechanism", true),
        ("AMQPLAIN", "QPid AMQPLAIN mechanism", true),
        (
            "EXTERNAL",
            "TLS peer verification-based authentication plugin. Used in combination with the \
             EXTERNAL SASL mechanism.",
            false,
        ),
        ("ANONYMOUS", "SASL ANONYMOUS authentication mechanism", false),
    ];
    let shown = mechanisms
        .into_iter()
        .map(|(name, description, built_in)| (name, description, built_in, offered.contains(&name)))
        .filter(|(_, _, built_in, enabled)| *built_in || *enabled);
    shown
        .map(|(name, description, _, enabled)| {
            json!({"name": name, "description": description, "enabled": enabled})
        })
        .collect()
}

fn applications(node: &NodeStatus) -> Json {
    json!([
        {"name": "rabbit", "description": PRODUCT_NAME, "version": RABBITMQ_VERSION},
        {
            "name": "rabbitmq_management",
            "description": "HTTP API",
            "version": RABBITMQ_VERSION,
        },
        {"name": "warren", "description": PRODUCT_NAME, "version": node.version},
    ])
}

/// The listeners of these nodes, sorted as RabbitMQ does.
pub(crate) fn listeners(nodes: &[&NodeStatus]) -> Json {
    let mut all: Vec<_> = nodes
        .iter()
        .flat_map(|node| node.listeners.iter().map(|listener| (&node.name, listener)))
        .collect();
    all.sort_by_key(|(node, listener)| (listener.protocol, listener.port, (*node).clone()));
    let show = |(node, listener): (&broker::Name, &crate::node::Listener)| {
        json!({
            "node": node,
            "protocol": listener.protocol,
            "ip_address": listener.interface,
            "port": listener.port,
            "socket_opts": {"backlog": listener.backlog, "nodelay": true},
        })
    };
    all.into_iter().map(show).collect()
}

/// The listeners that speak HTTP. Ports are texts here.
pub(crate) fn contexts(nodes: &[&NodeStatus], with_node: bool) -> Json {
    let mut all = Vec::new();
    for node in nodes {
        for listener in &node.listeners {
            let description = match listener.protocol {
                "http" | "https" => "RabbitMQ Management",
                "http/prometheus" | "https/prometheus" => "RabbitMQ Prometheus",
                _ => continue,
            };
            let mut context = object(json!({
                "description": description,
                "path": "/",
                "cowboy_opts": "[{sendfile,false}]",
                "ip": listener.interface,
                "port": listener.port.to_string(),
            }));
            if with_node {
                context.insert("node".to_owned(), json!(node.name));
                context.insert("ssl_opts".to_owned(), json!([]));
            }
            if listener.protocol.ends_with("/prometheus") {
                context.insert("protocol".to_owned(), json!("'http/prometheus'"));
            }
            all.push(Json::Object(context));
        }
    }
    Json::Array(all)
}

/// Tools show it as it is.
pub(crate) fn erlang_full_version(node: &NodeStatus) -> String {
    format!("none: {PRODUCT_NAME} {} is a native program", node.version)
}
