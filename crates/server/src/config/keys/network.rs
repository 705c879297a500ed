//! Listeners, sockets, and what clients may use: connections, frames, messages, memory and disk.

use std::time::Duration;

use super::super::key::{Status, Table};
use super::super::model::{Limits, Listener};
use super::super::value::{
    boolean, byte_size, bytes, choice, integer, limit, listener, millis, millis_or_infinity, ratio,
    seconds, word,
};

pub(super) fn add(table: &mut Table) {
    listeners(table);
    sockets(table);
    limits(table);
    resources(table);
    table.known(Status::NoEffect, "", UNTUNABLE);
}

fn listeners(table: &mut Table) {
    let none = || choice(&[("none", ())]);
    table.served("listeners.tcp", none(), |draft, _, ()| draft.tcp_off = true);
    table.served("listeners.tcp.$name", listener(), |draft, _, value| {
        draft.tcp.push(value)
    });
    table.served("listeners.ssl", none(), |draft, _, ()| draft.ssl_off = true);
    table.served(
        "listeners.ssl.$name",
        listener(),
        |draft, _, value: Listener| draft.config.network.ssl.push(value),
    );
    table.served(
        "handshake_timeout",
        millis_or_infinity(),
        |draft, _, value| {
            draft.config.network.handshake_timeout = value;
        },
    );
    table.served("ssl_handshake_timeout", millis(), |draft, _, value| {
        draft.config.network.ssl_handshake_timeout = value;
    });
    table.served("proxy_protocol", boolean(), |draft, _, value| {
        draft.config.network.proxy_protocol = value
    });
}

fn sockets(table: &mut Table) {
    table.served(
        "tcp_listen_options",
        choice(&[("none", ())]),
        |draft, _, ()| {
            draft.config.network.tcp_listen_options.nodelay = false;
        },
    );
    table.served(
        "tcp_listen_options.backlog",
        integer(1..=1_000_000),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.backlog = value;
        },
    );
    table.served(
        "tcp_listen_options.nodelay",
        boolean(),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.nodelay = value;
        },
    );
    table.served(
        "tcp_listen_options.keepalive",
        boolean(),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.keepalive = Some(value);
        },
    );
    table.served(
        "tcp_listen_options.linger.on",
        boolean(),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.linger_on = value;
        },
    );
    table.served(
        "tcp_listen_options.linger.timeout",
        seconds(),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.linger_timeout = value;
        },
    );
    table.served(
        "tcp_listen_options.sndbuf",
        integer(1..=1 << 30),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.sndbuf = Some(value);
        },
    );
    table.served(
        "tcp_listen_options.recbuf",
        integer(1..=1 << 30),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.recbuf = Some(value);
        },
    );
    table.served(
        "tcp_listen_options.send_timeout",
        millis_or_infinity(),
        |draft, _, value| {
            draft.config.network.tcp_listen_options.send_timeout = value;
        },
    );
    table.known(Status::NoEffect, "tcp_listen_options.", UNTUNABLE_SOCKET);
}

fn limits(table: &mut Table) {
    let frame = |allowed: &str| byte_size().only(allowed, |size| u32::try_from(*size).is_ok());
    table.served("heartbeat", integer(0..=u16::MAX), |draft, _, value| {
        draft.config.limits.heartbeat = Duration::from_secs(value.into());
    });
    let allowed = "0 (no limit) or a size of at least 4096 bytes, such as 131072 or 128KB";
    let is_frame_size = |size: &u64| *size == 0 || *size >= Limits::FRAME_BYTES_MIN.into();
    table.served(
        "frame_max",
        frame(allowed).only(allowed, is_frame_size),
        |draft, _, value| {
            draft.config.limits.frame_max = u32::try_from(value).unwrap_or(u32::MAX);
        },
    );
    let allowed = "a size of at least 4096 bytes, such as 4096 or 64KB";
    let is_frame_size = |size: &u64| *size >= Limits::FRAME_BYTES_MIN.into();
    table.served(
        "initial_frame_max",
        frame(allowed).only(allowed, is_frame_size),
        |draft, _, value| {
            draft.config.limits.initial_frame_max = u32::try_from(value).unwrap_or(u32::MAX);
        },
    );
    for key in ["channel_max", "max_channels_per_connection"] {
        table.served(key, integer(0..=u16::MAX), |draft, _, value| {
            draft.config.limits.channel_max = value
        });
    }
    for key in ["connection_max", "max_connections"] {
        table.served(key, limit(0), |draft, _, value| {
            draft.config.limits.connection_max = value
        });
    }
    table.served("channel_max_per_node", limit(1), |draft, _, value| {
        draft.config.limits.channel_max_per_node = value
    });
    table.served("consumer_max_per_channel", limit(1), |draft, _, value| {
        draft.config.limits.consumer_max_per_channel = value;
    });
    table.served("vhost_max", limit(0), |draft, _, value| {
        draft.config.limits.vhost_max = value
    });
    table.served("cluster_queue_limit", limit(1), |draft, _, value| {
        draft.config.limits.cluster_queue_limit = value
    });
    table.served("cluster_exchange_limit", limit(1), |draft, _, value| {
        draft.config.limits.cluster_exchange_limit = value;
    });
    let allowed = "a size of 1 byte to 512MiB (536870912 bytes)";
    let is_message_size = |size: &u64| (1..=Limits::MESSAGE_BYTES_MAX).contains(size);
    table.served(
        "max_message_size",
        bytes().only(allowed, is_message_size),
        |draft, _, value| {
            draft.config.limits.max_message_size = value;
        },
    );
    table.served(
        "consumer_timeout",
        millis_or_infinity(),
        |draft, _, value| {
            draft.config.limits.consumer_timeout = value;
        },
    );
}

fn resources(table: &mut Table) {
    table.served(
        "vm_memory_high_watermark.relative",
        ratio(),
        |draft, _, value| draft.memory_relative = Some(value),
    );
    table.served(
        "vm_memory_high_watermark.absolute",
        bytes(),
        |draft, _, value| draft.memory_absolute = Some(value),
    );
    table.served(
        "total_memory_available_override_value",
        bytes(),
        |draft, _, value| {
            draft.config.resources.total_memory_available_override_value = Some(value);
        },
    );
    let allowed = "a number of milliseconds above zero, or a duration such as 2500ms or 5s";
    let interval = || millis().only(allowed, |time| !time.is_zero());
    table.served("memory_monitor_interval", interval(), |draft, _, value| {
        draft.config.resources.memory_monitor_interval = value;
    });
    table.served("disk_free_limit.absolute", bytes(), |draft, _, value| {
        draft.disk_absolute = Some(value)
    });
    table.served("disk_free_limit.relative", ratio(), |draft, _, value| {
        draft.disk_relative = Some(value)
    });
    table.served("msg_store_file_size_limit", bytes(), |draft, _, value| {
        draft.config.resources.msg_store_file_size_limit = value
    });
    table.served(
        "collect_statistics_interval",
        interval(),
        |draft, _, value| {
            draft.config.resources.collect_statistics_interval = value;
        },
    );
    table.served(
        "mirroring_sync_batch_size",
        integer(1..=1_000_000),
        |draft, _, value| {
            draft.config.cluster.mirroring_sync_batch_size = value;
        },
    );
    table.served("product.name", word(), |draft, _, value| {
        draft.config.network.product_name = value;
    });
    table.served("product.version", word(), |draft, _, value| {
        draft.config.network.product_version = value;
    });
    table.served(
        "mirroring_sync_max_throughput",
        bytes(),
        |draft, _, value| {
            draft.config.cluster.mirroring_sync_max_throughput = value;
        },
    );
}

/// Socket options of the Erlang machine that no client sees.
const UNTUNABLE_SOCKET: &str = "
    buffer integer
    delay_send boolean
    dontroute boolean
    exit_on_close boolean
    fd integer
    high_msgq_watermark integer
    high_watermark integer
    low_msgq_watermark integer
    low_watermark integer
    port integer
    priority integer
    send_timeout_close boolean
    tos integer
";

/// Settings of parts that are built differently here.
const UNTUNABLE: &str = "
    num_acceptors.tcp integer
    num_acceptors.ssl integer
    socket_writer.gc_threshold text
    erlang.K text
    ranch_connection_max limit
    vm_memory_high_watermark_paging_ratio ratio
    vm_memory_calculation_strategy rss|erlang|allocated|legacy
    collect_statistics none|coarse|fine
    default_worker_pool_size integer
    delegate_count integer
    hipe_compile boolean
    mnesia_table_loading_retry_timeout integer
    mnesia_table_loading_retry_limit integer
    message_store_shutdown_timeout integer
    queue_index_embed_msgs_below size
    background_gc_enabled boolean
    background_gc_target_interval integer
    reverse_dns_lookups boolean
    vhost_restart_strategy stop_node|continue|transient|persistent
    motd_file text
    deprecated_features.permit.$name boolean
    metadata_store.khepri.default_timeout integer
    sysmon_handler.thresholds.busy_processes integer
    sysmon_handler.thresholds.busy_ports integer
    sysmon_handler.triggers.process.garbage_collection text
    sysmon_handler.triggers.process.long_scheduled_execution text
    sysmon_handler.triggers.process.heap_size text
    sysmon_handler.triggers.port flag
    sysmon_handler.triggers.distribution_port flag
    raft.segment_max_entries integer
    raft.wal_max_size_bytes integer
    raft.wal_max_entries integer
    raft.wal_hibernate_after integer
    raft.wal_max_batch_size integer
    raft.snapshot_chunk_size integer
    raft.data_dir text
    raft.adaptive_failure_detector.poll_interval integer
    classic_queue.default_version integer
    quorum_queue.compute_checksums boolean
    session_max_per_connection integer
    link_max_per_session integer
    channel_interceptor.priorities.$name integer
";
