//! The process of a node, as the operator sees it. A lone node answers what it can truthfully answer;
//! everything that needs a cluster, or a process that outlives its application, is refused.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use broker::Name;
use management::host::{AppState, Host, HostFailure, Joined, LastKnown, NodeKind, ProcessFacts};

use crate::clock;
use crate::node::Node;

/// See the file's head.
pub(crate) struct Process {
    node: Arc<Node>,
}

impl Process {
    pub(crate) fn new(node: Arc<Node>) -> Process {
        Process { node }
    }

    fn in_no_cluster(&self) -> HostFailure {
        HostFailure::InNoCluster(Arc::clone(&self.node.name))
    }
}

#[async_trait]
impl Host for Process {
    fn name(&self) -> Name {
        Arc::clone(&self.node.name)
    }

    fn app(&self) -> AppState {
        AppState::Running
    }

    fn process(&self) -> ProcessFacts {
        let config = &self.node.config;
        ProcessFacts {
            os_pid: std::process::id(),
            uptime: Duration::from_millis(clock::now().as_millis()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: config.data_dir.display().to_string(),
            log_files: config.log_file().map_or_else(|| vec!["stdout".to_owned()], |f| vec![f.display().to_string()]),
            config_files: config.files.iter().map(|f| f.display().to_string()).collect(),
        }
    }

    fn last_known(&self) -> LastKnown {
        LastKnown { disc_nodes: vec![Arc::clone(&self.node.name)], ..LastKnown::default() }
    }

    async fn start_app(&self) -> Result<(), HostFailure> {
        Ok(())
    }

    async fn stop_app(&self) -> Result<(), HostFailure> {
        Err(self.in_no_cluster())
    }

    async fn reset(&self, _force: bool) -> Result<(), HostFailure> {
        Err(HostFailure::AppRunning)
    }

    async fn join(&self, seed: Name, _kind: NodeKind) -> Result<Joined, HostFailure> {
        if cluster::handshake::is_same_node(&seed, &self.node.name) {
            return Err(HostFailure::WithItself(seed));
        }
        Err(self.in_no_cluster())
    }

    async fn change_kind(&self, _kind: NodeKind) -> Result<bool, HostFailure> {
        Err(HostFailure::AppRunning)
    }

    async fn force_boot(&self) -> Result<(), HostFailure> {
        Err(HostFailure::AppRunning)
    }

    async fn forget_offline(&self, _node: Name) -> Result<(), HostFailure> {
        Err(HostFailure::OnlineNodeOfflineFlag)
    }

    async fn leave(&self, _drain: bool, _force: bool) -> Result<(), HostFailure> {
        Err(self.in_no_cluster())
    }

    fn stop(&self) {
        let node = Arc::clone(&self.node);
        // The answer to whoever asked leaves first.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            node.stop();
        });
    }

    fn os_env(&self) -> Vec<(String, String)> {
        let is_ours = |name: &str| name.starts_with("WARREN_") || name.starts_with("RABBITMQ_");
        let is_secret = |name: &str| name.contains("COOKIE") || name.contains("PASS");
        let mut found: Vec<_> = std::env::vars().filter(|(name, _)| is_ours(name) && !is_secret(name)).collect();
        found.sort();
        found
    }

    fn arguments(&self) -> Vec<String> {
        std::env::args().collect()
    }
}
