//! Why a change of the cluster or of a node's life is refused, in the words that RabbitMQ's tools print
//! and with the exit codes that they end with.

use broker::Name;

/// A refusal. Its text is what the tool prints below `Error:`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFailure {
    /// The command is about a running application.
    #[error(
        "this command requires the 'rabbit' app to be running on the target node. Start it with \
         'rabbitmqctl start_app'."
    )]
    AppStopped,
    /// The command changes what a running application uses.
    #[error(
        "this command requires the 'rabbit' app to be stopped on the target node. Stop it with \
         'rabbitmqctl stop_app'."
    )]
    AppRunning,
    /// `join` with the own name.
    #[error("Error: cannot cluster node with itself: {0}")]
    WithItself(Name),
    /// Another node that is needed does not answer.
    #[error("unable to perform an operation on node '{node}': {why}")]
    Unreachable { node: Name, why: String },
    /// The versions of two nodes do not go together.
    #[error("{{:incompatible_version, '{}'}}", charlist(.0))]
    Incompatible(String),
    #[error(
        "{{:clustering_only_disc_node, 'You cannot cluster a node if it is the only disc node in its \
         existing  cluster.'}}"
    )]
    ClusteringOnlyDiscNode,
    #[error(
        "{{:resetting_only_disc_node, 'You cannot reset a node when it is the only disc node in a \
         cluster. Please convert another node of the cluster to a disc node first.'}}"
    )]
    ResettingOnlyDiscNode,
    /// One side counts the other as a member, the other does not.
    #[error(
        "{{:inconsistent_cluster, 'node {thinker} thinks it\\'s clustered with node {dissident}, but \
         {dissident} disagrees'}}"
    )]
    InconsistentCluster { thinker: Name, dissident: Name },
    #[error("{{:not_clustered, 'Non-clustered nodes can only be disc nodes.'}}")]
    NotClustered,
    #[error("{{:no_online_cluster_nodes, 'Could not find any online cluster nodes.'}}")]
    NoOnlineClusterNodes,
    #[error(
        "{{:no_running_cluster_nodes, 'You cannot leave a cluster if no online nodes are present.'}}"
    )]
    NoRunningClusterNodes,
    #[error("{{:not_a_cluster_node, 'The node selected is not in the cluster.'}}")]
    NotAClusterNode,
    /// `forget` of a node whose application runs.
    #[error(
        "RabbitMQ on node {0} must be stopped with 'rabbitmqctl -n {0} stop_app' before it can be \
         removed"
    )]
    StillRunning(Name),
    #[error(
        "{{:online_node_offline_flag, 'You set the --offline flag, which is used to remove nodes \
         remotely from offline nodes, but this node is online.'}}"
    )]
    OnlineNodeOfflineFlag,
    #[error(
        "{{:offline_node_no_offline_flag, 'You are trying to remove a node from an offline node. That \
         is dangerous, but can be done with the --offline flag. Please consult the manual for \
         rabbitmqctl for more information.'}}"
    )]
    OfflineNodeNoOfflineFlag,
    #[error(
        "{{:removing_node_from_offline_node, 'To remove a node remotely from an offline node, the node \
         you are removing from must be a disc node and all the other nodes must be offline.'}}"
    )]
    RemovingNodeFromOfflineNode,
    /// Another rebalance is not done yet.
    #[error("rebalance_in_progress")]
    RebalanceInProgress,
    /// Only queues with a policy that mirrors them have something to synchronize.
    #[error("not_mirrored")]
    NotMirrored,
    /// There is no cluster to do it in.
    #[error("node {0} is in no cluster")]
    InNoCluster(Name),
    /// Refused for a reason of this text. Asking again changes nothing by itself.
    #[error("{0}")]
    Refused(String),
    /// What was given is wrong.
    #[error("{0}")]
    BadData(String),
    /// It went wrong halfway, or there is a mistake in the program.
    #[error("{0}")]
    Broken(String),
    /// No majority, or no answer in time: asking again may help.
    #[error("{0}")]
    Temporary(String),
    /// The configuration of the node does not allow it.
    #[error("{0}")]
    Misconfigured(String),
}

impl HostFailure {
    /// The exit code of the tool: 64 usage, 65 data, 69 refused or unavailable, 70 software,
    /// 75 temporary, 78 configuration.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            HostFailure::AppStopped | HostFailure::AppRunning => 64,
            HostFailure::BadData(_) => 65,
            HostFailure::WithItself(_) | HostFailure::Broken(_) => 70,
            HostFailure::Temporary(_) => 75,
            HostFailure::Misconfigured(_) => 78,
            HostFailure::Unreachable { .. }
            | HostFailure::Incompatible(_)
            | HostFailure::ClusteringOnlyDiscNode
            | HostFailure::ResettingOnlyDiscNode
            | HostFailure::InconsistentCluster { .. }
            | HostFailure::NotClustered
            | HostFailure::NoOnlineClusterNodes
            | HostFailure::NoRunningClusterNodes
            | HostFailure::NotAClusterNode
            | HostFailure::StillRunning(_)
            | HostFailure::OnlineNodeOfflineFlag
            | HostFailure::OfflineNodeNoOfflineFlag
            | HostFailure::RemovingNodeFromOfflineNode
            | HostFailure::RebalanceInProgress
            | HostFailure::NotMirrored
            | HostFailure::InNoCluster(_)
            | HostFailure::Refused(_) => 69,
        }
    }

    /// One word for programs: the `error` of the answer.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            HostFailure::AppStopped => "app_not_running",
            HostFailure::AppRunning => "app_running",
            HostFailure::WithItself(_) => "cannot_cluster_node_with_itself",
            HostFailure::Unreachable { .. } => "nodedown",
            HostFailure::Incompatible(_) => "incompatible_version",
            HostFailure::ClusteringOnlyDiscNode => "clustering_only_disc_node",
            HostFailure::ResettingOnlyDiscNode => "resetting_only_disc_node",
            HostFailure::InconsistentCluster { .. } => "inconsistent_cluster",
            HostFailure::NotClustered => "not_clustered",
            HostFailure::NoOnlineClusterNodes => "no_online_cluster_nodes",
            HostFailure::NoRunningClusterNodes => "no_running_cluster_nodes",
            HostFailure::NotAClusterNode => "not_a_cluster_node",
            HostFailure::StillRunning(_) => "failed_to_remove_node",
            HostFailure::OnlineNodeOfflineFlag => "online_node_offline_flag",
            HostFailure::OfflineNodeNoOfflineFlag => "offline_node_no_offline_flag",
            HostFailure::RemovingNodeFromOfflineNode => "removing_node_from_offline_node",
            HostFailure::RebalanceInProgress => "rebalance_in_progress",
            HostFailure::NotMirrored => "not_mirrored",
            HostFailure::InNoCluster(_) => "in_no_cluster",
            HostFailure::Refused(_) => "refused",
            HostFailure::BadData(_) => "bad_data",
            HostFailure::Broken(_) => "internal_error",
            HostFailure::Temporary(_) => "service_unavailable",
            HostFailure::Misconfigured(_) => "misconfigured",
        }
    }
}

/// A text between single quotes, as Elixir prints it.
fn charlist(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}
