//! The typed form of every setting that has an effect, and its default.
//!
//! Field names are the configuration keys with their prefix taken off, so that a search for a key finds its field.
//! All of it is plain data: comparing two values compares two configurations. Defaults are those of RabbitMQ 3.13,
//! except where a comment says otherwise.

mod access;
mod cluster;
mod http;
mod log;

pub use access::*;
pub use cluster::*;
pub use http::*;
pub use log::*;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// `None` is every interface, IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    pub port: u16,
}

impl Listener {
    /// Listens on every interface.
    #[must_use]
    pub const fn on(port: u16) -> Listener {
        Listener { ip: None, port }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => write!(f, "{ip}:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

/// Where AMQP clients connect, and how their sockets are set up.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub tcp: Vec<Listener>,
    pub ssl: Vec<Listener>,
    /// `None` waits for ever.
    pub handshake_timeout: Option<Duration>,
    pub ssl_handshake_timeout: Duration,
    pub proxy_protocol: bool,
    pub tcp_listen_options: TcpOptions,
    /// What clients are told the server is.
    pub product_name: String,
    pub product_version: String,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            tcp: vec![Listener::on(5672)],
            ssl: Vec::new(),
            handshake_timeout: Some(Duration::from_secs(10)),
            ssl_handshake_timeout: Duration::from_secs(5),
            proxy_protocol: false,
            tcp_listen_options: TcpOptions::default(),
            product_name: "RabbitMQ".into(),
            product_version: management::RABBITMQ_VERSION.into(),
        }
    }
}

/// Options of client sockets; `None` leaves the choice to the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    pub backlog: u32,
    pub nodelay: bool,
    pub keepalive: Option<bool>,
    pub linger_on: bool,
    /// In whole seconds, as the socket option is.
    pub linger_timeout: Duration,
    pub sndbuf: Option<u32>,
    pub recbuf: Option<u32>,
    /// How long a client may refuse to take what is sent to it before it is dropped.
    pub send_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            backlog: 128,
            nodelay: true,
            keepalive: None,
            linger_on: true,
            linger_timeout: Duration::ZERO,
            sndbuf: None,
            recbuf: None,
            send_timeout: Some(Duration::from_secs(15)),
        }
    }
}

/// What one client, or all of them, may use. `None` is "no limit".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Zero turns heartbeats off.
    pub heartbeat: Duration,
    /// Zero is "no limit".
    pub frame_max: u32,
    pub initial_frame_max: u32,
    /// Zero is "no limit".
    pub channel_max: u16,
    pub connection_max: Option<u64>,
    pub channel_max_per_node: Option<u64>,
    pub consumer_max_per_channel: Option<u64>,
    pub vhost_max: Option<u64>,
    pub cluster_queue_limit: Option<u64>,
    pub cluster_exchange_limit: Option<u64>,
    pub max_message_size: u64,
    pub consumer_timeout: Option<Duration>,
}

impl Limits {
    /// The largest `max_message_size` that may be set.
    pub const MESSAGE_BYTES_MAX: u64 = 512 * 1024 * 1024;
    /// The smallest `frame_max` a client can work with (AMQP 0-9-1, 4.2.1 gives frame-min-size 4096).
    pub const FRAME_BYTES_MIN: u32 = 4096;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            heartbeat: Duration::from_secs(60),
            frame_max: 131_072,
            initial_frame_max: 4096,
            channel_max: 2047,
            connection_max: None,
            channel_max_per_node: None,
            consumer_max_per_channel: None,
            vhost_max: None,
            cluster_queue_limit: None,
            cluster_exchange_limit: None,
            max_message_size: 134_217_728,
            consumer_timeout: Some(Duration::from_secs(30 * 60)),
        }
    }
}

/// A threshold on memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryWatermark {
    /// A share of the memory of the machine or its control group.
    Relative(f64),
    /// A number of bytes.
    Absolute(u64),
}

/// A threshold on free disk space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DiskLimit {
    Absolute(u64),
    /// A multiple of the memory of the machine.
    Relative(f64),
}

/// When publishers are held back, and how often that is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    pub vm_memory_high_watermark: MemoryWatermark,
    pub total_memory_available_override_value: Option<u64>,
    pub memory_monitor_interval: Duration,
    pub disk_free_limit: DiskLimit,
    /// Size of a file of the message log, or of a segment.
    pub msg_store_file_size_limit: u64,
    pub collect_statistics_interval: Duration,
}

impl Default for Resources {
    fn default() -> Resources {
        Resources {
            vm_memory_high_watermark: MemoryWatermark::Relative(0.4),
            total_memory_available_override_value: None,
            memory_monitor_interval: Duration::from_millis(2500),
            disk_free_limit: DiskLimit::Absolute(50_000_000),
            msg_store_file_size_limit: 64 << 20,
            collect_statistics_interval: Duration::from_secs(5),
        }
    }
}
