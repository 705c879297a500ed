//! What the API asks of the node.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use broker::metadata::{Command, Outcome, Refusal, Tables};
use broker::status::Counters;
use broker::{ConnectionId, Name, QueueId, user};

use super::{Fake, NODE};
use crate::host::HostFailure;
use crate::node::{
    Certificate, ClusterFacts, ConnectionReport, Failure, Fetched, Login, Node, NodeStatus,
    Publish, QueueReport, RebalanceRequest, RebalanceRow, Settle, Synchronized, Totals,
    VhostCounters, Watermark,
};

#[async_trait]
impl Node for Fake {
    fn name(&self) -> Name {
        NODE.into()
    }

    fn now(&self) -> u64 {
        self.state().now
    }

    fn check_password(&self, password: &str) -> Result<(), String> {
        if password == "weak" {
            Err("a better password is needed".to_owned())
        } else {
            Ok(())
        }
    }

    fn salt(&self) -> [u8; 4] {
        [9, 8, 7, 6]
    }

    fn tables(&self) -> Arc<Tables> {
        self.state().metadata.tables()
    }

    async fn propose(&self, command: Command) -> Result<Outcome, Failure> {
        let mut state = self.state();
        if state.unavailable {
            return Err(Failure::Unavailable("no quorum".to_owned()));
        }
        Ok(state.try_apply(&command)?)
    }

    async fn queue_statuses(&self) -> Vec<QueueReport> {
        let state = self.state();
        let tables = state.metadata.tables();
        tables
            .queues
            .keys()
            .map(|queue| state.report(*queue))
            .collect()
    }

    async fn queue_status(&self, queue: QueueId) -> Option<QueueReport> {
        let state = self.state();
        let known = state.metadata.tables().queues.contains_key(&queue);
        known.then(|| state.report(queue))
    }

    async fn connections(&self) -> Vec<ConnectionReport> {
        self.state().connections.clone()
    }

    async fn close_connection(&self, connection: ConnectionId, reason: &str) -> bool {
        let mut state = self.state();
        let before = state.connections.len();
        state
            .connections
            .retain(|report| report.status.id != connection);
        state.log.push(format!("close {} {reason}", connection.0));
        state.connections.len() < before
    }

    async fn authenticate(&self, name: &str, password: &[u8], peer: Option<IpAddr>) -> Login {
        let tables = self.tables();
        let known = tables.users.get(name).map(|user| &**user);
        if !user::authenticate(known, password) {
            return Login::Refused;
        }
        match peer {
            Some(peer) if name == "guest" && !peer.is_loopback() => Login::LoopbackOnly,
            _ => Login::Accepted,
        }
    }

    async fn publish(&self, message: Publish) -> Result<bool, Failure> {
        Ok(self.state().publish(message))
    }

    async fn get(
        &self,
        queue: QueueId,
        count: u32,
        settle: Settle,
    ) -> Result<Vec<Fetched>, Failure> {
        Ok(self.state().get(queue, count, settle))
    }

    async fn purge(&self, queue: QueueId) -> Result<u64, Failure> {
        let mut state = self.state();
        let dropped = state
            .contents
            .entry(queue)
            .or_default()
            .ready
            .drain(..)
            .count();
        Ok(dropped as u64)
    }

    async fn delete_queue(
        &self,
        queue: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u64, Failure> {
        let mut state = self.state();
        let ready = state.report(queue).status.messages_ready;
        let found = Arc::clone(state.metadata.tables().queues.get(&queue).unwrap());
        let (vhost, name) = (found.vhost.clone(), found.name.clone());
        if if_empty && ready > 0 {
            return Err(
                Refusal::InUse(format!("queue '{name}' in vhost '{vhost}' not empty")).into(),
            );
        }
        if if_unused && !state.report(queue).status.consumers.is_empty() {
            return Err(Refusal::InUse(format!("queue '{name}' in vhost '{vhost}' in use")).into());
        }
        state.try_apply(&Command::DeleteQueue {
            vhost,
            name,
            only: Some(queue),
        })?;
        state.contents.remove(&queue);
        Ok(ready)
    }

    async fn synchronize(&self, queue: QueueId, start: bool) -> Result<Synchronized, Failure> {
        let mut state = self.state();
        state.log.push(format!("synchronize {} {start}", queue.0));
        let tables = state.metadata.tables();
        let is_mirrored = tables.queues[&queue].effective_policy.contains("ha-mode");
        match (is_mirrored, start) {
            (false, true) => Err(HostFailure::NotMirrored.into()),
            (_, false) => Ok(Synchronized::NotSyncing),
            (true, true) => Ok(Synchronized::Done),
        }
    }

    async fn rebalance(&self, wanted: RebalanceRequest) -> Result<Vec<RebalanceRow>, Failure> {
        let mut state = self.state();
        let (all, few) = (wanted.selects("/", "q"), wanted.selects("/", "few"));
        let call = format!(
            "rebalance {:?} {all} {few} {:?} {}",
            wanted.kind, wanted.target, wanted.wait
        );
        state.log.push(call);
        state.refuse()?;
        let row = |node: &NodeStatus| RebalanceRow {
            node: Name::clone(&node.name),
            classic: 1,
        };
        Ok(state.nodes.iter().map(row).collect())
    }

    async fn transfer(&self, queue: QueueId, to: Name) -> Result<(), Failure> {
        self.change(format!("transfer {} {to}", queue.0))
    }

    async fn cluster(&self) -> ClusterFacts {
        self.state().cluster.clone()
    }

    async fn forget(&self, node: Name, force: bool) -> Result<(), Failure> {
        self.change(format!("forget {node} {force}"))
    }

    async fn drain(&self, on: bool) -> Result<(), Failure> {
        self.change(format!("drain {on}"))
    }

    async fn suspend_listeners(&self, on: bool) -> Result<(), Failure> {
        self.change(format!("suspend {on}"))
    }

    async fn heal_partition(&self) -> Result<(), Failure> {
        self.change("heal".to_owned())
    }

    async fn discover_peers(&self) -> Result<Vec<Name>, Failure> {
        let state = self.state();
        Ok(state.nodes.iter().map(|it| Name::clone(&it.name)).collect())
    }

    async fn status(&self) -> NodeStatus {
        self.state().nodes[0].clone()
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        self.state().nodes.clone()
    }

    async fn totals(&self) -> Totals {
        let state = self.state();
        let vhosts: Vec<_> = state
            .vhosts
            .iter()
            .map(|(vhost, messages)| VhostCounters {
                vhost: vhost.clone(),
                messages: messages.clone(),
                received_bytes: 100,
                sent_bytes: 200,
            })
            .collect();
        let publish = vhosts.iter().map(|vhost| vhost.messages.publish).sum();
        let get = vhosts.iter().map(|vhost| vhost.messages.get).sum();
        Totals {
            messages: Counters {
                publish,
                get,
                ..Counters::default()
            },
            churn: state.nodes[0].churn.clone(),
            vhosts,
            exchanges: state.exchanges.values().cloned().collect(),
        }
    }

    async fn certificates(&self) -> Vec<Certificate> {
        self.state().certificates.clone()
    }

    fn environment(&self) -> Vec<(String, String)> {
        vec![("heartbeat".to_owned(), "60".to_owned())]
    }

    async fn set_memory_watermark(&self, limit: Watermark) -> Result<(), Failure> {
        self.state().log.push(format!("memory {limit:?}"));
        Ok(())
    }

    async fn set_disk_free_limit(&self, limit: Watermark) -> Result<(), Failure> {
        self.state().log.push(format!("disk {limit:?}"));
        Ok(())
    }

    async fn set_log_level(&self, level: &str) -> Result<(), Failure> {
        self.state().log.push(format!("level {level}"));
        Ok(())
    }
}
