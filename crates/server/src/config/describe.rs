//! The effective configuration as keys and values, for `ctl environment` and for the log at start.
//!
//! What is listed could be written into a file again and would give the same configuration, but for secrets, which
//! are not shown, and settings that are unset, which are left out.

mod access;
mod cluster;
mod http;

use std::path::Path;
use std::time::Duration;

use super::Config;
use super::model::{DiskLimit, Limits, Listener, LogFormat, MemoryWatermark};

/// What is shown in place of a secret.
pub(super) const HIDDEN: &str = "********";

type Listing = Vec<(String, String)>;

impl Config {
    /// Every setting that is in force, by key.
    #[must_use]
    pub fn describe(&self) -> Vec<(String, String)> {
        let mut out = Listing::new();
        network(self, &mut out);
        limits(&self.limits, &mut out);
        resources(self, &mut out);
        access::access(self, &mut out);
        access::virtual_hosts(self, &mut out);
        access::tls("ssl_options", &self.tls, &mut out);
        cluster::cluster(self, &mut out);
        cluster::queues(self, &mut out);
        http::management(self, &mut out);
        http::prometheus(self, &mut out);
        log(self, &mut out);
        out
    }
}

fn add(out: &mut Listing, key: impl Into<String>, value: impl ToString) {
    out.push((key.into(), value.to_string()));
}

fn add_some<T: ToString>(out: &mut Listing, key: &str, value: Option<&T>) {
    out.extend(value.map(|value| (key.to_owned(), value.to_string())));
}

fn millis(time: Duration) -> u128 {
    time.as_millis()
}

/// `infinity` for none.
fn limit<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "infinity".to_owned(), |value| value.to_string())
}

fn listeners(out: &mut Listing, prefix: &str, listeners: &[Listener]) {
    if listeners.is_empty() {
        add(out, prefix, "none");
    }
    for (index, listener) in listeners.iter().enumerate() {
        add(out, format!("{prefix}.{}", index + 1), listener);
    }
}

fn network(config: &Config, out: &mut Listing) {
    let network = &config.network;
    listeners(out, "listeners.tcp", &network.tcp);
    listeners(out, "listeners.ssl", &network.ssl);
    add(
        out,
        "handshake_timeout",
        limit(network.handshake_timeout.map(millis)),
    );
    add(
        out,
        "ssl_handshake_timeout",
        millis(network.ssl_handshake_timeout),
    );
    add(out, "proxy_protocol", network.proxy_protocol);
    add(out, "product.name", &network.product_name);
    add(out, "product.version", &network.product_version);
    let options = &network.tcp_listen_options;
    add(out, "tcp_listen_options.backlog", options.backlog);
    add(out, "tcp_listen_options.nodelay", options.nodelay);
    add_some(
        out,
        "tcp_listen_options.keepalive",
        options.keepalive.as_ref(),
    );
    add(out, "tcp_listen_options.linger.on", options.linger_on);
    add(
        out,
        "tcp_listen_options.linger.timeout",
        options.linger_timeout.as_secs(),
    );
    add_some(out, "tcp_listen_options.sndbuf", options.sndbuf.as_ref());
    add_some(out, "tcp_listen_options.recbuf", options.recbuf.as_ref());
    add(
        out,
        "tcp_listen_options.send_timeout",
        limit(options.send_timeout.map(millis)),
    );
}

fn limits(limits: &Limits, out: &mut Listing) {
    add(out, "heartbeat", limits.heartbeat.as_secs());
    add(out, "frame_max", limits.frame_max);
    add(out, "initial_frame_max", limits.initial_frame_max);
    add(out, "channel_max", limits.channel_max);
    add(out, "connection_max", limit(limits.connection_max));
    add(
        out,
        "channel_max_per_node",
        limit(limits.channel_max_per_node),
    );
    add(
        out,
        "consumer_max_per_channel",
        limit(limits.consumer_max_per_channel),
    );
    add(out, "vhost_max", limit(limits.vhost_max));
    add(
        out,
        "cluster_queue_limit",
        limit(limits.cluster_queue_limit),
    );
    add(
        out,
        "cluster_exchange_limit",
        limit(limits.cluster_exchange_limit),
    );
    add(out, "max_message_size", limits.max_message_size);
    add(
        out,
        "consumer_timeout",
        limit(limits.consumer_timeout.map(millis)),
    );
}

fn resources(config: &Config, out: &mut Listing) {
    let resources = &config.resources;
    match resources.vm_memory_high_watermark {
        MemoryWatermark::Relative(share) => add(out, "vm_memory_high_watermark.relative", share),
        MemoryWatermark::Absolute(bytes) => add(out, "vm_memory_high_watermark.absolute", bytes),
    }
    let total = resources.total_memory_available_override_value;
    add_some(out, "total_memory_available_override_value", total.as_ref());
    add(
        out,
        "memory_monitor_interval",
        millis(resources.memory_monitor_interval),
    );
    match resources.disk_free_limit {
        DiskLimit::Absolute(bytes) => add(out, "disk_free_limit.absolute", bytes),
        DiskLimit::Relative(share) => add(out, "disk_free_limit.relative", share),
    }
    add(
        out,
        "msg_store_file_size_limit",
        resources.msg_store_file_size_limit,
    );
    add(
        out,
        "collect_statistics_interval",
        millis(resources.collect_statistics_interval),
    );
}

fn path(out: &mut Listing, key: &str, path: Option<&Path>) {
    out.extend(path.map(|path| (key.to_owned(), path.display().to_string())));
}

fn log(config: &Config, out: &mut Listing) {
    let format = |format: LogFormat| match format {
        LogFormat::Plaintext => "plaintext",
        LogFormat::Json => "json",
    };
    let log = &config.log;
    add(out, "log.dir", log.dir.display());
    if log.file.enabled {
        add(out, "log.file", log.file.name.display());
    } else {
        add(out, "log.file", false);
    }
    add(out, "log.file.level", log.file.level.name());
    add(out, "log.file.formatter", format(log.file.format));
    add(out, "log.file.rotation.size", log.file.rotation.size);
    add(out, "log.file.rotation.count", log.file.rotation.count);
    add(out, "log.console", log.console.enabled);
    add(out, "log.console.level", log.console.level.name());
    add(out, "log.console.formatter", format(log.console.format));
    add(
        out,
        "log.console.stdio",
        if log.console.stderr {
            "stderr"
        } else {
            "stdout"
        },
    );
    add(out, "log.exchange", log.exchange.enabled);
    add(out, "log.exchange.level", log.exchange.level.name());
    add(out, "log.default.level", log.default_level.name());
    for (category, level) in &log.category_levels {
        add(out, format!("log.{category}.level"), level.name());
    }
}
