//! How a node finds its cluster, lives in it, and where queues go.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::node_name::NodeName;
use super::TlsOptions;

/// What to do when nodes lose sight of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionHandling {
    Ignore,
    Autoheal,
    PauseMinority,
    PauseIfAllDown {
        nodes: Vec<NodeName>,
        /// Heal by itself afterwards, or leave it to the operator.
        autoheal: bool,
    },
}

/// How a blank node finds the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDiscovery {
    ClassicConfig,
    Dns,
}

/// `cluster_formation.*`: how a blank node finds a cluster to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formation {
    pub peer_discovery_backend: PeerDiscovery,
    /// `classic_config.nodes`.
    pub nodes: Vec<NodeName>,
    pub dns_hostname: Option<String>,
    pub discovery_retry_limit: u32,
    pub discovery_retry_interval: Duration,
    pub target_cluster_size_hint: Option<u32>,
    /// A ram node keeps its copy of the metadata in memory only.
    pub ram_node: bool,
}

impl Default for Formation {
    fn default() -> Formation {
        Formation {
            peer_discovery_backend: PeerDiscovery::ClassicConfig,
            nodes: Vec::new(),
            dns_hostname: None,
            discovery_retry_limit: 30,
            discovery_retry_interval: Duration::from_secs(1),
            target_cluster_size_hint: None,
            ram_node: false,
        }
    }
}

/// When queue leaders are spread anew over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// When an administrator asks.
    OnDemand,
    /// When an administrator names a queue and its new node.
    Appoint,
    /// Every so often.
    Timer(Duration),
}

/// Another process, by name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

/// The socket for other nodes and for `ctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `None` is every interface.
    pub interface: Option<IpAddr>,
    /// The first port to try.
    pub port_min: u16,
    /// The last port to try. Invariant: not below `port_min`.
    pub port_max: u16,
}

/// How this node lives with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `None` until an operator or the founding node gives one.
    pub cluster_name: Option<String>,
    pub distribution: Distribution,
    /// `inter_node.ssl_options`: TLS between nodes; `None` is none.
    pub inter_node_tls: Option<TlsOptions>,
    pub formation: Formation,
    pub partition_handling: PartitionHandling,
    pub keepalive_interval: Duration,
    pub net_ticktime: Duration,
    pub rebalance: Rebalance,
    /// Queues to be mirrored everywhere by a policy of lowest priority.
    pub disc_copies: Vec<String>,
    /// Where the node is that votes and holds no queues.
    pub metadata_witness: Option<HostPort>,
    /// Silence after which a node is declared down.
    pub failure_timeout: Duration,
    /// How long a mirror may be behind before the queue goes on without it.
    pub replica_timeout: Duration,
    /// How long a publish waits for a queue leader before it is refused.
    pub publish_failover_timeout: Duration,
    pub mirroring_sync_batch_size: u32,
    /// Bytes each second; zero is "no limit".
    pub mirroring_sync_max_throughput: u64,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            cluster_name: None,
            distribution: Distribution {
                interface: None,
                port_min: 25672,
                port_max: 25672,
            },
            inter_node_tls: None,
            formation: Formation::default(),
            partition_handling: PartitionHandling::Ignore,
            keepalive_interval: Duration::from_secs(10),
            net_ticktime: Duration::from_secs(60),
            rebalance: Rebalance::OnDemand,
            disc_copies: Vec::new(),
            metadata_witness: None,
            failure_timeout: Duration::from_millis(2800),
            replica_timeout: Duration::from_secs(10),
            publish_failover_timeout: Duration::from_secs(60),
            mirroring_sync_batch_size: 4096,
            mirroring_sync_max_throughput: 0,
        }
    }
}

/// Which node leads a new queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLocator {
    /// The node the client is connected to.
    ClientLocal,
    /// The node leading fewest queues (`min-masters`, `least-leaders`).
    Balanced,
    Random,
    MinMessages,
    MinConnections,
    RoundRobin,
}

/// The type a queue gets whose client does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueType {
    Classic,
    Quorum,
    Stream,
}

/// Defaults of queues, and what is added to each message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queues {
    pub queue_master_locator: Option<QueueLocator>,
    pub queue_leader_locator: Option<QueueLocator>,
    pub default_queue_type: QueueType,
    /// Adds the time of arrival; the flag says whether a value the publisher gave is replaced.
    pub set_header_timestamp: Option<bool>,
    /// Adds the name of the node that took the message; the flag as above.
    pub set_header_routing_node: Option<bool>,
}

impl Queues {
    /// The locator that holds where neither arguments nor policies name one.
    #[must_use]
    pub fn locator(&self) -> QueueLocator {
        self.queue_master_locator
            .or(self.queue_leader_locator)
            .unwrap_or(QueueLocator::ClientLocal)
    }
}

impl QueueLocator {
    /// As policies and arguments spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            QueueLocator::ClientLocal => "client-local",
            QueueLocator::Balanced => "balanced",
            QueueLocator::Random => "random",
            QueueLocator::MinMessages => "min-messages",
            QueueLocator::MinConnections => "min-connections",
            QueueLocator::RoundRobin => "round-robin",
        }
    }
}

impl Default for Queues {
    fn default() -> Queues {
        Queues {
            queue_master_locator: None,
            queue_leader_locator: None,
            default_queue_type: QueueType::Classic,
            set_header_timestamp: None,
            set_header_routing_node: None,
        }
    }
}

/// What is imported when the node starts. With a source named, the default user is not created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    /// `load_definitions`, `management.load_definitions` and `definitions.local.path`, in this order. Each is a file,
    /// or a directory whose `.json` files are imported in the order of their names.
    pub sources: Vec<PathBuf>,
    pub skip_if_unchanged: bool,
}
